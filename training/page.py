# SPDX-License-Identifier: GPL-3.0-or-later
"""What all pages share: the style sheet, and the frame around a page's own parts. No network, light and dark."""

from __future__ import annotations

from html import escape

#: Colours that tell up to eight curves apart, on white and on black.
_LIGHT = ("#1769aa", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#be185d", "#0f766e", "#57534e")
_DARK = ("#6cb6ff", "#ff9a5c", "#5fd38a", "#c792ea", "#e6c34a", "#ff7eb6", "#4fd1c5", "#c9c4bd")


def _colours(colours: tuple[str, ...]) -> str:
    return "".join(f"--c{i}:{c};" for i, c in enumerate(colours))


_COLOUR_RULES = "".join(f".c{i}{{--c:var(--c{i})}}.k{i}{{background:var(--c{i})}}" for i in range(len(_LIGHT)))

STYLE = (
    f":root{{--ground:#fff;--ink:#1b1b1b;--quiet:#6b6b6b;--line:#dcdcdc;--tint:#f3f3f3;--bad:#b3261e;--good:#1b6e3a;"
    f"{_colours(_LIGHT)}}}"
    f"@media(prefers-color-scheme:dark){{:root{{--ground:#161616;--ink:#e9e9e9;--quiet:#9a9a9a;--line:#383838;"
    f"--tint:#222;--bad:#ff8a80;--good:#7bd69a;{_colours(_DARK)}}}}}"
    "body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,sans-serif}"
    "main{max-width:1100px;margin:0 auto;padding:24px}h1{font-size:24px}h2{font-size:19px;margin:32px 0 8px}"
    "h3{font-size:15px;margin:16px 0 4px}.quiet{color:var(--quiet);fill:var(--quiet)}.good{color:var(--good)}"
    "ul{padding-left:20px}.advice{list-style:none;padding:0}.advice li{border-left:4px solid var(--quiet);"
    "background:var(--tint);padding:6px 12px;margin:6px 0}.advice .serious{border-color:var(--bad)}"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-size:14px}th,td{text-align:left;padding:4px 14px 4px 0;"
    "border-bottom:1px solid var(--line);white-space:nowrap}th{color:var(--quiet);font-weight:normal}"
    ".key i{display:inline-block;width:10px;height:10px;border-radius:5px;margin-right:6px}"
    ".key{margin-right:14px;white-space:nowrap}figure{margin:0}figcaption{font-size:13px;color:var(--quiet)}"
    ".pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(170px,1fr));gap:8px}"
    ".pictures img{width:100%;display:block;border-radius:4px}"
    ".plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(420px,1fr));gap:20px}"
    "svg{width:100%;height:auto;display:block}svg.round{max-width:460px}svg text{fill:var(--quiet);font-size:11px}"
    ".grid{stroke:var(--line);fill:none}.limit{stroke:var(--bad);stroke-dasharray:5 4}.test{fill:var(--tint)}"
    ".curve{fill:none;stroke:var(--c);stroke-width:1.4;stroke-linecap:round}.dot{fill:var(--c);opacity:.55}"
    ".sector{stroke:var(--line);fill:none;pointer-events:all}.sector.gap{fill:var(--bad);fill-opacity:.16}"
    ".body{fill:var(--ink)}@media(max-width:480px){.plots{grid-template-columns:1fr}}" + _COLOUR_RULES
)


def document(title: str, parts: list[str], style: str = "", head: str = "") -> str:
    """A whole HTML page. parts: its body, in order; style: rules beside the common ones; head: more for the head."""
    start = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)}</title>'
        f"<style>{STYLE}{style}</style>{head}"
    )
    return f'<!DOCTYPE html>\n<html lang="en"><head>{start}</head>\n<body><main>{"".join(parts)}</main></body></html>\n'

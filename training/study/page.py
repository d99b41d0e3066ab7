# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of a study. It holds pictures and ids alone: who drew what stands in the key, which is another file.

Votes are kept in the browser (so that a closed page goes on where it stood), saved as votes.csv by the reader, and sent
to the program where that serves the page.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from html import escape

from ... import __version__
from ..page import document
from .trials import Trial
from .votes import COLUMNS

_STYLE = (
    "main{max-width:1000px;text-align:center;padding-top:8px}"
    ".trial{width:min(100%,calc(60vh*var(--shape)));margin:auto}"
    ".js .trial{display:none}.js .trial.now{display:block}"
    ".heads{display:grid;"
    "grid-template-columns:repeat(3,1fr);color:var(--quiet)}.strip{position:relative;background:#fff;margin:4px 0}"
    ".strip img{width:100%;display:block}.strip button{position:absolute;top:0;"
    "bottom:0;width:33.3%;border:0;background:none;cursor:pointer}.strip button:hover{background:#1769aa22}"
    ".strip button:focus-visible,.answers button:focus-visible{outline:3px solid #1769aa}.strip .l{left:0}"
    ".strip .r{right:0}.answers{display:flex;gap:8px;justify-content:center;flex-wrap:wrap;margin:10px}.answers button,"
    ".save{font:inherit;padding:8px 14px;border:1px solid var(--line);background:var(--tint);color:var(--ink);"
    "border-radius:6px;cursor:pointer;text-decoration:none}input{font:inherit;padding:4px}.done{font-size:18px}"
    "progress{width:100%}html:not(.js) .only,.done{display:none}.ended .done{display:block}.ended .answers .a{"
    "display:none}.sent .send,html:not(.sent) .kept{display:none}.answers .next{display:none}"
    ".ended .answers .next{display:inline-block}"
)

_SCRIPT = """
document.documentElement.className = 'js';
addEventListener('DOMContentLoaded', () => {
  const study = STUDY, columns = COLUMNS, place = 'neural-avatar-' + study;
  const trials = [...document.querySelectorAll('.trial')], by = id => document.getElementById(id);
  let votes = {}, began = Date.now(), order = [];
  const fresh = () => [...crypto.getRandomValues(new Uint8Array(8))].map(b => b.toString(16).padStart(2, '0')).join('');
  let session = fresh(), sending = Promise.resolve();
  try {
    const kept = JSON.parse(localStorage.getItem(place)) || {};
    votes = kept.votes || {}; order = kept.order || [];
    session = kept.session || session; by('voter').value = kept.voter || '';
  } catch (error) { /* a browser that keeps nothing: the votes live as long as the page */ }
  const cell = text => '"' + String(text).replace(/"/g, '""') + '"';
  const table = () => [columns.join(','), ...order.map(id =>
    [cell(by('voter').value.trim() || 'nameless ' + session), id, ...votes[id]].join(','))].join('\\n') + '\\n';
  const open = () => trials.findIndex(t => !votes[t.id]);
  function told(sent, words) {
    document.documentElement.classList.toggle('sent', sent); by('sent').textContent = words;
  }
  function keep(changed) {
    const kept = {votes, order, session, voter: by('voter').value};
    try { localStorage.setItem(place, JSON.stringify(kept)); } catch (error) { /* see above */ }
    by('save').href = 'data:text/csv;charset=utf-8,' + encodeURIComponent(table());
    if (changed && location.protocol !== 'file:') {
      const address = 'votes-' + session, body = table();
      sending = sending.then(() => fetch(address, {method: 'POST', body})).then(
        answer => told(answer.ok, answer.ok ? 'Saved.' : 'Not saved here: use the button.'),
        () => told(false, 'The program has ended: save with the button.'));
    }
  }
  function show() {
    const now = open(), done = order.length;
    trials.forEach((t, i) => t.classList.toggle('now', i === now));
    document.documentElement.classList.toggle('ended', now < 0);
    by('bar').value = done; by('count').textContent = done + ' of ' + trials.length; began = Date.now();
  }
  function vote(answer) {
    const now = open();
    if (now < 0) return;
    votes[trials[now].id] = [answer, ((Date.now() - began) / 1000).toFixed(1)]; order.push(trials[now].id);
    keep(true); show();
  }
  function back() { const id = order.pop(); if (id) { delete votes[id]; keep(true); show(); } }
  function next() {  // the votes of the one before lie under a session of their own, or in the saved file
    if (location.protocol === 'file:' && !confirm('Have these votes been saved? They are cleared for the next person.'))
      return;
    votes = {}; order = []; session = fresh(); by('voter').value = ''; told(false, '');
    keep(false); show();
  }
  const acts = {back, next};
  document.addEventListener('click', e => {
    const act = e.target.closest('[data-act]');
    if (act) act.dataset.act in acts ? acts[act.dataset.act]() : vote(act.dataset.act);
  });
  document.addEventListener('keydown', e => {
    if (e.target.id === 'voter' || e.ctrlKey || e.metaKey || e.altKey || e.repeat) return;
    const act = {ArrowLeft: 'left', ArrowRight: 'right', ArrowDown: 'equal', Backspace: 'back'}[e.key];
    if (act) { e.preventDefault(); act === 'back' ? back() : vote(act); }
  });
  by('voter').addEventListener('change', () => keep(order.length > 0));
  keep(false); show();
});
"""


def study_page(trials: Sequence[Trial], pictures: Sequence[tuple[str, float]]) -> str:
    """The page as HTML. pictures: for each trial the data address of left result, film and right result
    side by side, and its width divided by its height."""
    name = hashlib.sha256("".join(trial.id for trial in trials).encode()).hexdigest()[:16]
    script = _SCRIPT.replace("STUDY", json.dumps(name)).replace("COLUMNS", json.dumps(list(COLUMNS)))
    shown = enumerate(zip(trials, pictures, strict=True))
    sections = "".join(_section(trial.id, i, *picture) for i, (trial, picture) in shown)
    parts = [
        "<h1>Which of the two is nearer to the film?</h1>",
        "<p>The film is in the middle. Click on the picture that is nearer to it, or press ← or →. Press ↓ where you "
        "see no difference, and Backspace to go back.</p>",
        "<noscript><p>Voting needs scripts to be allowed for this file; without them it only shows its pictures. Write "
        "your answers down as voter, trial, vote (left, right or equal), seconds.</p></noscript>",
        '<p class="only"><label>Your name, if you like: <input id="voter" maxlength="60"></label></p>',
        sections,
        '<p class="done">That was all of them, thank you. <span class="send">Now save your votes and send the file '
        'back.</span><span class="kept">Your votes are saved; there is nothing to send.</span></p>'
        '<div class="answers only"><button class="a" data-act="left">← left</button>'
        '<button class="a" data-act="equal">↓ no difference</button><button class="a" data-act="right">right →</button>'
        '<button data-act="back">back</button><a class="save" id="save" download="votes.csv">save votes.csv</a>'
        '<button class="next" data-act="next">another person votes</button></div>',
        f'<p class="only"><progress id="bar" max="{len(trials)}" value="0"></progress><br><span id="count"></span> '
        '<span class="quiet" id="sent"></span></p>',
        f'<p class="quiet">Made by Neural Avatar {escape(__version__)}. Everything stays on this computer.</p>',
    ]
    return document("Which is nearer to the film?", parts, _STYLE, f"<script>{script}</script>")


def _section(identity: str, number: int, picture: str, shape: float) -> str:
    return (
        f'<section class="trial" id="{escape(identity)}" style="--shape:{shape:.3f}"><div class="heads">'
        f"<span>left</span><span>the film</span><span>right</span></div>"
        f'<div class="strip"><img alt="question {number + 1}, trial {escape(identity)}" '
        f'src="{picture}"><button class="l only" data-act="left" aria-label="the left one is nearer"></button>'
        '<button class="r only" data-act="right" aria-label="the right one is nearer"></button></div></section>'
    )

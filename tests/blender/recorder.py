# SPDX-License-Identifier: GPL-3.0-or-later
"""A layout that panels can be drawn into without a window: it checks what they name, and keeps what they say."""

from types import SimpleNamespace

import bpy


class Layout:
    """Rows and columns are the layout itself; attributes such as `alert` may be set and are forgotten."""

    operator_context = "INVOKE_DEFAULT"

    def __init__(self, said=None, given=None):
        self.__dict__["said"] = [] if said is None else said
        self.__dict__["given"] = {} if given is None else given

    def __setattr__(self, name, value):
        assert hasattr(bpy.types.UILayout.bl_rna.properties.get(name), "name"), f"no layout has '{name}'"

    def _part(self, **options):
        return Layout(self.said, self.given)

    row = column = box = split = _part

    def label(self, text="", icon="NONE", **_):
        self._icon(icon)
        self.said.append(text)

    def prop(self, data, name, text=None, icon="NONE", **_):
        self._icon(icon)
        assert name in data.bl_rna.properties, f"{data} has no '{name}'"
        self.said.append(text if text is not None else data.bl_rna.properties[name].name)

    def operator(self, name, text=None, icon="NONE", **_):
        self._icon(icon)
        group, _, bare = name.partition(".")
        kind = getattr(getattr(bpy.ops, group), bare).get_rna_type()
        shown = kind.name if text is None else text
        self.said.append(f"[{name}] {shown}")
        options = Options(kind.properties)
        self.given[shown] = options.given
        return options

    def operator_menu_enum(self, name, prop, text="", **_):
        self.operator(name, text)

    def prop_search(self, data, name, search, prop, **_):
        self.prop(data, name)
        assert hasattr(search, prop)

    def template_list(self, kind, _, data, listed, active, index, **__):
        assert hasattr(bpy.types, kind)
        self.said.append(f"list of {len(getattr(data, listed))}")

    def template_icon(self, icon_value, scale=1.0):
        self.said.append(f"icon {icon_value > 0}")

    def progress(self, factor=0.0, text="", type="BAR"):
        assert 0 <= factor <= 1
        self.said.append(text)

    def separator(self, **_):
        pass

    def _icon(self, icon):
        icons = bpy.types.UILayout.bl_rna.functions["label"].parameters["icon"].enum_items
        assert icon in icons, f"no icon {icon}"


class Options:
    """An operator's properties, which must exist; `given` are those that were set."""

    def __init__(self, properties):
        self.__dict__["properties"] = properties
        self.__dict__["given"] = {}

    def __setattr__(self, name, value):
        assert name in self.properties, f"no property '{name}'"
        self.given[name] = value


def draw(panel, context=None):
    """What a panel says, all lines in one string; None where it is not shown."""
    layout = _drawn(panel, context or bpy.context)
    return layout and "\n".join(layout.said)


def options(panel, button):
    """What a panel's button gives its operator."""
    return _drawn(panel, bpy.context).given[button]


def _drawn(panel, context):
    if hasattr(panel, "poll") and not panel.poll(context):
        return None
    stand_in = SimpleNamespace(layout=Layout())
    if hasattr(panel, "draw_header"):
        panel.draw_header(stand_in, context)
    panel.draw(stand_in, context)
    return stand_in.layout

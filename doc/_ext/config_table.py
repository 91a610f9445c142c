"""Directive ``config-table``: the fields of a pex_config class as a table."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from lsst.pex.config import Config, ConfigChoiceField, ConfigField, ConfigurableField
from sphinx.application import Sphinx


def _default(field: Any) -> str:
    if isinstance(field, ConfigField):
        return f"see {field.dtype.__name__}"
    if isinstance(field, ConfigChoiceField | ConfigurableField):
        return str(getattr(field, "default", ""))
    return repr(field.default) if not callable(field.default) else ""


def _rows(config: type[Config], prefix: str = "") -> list[tuple[str, str, str]]:
    rows = []
    for name, field in sorted(config._fields.items()):
        if name in ("connections", "saveLogOutput"):
            continue
        if isinstance(field, ConfigField):
            rows += _rows(field.dtype, f"{prefix}{name}.")
        elif isinstance(field, ConfigChoiceField):
            rows.append((prefix + name, _default(field), " ".join(field.doc.split())))
            for choice, options in sorted(field.typemap.items()):
                rows += _rows(options, f"{prefix}{name}[{choice!r}].")
        else:
            rows.append((prefix + name, _default(field), " ".join(field.doc.split())))
    return rows


class ConfigTable(Directive):
    """``.. config-table:: package.module.ConfigClass``: name, default, meaning."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        module, _, name = self.arguments[0].rpartition(".")
        config = getattr(import_module(module), name)
        table = nodes.table()
        group = nodes.tgroup(cols=3)
        table += group
        for width in (25, 20, 55):
            group += nodes.colspec(colwidth=width)
        head, body = nodes.thead(), nodes.tbody()
        group += [head, body]
        for target, cells in [(head, ("field", "default", "meaning"))] + [(body, r) for r in _rows(config)]:
            row = nodes.row()
            for place, text in enumerate(cells):
                inside = nodes.literal if place < 2 and target is body and text else nodes.inline
                row += nodes.entry("", nodes.paragraph("", "", inside(text, text)))
            target += row
        return [table]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("config-table", ConfigTable)
    return {"parallel_read_safe": True}

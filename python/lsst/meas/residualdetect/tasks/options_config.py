# This file is part of meas_residualdetect.
#
# This program is free software: you can redistribute it and/or modify
# it under the terms of the GNU General Public License as published by
# the Free Software Foundation, either version 3 of the License, or
# (at your option) any later version.
#
# This program is distributed in the hope that it will be useful,
# but WITHOUT ANY WARRANTY; without even the implied warranty of
# MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
# GNU General Public License for more details.
#
# You should have received a copy of the GNU General Public License
# along with this program.  If not, see <https://www.gnu.org/licenses/>.

"""Options of the core as fields of configs: each is written down once, where
it is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from inspect import getdoc
from types import NoneType
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

from lsst.pex.config import ChoiceField, Config, ConfigField, ListField
from lsst.pex.config import Field as PlainField

__all__ = ["OptionsConfig", "with_options"]

_Config = TypeVar("_Config", bound=type[Config])


def _docs(options: type) -> dict[str, str]:
    """What the section Parameters of a class's docstring says of each."""
    text = re.split(r"^Parameters\n-+\n", getdoc(options) or "", flags=re.MULTILINE)[1]
    text = re.split(r"\n\n[^\n]+\n-+\n", text)[0]
    docs: dict[str, str] = {}
    for names, doc in re.findall(r"^(\w[\w, ]*) : [^\n]*\n((?:    [^\n]*(?:\n|$))+)", text, re.MULTILINE):
        # Without the marks of Sphinx.
        plain = re.sub(r"`~?(?:[\w.]+\.)?(\w+)`", r"\1", doc.replace("``", ""))
        docs |= dict.fromkeys(names.split(", "), " ".join(plain.split()))
    return docs


def _field(option: Field[Any], kind: Any, doc: str) -> Any:
    """A config's field of a dataclass's."""
    default: Any = option.default if option.default_factory is MISSING else option.default_factory()
    optional = NoneType in get_args(kind)
    if optional:
        (kind,) = (one for one in get_args(kind) if one is not NoneType)
    inner = get_args(kind)
    if get_origin(kind) is Literal:
        allowed = {one: one for one in inner}
        return ChoiceField(doc=doc, dtype=str, default=default, optional=optional, allowed=allowed)
    if get_origin(kind) is tuple:
        length = None if inner[-1] is Ellipsis else len(inner)
        return ListField(doc=doc, dtype=inner[0], default=list(default), optional=optional, length=length)
    return PlainField(doc=doc, dtype=kind, default=default, optional=optional)


class OptionsConfig(Config):
    """A config with the options of a class of the core; see `with_options`."""

    options_class: ClassVar[type]

    def options(self, **others: Any) -> Any:
        """The same as the core's options.

        Parameters
        ----------
        **others
            Those that are no fields of that name.
        """
        values = {}
        for name in {option.name for option in fields(self.options_class)} & self.keys() - others.keys():
            value, field = getattr(self, name), self._fields[name]
            if isinstance(field, ConfigField):
                value = value.options()
            values[name] = tuple(value) if isinstance(field, ListField) else value
        return self.options_class(**values, **others)

    def validate(self) -> None:
        """Refuse values that do not go together."""
        super().validate()
        self.options()


def with_options(options: type, *left_out: str) -> Callable[[_Config], _Config]:
    """Give a config a field for each option of a frozen dataclass.

    Parameters
    ----------
    options : `type`
        The dataclass. Defaults are its own, docs are what its docstring says.
        It refuses values that make no sense.
    *left_out : `str`
        Options that are no fields. Those that the config has as fields
        already stay as they are.
    """
    docs, kinds = _docs(options), get_type_hints(options)

    def add(config: _Config) -> _Config:
        for option in fields(options):
            if option.name not in {*left_out, *config._fields}:
                setattr(config, option.name, _field(option, kinds[option.name], docs[option.name]))
        config.options_class = options
        return config

    return add

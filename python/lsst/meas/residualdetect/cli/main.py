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

"""The command group, and what all commands share in behaviour."""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import Any

import click

from ..io.remarks import reason_of
from ..release import __version__
from .extras import what_to_install

__all__ = ["main"]

# One module a command, imported when it is asked for: the help text must not
# wait for torch.
_COMMANDS = (
    "demo",
    "ingest",
    "detect",
    "deblend",
    "simulate",
    "tiles",
    "cases",
    "train",
    "export",
    "register-model",
    "evaluate",
    "report",
    "marks",
)


class _Warnings(logging.Handler):
    """Says what the package warns of on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"{record.levelname.lower()}: {record.getMessage()}", err=True)


def _say_warnings() -> None:
    log = logging.getLogger(__package__.rpartition(".")[0])
    if not any(isinstance(handler, _Warnings) for handler in log.handlers):
        log.addHandler(_Warnings(logging.WARNING))


class _Group(click.Group):
    """Finds commands by module name; puts errors in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"{__package__}.{module}"), module)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            advice = what_to_install(error.name) if isinstance(error, ModuleNotFoundError) else None
            reason = advice or reason_of(error)
            click.echo(f"residualdetect: error: {reason}", err=True)
            if not (advice or isinstance(error, (ValueError, OSError))):  # nothing we said on purpose
                click.echo("residualdetect --debug COMMAND ... shows where", err=True)
            sys.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="residualdetect")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Find unrecognised blends in the residuals of a deblender.

    \b
    Start here:
      residualdetect demo
    """
    _say_warnings()

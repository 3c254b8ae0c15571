"""Argument parsing that answers a mistake with one sentence, and flags made from the settings."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

from halo_mdn.config import RunConfig, load_config, nearest, settings_of
from halo_mdn.config.replaced_data import in_words
from halo_mdn.config.run_file import left_out_settings
from halo_mdn.config.values import describe
from halo_mdn.errors import InputError
from halo_mdn.progress import Display
from halo_mdn.version import __version__

_PREFIX = "setting "  # of the names under which flags of settings are stored
_NEGATIVE = re.compile(r"-[0-9.]")  # how numbers begin that argparse would take for flags


class SentenceParser(argparse.ArgumentParser):
    """An argument parser whose errors are :class:`InputError` and name the nearest flag."""

    def __init__(self, *, prog: str, commands: Mapping[str, str]) -> None:
        width = max(map(len, commands))
        listing = "\n".join(f"  {name:{width}}  {text}" for name, text in commands.items())
        super().__init__(
            prog=prog,
            epilog=f"commands, given as the first argument:\n{listing}",
            allow_abbrev=False,
            formatter_class=_HelpFormatter,
        )
        self.add_argument("--version", action="version", version=f"halo_mdn {__version__}")

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse the arguments; anything left over is an error."""
        arguments, unknown = self.parse_known_args(self._with_negative_numbers(argv))
        for text in unknown:
            if text.startswith("-"):
                name = text.lstrip("-").partition("=")[0]
                known = [flag.lstrip("-") for flag in self._option_string_actions]
                raise InputError(f"unknown flag {text}; did you mean --{nearest(name, known)}?")
        if unknown:
            raise InputError(f"unexpected argument {unknown[0]!r}; see {self.prog} --help")
        return arguments

    def _with_negative_numbers(self, argv: Sequence[str]) -> list[str]:
        """The arguments with ``--flag -1,2`` as ``--flag=-1,2``: such values are never flags."""
        joined: list[str] = []
        for text in argv:
            flag = self._option_string_actions.get(joined[-1]) if joined else None
            if flag is not None and flag.nargs != 0 and _NEGATIVE.match(text):
                joined[-1] += f"={text}"
            else:
                joined.append(text)
        return joined

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        raise InputError(f"{message}; see {self.prog} --help")


def add_setting_flags(
    parser: argparse.ArgumentParser, *, only: str = "", schema: type = RunConfig
) -> None:
    """One flag per setting of a run file, grouped by table, with its help text and default.

    `only` names the one table that is wanted; all by default.
    """
    descriptions = {"": "Settings of a run"}
    kinds = get_type_hints(schema)
    for table in fields(schema):
        if is_dataclass(kinds[table.name]):
            descriptions[table.name] = (
                f"[{table.name}] {(kinds[table.name].__doc__ or '').rstrip('.')}"
            )
    groups = {
        name: parser.add_argument_group(text)
        for name, text in descriptions.items()
        if not only or name == only
    }
    for name, kind, spec in settings_of(schema):
        group = groups.get(name.rpartition(".")[0])
        if group is None:
            continue
        group.add_argument(
            f"--{name}",
            metavar="VALUE",
            default=argparse.SUPPRESS,
            dest=_PREFIX + name,
            help=_help(kind, spec),
        )


def add_model_file_flag(parser: argparse.ArgumentParser) -> None:
    """The flag that allows a run's own model file to be run."""
    parser.add_argument(
        "--model_file",
        action="append",
        default=[],
        metavar="PATH",
        help="a model file of your own that a run was made with, and that may be run",
    )


def given_settings(arguments: argparse.Namespace) -> dict[str, str]:
    """The settings that were given as flags, as text."""
    stored = vars(arguments).items()
    return {name.removeprefix(_PREFIX): text for name, text in stored if name.startswith(_PREFIX)}


def add_setting(arguments: argparse.Namespace, name: str, text: str) -> None:
    """Take a setting as if it had been given as a flag."""
    setattr(arguments, _PREFIX + name, text)


def configured(run_file: Path, arguments: argparse.Namespace) -> RunConfig:
    """The configuration of a run file and flags; says which settings flags make void.

    Raises
    ------
    InputError
        As ``load_config``.
    """
    given = given_settings(arguments)
    config = load_config(run_file, given)
    if note := in_words(left_out_settings(run_file, given)):
        Display().say(f"note     {note}")
    return config


def _help(kind: Any, spec: Field[Any]) -> str:
    text = f"{spec.metadata['help']} ({describe(kind)}; default: {_shown(spec.default)})"
    return text.replace("%", "%%")


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(map(_shown, default)) or "empty"
    if isinstance(default, bool):
        return "true" if default else "false"
    if isinstance(default, float):
        return f"{default:.6g}"
    return "none" if default is None else str(default) or "empty"


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of the epilog and gives flags room."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=100)

    def _format_usage(self, usage: Any, actions: Any, groups: Any, prefix: Any) -> str:
        # The full usage would list every setting twice.
        return super()._format_usage("%(prog)s [COMMAND] [arguments] [flags]", [], [], prefix)

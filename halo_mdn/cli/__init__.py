"""The command line: a registry of small commands; without a command name it fits.

A command is a module with two functions: ``add_arguments(parser)`` and ``run(arguments) -> int``,
the exit code. It is imported only when it is used.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from halo_mdn.cli.parser import SentenceParser
from halo_mdn.config.shipped import shipped_names
from halo_mdn.errors import InputError
from halo_mdn.sampling.nuts.interruption import leaving_at_once

DEFAULT = "fit"
COMMANDS = {
    DEFAULT: "fit a model to a density field and its halos (the default)",
    "inspect": "say what a data file holds, and whether halos lie on their density field",
    "convert": "bring field and halos, or particles, into one exchange file",
    "simulate": "make a mock universe from a seed: initial conditions, density, halos",
    "report": "make the report of a finished run again, from its posterior.nc",
    "predict": "draw halo catalogues from a finished run, on its field or another",
    "compare": "rank models of the same halos by what they predict of halos left out",
    "joint": "infer initial conditions and bias together from halos",
    "serve": "answer outside samplers with ln L and its gradients over a socket",
    "export": "write ln L and its gradients to a file that JAX runs without this package",
    "calibrate": "check that posteriors hold the truth as often as they say, by many mock fits",
    "prior": "show the catalogues that the prior of a run file gives",
}


def run(argv: Sequence[str]) -> int:
    """Run the command that the arguments name and return its exit code.

    Raises
    ------
    InputError
        If an argument is wrong, or what the command reads is.
    """
    named = bool(argv) and argv[0] in COMMANDS
    if argv and not named:
        _check_no_command(argv[0])
    name, rest = (argv[0], argv[1:]) if named else (DEFAULT, argv)
    with leaving_at_once():
        command = importlib.import_module(f"halo_mdn.cli.{name}")
    script = "halo-mdn" if Path(sys.argv[0]).name == "halo-mdn" else "run_inference.py"
    program = script if name == DEFAULT else f"{script} {name}"
    parser = SentenceParser(prog=program, commands=COMMANDS)
    command.add_arguments(parser)
    return command.run(parser.parse(rest))


def _check_no_command(text: str) -> None:
    """Refuse a word that is nearly the name of a command, and no run file."""
    if Path(text).exists() or text in shipped_names("runs", ".toml"):
        return
    meant = difflib.get_close_matches(text, COMMANDS, n=1, cutoff=0.7)
    if meant:
        raise InputError(f"there is no command {text}; did you mean {meant[0]}?")

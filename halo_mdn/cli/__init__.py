"""The command line: a registry of small commands; without a command name it fits.

A command is a module with two functions: ``add_arguments(parser)`` and ``run(arguments) -> int``,
the exit code. It is imported only when it is used.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from halo_mdn.cli.parser import SentenceParser
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
    name, rest = (argv[0], argv[1:]) if named else (DEFAULT, argv)
    with leaving_at_once():
        command = importlib.import_module(f"halo_mdn.cli.{name}")
    script = "halo-mdn" if Path(sys.argv[0]).name == "halo-mdn" else "run_inference.py"
    program = script if name == DEFAULT else f"{script} {name}"
    parser = SentenceParser(prog=program, commands=COMMANDS)
    command.add_arguments(parser)
    return command.run(parser.parse(rest))

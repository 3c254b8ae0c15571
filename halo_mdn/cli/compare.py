"""`run_inference.py compare RUN_FOLDER ...`: rank models of the same data by what they predict."""

from __future__ import annotations

import argparse
from pathlib import Path

from halo_mdn.cli.parser import add_model_file_flag
from halo_mdn.config import RuntimeConfig
from halo_mdn.config.runtime import set_up_jax
from halo_mdn.errors import InputError
from halo_mdn.fitting.folder import POSTERIOR
from halo_mdn.posterior import container
from halo_mdn.posterior.comparison import check_same_data, score
from halo_mdn.posterior.reopened import config_of
from halo_mdn.posterior.second_realisation import second_scores
from halo_mdn.progress import Display
from halo_mdn.report.comparison_page import comparison_text, write_comparison


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The runs, and what else to score them on."""
    parser.description = (
        "Rank models that were fitted to the same halos: each sub-box left out in turn (PSIS-LOO), "
        "and optionally a second field with its halos. Differences come with standard errors of "
        "the differences."
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN_FOLDER", help=f"finished runs, folders with a {POSTERIOR}"
    )
    parser.add_argument(
        "--second",
        metavar="FILE",
        help="halos that were not fitted: an exchange file (.h5), or a run file (.toml) of which "
        "only the table [data] is read",
    )
    parser.add_argument(
        "--output", metavar="FOLDER", help="default: comparison, beside the first run"
    )
    add_model_file_flag(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier comparison")


def run(arguments: argparse.Namespace) -> int:
    """Compare, show the table and write it."""
    folders = [Path(text) for text in arguments.runs]
    names = _names(folders)
    if len(names) < 2:
        raise InputError("one run was given, expected at least two to compare")
    output = Path(arguments.output) if arguments.output else folders[0].parent / "comparison"
    if any(output.glob("comparison.*")) and not arguments.overwrite:
        raise InputError(
            f"{output} holds a comparison already: give --overwrite to replace it, or --output for "
            "another folder"
        )
    posteriors = {
        name: container.read(folder / POSTERIOR)
        for name, folder in zip(names, folders, strict=True)
    }
    check_same_data(posteriors)
    configs = [config_of(posterior) for posterior in posteriors.values()]
    set_up_jax(RuntimeConfig(precision=configs[0].runtime.precision))
    display = Display()
    second = {}
    if arguments.second:
        allowed = [Path(file) for file in arguments.model_file]
        second = second_scores(Path(arguments.second), posteriors, allowed)
    scores = [score(name, tree, second.get(name)) for name, tree in posteriors.items()]
    display.say(comparison_text(scores))
    for path in write_comparison(scores, output, second=arguments.second or ""):
        display.say(f"wrote {path}")
    return 0


def _names(folders: list[Path]) -> list[str]:
    """The folders' names; their paths where two have the same."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    if len(set(names)) < len(names):
        raise InputError("a run was given twice, expected different ones")
    return names

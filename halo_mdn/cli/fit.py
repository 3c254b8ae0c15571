"""`run_inference.py [RUN.toml]`: fit a run file."""

from __future__ import annotations

import argparse
import logging

from halo_mdn.cli.parser import add_setting_flags, configured
from halo_mdn.config.runtime import set_up_jax
from halo_mdn.config.shipped import find_run_file
from halo_mdn.fitting.folder import claim_folder
from halo_mdn.fitting.inputs import describe, prepare, warnings_of
from halo_mdn.fitting.pipeline import fit
from halo_mdn.progress import Display

DEFAULT_RUN = "quickstart"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run file, what to do with earlier results, and every setting."""
    parser.description = (
        "Fit a neural bias model to a density field and its halos with NUTS. Without arguments it "
        "fits the bundled example. Every setting of a run file is also a flag."
    )
    parser.add_argument(
        "run_file",
        nargs="?",
        default=DEFAULT_RUN,
        metavar="RUN.toml",
        help=f"run file, or the name of a shipped one (default: {DEFAULT_RUN})",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint of an unfinished run"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the results of an earlier run"
    )
    add_setting_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Fit; the exit code is 0 once results are written, whatever the verdict."""
    run_file = find_run_file(arguments.run_file)
    config = configured(run_file, arguments)
    folder = claim_folder(config, run_file, resume=arguments.resume, overwrite=arguments.overwrite)
    device = set_up_jax(config.runtime)
    inputs = prepare(config)
    display = Display()
    display.say(describe(config, inputs, folder, device=device))
    for warning in warnings_of(inputs):
        display.say(f"warning: {warning}")
    with folder.locked(), display.following(logging.getLogger("halo_mdn")):
        fit(config, inputs, folder, display=display, resume=arguments.resume)
    return 0

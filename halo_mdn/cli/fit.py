"""`run_inference.py [RUN.toml]`: fit a run file."""

from __future__ import annotations

import argparse

from halo_mdn.cli.parser import add_setting_flags, given_settings
from halo_mdn.config import load_config
from halo_mdn.launch import set_up_jax
from halo_mdn.model_files import find_run_file
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
    earlier = parser.add_mutually_exclusive_group()
    earlier.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    earlier.add_argument("--overwrite", action="store_true", help="replace earlier results")
    add_setting_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Fit; the exit code is 0 once results are written, whatever the verdict."""
    run_file = find_run_file(arguments.run_file)
    config = load_config(run_file, given_settings(arguments))
    # NumPyro and everything that computes is imported once the settings are known to be right.
    from halo_mdn.run import fit

    fit(
        config,
        run_file,
        display=Display(),
        set_up=set_up_jax,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
    )
    return 0

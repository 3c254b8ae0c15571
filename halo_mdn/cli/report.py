"""`run_inference.py report RUN_FOLDER`: the report again, from the posterior alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from halo_mdn.config import RuntimeConfig
from halo_mdn.config.runtime import set_up_jax
from halo_mdn.errors import InputError
from halo_mdn.fitting.folder import POSTERIOR
from halo_mdn.posterior import container
from halo_mdn.progress import Display
from halo_mdn.report.html import REPORT, write_pictures, write_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, and where pictures go if they are wanted."""
    parser.description = (
        f"Make {REPORT} of a finished run again, from its {POSTERIOR} alone: one file that opens "
        "in any browser without a connection."
    )
    parser.add_argument("run_folder", metavar="RUN_FOLDER", help=f"folder with a {POSTERIOR}")
    parser.add_argument(
        "--pictures", metavar="FOLDER", help="write every figure there, as PNG and as PDF"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the report."""
    folder, display = Path(arguments.run_folder), Display()
    posterior = container.read(folder / POSTERIOR)
    if "counts_power" not in posterior["posterior_predictive"].to_dataset():
        raise InputError(
            f"{folder / POSTERIOR} is of an earlier version and lacks what the report shows: fit "
            "again"
        )
    set_up_jax(RuntimeConfig())
    display.say(f"wrote {write_report(posterior, folder / REPORT, name=folder.resolve().name)}")
    if arguments.pictures:
        paths = write_pictures(posterior, arguments.pictures)
        display.say(f"wrote {len(paths)} pictures to {arguments.pictures}")
    return 0

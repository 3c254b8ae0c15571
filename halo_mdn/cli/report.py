"""`run_inference.py report RUN_FOLDER`: the report again, from the posterior alone."""

from __future__ import annotations

import argparse
from pathlib import Path

import xarray as xr

from halo_mdn.config import RuntimeConfig
from halo_mdn.config.runtime import set_up_jax
from halo_mdn.errors import InputError
from halo_mdn.fitting.folder import POSTERIOR
from halo_mdn.joint.joint_report import joint_content
from halo_mdn.posterior import container
from halo_mdn.posterior.reopened import is_joint
from halo_mdn.progress import Display
from halo_mdn.report.html import REPORT, Content, content_of, write_pictures, write_report


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
    content = _content(posterior, folder / POSTERIOR)
    set_up_jax(RuntimeConfig())
    name = folder.resolve().name
    page = write_report(posterior, folder / REPORT, name=name, content=content)
    display.say(f"wrote {page}")
    if arguments.pictures:
        paths = write_pictures(content, arguments.pictures)
        display.say(f"wrote {len(paths)} pictures to {arguments.pictures}")
    return 0


def _content(posterior: xr.DataTree, path: Path) -> Content:
    if is_joint(posterior):
        return joint_content(posterior)
    if "counts_power" not in posterior["posterior_predictive"].to_dataset():
        raise InputError(
            f"{path} is of an earlier version and lacks what the report shows: fit again"
        )
    return content_of(posterior)

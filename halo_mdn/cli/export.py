"""`run_inference.py export RUN.toml --to FILE.npz`: the likelihood without this package."""

from __future__ import annotations

import argparse
from pathlib import Path

from halo_mdn.cli.parser import add_setting_flags, configured
from halo_mdn.config.runtime import set_up_jax
from halo_mdn.config.shipped import find_run_file
from halo_mdn.errors import InputError
from halo_mdn.files import refuse_existing
from halo_mdn.fitting.inputs import prepare
from halo_mdn.likelihood.exported import write_adjoint
from halo_mdn.progress import Display


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run file, the file to write, the platforms and every setting."""
    parser.description = (
        "Write ln L and its gradients with respect to the density field and the parameters, with "
        "the catalogue of a run file, into one .npz file that JAX can run without this package."
    )
    parser.add_argument(
        "run_file", metavar="RUN.toml", help="run file, or the name of a shipped one"
    )
    parser.add_argument("--to", required=True, metavar="FILE.npz", help="the file to write")
    parser.add_argument(
        "--platforms",
        default="",
        metavar="NAMES",
        help="where it shall run, such as cpu,cuda (default: as here)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    add_setting_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the file."""
    path = Path(arguments.to)
    if path.suffix != ".npz":
        raise InputError(f"--to is {path}, expected a name that ends in .npz")
    refuse_existing(path, overwrite=arguments.overwrite, instead=", or another name")
    config = configured(find_run_file(arguments.run_file), arguments)
    device = set_up_jax(config.runtime)
    if config.model.name.endswith(".py"):
        Display().say(f"running the model file {config.model.name}")
    inputs = prepare(config)
    platforms = [name.strip() for name in arguments.platforms.split(",") if name.strip()]
    write_adjoint(path, inputs.bias, inputs.data.halos, platforms=platforms or None)
    where = ", ".join(platforms) or device
    Display().say(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB) for {where}")
    return 0

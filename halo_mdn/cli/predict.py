"""`run_inference.py predict RUN_FOLDER`: halo catalogues from a posterior, on any density."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import xarray as xr

from halo_mdn.bias.base import Bias
from halo_mdn.cli.parser import add_model_file_flag
from halo_mdn.config import DataConfig, RuntimeConfig
from halo_mdn.config.runtime import set_up_jax
from halo_mdn.errors import InputError
from halo_mdn.fitting.folder import POSTERIOR
from halo_mdn.mocks.posterior_catalogues import (
    SUFFIXES,
    MockField,
    check_free,
    draw_mocks,
    mock_paths,
    write_mocks,
)
from halo_mdn.posterior import container
from halo_mdn.posterior.mock_fields import field_of_file, fitted_field
from halo_mdn.posterior.reopened import bias_of_run, config_of, is_joint, other_voxels, params_of
from halo_mdn.progress import Display, counted, duration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, the field, how many mocks and where to."""
    parser.description = (
        "Draw halo catalogues from the posterior of a finished run: each with parameters of its "
        "own, on the density that was fitted or on any other one with voxels of the same size."
    )
    parser.add_argument("run_folder", metavar="RUN_FOLDER", help=f"folder with a {POSTERIOR}")
    parser.add_argument(
        "--field",
        metavar="FILE",
        help="overdensity (.npy, .npz), exchange file or BORG sample (.h5); default: as fitted",
    )
    parser.add_argument(
        "--field_key",
        metavar="NAME",
        default="",
        help="array or dataset in that file, where it has several",
    )
    parser.add_argument(
        "--field_is",
        choices=get_args(get_type_hints(DataConfig)["field_is"]),
        help="what its values are, as data.field_is of a run (default: delta)",
    )
    parser.add_argument(
        "--box_size", metavar="SIDES", help="one side or three in Mpc/h, where the file has none"
    )
    parser.add_argument("--num", type=int, default=100, help="number of catalogues (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the catalogues (default: 0)")
    parser.add_argument("--output", metavar="FOLDER", help="default: RUN_FOLDER/mocks")
    parser.add_argument(
        "--format", choices=tuple(SUFFIXES), default="hdf5", help="of the files (default: hdf5)"
    )
    add_model_file_flag(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace earlier catalogues")


def run(arguments: argparse.Namespace) -> int:
    """Draw and write the catalogues, each as soon as it is there."""
    if arguments.num < 1 or arguments.seed < 0:
        raise InputError(
            f"--num is {arguments.num} and --seed {arguments.seed}, expected at least 1 and 0"
        )
    run_folder = Path(arguments.run_folder)
    folder = Path(arguments.output) if arguments.output else run_folder / "mocks"
    if not arguments.overwrite:
        check_free(folder, arguments.num, arguments.format)
    fitted = container.read(run_folder / POSTERIOR)
    config = config_of(fitted)
    set_up_jax(RuntimeConfig(precision=config.runtime.precision))
    bias = bias_of_run(fitted, [Path(file) for file in arguments.model_file])
    display = Display()
    params = params_of(fitted, bias)
    field, note = _field(arguments, fitted, bias)
    voxels = " x ".join(map(str, field.grid.shape))
    sides = " x ".join(f"{side:g}" for side in dict.fromkeys(field.grid.box_size))
    display.say(f"{voxels} voxels, {sides} Mpc/h, {field.grid.boundary}: {note}")
    if difference := other_voxels(fitted, field.grid):
        display.say(
            f"warning: {difference}: the bias was learned at that resolution and need not hold at "
            "another"
        )
    mocks = write_mocks(
        draw_mocks(bias, params, field, num=arguments.num, seed=arguments.seed),
        mock_paths(folder, arguments.num, arguments.format),
        field,
        mass_definition=str(fitted.attrs.get("mass_definition", "")),
        provenance=_provenance(fitted, arguments.seed),
    )
    began, counts = time.monotonic(), []
    for mock in mocks:
        counts.append(mock.halos.num_halos)
        display.update(counted("mocks", len(counts), arguments.num, time.monotonic() - began))
    spread = f" +- {np.std(counts, ddof=1):,.0f}" if len(counts) > 1 else ""
    display.say(
        f"{len(counts)} catalogues of {np.mean(counts):,.0f}{spread} halos in "
        f"{duration(time.monotonic() - began)}; wrote {folder}"
    )
    return 0


def _field(arguments: argparse.Namespace, fitted: xr.DataTree, bias: Bias) -> tuple[MockField, str]:
    """The density to draw on, and what is said about it."""
    if arguments.field:
        given = _sides(arguments.box_size) if arguments.box_size else None
        path = Path(arguments.field)
        kind = arguments.field_is or "delta"
        return field_of_file(fitted, bias, path, box_size=given, key=arguments.field_key, kind=kind)
    if arguments.box_size or arguments.field_key or arguments.field_is:
        raise InputError(
            "--box_size, --field_key and --field_is belong to --field, which is not given"
        )
    if is_joint(fitted):
        raise InputError(
            f"{arguments.run_folder} is a joint inference, without a given field: give --field "
            "with the density to draw on"
        )
    return fitted_field(fitted, bias), "the field that was fitted, with its selection"


def _sides(text: str) -> tuple[float, float, float]:
    try:
        sides = [float(side) for side in text.split(",")]
        first, second, third = sides * 3 if len(sides) == 1 else sides
    except ValueError:
        raise InputError(f"--box_size is {text!r}, expected a side or three: 9,9,9") from None
    return (first, second, third)


def _provenance(fitted: xr.DataTree, seed: int) -> dict[str, str]:
    names = ("model", "config_sha256", "creation_library_version", "created_at")
    known = {f"posterior_{n}": str(fitted.attrs[n]) for n in names if n in fitted.attrs}
    return {"made_by": "run_inference.py predict", "seed": str(seed), **known}

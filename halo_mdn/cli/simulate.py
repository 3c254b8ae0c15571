"""`run_inference.py simulate OUT.h5`: a mock universe with known truth."""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from halo_mdn.bias.mock_params import MOCK_PARAMS
from halo_mdn.bias.neural import NeuralBias
from halo_mdn.config import RuntimeConfig
from halo_mdn.config.runtime import set_up_jax
from halo_mdn.errors import InputError
from halo_mdn.field.cosmology import Cosmology
from halo_mdn.field.grid import Grid
from halo_mdn.field.lpt import Lpt
from halo_mdn.files import refuse_existing
from halo_mdn.io.formats.arrays import read_array
from halo_mdn.io.formats.exchange import write_exchange
from halo_mdn.mocks.universe import as_exchange, make_mock
from halo_mdn.progress import Display

_COSMOLOGY = ("omega_m", "omega_b", "h", "n_s", "sigma8")


def _flag_of(owner: type, name: str) -> tuple[type, Any, str]:
    spec = next(spec for spec in fields(owner) if spec.name == name)
    return type(spec.default), spec.default, spec.metadata["help"]


_FLAGS: dict[str, tuple[type, Any, str]] = {
    "seed": (int, 0, "seed of initial conditions and halos"),
    "cells": (int, 64, "cells of the density per side"),
    "box_size": (float, 250.0, "side of the box, Mpc/h"),
    "redshift": (float, 0.0, "redshift of density and halos"),
    "order": _flag_of(Lpt, "order"),
    "supersampling": _flag_of(Lpt, "supersampling"),
    "modes": (int, 0, "cells of the white noise per side; 0: as many as the density's"),
    **{name: _flag_of(Cosmology, name) for name in _COSMOLOGY},
    "params": (str, "", "the 17 bias parameters (.npy or .npz); empty: the documented ones"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file to write and what the universe is like."""
    parser.description = (
        "Make a mock universe from a seed: white noise, its density by Lagrangian perturbation "
        "theory, and halos drawn from the bias model; everything goes into one exchange file."
    )
    parser.add_argument("output", metavar="OUT.h5", help="the file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    for name, (kind, default, text) in _FLAGS.items():
        shown = default if default != "" else "empty"
        parser.add_argument(
            f"--{name}",
            type=kind,
            default=default,
            metavar="VALUE",
            help=f"{text} (default: {shown})",
        )


def run(arguments: argparse.Namespace) -> int:
    """Make the mock and write it."""
    path = Path(arguments.output)
    refuse_existing(path, overwrite=arguments.overwrite)
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}")
    if arguments.seed < 0:
        raise InputError(f"--seed is {arguments.seed}, expected at least 0")
    bias = NeuralBias()
    params = _params(arguments.params, bias)
    lpt = _lpt(arguments)
    cosmology = Cosmology(**{name: getattr(arguments, name) for name in _COSMOLOGY})
    device = set_up_jax(RuntimeConfig())
    display = Display()
    display.say(
        f"{' x '.join(map(str, lpt.grid.shape))} cells, {arguments.box_size:g} Mpc/h, redshift "
        f"{lpt.redshift:g}, {math.prod(lpt.lattice):,} particles, {lpt.order}LPT; {device}"
    )
    mock = make_mock(arguments.seed, lpt, cosmology=cosmology, bias=bias, params=params)
    command = " ".join(["run_inference.py", *sys.argv[1:]])
    write_exchange(path, as_exchange(mock, command=command), overwrite=arguments.overwrite)
    mass = mock.halos.mass
    largest = f", the largest {mass.max():.3g} Msun/h" if len(mass) else ""
    display.say(f"{len(mass):,} halos above {bias.mass_threshold:.3g} Msun/h{largest}")
    display.say(
        f"1 + delta from {1 + mock.delta.min():.3g} to {1 + mock.delta.max():.3g}; wrote {path}"
    )
    return 0


def _lpt(arguments: argparse.Namespace) -> Lpt:
    if arguments.cells < 3:  # the kernel has three cells
        raise InputError(f"--cells is {arguments.cells}, expected at least 3")
    grid = Grid((arguments.cells,) * 3, (arguments.box_size,) * 3)
    modes = (arguments.modes or arguments.cells,) * 3
    return Lpt(
        grid,
        redshift=arguments.redshift,
        order=arguments.order,
        supersampling=arguments.supersampling,
        modes=modes,
    )


def _params(text: str, bias: NeuralBias) -> np.ndarray:
    if not text:
        return np.array(MOCK_PARAMS)
    params = read_array(Path(text), usual_name="params")
    if params.shape != (bias.num_params,) or not np.isfinite(params).all():
        raise InputError(
            f"{text} holds shape {params.shape}, expected {bias.num_params} finite parameters"
        )
    return params.astype(float)

"""What a finished run knows about itself: its configuration, its model and its parameter draws."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, get_type_hints

import numpy as np
import xarray as xr

from halo_mdn.bias.base import Bias
from halo_mdn.config import RunConfig
from halo_mdn.errors import InputError
from halo_mdn.field.grid import Grid

_SAME_VOXEL = 0.05  # relative difference of voxel sides that a bias can be expected to bear


def is_joint(posterior: xr.DataTree) -> bool:
    """Whether a posterior is of a joint inference, which was given no field."""
    return str(posterior.attrs.get("run", "")) == "joint"


def config_of(posterior: xr.DataTree) -> RunConfig:
    """The configuration with which a posterior was made, from its attribute ``config``.

    That of a joint inference is turned into that of a fit with the same bias, without data.

    Raises
    ------
    InputError
        If there is none, or it has a setting that this version does not know.
    """
    try:
        values = json.loads(posterior.attrs["config"])
        if is_joint(posterior):
            data = {name: values["data"][name] for name in ("mass_threshold", "density_floor")}
            values = {"seed": values["seed"], "data": data, "runtime": values["runtime"]}
        kinds = get_type_hints(RunConfig)
        tables = {spec.name for spec in fields(RunConfig)} & set(values)
        parts = {name: _restored(kinds[name], values[name]) for name in tables}
        return RunConfig(**parts)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the posterior does not say with which configuration it was made ({error}): expected "
            "a posterior.nc that `run_inference.py` of this version wrote"
        ) from None


def params_of(posterior: xr.DataTree, bias: Bias) -> np.ndarray:
    """The parameter draws (C, D, P) of a posterior, in the order of ``bias.block_shapes``.

    Raises
    ------
    InputError
        If a block of parameters is missing or has another shape.
    """
    dataset = posterior["posterior"].to_dataset()
    blocks = []
    for name, shape in bias.block_shapes.items():
        if name not in dataset or dataset[name].shape[2:] != shape:
            raise InputError(f"the posterior has no block {name} of shape {shape}")
        values = dataset[name].values
        blocks.append(values.reshape(*values.shape[:2], -1))
    return np.concatenate(blocks, axis=-1)


def other_voxels(posterior: xr.DataTree, grid: Grid) -> str:
    """How the voxels of a grid differ from those of the fit, in words; empty if they do not."""
    constant = posterior["constant_data"].to_dataset()
    fitted = constant["box_size"].values / constant["grid_shape"].values
    if np.max(np.abs(np.array(grid.voxel_size) / fitted - 1)) <= _SAME_VOXEL:
        return ""
    return f"voxels of {grid.voxel_size[0]:.4g} Mpc/h, the fit had {fitted[0]:.4g}"


def _restored(kind: Any, value: Any) -> Any:
    """A table of settings, or a single one, as it was before it became JSON."""
    if not isinstance(value, dict):
        return value
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in value.items()})

"""What a finished run knows about itself: its configuration, its model and its parameter draws."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import xarray as xr

from halo_mdn.bias.base import Bias
from halo_mdn.config import RunConfig
from halo_mdn.config.model_files import bias_of
from halo_mdn.errors import InputError
from halo_mdn.field.grid import Grid
from halo_mdn.io import file_hash

logger = logging.getLogger(__name__)

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


def bias_of_run(posterior: xr.DataTree, model_files: Sequence[Path] = ()) -> Bias:
    """The model of a finished run.

    A shipped model is taken as it is. A model file of somebody's own would run code that a received
    posterior names, so it must be among those that the user names, with the content that the run
    recorded.

    Parameters
    ----------
    posterior : xarray.DataTree
    model_files : sequence of Path
        Model files that may be run.

    Raises
    ------
    InputError
        If the model file of the run is not among them, or the model cannot be made.
    """
    config = config_of(posterior)
    if not config.model.name.endswith(".py"):
        return bias_of(config)
    recorded = json.loads(posterior.attrs.get("input_hashes", "{}")).get("model", "")
    for path in model_files:
        if path.is_file() and file_hash(path) == recorded:
            logger.warning("running the model file %s", path)
            return bias_of(replace(config, model=replace(config.model, name=str(path))))
    given = ", ".join(map(str, model_files))
    raise InputError(
        f"this run was made with the model file {config.model.name}, which would be run: "
        + (f"{given} is not that file (its content differs)" if given else "name it")
        + ", with --model_file PATH, if you trust it"
    )


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

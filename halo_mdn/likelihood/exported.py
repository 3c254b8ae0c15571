"""The likelihood and its gradients as a file that JAX alone can run, without this package."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax import export as jax_export

from halo_mdn.bias.base import Bias
from halo_mdn.errors import InputError
from halo_mdn.files import replace_file
from halo_mdn.halos.catalogue import HaloCatalogue
from halo_mdn.likelihood.adjoint import adjoint

PROGRAM = "program"
ARGUMENTS = "halo_arguments"
DESCRIPTION = "description"
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def export_adjoint(
    bias: Bias, halos: HaloCatalogue, *, platforms: Sequence[str] | None = None
) -> tuple[bytes, dict[str, np.ndarray]]:
    """Compile ln L and its gradients for one grid and one number of halos.

    The program takes ``(params, delta, *halo_arrays)`` and returns ln L, d ln L / d delta and
    d ln L / d params. The catalogue is an argument, not part of the program. Nothing checks the
    density in it: ``delta <= -1`` without a floor gives NaN.

    Parameters
    ----------
    bias : Bias
    halos : HaloCatalogue
    platforms : sequence of {"cpu", "cuda", "rocm", "tpu"}, optional
        Where the program shall run; by default where it was made.

    Returns
    -------
    program : bytes
        For ``jax.export.deserialize``. JAX promises to read it for six months of its releases.
    arrays : dict
        The halo arrays by name, in the order in which the program takes them.

    Raises
    ------
    InputError
        If a platform is unknown, or JAX lacks what it needs to write a program.
    """
    unknown = set(platforms or ()) - set(PLATFORMS)
    if unknown:
        raise InputError(
            f"cannot export for {', '.join(sorted(unknown))}: known are {', '.join(PLATFORMS)}"
        )
    leaves, structure = jax.tree_util.tree_flatten_with_path(replace(halos, position=None))
    arrays = {path[0].name: np.asarray(leaf) for path, leaf in leaves}

    def evaluate(params: Array, delta: Array, *halo_arrays: Array) -> tuple[Array, Array, Array]:
        result = adjoint(bias, params, delta, jax.tree.unflatten(structure, halo_arrays))
        return result.value, result.delta_cot, result.params_cot

    number = jnp.result_type(float)
    shapes = [
        jax.ShapeDtypeStruct((bias.num_params,), number),
        jax.ShapeDtypeStruct(halos.grid.shape, number),
        *(jax.ShapeDtypeStruct(a.shape, jnp.asarray(a).dtype) for a in arrays.values()),
    ]
    exported = jax_export.export(jax.jit(evaluate), platforms=platforms)(*shapes)
    try:
        return bytes(exported.serialize()), arrays
    except ImportError as error:
        raise InputError(f"JAX cannot write programs: {error}: pip install flatbuffers") from error


def write_adjoint(
    path: Path,
    bias: Bias,
    halos: HaloCatalogue,
    *,
    platforms: Sequence[str] | None = None,
) -> None:
    """Write program and catalogue into one ``.npz`` file; the file appears whole or not at all.

    Raises
    ------
    InputError
        As :func:`export_adjoint`, or if the file cannot be written.
    """
    program, arrays = export_adjoint(bias, halos, platforms=platforms)
    content = {
        **arrays,
        PROGRAM: np.frombuffer(program, dtype=np.uint8),
        ARGUMENTS: np.array(list(arrays)),
        DESCRIPTION: np.array(json.dumps(_description(bias, halos))),
    }

    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.savez(file, allow_pickle=False, **content)

    replace_file(path, write)


def _description(bias: Bias, halos: HaloCatalogue) -> dict[str, Any]:
    return {
        "params": {name: list(shape) for name, shape in bias.block_shapes.items()},
        "shape": list(halos.grid.shape),
        "box_size_in_Mpc_per_h": list(halos.grid.box_size),
        "boundary": halos.grid.boundary,
        "mass_threshold_in_Msun_per_h": bias.mass_threshold,
        "density_floor": bias.density_floor,
        "num_halos": halos.num_halos,
    }

"""The posterior container: everything about a run in one ArviZ-schema file.

Groups: ``posterior`` (named parameter blocks, and the identified functions), ``sample_stats``,
``log_likelihood`` (by sub-box), ``posterior_predictive`` and ``observed_data`` (halo counts under
the same names), ``constant_data``; provenance in the attributes of the root. The tree is built from
xarray alone and written as netCDF, which ArviZ 0.23 and 1.x both open with ``az.from_netcdf``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jax.typing import ArrayLike

from halo_mdn.catalogue import HaloCatalogue
from halo_mdn.environments import Environments, environments
from halo_mdn.errors import InputError
from halo_mdn.identified import functions_of
from halo_mdn.network import NeuralBias
from halo_mdn.poisson_process import (
    FixedFieldLikelihood,
    block_of_voxel,
    fixed_field_likelihood,
)
from halo_mdn.predictive import (
    block_log_likelihood,
    evaluate,
    expected_counts,
    mean_expected_per_voxel,
    observed_counts,
)
from halo_mdn.provenance import provenance, sha256_of
from halo_mdn.sampling.settings import Draws

__all__ = ["FUNCTION_NAMES", "build", "provenance", "read", "replace_file", "write"]

FUNCTION_NAMES = ("log_intensity", "expected_by_mass", "expected_total")
_STATS = {  # ArviZ's names of the sampler's statistics
    "energy": "energy",
    "diverging": "diverging",
    "num_steps": "n_steps",
    "tree_depth": "tree_depth",
    "accept_prob": "acceptance_rate",
    "step_size": "step_size",
}
_SLAB_DRAWS = 20  # draws that the mean of the pictured slice is taken over
_SLAB_DEPTH = 15.0  # Mpc/h: thick enough to hold halos, thin enough to show structure


def build(
    bias: NeuralBias,
    draws: Draws,
    delta: ArrayLike,
    halos: HaloCatalogue,
    *,
    attrs: Mapping[str, Any] | None = None,
    max_tree_depth: int = 10,
    num_environments: int = 6,
    num_masses: int = 6,
    num_mass_bins: int = 8,
    blocks_per_side: int = 4,
    predictive_draws: int = 400,
    seed: int = 0,
) -> xr.DataTree:
    """The container of a finished run.

    Parameters
    ----------
    bias : NeuralBias
    draws : Draws
        From :func:`halo_mdn.sampling.run_nuts`.
    delta : array (N0, N1, N2)
        The overdensity that was fitted.
    halos : HaloCatalogue
        The halos that were fitted.
    attrs : mapping, optional
        Provenance for the root, see :func:`provenance`; strings and numbers.
    max_tree_depth : int
        Of the sampler, to tell which trajectories were cut off.
    num_environments, num_masses : int
        Size of the table of identified functions.
    num_mass_bins : int
        Bins in ln M, evenly spaced from the threshold to the largest halo; the last one is open.
    blocks_per_side : int
        The log-likelihood is split into this number cubed of sub-boxes (fewer on a tiny grid).
    predictive_draws : int
        About how many draws, evenly spaced, the predictive groups and ``log_likelihood`` use.
    seed : int
        Of the predictive counts.

    Returns
    -------
    xarray.DataTree

    Raises
    ------
    InputError
        If the data are unusable, or the draws do not fit the model.
    """
    params = np.asarray(draws.params)
    if params.ndim != 3 or params.shape[-1] != bias.num_params or 0 in params.shape:
        raise InputError(
            f"draws have shape {params.shape}, expected (chain, draw, {bias.num_params})"
        )
    log_l = fixed_field_likelihood(bias, delta, halos)
    classes = environments(bias, delta, halos.grid, num_environments)
    edges = _mass_edges(log_l, num_mass_bins)
    coords = _coords(classes, edges)
    every = expected_counts(log_l, classes.label, edges)
    expected = evaluate(every, params)
    thinned = np.arange(params.shape[1])[:: _stride(params.shape, predictive_draws)]
    groups = {
        "posterior": _parameters(bias, params).merge(
            _functions(log_l, classes, num_masses, params, expected.sum(axis=2), coords)
        ),
        "sample_stats": _sample_stats(draws, max_tree_depth),
    }
    groups |= _predictive(
        log_l, params, expected, thinned, classes, edges, blocks_per_side, seed, coords
    )
    groups["constant_data"] = _constants(log_l, delta, params, thinned, classes, edges, coords)
    tree = xr.DataTree.from_dict({f"/{name}": group for name, group in groups.items()})
    tree.attrs = {**_own_attrs(log_l, draws, delta, halos, max_tree_depth), **(attrs or {})}
    return tree


def write(posterior: xr.DataTree, path: str | Path) -> Path:
    """Write the container as netCDF, atomically: nobody ever sees a half-written file."""
    return replace_file(Path(path), lambda part: posterior.to_netcdf(part, engine="h5netcdf"))


def read(path: str | Path) -> xr.DataTree:
    """Read a container into memory.

    Raises
    ------
    InputError
        If the file is missing, is not netCDF, or is not a posterior.
    """
    try:
        with xr.open_datatree(Path(path), engine="h5netcdf") as tree:
            posterior = tree.load()
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"cannot read a posterior from {path}: {error}") from None
    missing = {"posterior", "sample_stats"} - set(posterior.children)
    if missing:
        raise InputError(f"{path} has no group {sorted(missing)}: it is not a posterior of a run")
    return posterior


def replace_file(path: Path, write_part: Callable[[Path], object]) -> Path:
    """Let `write_part` write a file beside `path`, then put it in its place in one step."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_part(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _stride(shape: tuple[int, ...], wanted: int) -> int:
    return max(1, shape[0] * shape[1] // max(wanted, 1))


def _mass_edges(log_l: FixedFieldLikelihood, num_bins: int) -> np.ndarray:
    """Lower edges of the mass bins in ln(Msun/h)."""
    lowest = float(np.log(log_l.bias.mass_threshold))
    log_mass = np.asarray(log_l.log_mass, dtype=float)[np.asarray(log_l.used)]
    highest = float(log_mass.max(initial=lowest))
    highest = highest if highest > lowest + 0.1 else lowest + np.log(10)
    return np.linspace(lowest, highest, num_bins + 1)[:-1]


def _coords(classes: Environments, edges: np.ndarray) -> dict[str, Any]:
    lower = [f"{value:.2e}" for value in np.exp(edges)]
    bins = [f"{low} to {high}" for low, high in zip(lower, [*lower[1:], "inf"], strict=True)]
    return {"environment": list(classes.names), "mass_bin": bins}


def _dataset(
    variables: Mapping[str, tuple[tuple[str, ...], np.ndarray]],
    coords: Mapping[str, Any],
    draws: np.ndarray | None = None,
) -> xr.Dataset:
    """A dataset with chain and draw coordinates, and those of `coords` that it has dims for."""
    arrays = {name: (dims, np.asarray(values)) for name, (dims, values) in variables.items()}
    dims = {dim: n for d, v in arrays.values() for dim, n in zip(d, v.shape, strict=True)}
    own = {dim: np.arange(dims[dim]) for dim in ("chain", "draw") if dim in dims}
    if draws is not None and "draw" in dims:
        own["draw"] = draws
    return xr.Dataset(arrays, {**own, **{k: v for k, v in coords.items() if k in dims}})


def _parameters(bias: NeuralBias, params: np.ndarray) -> xr.Dataset:
    variables, start = {}, 0
    for name, shape in bias.block_shapes.items():
        stop = start + int(np.prod(shape))
        values = params[..., start:stop].reshape(*params.shape[:2], *shape)
        variables[name] = (("chain", "draw", *bias.block_dims[name]), values)
        start = stop
    return _dataset(variables, bias.coords)


def _functions(
    log_l: FixedFieldLikelihood,
    classes: Environments,
    num_masses: int,
    params: np.ndarray,
    by_mass: np.ndarray,
    coords: Mapping[str, Any],
) -> xr.Dataset:
    functions = functions_of(log_l, classes, num_masses)
    values = evaluate(functions, params)
    dataset = _dataset(
        {
            "log_intensity": (("chain", "draw", "environment", "halo_mass"), values),
            "expected_by_mass": (("chain", "draw", "mass_bin"), by_mass),
            "expected_total": (("chain", "draw"), by_mass.sum(axis=-1)),
        },
        {**coords, "halo_mass": np.exp(np.asarray(functions.log_mass, dtype=float))},
    )
    dataset["log_intensity"].attrs["units"] = "ln of (Mpc/h)^-3 (Msun/h)^-1"
    dataset["halo_mass"].attrs["units"] = "Msun/h"
    return dataset.assign_coords(supported=(("environment", "halo_mass"), functions.supported))


def _sample_stats(draws: Draws, max_tree_depth: int) -> xr.Dataset:
    dims = ("chain", "draw")
    stats = {new: (dims, draws.stats[old]) for old, new in _STATS.items() if old in draws.stats}
    if "potential_energy" in draws.stats:
        stats["lp"] = (dims, -np.asarray(draws.stats["potential_energy"]))
    if "num_steps" in draws.stats:
        longest = 2**max_tree_depth - 1
        stats["reached_max_treedepth"] = (dims, np.asarray(draws.stats["num_steps"]) >= longest)
    return _dataset(stats, {})


def _predictive(
    log_l: FixedFieldLikelihood,
    params: np.ndarray,
    expected: np.ndarray,
    thinned: np.ndarray,
    classes: Environments,
    edges: np.ndarray,
    blocks_per_side: int,
    seed: int,
    coords: Mapping[str, Any],
) -> dict[str, xr.Dataset]:
    """Groups log_likelihood, posterior_predictive and observed_data."""
    domain = log_l.grid.domain_shape(log_l.bias._size)
    block = block_of_voxel(domain, min(blocks_per_side, *domain))
    in_blocks = expected_counts(log_l, block, edges[:1])
    blocks = evaluate(in_blocks, params[:, thinned])[..., 0]
    log_blocks = block_log_likelihood(log_l, block, params[:, thinned], blocks)
    expected = expected[:, thinned]
    random = np.random.default_rng(seed)
    by_environment = _poisson(random, expected)
    observed = observed_counts(log_l, classes.label, edges)
    table, dims = ("environment", "mass_bin"), ("chain", "draw")
    predicted = {
        "halos_by_environment": ((*dims, *table), by_environment),
        "halos_by_mass": ((*dims, "mass_bin"), by_environment.sum(axis=2)),
        "halos_total": (dims, by_environment.sum(axis=(2, 3))),
        "halos_by_block": ((*dims, "block"), _poisson(random, blocks)),
        "expected_by_environment": ((*dims, *table), expected),
    }
    seen = {
        "halos_by_environment": (table, observed),
        "halos_by_mass": (("mass_bin",), observed.sum(axis=0)),
        "halos_total": ((), observed.sum()),
        "halos_by_block": (("block",), observed_counts(log_l, block, edges[:1])[:, 0]),
    }
    likelihood = {"poisson_process": ((*dims, "block"), log_blocks)}
    return {
        "log_likelihood": _dataset(likelihood, coords, thinned),
        "posterior_predictive": _dataset(predicted, coords, thinned),
        "observed_data": _dataset(seen, coords),
    }


def _poisson(random: np.random.Generator, expected: np.ndarray) -> np.ndarray:
    """Counts with the expected means; a mean that is not a usable number gives -1."""
    usable = np.isfinite(expected) & (expected >= 0) & (expected < 1e15)
    return np.where(usable, random.poisson(np.where(usable, expected, 0)), -1)


def _constants(
    log_l: FixedFieldLikelihood,
    delta: ArrayLike,
    params: np.ndarray,
    thinned: np.ndarray,
    classes: Environments,
    edges: np.ndarray,
    coords: Mapping[str, Any],
) -> xr.Dataset:
    grid = log_l.grid
    weight = np.asarray(expected_counts(log_l, classes.label, edges).weight, dtype=float)
    variables = {
        "grid_shape": (("axis",), grid.shape),
        "box_size": (("axis",), grid.box_size),
        "mass_bin_lower": (("mass_bin",), np.exp(edges)),
        "environment_volume": (("environment",), np.bincount(classes.label, weights=weight)),
        "environment_density": (("environment",), classes.density),
        "environment_quantile": (("environment_edge",), classes.edges),
        **_slab(log_l, delta, params[:, thinned]),
    }
    return _dataset(variables, {**coords, "axis": ["x", "y", "z"]})


def _slab(
    log_l: FixedFieldLikelihood, delta: ArrayLike, params: np.ndarray
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Density, observed and expected halos in the middle slab of the box, for a picture."""
    flat = params.reshape(-1, params.shape[-1])
    flat = flat[:: max(1, len(flat) // _SLAB_DRAWS)]
    domain, margin = log_l.grid.domain_shape(log_l.bias._size), log_l.grid.margin(log_l.bias._size)
    halos = np.bincount(
        np.asarray(log_l.halo_voxel)[np.asarray(log_l.used)], minlength=np.prod(domain)
    )
    depth = max(1, min(domain[2], round(_SLAB_DEPTH / log_l.grid.voxel_size[2])))
    start = (domain[2] - depth) // 2
    inner = tuple(slice(m, m + n) for m, n in zip(margin, domain, strict=True))
    pictured = {
        "slab_density": 1 + np.asarray(delta)[inner],
        "slab_observed": halos.reshape(domain),
        "slab_expected": mean_expected_per_voxel(log_l, flat).reshape(domain),
    }
    slabs = {name: cube[:, :, start : start + depth].sum(axis=2) for name, cube in pictured.items()}
    slabs["slab_density"] = slabs["slab_density"] / depth
    return {name: (("x", "y"), slab) for name, slab in slabs.items()}


def _own_attrs(
    log_l: FixedFieldLikelihood,
    draws: Draws,
    delta: ArrayLike,
    halos: HaloCatalogue,
    max_tree_depth: int,
) -> dict[str, Any]:
    num_gradients = int(draws.num_gradients) + int(draws.num_warmup_gradients)
    depth = max(1, round(_SLAB_DEPTH / log_l.grid.voxel_size[2])) * log_l.grid.voxel_size[2]
    return {
        "boundary": log_l.grid.boundary,
        "mass_threshold": log_l.bias.mass_threshold,
        "model": repr(log_l.bias),
        "num_halos": int(np.sum(np.asarray(log_l.used))),
        "max_tree_depth": max_tree_depth,
        "wall_time_s": float(draws.wall_time_s),
        "num_gradients": num_gradients,
        "stopped_early": int(draws.stopped_early),
        "slab_depth": depth,
        "delta_sha256": sha256_of(delta),
        "halos_sha256": sha256_of(halos.voxel, halos.log_mass, halos.selected),
        "precision": str(log_l.features.dtype),
    }

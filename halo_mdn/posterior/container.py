"""The posterior container: everything about a run in one ArviZ-schema file.

Groups: ``posterior`` (named parameter blocks, and the identified functions), ``sample_stats``,
``log_likelihood`` (by sub-box), ``posterior_predictive`` and ``observed_data`` (halo counts under
the same names), ``constant_data``; provenance in the attributes of the root. The tree is built from
xarray alone and written as netCDF, which ArviZ 0.23 and 1.x both open with ``az.from_netcdf``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.typing import ArrayLike

from halo_mdn.bias.base import Bias
from halo_mdn.errors import InputError
from halo_mdn.files import write_file
from halo_mdn.halos.catalogue import HaloCatalogue
from halo_mdn.likelihood.fixed_field import FixedFieldLikelihood
from halo_mdn.predictions.clustering import Clustering, clustering
from halo_mdn.predictions.environments import Environments
from halo_mdn.predictions.expected_counts import (
    ExpectedCounts,
    evaluate,
    expected_counts,
    observed_counts,
)
from halo_mdn.predictions.fitted_data import FittedData
from halo_mdn.predictions.poisson import poisson_numbers
from halo_mdn.predictions.slab import slab
from halo_mdn.predictions.sub_boxes import block_log_likelihood, block_volume, usable_blocks
from halo_mdn.provenance import sha256_of, versions
from halo_mdn.sampling.nuts.draws import Draws

# What decides; all else in the group posterior are parameters, but for whole fields.
FUNCTION_NAMES = (
    "log_intensity", "expected_by_mass", "expected_total",
    "field_power", "field_mode", "sigma8", "omega_m",
)  # fmt: skip
FIELD_NAMES = ("white_noise",)
_STATS = {  # ArviZ's names of the sampler's statistics
    "energy": "energy",
    "diverging": "diverging",
    "bias_diverging": "bias_diverging",
    "num_steps": "n_steps",
    "tree_depth": "tree_depth",
    "accept_prob": "acceptance_rate",
    "step_size": "step_size",
}
_SAMPLES = ("chain", "draw")


@dataclass(frozen=True)
class _Fit:
    """What several groups need: data, draws, mass bins and labels of dimensions."""

    data: FittedData
    params: np.ndarray
    log_edges: np.ndarray
    thinned: np.ndarray
    blocks_per_side: int
    coords: dict[str, Any]

    @property
    def log_l(self) -> FixedFieldLikelihood:
        return self.data.log_likelihood

    @property
    def classes(self) -> Environments:
        return self.data.classes


def build(
    bias: Bias,
    draws: Draws,
    delta: ArrayLike,
    halos: HaloCatalogue,
    *,
    num_environments: int = 6,
    num_masses: int = 6,
    **options: Any,
) -> xr.DataTree:
    """The container of a finished run, from a field and its halos.

    Parameters
    ----------
    bias : Bias
    draws : Draws
        From :func:`halo_mdn.sampling.run_nuts`.
    delta : array (N0, N1, N2)
        The overdensity that was fitted.
    halos : HaloCatalogue
        The halos that were fitted.
    num_environments, num_masses : int
        Size of the table of identified functions.
    **options
        Those of :func:`container_of`.

    Returns
    -------
    xarray.DataTree

    Raises
    ------
    InputError
        If the data are unusable, or the draws do not fit the model.
    """
    _check_draws(bias, draws)
    data = FittedData.of(bias, delta, halos, num_environments, num_masses)
    return container_of(data, draws, **options)


def container_of(
    data: FittedData,
    draws: Draws,
    *,
    attrs: Mapping[str, Any] | None = None,
    max_tree_depth: int = 10,
    num_mass_bins: int = 8,
    blocks_per_side: int = 4,
    predictive_draws: int = 400,
    seed: int = 0,
) -> xr.DataTree:
    """The container of a finished run, from data that are prepared already.

    Parameters
    ----------
    data : FittedData
    draws : Draws
        From :func:`halo_mdn.sampling.run_nuts`.
    attrs : mapping, optional
        More provenance for the root, such as the seed, the configuration and hashes of files.
        Versions, hashes of the arrays, wall time and numbers of gradients are added here. Values
        other than texts and numbers are written as JSON.
    max_tree_depth : int
        Of the sampler, to tell which trajectories were cut off.
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
        If the draws do not fit the model.
    """
    log_l, delta, halos = data.log_likelihood, data.delta, data.halos
    params = _check_draws(log_l.bias, draws)
    log_edges = _mass_edges(log_l, num_mass_bins)
    stride = max(1, params.shape[0] * params.shape[1] // max(predictive_draws, 1))
    fit = _Fit(
        data=data,
        params=params,
        log_edges=log_edges,
        thinned=np.arange(params.shape[1])[::stride],
        blocks_per_side=usable_blocks(log_l, blocks_per_side),
        coords={"environment": list(data.classes.names), "mass_bin": _bin_names(log_edges)},
    )
    expected = evaluate(expected_counts(log_l, data.classes.label, log_edges), params)
    random = np.random.default_rng(seed)
    clustered = clustering(log_l, delta, params[:, fit.thinned], log_edges, random)
    groups = {
        "posterior": parameter_blocks(log_l.bias, params).merge(_functions(fit, expected)),
        "sample_stats": sample_stats(draws.stats, max_tree_depth),
        **_predictive(fit, expected, random, clustered),
        "constant_data": _constants(fit, delta, clustered),
    }
    tree = xr.DataTree.from_dict({f"/{name}": group for name, group in groups.items()})
    own = _attributes(log_l, draws, max_tree_depth)
    own["delta_sha256"] = sha256_of(delta)
    own["halos_sha256"] = sha256_of(halos.voxel, halos.log_mass, halos.selected)
    given = {name: netcdf_value(value) for name, value in (attrs or {}).items()}
    tree.attrs = {**versions(), **own, **given}
    return tree


def _check_draws(bias: Bias, draws: Draws) -> np.ndarray:
    params = np.asarray(draws.params)
    if params.ndim != 3 or params.shape[-1] != bias.num_params or 0 in params.shape:
        raise InputError(f"draws have shape {params.shape}, expected (C, D, {bias.num_params})")
    return params


def write(posterior: xr.DataTree, path: str | Path) -> Path:
    """Write the container as netCDF, atomically: nobody ever sees a half-written file."""
    # Composed in memory: the HDF5 library crashes where a disk is full.
    return write_file(Path(path), posterior.to_netcdf(engine="h5netcdf"))


def read(path: str | Path) -> xr.DataTree:
    """Read a container into memory.

    Raises
    ------
    InputError
        If the file is missing, is not netCDF, or is not a posterior.
    """
    path = Path(path)
    _check_there(path)
    try:
        with xr.open_datatree(path, engine="h5netcdf") as tree:
            posterior = tree.load()
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"cannot read a posterior from {path}: {error}") from None
    missing = {"posterior", "sample_stats"} - set(posterior.children)
    if missing:
        raise InputError(f"{path} has no group {sorted(missing)}: it is not a posterior of a run")
    return posterior


def _check_there(path: Path) -> None:
    """Refuse a path at which no file can be read, in words of the user's."""
    folder, wanted = path.parent, "expected the folder of a finished run"
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, {wanted}")
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: {wanted}")
    if not path.exists():
        raise InputError(f"{folder} holds no {path.name}: {wanted}")
    try:
        path.open("rb").close()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def _mass_edges(log_l: FixedFieldLikelihood, num_bins: int) -> np.ndarray:
    """Lower edges of the mass bins in ln(Msun/h)."""
    lowest = float(np.log(log_l.bias.mass_threshold))
    log_mass = log_l.halos.used_log_mass().astype(float)
    highest = float(log_mass.max(initial=lowest))
    highest = highest if highest > lowest + 0.1 else lowest + np.log(10)
    return np.linspace(lowest, highest, num_bins + 1)[:-1]


def _bin_names(log_edges: np.ndarray) -> list[str]:
    lower = [f"{mass:.2e}" for mass in np.exp(log_edges)]
    return [f"{low} to {high}" for low, high in zip(lower, [*lower[1:], "inf"], strict=True)]


def dataset(
    variables: Mapping[str, tuple[tuple[str, ...], ArrayLike]],
    coords: Mapping[str, Any],
    draws: np.ndarray | None = None,
) -> xr.Dataset:
    """A dataset with chain and draw coordinates, and those of `coords` that it has dims for."""
    arrays = {name: (dims, np.asarray(values)) for name, (dims, values) in variables.items()}
    size = {dim: n for d, v in arrays.values() for dim, n in zip(d, v.shape, strict=True)}
    samples = {dim: np.arange(size[dim]) for dim in _SAMPLES if dim in size}
    if draws is not None and "draw" in size:
        samples["draw"] = draws
    return xr.Dataset(arrays, {**samples, **{k: v for k, v in coords.items() if k in size}})


def parameter_blocks(bias: Bias, params: np.ndarray) -> xr.Dataset:
    """Draws (C, D, P) as named blocks of parameters."""
    blocks = bias.blocks_of(params).items()
    dims = bias.block_dims
    return dataset({k: ((*_SAMPLES, *dims[k]), values) for k, values in blocks}, bias.coords)


def _functions(fit: _Fit, expected: np.ndarray) -> xr.Dataset:
    functions = fit.data.functions
    pair, by_mass = ("environment", "halo_mass"), expected.sum(axis=2)
    table = dataset(
        {
            "log_intensity": ((*_SAMPLES, *pair), evaluate(functions, fit.params)),
            "expected_by_mass": ((*_SAMPLES, "mass_bin"), by_mass),
            "expected_total": (_SAMPLES, by_mass.sum(axis=-1)),
        },
        {**fit.coords, "halo_mass": np.exp(np.asarray(functions.log_mass, dtype=float))},
    )
    table["log_intensity"].attrs["units"] = "ln of (Mpc/h)^-3 (Msun/h)^-1"
    table["halo_mass"].attrs["units"] = "Msun/h"
    return table.assign_coords(supported=(pair, functions.supported))


def sample_stats(
    recorded: Mapping[str, np.ndarray], max_tree_depth: int | None = None
) -> xr.Dataset:
    """The group ``sample_stats``, of arrays (C, D) as :class:`Draws` has them.

    With the largest depth of a tree it says which trajectories were cut off there.
    """
    stats = {new: (_SAMPLES, recorded[old]) for old, new in _STATS.items() if old in recorded}
    if "potential_energy" in recorded:
        stats["lp"] = (_SAMPLES, -np.asarray(recorded["potential_energy"]))
    if "num_steps" in recorded and max_tree_depth is not None:
        longest = np.asarray(recorded["num_steps"]) >= 2**max_tree_depth - 1
        stats["reached_max_treedepth"] = (_SAMPLES, longest)
    return dataset(stats, {})


def _predictive(
    fit: _Fit,
    expected: np.ndarray,
    random: np.random.Generator,
    clustered: Clustering,
) -> dict[str, xr.Dataset]:
    """Groups log_likelihood, posterior_predictive and observed_data."""
    log_l, params, coords = fit.log_l, fit.params[:, fit.thinned], fit.coords
    block = log_l.halos.domain.sub_boxes(fit.blocks_per_side)
    by_block = expected_counts(log_l, block, fit.log_edges[:1])
    in_blocks = evaluate(by_block, params)
    log_blocks = block_log_likelihood(log_l, block, params, in_blocks[..., 0])
    expected = expected[:, fit.thinned]
    by_class = expected_counts(log_l, fit.classes.label, fit.log_edges)
    counts = _predicted(random, by_class, params, expected)
    table = ("environment", "mass_bin")
    predicted = {
        "halos_by_environment": ((*_SAMPLES, *table), counts),
        "halos_by_mass": ((*_SAMPLES, "mass_bin"), counts.sum(axis=2)),
        "halos_total": (_SAMPLES, counts.sum(axis=(2, 3))),
        "halos_by_block": (
            (*_SAMPLES, "block"),
            _predicted(random, by_block, params, in_blocks)[..., 0],
        ),
        "expected_by_environment": ((*_SAMPLES, *table), expected),
        **clustered.predicted,
    }
    seen = observed_counts(log_l, fit.classes.label, fit.log_edges)
    observed = {
        "halos_by_environment": (table, seen),
        "halos_by_mass": (("mass_bin",), seen.sum(axis=0)),
        "halos_total": ((), seen.sum()),
        "halos_by_block": (("block",), observed_counts(log_l, block, fit.log_edges[:1])[:, 0]),
        **clustered.observed,
    }
    likelihood = {"poisson_process": ((*_SAMPLES, "block"), log_blocks)}
    return {
        "log_likelihood": dataset(likelihood, coords, fit.thinned),
        "posterior_predictive": dataset(predicted, coords, fit.thinned),
        "observed_data": dataset(observed, coords),
    }


def _predicted(
    random: np.random.Generator, counts: ExpectedCounts, params: np.ndarray, expected: np.ndarray
) -> np.ndarray:
    """Predicted numbers of halos for each draw, from their means or, if need be, beyond them."""
    if counts.bias.log_dispersion(jnp.asarray(params[0, 0])) is None:
        return poisson_numbers(random, expected)
    key = jax.random.key(int(random.integers(2**32)))
    return poisson_numbers(random, evaluate(counts.scattered(key), params))


def _constants(fit: _Fit, delta: ArrayLike, clustered: Clustering) -> xr.Dataset:
    log_l, classes = fit.log_l, fit.classes
    weight = np.asarray(expected_counts(log_l, classes.label, fit.log_edges).weight, dtype=float)
    columns = slab(log_l, delta, fit.params[:, fit.thinned])
    variables = {
        "grid_shape": (("axis",), log_l.grid.shape),
        "box_size": (("axis",), log_l.grid.box_size),
        "mass_bin_lower": (("mass_bin",), np.exp(fit.log_edges)),
        "environment_volume": (("environment",), np.bincount(classes.label, weights=weight)),
        "environment_density": (("environment",), classes.density),
        "environment_quantile": (("environment_edge",), classes.edges),
        "block_volume": (("block",), block_volume(log_l, fit.blocks_per_side)),
        "slab_depth": ((), columns.depth),
        "slab_density": (("x", "y"), columns.density),
        "slab_expected": (("x", "y"), columns.expected),
        "slab_observed": (("x", "y"), columns.observed),
        **clustered.constant,
    }
    coords = {**log_l.bias.coords, **fit.coords, "axis": ["x", "y", "z"]}
    return dataset(variables, coords)


def _attributes(log_l: FixedFieldLikelihood, draws: Draws, max_tree_depth: int) -> dict[str, Any]:
    return {
        "model": repr(log_l.bias),
        "mass_threshold": log_l.bias.mass_threshold,
        **_prior_scale(log_l),
        "boundary": log_l.grid.boundary,
        "precision": str(log_l.features.dtype),
        "num_halos": int(np.sum(np.asarray(log_l.used))),
        "max_tree_depth": max_tree_depth,
        "wall_time_s": float(draws.wall_time_s),
        "num_gradients": int(draws.num_gradients) + int(draws.num_warmup_gradients),
        "stopped_early": int(draws.stopped_early),
    }


def _prior_scale(log_l: FixedFieldLikelihood) -> dict[str, Any]:
    """The width of the prior, if it is Normal(0, width) for all parameters."""
    mean, scale = log_l.bias.prior
    simple = not mean.any() and np.all(scale == scale[0])
    return {"prior_scale": float(scale[0])} if simple else {}


def netcdf_value(value: Any) -> str | int | float:
    """A value that netCDF can hold."""
    if value is None:
        return ""
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return value
    return json.dumps(value, default=str)

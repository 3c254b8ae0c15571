"""The posterior container of a joint inference: the groups of a fit, and the field.

``posterior`` holds the white noise and what is followed of it beside the bias parameters and
``ln n(M | environment)`` in environments of the last field of a chain; ``observed_data`` the
halos per voxel; ``constant_data`` the truth where it is known, and mean fields to look at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from halo_mdn.field.lpt import linear_field
from halo_mdn.io.formats.exchange import Exchange
from halo_mdn.joint.followed import wavenumbers
from halo_mdn.joint.joint_chains import JointDraws
from halo_mdn.joint.joint_density import JointDensity
from halo_mdn.joint.problem import JointProblem
from halo_mdn.posterior.container import netcdf_value, parameter_blocks, sample_stats
from halo_mdn.predictions.environments import environments
from halo_mdn.predictions.expected_counts import evaluate
from halo_mdn.predictions.identified import IdentifiedFunctions, functions_of
from halo_mdn.provenance import sha256_of, versions

_SAMPLES, _SPACE = ("chain", "draw"), ("x", "y", "z")
_LATTICE = ("noise_x", "noise_y", "noise_z")  # of the white noise, which may be finer
_ENVIRONMENTS = 6
_FIELDS = 40  # draws of which the density is averaged


def build_joint(
    density: JointDensity, content: Exchange, draws: JointDraws, attrs: Mapping[str, Any]
) -> xr.DataTree:
    """The container of a finished joint inference.

    Parameters
    ----------
    density : JointDensity
    content : Exchange
        The file or mock that the halos come from, with the truth if it has one.
    draws : JointDraws
    attrs : mapping
        More provenance for the root.
    """
    problem = density.problem
    functions, surroundings = _functions(density, draws)
    wavenumber = wavenumbers(problem.lpt.noise_shape, problem.lpt.grid.box_size[0])
    drawn: dict[str, Any] = {
        "log_intensity": (
            (*_SAMPLES, "environment", "halo_mass"),
            evaluate(functions, draws.params),
        ),
        "white_noise": ((*_SAMPLES, *_LATTICE), draws.white_noise),
        "field_power": ((*_SAMPLES, "wavenumber"), draws.field_power),
        "field_mode": ((*_SAMPLES, "wavenumber", "part"), draws.field_mode),
        **{name: (_SAMPLES, values) for name, values in draws.cosmology.items()},
    }
    posterior = parameter_blocks(problem.bias, draws.params).assign(drawn)
    posterior = posterior.assign_coords(
        environment=list(functions.environment),
        halo_mass=np.exp(np.asarray(functions.log_mass, dtype=float)),
        supported=(("environment", "halo_mass"), functions.supported),
        wavenumber=np.round(wavenumber, 6),
    )
    counts = problem.halos.counts().reshape(problem.halos.domain.shape)
    groups = {
        "posterior": posterior,
        "sample_stats": sample_stats(draws.stats),
        "observed_data": xr.Dataset({"halos_by_voxel": (_SPACE, counts)}),
        "constant_data": _constants(density, content, draws, functions).assign(
            environment_density=(("environment",), surroundings)
        ),
    }
    tree = xr.DataTree.from_dict({f"/{name}": group for name, group in groups.items()})
    given = {name: netcdf_value(value) for name, value in attrs.items()}
    tree.attrs = {**versions(), **_attributes(problem, draws), **given}
    return tree


def _functions(density: JointDensity, draws: JointDraws) -> tuple[IdentifiedFunctions, np.ndarray]:
    """ln n(M | environment) in environments of the last field of a chain, and their densities."""
    problem, delta = density.problem, _delta(density, draws, 0, -1)
    fixed = problem.at_field(delta).fixed
    assert fixed is not None
    classes = environments(problem.bias, delta, problem.halos.grid, _ENVIRONMENTS)
    return functions_of(fixed, classes), classes.density


def _constants(
    density: JointDensity, content: Exchange, draws: JointDraws, functions: IdentifiedFunctions
) -> xr.Dataset:
    problem, lpt = density.problem, density.problem.lpt
    mean = draws.white_noise.mean(axis=(0, 1), dtype=float)
    variables: dict[str, Any] = {
        "grid_shape": (("axis",), np.array(lpt.grid.shape)),
        "box_size": (("axis",), np.array(lpt.grid.box_size)),
        "mean_density": (_SPACE, _mean_density(density, draws)),
        "mean_linear_field": (_LATTICE, np.asarray(linear_field(mean, lpt, problem.cosmology))),
    }
    truth, params = content.white_noise, content.params
    if truth is not None and truth.shape == lpt.noise_shape:
        true_field = np.asarray(linear_field(truth, lpt, problem.cosmology))
        variables |= {
            "true_white_noise": (_LATTICE, np.asarray(truth)),
            "true_linear_field": (_LATTICE, true_field),
        }
    if params is not None and len(params) == problem.bias.num_params:
        values = np.asarray(functions(jnp.asarray(params)))
        variables["true_log_intensity"] = (("environment", "halo_mass"), values)
    return xr.Dataset(variables)


def _attributes(problem: JointProblem, draws: JointDraws) -> dict[str, Any]:
    halos, before = problem.halos, draws.start_gradients + draws.warmup_gradients
    return {
        "model": repr(problem.bias),
        "mass_threshold": problem.bias.mass_threshold,
        "boundary": halos.grid.boundary,
        "precision": str(draws.params.dtype),
        "num_halos": int(halos.voxel.size),
        "wall_time_s": float(draws.wall_time_s),
        "num_start_gradients": draws.start_gradients,
        "num_warmup_gradients": draws.warmup_gradients,
        "num_sampling_gradients": draws.num_gradients,
        "num_gradients": before + draws.num_gradients,
        "halos_sha256": sha256_of(halos.voxel, halos.log_mass),
    }


def _mean_density(density: JointDensity, draws: JointDraws) -> np.ndarray:
    """Posterior mean of 1 + delta, from up to 40 draws."""
    chains, num = draws.white_noise.shape[:2]
    stride = max(1, chains * num // _FIELDS)
    some = [(c, d) for c in range(chains) for d in range(0, num, stride)]
    total = np.zeros(density.problem.lpt.grid.shape)
    for c, d in some:
        total += 1 + np.asarray(_delta(density, draws, c, d))
    return total / len(some)


def _delta(density: JointDensity, draws: JointDraws, chain: int, draw: int) -> jax.Array:
    """Overdensity of a draw, with its own cosmology."""
    cosmology = {name: x[chain, draw] for name, x in draws.cosmology.items()}
    sites = density.problem.units_of(cosmology) | {
        "white_noise": jnp.asarray(draws.white_noise[chain, draw], float),
        "params": jnp.asarray(draws.params[chain, draw]),
    }
    return density.delta(sites)

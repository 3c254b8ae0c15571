"""ln L term by term, as the formulas have it, for any model.

    ln L = sum_halos ln[c(x_i) n(M_i | delta at i)] - V sum_voxels c_v Lambda_v

It is what every faster way must agree with.
"""

from __future__ import annotations

from math import log

import jax
import jax.numpy as jnp
from jax import Array, lax

from halo_mdn.bias.base import Bias
from halo_mdn.halos.mass_function import MassFunction
from halo_mdn.likelihood.negative_binomial import (
    check_dispersed,
    log_spread,
    neighbour_terms,
    voxel_terms,
)
from halo_mdn.likelihood.prepared import Observed, Prepared


def definition(log_l: Prepared, params: Array, axis: str | None = None) -> Array:
    """ln L as it is written above, for any model: what every faster way must agree with.

    The terms are of the type of the features; they are summed in float64 where JAX has it, because
    ln L of a survey needs more digits than float32 holds. With a mesh ``axis`` the voxels are one
    device's part of the field: the value is its part of ln L.
    """
    of_halos = jnp.sum(_of_each_halo(log_l, params), dtype=float)
    at_voxels = log_l.bias.mass_function(params, log_l.features)
    if is_poisson(log_l.bias):
        log_expected = log_integral_of(log_l, at_voxels) + log(log_l.grid.voxel_volume)
        return of_halos - log_l.num_catalogues * _total(log_expected, log_l.weight, axis)
    of_voxels = _of_each_voxel(log_l, params, at_voxels)
    of_voxels = of_voxels if log_l.multiplicity is None else log_l.multiplicity * of_voxels
    return of_halos + of_neighbours(log_l, params) + jnp.sum(of_voxels, dtype=float)


def by_halo_and_voxel(log_l: Prepared, params: Array) -> tuple[Array, Array]:
    """Parts of ln L, which is their sum, for each halo, (H,), and for each voxel, (N,)."""
    at_voxels = log_l.bias.mass_function(params, log_l.features)
    of_halos = _of_each_halo(log_l, params) + _of_each_neighbour(log_l, params)
    return of_halos, _of_each_voxel(log_l, params, at_voxels)


def per_halo(log_l: Observed, params: Array, mass_function: MassFunction) -> Array:
    """What each halo contributes to ln L by itself, (H,), from the mass function at the halos."""
    log_n, log_phi = log_density_of(log_l, mass_function), log_l.bias.log_dispersion(params)
    if log_phi is None:
        return log_n
    check_dispersed(log_l.halos)
    log_expected = log_integral_of(log_l, mass_function) + log(log_l.grid.voxel_volume)
    if log_l.halo_coverage is not None:
        log_expected = log_expected + jnp.log(log_l.halo_coverage)
    return jnp.where(log_l.used, log_n - log_spread(log_expected, log_phi), 0)


def of_neighbours(log_l: Observed, params: Array) -> Array:
    """What halos contribute to ln L because others are in their voxel; 0 for a Poisson process."""
    return jnp.sum(_of_each_neighbour(log_l, params), dtype=float)


def per_voxel(log_l: Observed, params: Array, mass_function: MassFunction) -> Array:
    """What a fully observed voxel of each mass function adds to ln L, (N,), over `voxel_scale`."""
    log_lambda, log_phi = log_integral_of(log_l, mass_function), log_l.bias.log_dispersion(params)
    if log_phi is None:
        return jnp.exp(log_lambda)
    return voxel_terms(log_lambda + log(log_l.grid.voxel_volume), log_phi)


def voxel_scale(log_l: Observed) -> float:
    """The factor common to all voxels."""
    return -log_l.grid.voxel_volume * log_l.num_catalogues if is_poisson(log_l.bias) else 1.0


def is_poisson(bias: Bias) -> bool:
    """Whether numbers scatter as those of a Poisson process."""
    params = jax.ShapeDtypeStruct((bias.num_params,), float)
    return jax.eval_shape(bias.log_dispersion, params) is None


def _of_each_halo(log_l: Prepared, params: Array) -> Array:
    return per_halo(log_l, params, log_l.bias.mass_function(params, log_l.halo_features))


def _of_each_neighbour(log_l: Observed, params: Array) -> Array:
    log_phi = log_l.bias.log_dispersion(params)
    if log_phi is None:
        return jnp.zeros_like(log_l.log_mass)
    return neighbour_terms(log_l.halos, log_phi)


def _of_each_voxel(log_l: Observed, params: Array, mass_function: MassFunction) -> Array:
    """With the completeness of the voxels, and 0 rather than an overflow's gradient."""
    log_expected = log_integral_of(log_l, mass_function) + log(log_l.grid.voxel_volume)
    if log_l.halos.completeness is not None:
        log_expected = log_expected + jnp.log(log_l.halos.completeness)
    log_phi = log_l.bias.log_dispersion(params)
    if log_phi is None:
        return -log_l.num_catalogues * _exp_or_inf(log_expected)
    return voxel_terms(log_expected, log_phi)


def log_density_of(log_l: Observed, mass_function: MassFunction) -> Array:
    """``ln(c n)`` per halo, 0 where not used, (H,), from the mass function at the halos."""
    threshold = log(log_l.bias.mass_threshold)
    log_n = log_l.observation.log_density(mass_function, log_l.log_mass, threshold)
    if log_l.halo_coverage is not None:
        log_n = log_n + jnp.log(log_l.halo_coverage)
    return jnp.where(log_l.used, log_n, 0)


def log_integral_of(log_l: Observed, mass_function: MassFunction) -> Array:
    """``ln Lambda`` of observed masses above the threshold, (N,)."""
    threshold = log(log_l.bias.mass_threshold)
    return log_l.observation.log_integral(mass_function, threshold, threshold)


def _total(log_expected: Array, weight: Array | None, axis: str | None) -> Array:
    """``sum_v c_v exp(log_expected_v)``, with inf and a zero gradient where it is too large.

    It is the sum over all devices of the mesh ``axis`` that must not be too large.
    """
    largest = largest_number(log_expected.dtype)
    expected = jnp.exp(jnp.minimum(log_expected, log(largest)))
    total = jnp.sum(expected if weight is None else weight * expected, dtype=float)
    everywhere = total if axis is None else lax.psum(lax.stop_gradient(total), axis)
    return jnp.where(everywhere < largest, total, jnp.inf)


def _exp_or_inf(log_value: Array) -> Array:
    """``exp``, with inf and a zero gradient where it is too large for sums and products of it."""
    fits = log_value < log(largest_number(log_value.dtype))
    return jnp.where(fits, jnp.exp(jnp.where(fits, log_value, 0)), jnp.inf)


def largest_number(dtype: jnp.dtype) -> float:
    """Expected halos beyond which ln L is -inf: ``max^0.8``, which leaves room for a gradient.

    1e246 in float64, 7e30 in float32.
    """
    return float(jnp.finfo(dtype).max) ** 0.8

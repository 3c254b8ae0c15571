"""ln L term by term, as the formulas have it, for any model.

    ln L = sum_halos ln[c(x_i) n(M_i | delta at i)] - V sum_voxels c_v Lambda_v

It is what every faster way must agree with.
"""

from __future__ import annotations

from math import log

import jax.numpy as jnp
from jax import Array, lax

from halo_mdn.likelihood.negative_binomial import mixed_terms
from halo_mdn.likelihood.prepared import Prepared


def definition(log_l: Prepared, params: Array, axis: str | None = None) -> Array:
    """ln L as it is written above, for any model: what every faster way must agree with.

    The terms are of the type of the features; they are summed in float64 where JAX has it, because
    ln L of a survey needs more digits than float32 holds. With a mesh ``axis`` the voxels are one
    device's part of the field: the value is its part of ln L.
    """
    log_n, log_lambda = halo_and_voxel_terms(log_l, params)
    log_phi = log_l.bias.log_dispersion(params)
    if log_phi is not None:
        log_expected = log_expected_observed(log_l, log_lambda)
        per_halo, per_voxel = mixed_terms(log_l, log_n, log_expected, log_phi)
        return jnp.sum(per_halo, dtype=float) + jnp.sum(per_voxel, dtype=float)
    expected = _total(log_lambda + log(log_l.grid.voxel_volume), log_l.weight, axis)
    return jnp.sum(log_n, dtype=float) - log_l.num_catalogues * expected


def halo_and_voxel_terms(log_l: Prepared, params: Array) -> tuple[Array, Array]:
    """``ln(c n)`` per halo (0 where not used), shape (H,), and ``ln Lambda`` per voxel, (N,)."""
    mixture = log_l.bias.mass_function(params, log_l.features)
    at_halos = log_l.bias.mass_function(params, log_l.halo_features)
    log_threshold = log(log_l.bias.mass_threshold)
    log_n = log_l.observation.log_density(at_halos, log_l.log_mass, log_threshold)
    if log_l.halo_coverage is not None:
        log_n = log_n + jnp.log(log_l.halo_coverage)
    log_lambda = log_l.observation.log_integral(mixture, log_threshold, log_threshold)
    return jnp.where(log_l.used, log_n, 0), log_lambda


def log_expected_observed(log_l: Prepared, log_lambda: Array) -> Array:
    """``ln(V c Lambda)`` per voxel."""
    log_expected = log_lambda + log(log_l.grid.voxel_volume)
    return log_expected if log_l.weight is None else log_expected + jnp.log(log_l.weight)


def _total(log_expected: Array, weight: Array | None, axis: str | None) -> Array:
    """``sum_v c_v exp(log_expected_v)``, with inf and a zero gradient where it is too large.

    It is the sum over all devices of the mesh ``axis`` that must not be too large.
    """
    largest = largest_number(log_expected.dtype)
    expected = jnp.exp(jnp.minimum(log_expected, log(largest)))
    total = jnp.sum(expected if weight is None else weight * expected, dtype=float)
    everywhere = total if axis is None else lax.psum(lax.stop_gradient(total), axis)
    return jnp.where(everywhere < largest, total, jnp.inf)


def exp_or_inf(log_value: Array) -> Array:
    """``exp``, with inf and a zero gradient where it is too large for sums and products of it."""
    fits = log_value < log(largest_number(log_value.dtype))
    return jnp.where(fits, jnp.exp(jnp.where(fits, log_value, 0)), jnp.inf)


def largest_number(dtype: jnp.dtype) -> float:
    """Expected halos beyond which ln L is -inf: ``max^0.8``, which leaves room for a gradient.

    1e246 in float64, 7e30 in float32.
    """
    return float(jnp.finfo(dtype).max) ** 0.8

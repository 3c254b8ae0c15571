"""Value and gradient for a network that sees several channels, in pieces that stay in cache.

There is no table of several numbers. What is slow in automatic differentiation of the definition
is that dozens of arrays as long as the field go through memory, and logarithms and error functions
that XLA does not vectorise. Here a few thousand voxels or halos are taken at a time; up to the
heads of the mixture they are differentiated automatically, and from there by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log, pi

import jax
import jax.numpy as jnp
from jax import Array, lax

from halo_mdn.bias.neural import HEADS, NeuralBias, is_network
from halo_mdn.field.kernels import linear_response
from halo_mdn.likelihood.definition import is_poisson, largest_number
from halo_mdn.likelihood.prepared import Observed, Prepared
from halo_mdn.likelihood.table.elementary import softplus_and_slope
from halo_mdn.likelihood.table.mixture_sums import integral_sum, log_density_sum

CHUNK = 8192  # voxels or halos at a time: some thirty arrays of them stay in cache


def applies(log_l: Observed) -> bool:
    """Whether the model is a network, halos are a Poisson process with exact masses, in float64."""
    bias = log_l.bias
    exact = log_l.observation.is_exact and log_l.log_mass.dtype == jnp.float64
    return exact and is_network(bias) and is_poisson(bias)


def value_and_grad(log_l: Prepared, params: Array, axis: str | None = None) -> tuple:
    """ln L, its gradient, and whether they are to be trusted (a boolean scalar).

    With a mesh ``axis`` voxels and halos are one device's part, and so are value and gradient.
    """
    bias = log_l.bias
    assert is_network(bias)
    field, of_field = _of_voxels(log_l, bias, params)
    halos, of_halos, right = _of_halos(log_l, bias, params)
    scale = -log_l.grid.voxel_volume * log_l.num_catalogues
    value, grad = scale * field + halos, scale * of_field + of_halos
    everywhere = field if axis is None else lax.psum(lax.stop_gradient(field), axis)
    countable = everywhere * log_l.grid.voxel_volume < largest_number(params.dtype)
    trusted = jnp.isfinite(value) & jnp.all(jnp.isfinite(grad)) & countable & right
    if axis is not None:
        trusted = lax.pmin(trusted.astype(jnp.int32), axis) == 1
    return value, grad, trusted


def head_inputs(bias: NeuralBias, params: Array, features: Array) -> list[Array]:
    """What enters amplitude, mean and width of every component, 3 K arrays (N,), of features."""
    linear, blocks = bias.linear(params), bias.unpack(params)
    seen = list(bias.activation(params, features)) if linear is None else _rows(*linear, features)
    hidden = _softplus(seen)
    for i in range(len(bias.hidden_layers)):
        weights, shifts = blocks[f"hidden_{i}_weights"], blocks[f"hidden_{i}_biases"]
        hidden = _softplus(_rows(weights.T, shifts, hidden))
    kernels = jnp.concatenate([blocks[f"{head}_kernels"] for head in HEADS], axis=1)
    shifts = jnp.concatenate([blocks[f"{head}_biases"] for head in HEADS])
    return _rows(kernels.T, shifts, hidden)


def _softplus(rows: list[Array]) -> Array:
    """Stored: what reads a row shall not compute it again."""
    return lax.optimization_barrier(jnp.stack([softplus_and_slope(row)[0] for row in rows]))


def _rows(weights: Array, shifts: Array, features: Array) -> list[Array]:
    return [
        linear_response(row, shift, features) for row, shift in zip(weights, shifts, strict=True)
    ]


def _of_voxels(log_l: Prepared, bias: NeuralBias, params: Array) -> tuple[Array, Array]:
    """The sum of ``c Lambda`` over voxels, and its gradient."""

    def step(features: Array, weight: Array) -> tuple[Array, Array]:
        inputs, pull_back = jax.vjp(lambda p: head_inputs(bias, p, features), params)
        value, cots = integral_sum(bias, _by_head(bias, inputs), weight)
        return value, pull_back(cots)[0]

    features = log_l.features
    weight = jnp.ones(features.shape[1]) if log_l.weight is None else log_l.weight
    return _sum_of_chunks(step, features, weight)


def _of_halos(log_l: Prepared, bias: NeuralBias, params: Array) -> tuple[Array, Array, Array]:
    """The sum of ``ln(c n)`` over halos, its gradient, and whether they are right."""
    threshold, placed = log(bias.mass_threshold), log_l.halos

    def step(features: Array, fresh: Array, log_mass: Array, used: Array) -> tuple:
        inputs, pull_back = jax.vjp(lambda p: head_inputs(bias, p, features), params)
        used = used & (fresh > 0)
        u = jnp.where(used, log_mass - threshold, 0)
        value, cots, right = log_density_sum(bias, _by_head(bias, inputs), u, used)
        return value, pull_back(cots)[0], right

    if placed.log_mass.shape[0] == 0:
        return jnp.zeros(()), jnp.zeros_like(params), jnp.ones((), bool)
    ones = jnp.ones(placed.log_mass.shape)
    value, grad, right = _sum_of_chunks(
        step, log_l.halo_features, ones, placed.log_mass, placed.used
    )
    value = value - (threshold + 0.5 * log(2 * pi)) * jnp.sum(placed.used)
    if placed.coverage is not None:
        value = value + jnp.sum(jnp.log(placed.coverage))
    return value, grad, right


def _by_head(bias: NeuralBias, rows: list[Array]) -> list[list[Array]]:
    size = bias.components
    return [rows[i * size : (i + 1) * size] for i in range(len(HEADS))]


def _sum_of_chunks(
    step: Callable[..., tuple], features: Array, weight: Array, *others: Array
) -> tuple:
    """The sum of what ``step`` gives for pieces of the columns; whether all third results are true.

    The last piece begins early enough to be whole; what it repeats has weight 0.
    """
    total = features.shape[1]
    size = min(CHUNK, total)

    def body(index: Array) -> tuple:
        start = jnp.minimum(index * size, total - size)
        fresh = start + jnp.arange(size) >= index * size
        piece = lax.dynamic_slice_in_dim(features, start, size, axis=1)
        weights, *rest = (lax.dynamic_slice_in_dim(a, start, size) for a in (weight, *others))
        return step(piece, jnp.where(fresh, weights, 0), *rest)

    value, grad, *right = lax.map(body, jnp.arange(-(-total // size)))
    return jnp.sum(value), jnp.sum(grad, axis=0), *(jnp.all(part) for part in right)

"""ln L with its gradients in the field and the parameters, in few passes over the field.

The table of :mod:`halo_mdn.likelihood.table.evaluate` gives ``d ln L/dt`` per voxel, and a kernel
with one weight per shell is its own transpose up to the boundary: the gradient in ``x = ln(1 +
delta)`` is the same convolution of ``d ln L/dt``, and that in a weight is the sum of x times the
shell sums of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import log
from operator import add
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from halo_mdn.bias.base import Bias
from halo_mdn.field.kernels import pad_field
from halo_mdn.likelihood.prepared import Observed
from halo_mdn.likelihood.table.elementary import log_positive
from halo_mdn.likelihood.table.evaluate import from_activation, has_table

CHUNK = 32768  # voxels convolved at a time


def applies(log_l: Observed) -> bool:
    """Whether ln L is read from a table of one channel that is linear in sums of ln(1 + delta)."""
    bias = log_l.bias
    if bias.reach != bias.kernel_shape:  # a first layer lies in between
        return False
    params = jax.ShapeDtypeStruct((bias.num_params,), float)
    linear = bias.num_channels == 1 and jax.eval_shape(bias.linear, params) is not None
    return linear and has_table(log_l)


def value_and_cotangents(
    log_l: Observed,
    params: Array,
    delta: Array,
    *,
    chunk_size: int = CHUNK,
    axis: str | None = None,
) -> tuple[Array, Array, Array]:
    """ln L, d ln L/d delta of the shape of delta, d ln L/d params.

    ``log_l`` is one to which this :func:`applies`; its features are not used. ``chunk_size`` is the
    number of voxels convolved at a time. A mesh ``axis`` means the same as for
    :func:`halo_mdn.likelihood.table.evaluate.from_activation`.
    """
    bias, grid = log_l.bias, log_l.grid
    (weights, shifts), to_params = jax.vjp(lambda p: _linear(bias, p), params)
    padded = pad_field(delta, grid, bias.kernel_shape)
    x = lax.map(lambda plane: _log_density(plane, bias.density_floor), padded)
    t = _convolved(log_l, weights[0], shifts[0], x, chunk_size).ravel()
    at = from_activation(log_l, params, t, t[log_l.halo_voxel], axis)
    t_cot = at.field_cot.at[log_l.halo_voxel].add(at.halos_cot)
    delta_cot, weights_cot = _cotangents(log_l, weights[0], delta, x, t_cot, chunk_size)
    through = to_params((weights_cot[None], jnp.sum(t_cot)[None]))[0]
    return at.value, delta_cot, through + at.params_cot


def _linear(bias: Bias, params: Array) -> tuple[Array, Array]:
    linear = bias.linear(params)
    assert linear is not None
    return linear


def _log_density(delta: Array, floor: float) -> Array:
    """As :func:`halo_mdn.field.density.log_one_plus_delta`, in a quarter of the time."""
    density = 1 + delta
    above = density > floor
    low = log(floor) if floor > 0 else jnp.nan  # what has no logarithm must show
    return jnp.where(above, log_positive(jnp.where(above, density, 1)), low)


def _slope_of_log_density(delta: Array, floor: float) -> Array:
    density = 1 + delta
    above = density > floor
    return jnp.where(above, 1 / jnp.where(above, density, 1), 0)


def _convolved(log_l: Observed, weights: Array, shift: Array, x: Array, chunk_size: int) -> Array:
    """What the network sees over the domain, from ``x`` with its surroundings."""
    bias = log_l.bias

    def of_slab(start: Array, shells: list[Array]) -> Array:
        pairs = zip(weights, shells, strict=True)
        return sum((weight * shell for weight, shell in pairs), start=shift)

    return _map_slabs(of_slab, x, log_l.halos.domain.shape, bias, chunk_size)


def _cotangents(
    log_l: Observed,
    weights: Array,
    delta: Array,
    x: Array,
    t_cot: Array,
    chunk_size: int,
) -> tuple[Array, Array]:
    """Gradients in delta and in the weights, from that in the convolved field.

    Every shell is symmetric, so each shell sum is its own transpose: applied to the field around
    which nothing is, or to the wrapped field.
    """
    bias, grid, shape = log_l.bias, log_l.grid, log_l.grid.shape
    field = t_cot.reshape(log_l.halos.domain.shape)
    if grid.boundary == "periodic":
        padded = pad_field(field, grid, bias.kernel_shape)
        margin = tuple(n // 2 for n in bias.kernel_shape)
    else:
        padded = jnp.pad(field, [(n - 1, n - 1) for n in bias.kernel_shape])
        margin = (0, 0, 0)

    def of_slab(start: Array, shells: list[Array]) -> tuple[Array, Array]:
        size = shells[0].shape
        stored = jnp.stack([shell.ravel() for shell in shells])  # a product reads it; no sum would
        corner: list[Any] = [margin[0] + start, *margin[1:]]
        x_slab = lax.dynamic_slice(x, corner, size)
        slope = _slope_of_log_density(
            lax.dynamic_slice_in_dim(delta, start, size[0]), bias.density_floor
        )
        return (weights @ stored).reshape(size) * slope, stored @ x_slab.ravel()

    delta_cot, weights_cot = _map_slabs(of_slab, padded, shape, bias, chunk_size)
    return delta_cot.reshape(shape), jnp.sum(weights_cot, axis=0)


def _map_slabs(
    function: Callable[[Array, list[Array]], Any],
    padded: Array,
    shape: tuple[int, int, int],
    bias: Bias,
    chunk_size: int,
) -> Any:
    """``function(first plane, shell sums)`` on slabs of the grid, stacked.

    Slabs stay in cache, and what a loop returns is stored: else XLA would repeat the sums of 27
    voxels wherever the result is read.
    """
    planes = _planes_per_slab(shape, chunk_size)
    half = bias.kernel_shape[0] // 2

    def of_slab(start: Array) -> Any:
        window = lax.dynamic_slice_in_dim(padded, start, planes + 2 * half)
        return function(start, _shell_sums(window, (planes, *shape[1:]), bias))

    return lax.map(of_slab, planes * jnp.arange(shape[0] // planes))


def _planes_per_slab(shape: tuple[int, int, int], chunk_size: int) -> int:
    """The largest divisor of the first axis with at most so many voxels in a slab, at least 1."""
    fits = [n for n in range(1, shape[0] + 1) if shape[0] % n == 0]
    return max([n for n in fits if n * shape[1] * shape[2] <= chunk_size], default=1)


def _shell_sums(padded: Array, shape: tuple[int, ...], bias: Bias) -> list[Array]:
    """The field summed over each shell around the voxels of ``shape``."""
    half = np.array(bias.kernel_shape) // 2
    sums = []
    for row in bias.basis.coefficients:
        corners = bias.basis.offsets[row != 0] + half
        slices = [tuple(slice(o, o + n) for o, n in zip(c, shape, strict=True)) for c in corners]
        sums.append(reduce(add, (padded[s] for s in slices)))
    return sums

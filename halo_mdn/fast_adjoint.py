"""ln L with its gradients in the field and the parameters, in few passes over the field.

The table of :mod:`halo_mdn.fast` gives ``d ln L/dt`` per voxel, and a kernel with one weight per
shell is its own transpose up to the boundary: the gradient in ``x = ln(1 + delta)`` is the same
convolution of ``d ln L/dt``, and that in a weight is the sum of x times the shell sums of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from halo_mdn.density import log_one_plus_delta
from halo_mdn.fast import from_activation
from halo_mdn.kernels import pad_field
from halo_mdn.network import NeuralBias

if TYPE_CHECKING:
    from halo_mdn.poisson_process import FixedFieldLikelihood

SLAB = 32768  # voxels convolved at a time


def value_and_cotangents(
    log_l: FixedFieldLikelihood, params: Array, delta: Array
) -> tuple[Array, Array, Array]:
    """ln L, d ln L/d delta of the shape of delta, d ln L/d params.

    ``log_l`` is one to which :func:`halo_mdn.fast.applies`; its features are not used.
    """
    num_weights = log_l.bias.basis.num_weights
    weights = params[:num_weights]
    x, to_delta = jax.vjp(lambda d: log_one_plus_delta(d, log_l.bias.density_floor), delta)
    t = _convolved(log_l, weights, x).ravel() + params[num_weights]
    at = from_activation(log_l, params, t, t[log_l.halo_voxel])
    t_cot = at.field_cot.at[log_l.halo_voxel].add(at.halos_cot)
    x_cot, weights_cot = _convolution_cotangents(log_l, weights, x, t_cot)
    params_cot = jnp.concatenate([weights_cot, jnp.sum(t_cot)[None], at.heads_cot])
    return at.value, to_delta(x_cot)[0], params_cot


def _convolved(log_l: FixedFieldLikelihood, weights: Array, x: Array) -> Array:
    """The kernel applied to ``x``, over the domain."""
    bias = log_l.bias

    def of_slab(shells: list[Array]) -> Array:
        return sum(weight * shell for weight, shell in zip(weights, shells, strict=True))

    shape = log_l.grid.domain_shape(bias._size)
    return _map_slabs(of_slab, pad_field(x, log_l.grid, bias._size), shape, bias).reshape(shape)


def _convolution_cotangents(
    log_l: FixedFieldLikelihood, weights: Array, x: Array, cotangent: Array
) -> tuple[Array, Array]:
    """Gradients in x and in the weights, from that in the convolved field.

    Every shell is symmetric, so each shell sum is its own transpose: applied to the field around
    which nothing is, or to the wrapped field.
    """
    bias, shape = log_l.bias, log_l.grid.shape
    field = cotangent.reshape(log_l.grid.domain_shape(bias._size))
    if log_l.grid.boundary == "periodic":
        padded = pad_field(field, log_l.grid, bias._size)
    else:
        padded = jnp.pad(field, [(n - 1, n - 1) for n in bias._size])

    def of_slab(shells: list[Array], x: Array) -> tuple[Array, Array]:
        x_cot = sum(weight * shell for weight, shell in zip(weights, shells, strict=True))
        return x_cot, jnp.stack([jnp.sum(x * shell) for shell in shells])

    x_cot, weights_cot = _map_slabs(of_slab, padded, shape, bias, x)
    return x_cot.reshape(shape), jnp.sum(weights_cot, axis=0)


def _map_slabs(
    function: Callable[..., Any],
    padded: Array,
    shape: tuple[int, int, int],
    bias: NeuralBias,
    *fields: Array,
) -> Any:
    """``function(shell sums, *fields)`` on slabs of the grid, stacked.

    Slabs stay in cache, and what a loop returns is stored: else XLA would repeat the sums of 27
    voxels wherever the result is read.
    """
    planes = _planes_per_slab(shape)
    num_slabs = shape[0] // planes
    half = bias._size[0] // 2

    def of_slab(args: tuple[Array, ...]) -> Any:
        start, *slabs = args
        window = lax.dynamic_slice_in_dim(padded, start, planes + 2 * half)
        return function(_shell_sums(window, (planes, *shape[1:]), bias), *slabs)

    slabs = [field.reshape(num_slabs, planes, *shape[1:]) for field in fields]
    return lax.map(of_slab, (planes * jnp.arange(num_slabs), *slabs))


def _planes_per_slab(shape: tuple[int, int, int]) -> int:
    """The largest divisor of the first axis with at most ``SLAB`` voxels in a slab, at least 1."""
    fits = [n for n in range(1, shape[0] + 1) if shape[0] % n == 0]
    return max([n for n in fits if n * shape[1] * shape[2] <= SLAB], default=1)


def _shell_sums(padded: Array, shape: tuple[int, ...], bias: NeuralBias) -> list[Array]:
    """The field summed over each shell around the voxels of ``shape``."""
    half = np.array(bias._size) // 2
    sums = []
    for row in bias.basis.coefficients:
        corners = bias.basis.offsets[row != 0] + half
        slices = [tuple(slice(o, o + n) for o, n in zip(c, shape, strict=True)) for c in corners]
        sums.append(reduce(add, (padded[s] for s in slices)))
    return sums

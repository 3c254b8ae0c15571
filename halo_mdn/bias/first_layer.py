"""A first layer of the neural physical engine, frozen: what a second layer sees beside the density.

One convolution of ``ln(1 + delta)`` cannot see which of two neighbours is the local peak, however
many filters follow; two with a nonlinearity between them can. Every filter of the first layer has a
3x3x3 kernel with one weight per shell and gives two fields on the grid,

    softplus(K * x + b)    and    exp(K * x),

whose sums over the shells of the second layer's kernel are further features of a voxel, beside
those of x itself. Because the first layer is frozen, the features of a field are fixed, as for one
layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from halo_mdn.errors import InputError
from halo_mdn.field.grid import Grid
from halo_mdn.field.kernels import KernelBasis, kernel_basis, linear_response, shell_features

KERNEL = (3, 3, 3)
FIELDS = ("softplus", "exp")  # that each filter gives
_BASIS = kernel_basis(KERNEL, (0,), "radius")
NUM_NUMBERS = _BASIS.num_weights + 1  # of a filter: its weights, outwards, and its bias


def check_first_layer(values: Sequence[float]) -> None:
    """Refuse what are no filters.

    Raises
    ------
    InputError
        If the numbers are not finite or not as many as whole filters have.
    """
    if len(values) % NUM_NUMBERS or not np.isfinite(values).all():
        raise InputError(
            f"first_layer has {len(values)} numbers, expected {NUM_NUMBERS} finite ones for each "
            "filter: the weights of centre, faces, edges and corners, and the bias"
        )


def reach(values: Sequence[float], kernel: tuple[int, int, int]) -> tuple[int, int, int]:
    """Voxels per axis that a kernel behind the first layer sees; odd."""
    if not values:
        return kernel
    k0, k1, k2 = (own + first - 1 for own, first in zip(kernel, KERNEL, strict=True))
    return (k0, k1, k2)


def stacked_basis(values: Sequence[float], basis: KernelBasis) -> KernelBasis:
    """The features of all fields as one multipole 0 with more shells."""
    filters = range(len(values) // NUM_NUMBERS)
    names = [f"{field} {f}" for f in filters for field in FIELDS]
    labels = [*basis.labels, *(f"{label} of {name}" for name in names for label in basis.labels)]
    return KernelBasis(
        offsets=basis.offsets,
        coefficients=np.tile(basis.coefficients, (1 + len(names), 1)),
        num_shells=(len(labels),),
        slices=(slice(0, len(labels)),),
        labels=tuple(labels),
    )


def layered_features(
    values: Sequence[float],
    x: Array,
    grid: Grid,
    kernel: tuple[int, int, int],
    basis: KernelBasis,
) -> Array:
    """Shell sums of x and of the fields of the first layer, (F, N0', N1', N2').

    Parameters
    ----------
    values : sequence of float
        The first layer, filter after filter.
    x : array (N0, N1, N2)
        ``ln(1 + delta)``.
    grid : Grid
    kernel, basis
        Of the second layer.
    """
    fields = _fields(values, x, grid)
    inner = grid if grid.boundary == "periodic" else _of_shape(fields.shape[1:], grid)
    own = _cropped(shell_features(x, grid, kernel, basis), inner.domain_shape(kernel))
    others = [shell_features(field, inner, kernel, basis) for field in fields]
    return jnp.concatenate([own, *others])


def _fields(values: Sequence[float], x: Array, grid: Grid) -> Array:
    shells = shell_features(x, grid, KERNEL, _BASIS)
    shape, flat = shells.shape[1:], shells.reshape(len(shells), -1)
    fields = []
    for row in np.reshape(values, (-1, NUM_NUMBERS)):
        weights, shift = jnp.asarray(row[:-1], x.dtype), jnp.asarray(row[-1], x.dtype)
        convolved = linear_response(weights, jnp.zeros_like(shift), flat)
        fields += [jax.nn.softplus(convolved + shift), jnp.exp(convolved)]
    return jnp.stack(fields).reshape(-1, *shape)


def _of_shape(shape: tuple[int, ...], grid: Grid) -> Grid:
    """The grid on which the first layer has values."""
    sides = tuple(n * side for n, side in zip(shape, grid.voxel_size, strict=True))
    return Grid(shape, sides, grid.boundary)  # type: ignore[arg-type]


def _cropped(features: Array, shape: tuple[int, int, int]) -> Array:
    margins = [(n - inner) // 2 for n, inner in zip(features.shape[1:], shape, strict=True)]
    inside = (slice(m, m + n) for m, n in zip(margins, shape, strict=True))
    return features[(slice(None), *inside)]

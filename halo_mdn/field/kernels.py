"""Multipole kernels: which weight multiplies which cells around a voxel.

A kernel of multipole ``l`` is ``K_lm(r) = w_s(r) Y_lm(r/|r|)``: one free weight per shell ``s`` and
a real spherical harmonic for the angle. Convolving a field with it is a weighted sum of *shell
features*: the field summed over each shell with the harmonic as weight. The features do not depend
on the weights, so for a fixed field they are computed once.

The ``2l + 1`` outputs of a multipole turn into each other when the field is rotated; only the sum
of their squares is invariant. That sum is what the network sees for ``l > 0``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from math import factorial, sqrt
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.special import lpmv

from halo_mdn.field.grid import Grid

Grouping = Literal["radius", "orbit"]


def real_spherical_harmonic(degree: int, order: int, direction: np.ndarray) -> np.ndarray:
    """Real spherical harmonic in Racah's normalisation, ``sum_m Y_lm(r)^2 = 1``.

    Parameters
    ----------
    degree, order : int
        ``l >= 0`` and ``-l <= m <= l``; negative orders carry the sine.
    direction : array (..., 3)
        Non-zero vectors (x, y, z); their length does not matter. The polar angle is measured
        from z, the azimuth from x towards y.

    Returns
    -------
    array (...)
    """
    x, y, z = np.moveaxis(np.asarray(direction, dtype=float), -1, 0)
    size = abs(order)
    legendre = lpmv(size, degree, z / np.sqrt(x**2 + y**2 + z**2))
    scale = sqrt(factorial(degree - size) / factorial(degree + size))
    azimuth = np.arctan2(y, x)
    if order == 0:
        return legendre
    wave = np.cos(size * azimuth) if order > 0 else np.sin(size * azimuth)
    return sqrt(2) * scale * legendre * wave


@dataclass(frozen=True, eq=False)
class KernelBasis:
    """The shell features of a set of multipoles.

    Attributes
    ----------
    offsets : array (O, 3) of int
        The cells of the kernel relative to its centre.
    coefficients : array (F, O)
        Feature ``f`` is ``sum_o coefficients[f, o] x(v + offsets[o])``.
    num_shells : tuple of int
        Free weights per multipole (the centre has no direction: none for it when ``l > 0``).
    slices : tuple of slice
        The features of each multipole, ordered by m and then by shell.
    labels : tuple of str
        A name per free weight.
    """

    offsets: np.ndarray
    coefficients: np.ndarray
    num_shells: tuple[int, ...]
    slices: tuple[slice, ...]
    labels: tuple[str, ...]

    @property
    def num_weights(self) -> int:
        """Free weights of one filter."""
        return sum(self.num_shells)

    @property
    def num_features(self) -> int:
        """Number of shell features."""
        return len(self.coefficients)


@lru_cache
def kernel_basis(
    size: tuple[int, int, int], multipoles: tuple[int, ...], grouping: Grouping
) -> KernelBasis:
    """The basis of a kernel of ``size`` voxels per axis (odd).

    Shells are ordered outwards: for 3x3x3 centre, faces, edges, corners.
    ``grouping="radius"`` puts cells of equal distance (in voxels) in one shell; ``"orbit"`` tells
    apart cells that no symmetry of the cube maps to each other, such as (3,0,0) and (2,2,1).
    """
    offsets = np.array(list(product(*(range(-(n // 2), n // 2 + 1) for n in size))))
    keys = [_shell_key(offset, grouping) for offset in offsets]
    shells = sorted(set(keys))
    membership = np.array([[key == shell for key in keys] for shell in shells], dtype=float)
    off_centre = np.abs(offsets).sum(axis=1) > 0
    directions = np.where(off_centre[:, None], offsets, 1)  # the centre is masked below
    rows: list[np.ndarray] = []
    num_shells: list[int] = []
    slices: list[slice] = []
    labels: list[str] = []
    for degree in multipoles:
        kept = membership if degree == 0 else membership[1:]
        kept_shells = shells if degree == 0 else shells[1:]
        start = len(rows)
        for order in range(-degree, degree + 1):
            rows.extend(kept * real_spherical_harmonic(degree, order, directions))
        slices.append(slice(start, len(rows)))
        num_shells.append(len(kept))
        labels.extend(f"l={degree} {_shell_label(shell, grouping)}" for shell in kept_shells)
    return KernelBasis(offsets, np.array(rows), tuple(num_shells), tuple(slices), tuple(labels))


def _shell_key(offset: np.ndarray, grouping: Grouping) -> tuple[int, ...]:
    radius_squared = int((offset**2).sum())
    if grouping == "radius":
        return (radius_squared,)
    return (radius_squared, *sorted(int(abs(i)) for i in offset))


def _shell_label(shell: tuple[int, ...], grouping: Grouping) -> str:
    return f"r2={shell[0]}" if grouping == "radius" else "({},{},{})".format(*shell[1:])


def pad_field(field: Array, grid: Grid, kernel_size: tuple[int, int, int]) -> Array:
    """The field with the surroundings its kernel needs: wrapped when periodic, else as it is."""
    if grid.boundary == "interior":
        return field
    return jnp.pad(field, [(size // 2, size // 2) for size in kernel_size], mode="wrap")


def shell_features(
    field: Array, grid: Grid, kernel_size: tuple[int, int, int], basis: KernelBasis
) -> Array:
    """The field summed over the shells around each voxel of the domain.

    Parameters
    ----------
    field : array (N0, N1, N2)
        ``ln(1 + delta)`` for the model of this package.

    Returns
    -------
    array (F, N0', N1', N2')
        Over the domain: the whole grid when periodic, its interior otherwise.
    """
    shape = grid.domain_shape(kernel_size)
    padded = pad_field(field, grid, kernel_size)
    half = np.array(kernel_size) // 2
    features: list[Array | float] = [0.0] * basis.num_features
    for index, offset in enumerate(basis.offsets):
        corner = tuple(slice(o, o + n) for o, n in zip(offset + half, shape, strict=True))
        shifted = padded[corner]
        for f in np.flatnonzero(basis.coefficients[:, index]):
            features[f] = features[f] + float(basis.coefficients[f, index]) * shifted
    zero = jnp.zeros(shape, field.dtype)  # a harmonic may vanish on a whole shell
    return jnp.stack([zero + feature for feature in features])


def linear_responses(weights: Array, shifts: Array, features: Array) -> Array:
    """Channels ``t_c = sum_f w_cf S_f + b_c`` of features.

    Parameters
    ----------
    weights : array (C, F)
    shifts : array (C,)
    features : array (F, N)

    Returns
    -------
    array (C, N)
    """
    return jnp.stack(
        [linear_response(row, shift, features) for row, shift in zip(weights, shifts, strict=True)]
    )


@jax.custom_jvp
def linear_response(weights: Array, shift: Array, features: Array) -> Array:
    """One channel, (N,).

    Written out, because a product of this shape is slower on CPU; its transpose is not.
    """
    total = weights[0] * features[0]
    for weight, feature in zip(weights[1:], features[1:], strict=True):
        total = total + weight * feature
    return total + shift


@partial(linear_response.defjvp, symbolic_zeros=True)
def _linear_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    weights, shift, features = primals
    parts = [
        None if _is_zero(tangents[0]) else _dot(tangents[0], features),
        None if _is_zero(tangents[1]) else tangents[1],
        None if _is_zero(tangents[2]) else _dot(weights, tangents[2]),
    ]
    value = linear_response(*primals)
    tangent = sum((part for part in parts if part is not None), start=jnp.zeros_like(value))
    return value, tangent


def _dot(weights: Array, features: Array) -> Array:
    """Accelerators would round float32 factors to 10 bits."""
    return jnp.matmul(weights, features, precision="highest")


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def kernel_responses(weights: Array, features: Array, basis: KernelBasis) -> Array:
    """Rotation-invariant response of one filter for each multipole.

    ``l = 0`` responds with the convolution itself, ``l > 0`` with ``sum_m (K_lm * x)^2``.

    Parameters
    ----------
    weights : array (W,)
        The free weights of the filter, multipole after multipole.
    features : array (F, ...)

    Returns
    -------
    array (num_multipoles, ...)
    """
    responses, start = [], 0
    for num_shells, part in zip(basis.num_shells, basis.slices, strict=True):
        orders = (part.stop - part.start) // num_shells  # written out: there may be no places
        chunk = features[part].reshape(orders, num_shells, *features.shape[1:])
        part_weights = weights[start : start + num_shells]
        # Accelerators would round float32 factors to 10 bits.
        convolved = jnp.einsum("s,ms...->m...", part_weights, chunk, precision="highest")
        scalar = len(convolved) == 1
        responses.append(convolved[0] if scalar else jnp.sum(convolved**2, axis=0))
        start += num_shells
    return jnp.stack(responses)


def kernel_cube(weights: Array, kernel_size: tuple[int, int, int], basis: KernelBasis) -> Array:
    """The convolution kernel itself, shape (num l-m pairs, k0, k1, k2), for looking at it."""
    cubes, start = [], 0
    for num_shells, part in zip(basis.num_shells, basis.slices, strict=True):
        chunk = basis.coefficients[part].reshape(-1, num_shells, len(basis.offsets))
        cubes.append(jnp.einsum("s,mso->mo", weights[start : start + num_shells], chunk))
        start += num_shells
    return jnp.concatenate(cubes).reshape(-1, *kernel_size)

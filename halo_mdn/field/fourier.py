"""Modes of real fields: wavevectors, refinement of a lattice, power in shells."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Shape = tuple[int, int, int]


def refine(modes: Array, coarse: Shape, fine: Shape) -> Array:
    """Modes of the same band-limited field, sampled at the cell centres of a finer lattice.

    Parameters
    ----------
    modes : array
        ``rfftn`` of a field of shape ``coarse`` whose Nyquist planes are zero.
    coarse, fine : tuple of 3 int
        With ``fine`` at least ``coarse`` along each axis.

    Returns
    -------
    array
        ``rfftn`` of the field on ``fine``.
    """
    if coarse == fine:
        return modes
    modes = modes * (prod(fine) / prod(coarse))
    for cycles, n, m in zip(_cycles_per_box(coarse), coarse, fine, strict=True):
        # The first centre moves from L/2n to L/2m.
        modes = modes * jnp.asarray(np.exp(1j * np.pi * cycles * (1 / m - 1 / n)), modes.dtype)
    modes = jnp.fft.fftshift(modes, axes=(0, 1))
    pads = []
    for n, m in zip(coarse[:2], fine[:2], strict=True):
        before = m // 2 - n // 2
        pads.append((before, m - n - before))
    pads.append((0, fine[2] // 2 - coarse[2] // 2))
    return jnp.fft.ifftshift(jnp.pad(modes, pads), axes=(0, 1))


def wavevector(shape: Shape, box_size: tuple[float, float, float], dtype: jnp.dtype) -> tuple:
    """Components of the wavevector in h/Mpc for ``rfftn``: (n, 1, 1), (1, n, 1), (1, 1, n)."""
    cycles = _cycles_per_box(shape)
    return tuple(
        jnp.asarray(2 * np.pi / side * along, dtype=dtype)
        for along, side in zip(cycles, box_size, strict=True)
    )


def not_nyquist(shape: Shape) -> np.ndarray:
    """Which modes of ``rfftn`` lie below the Nyquist frequency of every (even) axis."""
    x, y, z = (
        np.abs(along) < n / 2 for along, n in zip(_cycles_per_box(shape), shape, strict=True)
    )
    return x & y & z


def _cycles_per_box(shape: Sequence[int]) -> list[np.ndarray]:
    """Integer wavenumbers of ``rfftn`` along each axis, ready to broadcast."""
    n0, n1, n2 = shape
    axes = (np.fft.fftfreq(n0, 1 / n0), np.fft.fftfreq(n1, 1 / n1), np.fft.rfftfreq(n2, 1 / n2))
    return list(np.ix_(*axes))


def inverse_square(k: tuple[Array, ...]) -> Array:
    """1 / k^2, and 0 at k = 0."""
    square = sum(ki**2 for ki in k)
    return jnp.where(square > 0, 1 / jnp.where(square > 0, square, 1), 0)


def shell_power(field: Array) -> Array:
    """Mean power of the modes of each shell, (S,); 1 for white noise."""
    return shell_product(field, field)


def shell_product(left: Array, right: Array) -> Array:
    """Mean product of the modes of two fields in each shell, (S,)."""
    shell, weight = shells_of(left.shape), weights_of(left.shape)
    product = weight * (jnp.fft.rfftn(left) * jnp.fft.rfftn(right).conj()).real / left.size
    count = np.bincount(shell.ravel(), weight.ravel())
    return jax.ops.segment_sum(product.ravel(), shell.ravel(), len(count)) / count


def shells_of(shape: Sequence[int]) -> np.ndarray:
    """Which shell, ``round(|cycles per box|)``, each mode of ``rfftn`` belongs to."""
    return np.rint(np.sqrt(sum(x**2 for x in _cycles_per_box(shape)))).astype(int)


def wave_numbers(shape: Sequence[int], box_size: Sequence[float]) -> np.ndarray:
    """Length of the wavevector of each mode of ``rfftn``, in h/Mpc."""
    cycles = zip(_cycles_per_box(shape), box_size, strict=True)
    return np.sqrt(sum((2 * np.pi / side * along) ** 2 for along, side in cycles))


def weights_of(shape: Sequence[int]) -> np.ndarray:
    """How many modes of the full transform each mode of ``rfftn`` stands for, 1 or 2."""
    n0, n1, n2 = shape
    weights = np.full(n2 // 2 + 1, 2.0)
    weights[0] = 1.0
    if n2 % 2 == 0:
        weights[-1] = 1.0
    return np.broadcast_to(weights, (n0, n1, len(weights)))

"""Particles to a density field: cloud-in-cell assignment, differentiable in the positions.

Every particle is a cube of the size of a cell and gives each cell the volume they share. The
field value of cell ``(i, j, k)`` belongs to its **centre**, ``((i + 1/2) L0/N0, ...)``: a particle
exactly there puts all of its mass into that cell. The box is periodic.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import product
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from halo_mdn.density import is_concrete
from halo_mdn.errors import InputError
from halo_mdn.grid import Grid


def paint_mass(position: ArrayLike, grid: Grid, weight: ArrayLike | None = None) -> Array:
    """Mass per cell of particles, by cloud-in-cell assignment.

    Parameters
    ----------
    position : array (..., 3)
        In Mpc/h; wrapped into the periodic box.
    grid : Grid
    weight : array (...), optional
        Mass of each particle; 1 by default.

    Returns
    -------
    array (N0, N1, N2)
        Its sum is the total mass.

    Raises
    ------
    InputError
        If the shapes disagree, there is no particle, or a position is not finite.
    """
    position = jnp.asarray(position, dtype=float)
    _check_particles(position, weight, grid)
    cells = tuple(position[..., axis] / grid.voxel_size[axis] - 0.5 for axis in range(3))
    return deposit(cells, grid.shape, None if weight is None else jnp.asarray(weight))


def paint_overdensity(position: ArrayLike, grid: Grid, weight: ArrayLike | None = None) -> Array:
    """Overdensity of particles: :func:`paint_mass` over its mean, minus 1. Same arguments."""
    mass = paint_mass(position, grid, weight)
    return mass / jnp.mean(mass) - 1


def paint_in_pieces(
    pieces: Iterable[tuple[ArrayLike, ArrayLike | None]], grid: Grid
) -> tuple[np.ndarray, float]:
    """Mass per cell of more particles than memory holds.

    Parameters
    ----------
    pieces : iterable of (position, weight)
        As :func:`paint_mass` takes them; all with a weight, or none.
    grid : Grid

    Returns
    -------
    mass : array (N0, N1, N2)
        Summed in float64.
    total : float
        Mass of all particles, which the sum of ``mass`` equals up to rounding.
    """
    mesh, total = np.zeros(grid.shape), 0.0
    for position, weight in pieces:
        mesh += np.asarray(paint_mass(position, grid, weight))
        total += len(np.asarray(position)) if weight is None else float(np.sum(weight, dtype=float))
    return mesh, total


@partial(jax.jit, static_argnums=1)
def deposit(
    cells: tuple[Array, Array, Array], shape: tuple[int, int, int], weight: Array | None = None
) -> Array:
    """Cloud-in-cell assignment of particles given in units of cells from the centre of cell 0.

    Parameters
    ----------
    cells : three arrays (...)
        Coordinates along each axis; wrapped.
    shape : tuple of 3 int
        Of the mesh.
    weight : array (...), optional
        Mass of each particle; 1 by default.

    Returns
    -------
    array, shape ``shape``
    """
    index, share = zip(*(_neighbours(x, n) for x, n in zip(cells, shape, strict=True)), strict=True)
    mesh = jnp.zeros(prod(shape), dtype=cells[0].dtype)
    for a, b, c in product((0, 1), repeat=3):
        flat = (index[0][a] * shape[1] + index[1][b]) * shape[2] + index[2][c]
        mass = share[0][a] * share[1][b] * share[2][c]
        mass = mass if weight is None else mass * weight
        mesh = mesh.at[flat].add(mass, mode="promise_in_bounds")
    return mesh.reshape(shape)


def _neighbours(x: Array, num: int) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """The two cells along one axis that a particle overlaps, and its share in each."""
    lower = jnp.floor(x)
    above = x - lower
    first = lower.astype(jnp.int32) % num
    second = jnp.where(first == num - 1, 0, first + 1)
    return (first, second), (1 - above, above)


def _check_particles(position: Array, weight: ArrayLike | None, grid: Grid) -> None:
    if position.ndim < 2 or position.shape[-1] != 3 or position.size == 0:
        raise InputError(f"positions have shape {position.shape}, expected (particles, 3)")
    if weight is not None and jnp.shape(weight) != position.shape[:-1]:
        raise InputError(
            f"weight has shape {jnp.shape(weight)}, expected one per particle, "
            f"{position.shape[:-1]}"
        )
    if grid.boundary != "periodic":
        raise InputError(f"particles are painted on periodic grids, got {grid.boundary!r}")
    if is_concrete(position):
        num_bad = int((~np.isfinite(np.asarray(position)).all(axis=-1)).sum())
        if num_bad:
            raise InputError(f"{num_bad} particle positions are NaN or infinite")

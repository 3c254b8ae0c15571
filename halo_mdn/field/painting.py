"""Particles to a density field: cloud-in-cell assignment, differentiable in the positions.

Every particle is a cube of the size of a cell and gives each cell the volume they share. The
field value of cell ``(i, j, k)`` belongs to its **centre**, ``((i + 1/2) L0/N0, ...)``: a particle
exactly there puts all of its mass into that cell. The box is periodic.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial, reduce
from itertools import product
from math import prod
from operator import add

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from halo_mdn.errors import InputError
from halo_mdn.field.density import is_concrete
from halo_mdn.field.grid import Grid

Cells = tuple[Array, Array, Array]
Shape = tuple[int, int, int]
_CORNERS = tuple(product((0, 1), repeat=3))  # of a cube of cells, from the lowest one


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
def deposit(cells: Cells, shape: Shape, weight: Array | None = None) -> Array:
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
    return _deposit(cells, weight, shape)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _deposit(cells: Cells, weight: Array | None, shape: Shape) -> Array:
    base, share = _overlaps(cells, shape)
    mass = jnp.stack([share[0][a] * share[1][b] * share[2][c] for a, b, c in _CORNERS], axis=-1)
    mass = mass if weight is None else mass * weight[..., None]
    # One row of eight per particle, at the cell below it: a tenth of the random access of eight
    # separate sums, and the rows of a cell are brought to its neighbours afterwards, once.
    rows = jnp.zeros((prod(shape), 8), dtype=mass.dtype)
    rows = rows.at[base.ravel()].add(mass.reshape(-1, 8), mode="promise_in_bounds")
    rows = rows.reshape(*shape, 8)
    parts = [jnp.roll(rows[..., i], at, (0, 1, 2)) for i, at in enumerate(_CORNERS)]
    return reduce(add, parts)


def _deposit_forward(
    cells: Cells, weight: Array | None, shape: Shape
) -> tuple[Array, tuple[Cells, Array | None]]:
    return _deposit(cells, weight, shape), (cells, weight)


def _deposit_backward(
    shape: Shape, given: tuple[Cells, Array | None], mesh_cot: Array
) -> tuple[Cells, Array | None]:
    """The mesh of cotangents, interpolated to the particles, and its slope there."""
    cells, weight = given
    base, ((x0, x1), (y0, y1), (z0, z1)) = _overlaps(cells, shape)
    near = jnp.stack([jnp.roll(mesh_cot, [-i for i in at], (0, 1, 2)) for at in _CORNERS], axis=-1)
    rows = near.reshape(-1, 8).at[base.ravel()].get(mode="promise_in_bounds")
    value = {at: rows[:, i].reshape(base.shape) for i, at in enumerate(_CORNERS)}
    edge = {(a, b): value[a, b, 0] * z0 + value[a, b, 1] * z1 for a, b, c in _CORNERS if c == 0}
    rise = {(a, b): value[a, b, 1] - value[a, b, 0] for a, b, c in _CORNERS if c == 0}
    slope_x = (edge[1, 0] - edge[0, 0]) * y0 + (edge[1, 1] - edge[0, 1]) * y1
    slope_y = (edge[0, 1] - edge[0, 0]) * x0 + (edge[1, 1] - edge[1, 0]) * x1
    slope_z = x0 * (rise[0, 0] * y0 + rise[0, 1] * y1) + x1 * (rise[1, 0] * y0 + rise[1, 1] * y1)
    if weight is None:
        return (slope_x, slope_y, slope_z), None
    weight_cot = x0 * (edge[0, 0] * y0 + edge[0, 1] * y1) + x1 * (edge[1, 0] * y0 + edge[1, 1] * y1)
    return (slope_x * weight, slope_y * weight, slope_z * weight), weight_cot.astype(weight.dtype)


_deposit.defvjp(_deposit_forward, _deposit_backward)


def _overlaps(cells: Cells, shape: Shape) -> tuple[Array, tuple[tuple[Array, Array], ...]]:
    """Flat index of the lowest cell that a particle overlaps; its two shares along each axis."""
    base: Array | int = 0
    shares = []
    for x, num in zip(cells, shape, strict=True):
        lower = jnp.floor(x)
        base = base * num + lower.astype(jnp.int32) % num
        shares.append((1 - (x - lower), x - lower))
    return jnp.asarray(base), tuple(shares)


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

"""A smooth function of one number, read from and summed over a table of cubics.

The function is known at Chebyshev nodes, on panels that break where it has kinks; a constant matrix
turns the values at the nodes of a panel into one cubic per cell. A sum of the function over many
places is the sum over the cells of their moments ``sum_v w_v s_v^p`` times the coefficients. Taken
back to the nodes, the moments are quadrature weights.
"""

from __future__ import annotations

from functools import lru_cache, reduce
from math import pi
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.polynomial import chebyshev

PANELS = 64  # over the range, shared among the stretches between kinks
NODES = 12  # Chebyshev nodes of a panel
CELLS = 64  # per panel
DEGREE = 3  # of the polynomial in a cell
CHUNK = 32768  # places at a time


class CubicTable(NamedTuple):
    """Panels over a range: the nodes (P, D), the ends of the stretches between kinks, and the cells
    per unit length on each stretch."""

    nodes: Array
    edges: list[Array]
    rates: list[Array]


def make_table(low: Array, high: Array, kinks: list[Array]) -> CubicTable:
    """Equal panels on each of the stretches between the kinks, which are in increasing order."""
    edges = [low, *(jnp.clip(kink, low, high) for kink in kinks), high]
    panels = PANELS // (len(edges) - 1)
    widths = [(b - a) / panels for a, b in zip(edges[:-1], edges[1:], strict=True)]
    rates = [jnp.where(w > 0, CELLS / jnp.where(w > 0, w, 1), 0) for w in widths]
    offset = jnp.arange(panels)[:, None] + 0.5 + 0.5 * jnp.asarray(_chebyshev_points(NODES))[None]
    nodes = [left + width * offset for left, width in zip(edges[:-1], widths, strict=True)]
    return CubicTable(jnp.concatenate(nodes), edges, rates)


def sum_and_look_up(
    table: CubicTable, values: Array, points: Array, weight: Array | None
) -> tuple[Array, Array]:
    """Where points fall in the table, and what a function is there, in one pass.

    Parameters
    ----------
    values : array (P, D)
        The function at the nodes.
    points : array (N,)
    weight : array (N,) or None
        Weights of the points; ones if None.

    Returns
    -------
    moments : array (DEGREE + 1, P, CELLS)
        ``sum_v w_v s_v^p`` over the points of each cell, with s in [-1, 1] the place in the cell.
    array (N,)
        The function at the points.
    """
    coefficients = jnp.einsum("kmd,pd->kpm", _cell_matrix()[0], values).reshape(DEGREE + 1, -1)

    def of_chunk(sums: list[Array], chunk: tuple[Array, ...]) -> tuple[list[Array], Array]:
        points, *weights = chunk
        cell, s = _stored_cells(table, points)
        power = weights[0] if weights else jnp.ones_like(s)
        added = []
        for moment in sums:
            added.append(moment.at[cell].add(power, mode="promise_in_bounds"))
            power = power * s
        gather = [c.at[cell].get(mode="promise_in_bounds") for c in coefficients]
        return added, reduce(lambda result, coefficient: result * s + coefficient, gather[::-1])

    start = [jnp.zeros(len(table.nodes) * CELLS, points.dtype)] * (DEGREE + 1)
    fields = (points,) if weight is None else (points, weight)
    sums, looked_up = lax.scan(of_chunk, start, tuple(_chunks(field) for field in fields))
    return jnp.stack(sums).reshape(DEGREE + 1, -1, CELLS), looked_up.ravel()


def to_nodes(moments: Array) -> Array:
    """Quadrature weights of the nodes, (P, D)."""
    return jnp.einsum("kpm,kmd->pd", moments, _cell_matrix()[0])


def relative_error(counts: Array, values: Array) -> Array:
    """Bound on the neglected terms of ``sum_v f(t_v)``, relative to ``sum_v |f(t_v)|``.

    In each cell the next Chebyshev coefficient, in each panel the last two.

    Parameters
    ----------
    counts : array (P, CELLS)
        Weight in each cell: the first of the moments.
    values : array (P, D)
        The function at the nodes.
    """
    _, next_term, tail = _cell_matrix()
    in_cells = jnp.abs(jnp.einsum("md,pd->pm", next_term, values))
    in_panels = jnp.sum(jnp.abs(values @ tail.T), axis=1)
    size = jnp.sum(counts * jnp.mean(jnp.abs(values), axis=1)[:, None])
    return jnp.sum(counts * (in_cells + in_panels[:, None])) / size


def jump_at_edges(counts: Array, values: Array) -> Array:
    """What :func:`relative_error` does not see: a step between two panels, where no node lies.

    The panels' polynomials, at the edge that two of them share, do not agree then. A function with
    kinks has none.
    """
    left, right = _ends() @ values.T
    jumps = jnp.abs(right[:-1] - left[1:])
    size = jnp.sum(counts * jnp.mean(jnp.abs(values), axis=1)[:, None])
    return jnp.sum((counts[:-1, -1] + counts[1:, 0]) * jumps) / size


@lru_cache
def _ends() -> np.ndarray:
    """From the values at the nodes of a panel to those at its two ends, (2, NODES)."""
    fit = np.linalg.inv(chebyshev.chebvander(_chebyshev_points(NODES), NODES - 1))
    return chebyshev.chebvander(np.array([-1.0, 1.0]), NODES - 1) @ fit


def _chunks(field: Array) -> Array:
    """The field in rows that fit into the cache, or in one row if its size has no good divisor."""
    for rows in range(-(-len(field) // CHUNK), 2 * len(field) // CHUNK + 2):
        if len(field) % rows == 0:
            return field.reshape(rows, -1)
    return field[None]


def _stored_cells(table: CubicTable, points: Array) -> tuple[Array, Array]:
    """The cell of each point and the place in it, in [-1, 1].

    What a loop returns is stored: else XLA would find the cells again for everything that reads
    them.
    """
    pieces = points.reshape(4, -1) if len(points) % 4 == 0 else points[None]
    cell, s = lax.map(lambda piece: _cells(table, piece), pieces)
    return cell.ravel(), s.ravel()


def _cells(table: CubicTable, points: Array) -> tuple[Array, Array]:
    per_stretch = len(table.nodes) * CELLS // len(table.rates)
    y, last = jnp.zeros_like(points), jnp.zeros_like(points)
    for i, (left, rate) in enumerate(zip(table.edges[:-1], table.rates, strict=True)):
        inside = points >= left
        y = jnp.where(inside, (points - left) * rate + i * per_stretch, y)
        last = jnp.where(inside, (i + 1.0) * per_stretch - 1, last)
    cell = jnp.minimum(y, last).astype(jnp.int32)
    return cell, 2 * (y - cell) - 1


def _chebyshev_points(count: int) -> np.ndarray:
    return np.cos(pi * (np.arange(count) + 0.5) / count)


@lru_cache
def _cell_matrix() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Constant matrices that act on the values at the nodes of a panel.

    Returns the coefficients of ``s^p`` in each cell (DEGREE + 1, CELLS, NODES), the first neglected
    Chebyshev coefficient in each cell (CELLS, NODES), and the last two of the panel (2, NODES).
    """
    fit = np.linalg.inv(chebyshev.chebvander(_chebyshev_points(NODES), NODES - 1))
    points = _chebyshev_points(DEGREE + 2)
    centres = (2 * np.arange(CELLS) + 1) / CELLS - 1
    values = chebyshev.chebvander(centres[:, None] + points / CELLS, NODES - 1) @ fit
    local = np.linalg.inv(chebyshev.chebvander(points, DEGREE + 1))
    coefficients = np.einsum("cn,mnd->cmd", local, values)
    powers = np.zeros((DEGREE + 1, DEGREE + 1))
    for c in range(DEGREE + 1):
        powers[: c + 1, c] = chebyshev.cheb2poly(np.eye(DEGREE + 1)[c])[: c + 1]
    cubic = np.einsum("kc,cmd->kmd", powers, coefficients[:-1])
    return cubic, coefficients[-1], fit[-2:]

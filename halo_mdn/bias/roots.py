"""Where a function of one number changes its sign."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array, lax

_POINTS = 257  # at which signs are looked at; two changes between neighbours go unseen
_HALVINGS = 60


def sign_changes(
    function: Callable[[Array], Array], low: Array, high: Array, *, count: int
) -> Array:
    """The first ``count`` places between two numbers, in increasing order; ``-inf`` for the rest.

    Parameters
    ----------
    function : from array (N,) to array (N,)
        Continuous, evaluated elementwise.
    low, high : scalars
    """
    points = low + (high - low) * jnp.linspace(0, 1, _POINTS, dtype=low.dtype)
    positive = function(points) > 0
    changes = positive[1:] != positive[:-1]
    left = jnp.nonzero(changes, size=count, fill_value=_POINTS)[0]
    known = left < _POINTS
    left = jnp.where(known, left, 0)

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        below, above = ends
        middle = (below + above) / 2
        same = (function(middle) > 0) == positive[left]
        return jnp.where(same, middle, below), jnp.where(same, above, middle)

    below, above = lax.fori_loop(0, _HALVINGS, halve, (points[left], points[left + 1]))
    return jnp.where(known, (below + above) / 2, -jnp.inf)

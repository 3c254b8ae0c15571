"""The input of the model: checks of the overdensity and its logarithm."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from halo_mdn.errors import InputError


def is_concrete(*values: object) -> bool:
    """Whether all arrays hold numbers now, rather than being traced by a JAX transformation."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def in_floats(values: ArrayLike) -> Array:
    """An array of floating-point numbers of a definite type, at least float32.

    Where JAX leaves the type open, as for ``jnp.full(shape, 0.5)``, it is that of ``float``: an
    open type would turn into float32 beside a float32 constant.
    """
    array = jnp.asarray(values)
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    dtype = jnp.promote_types(array.dtype, jnp.float32) if floating else jnp.result_type(float)
    return jax.lax.convert_element_type(array, dtype)


def check_shape(delta: ArrayLike, shape: tuple[int, int, int]) -> None:
    """Refuse an overdensity of another shape than the grid's."""
    if jnp.shape(delta) != shape:
        raise InputError(f"the density has shape {jnp.shape(delta)}, expected the grid's {shape}")


def check_density(
    delta: ArrayLike, shape: tuple[int, int, int], density_floor: float = 0.0
) -> None:
    """Refuse an overdensity whose logarithm does not exist.

    Parameters
    ----------
    delta : array (N0, N1, N2)
        Overdensity, dimensionless.
    shape : tuple of 3 int
        Expected shape.
    density_floor : float
        Smallest allowed ``1 + delta``; 0 means that there is none and that ``delta <= -1`` is
        an error.

    Raises
    ------
    InputError
        Saying how many cells are wrong and what can be done. Values that are being traced by
        JAX are checked for their shape only.
    """
    check_shape(delta, shape)
    if not is_concrete(delta):
        return
    # A field on several devices is counted where it is: no process may hold all of it.
    spread = isinstance(delta, Array) and len(delta.sharding.device_set) > 1
    values: Any = delta if spread else np.asarray(delta)
    num_bad = int((~(jnp if spread else np).isfinite(values)).sum())
    if num_bad:
        raise InputError(f"{num_bad} of {values.size} density cells are NaN or infinite")
    num_empty = int((values <= -1).sum())
    if num_empty and density_floor <= 0:
        raise InputError(
            f"{num_empty} of {values.size} density cells ({100 * num_empty / values.size:.2g} %) "
            "have delta <= -1, where ln(1 + delta) does not exist: supersample the field "
            "(more particles than cells) or set density_floor, a floor on 1 + delta"
        )


def log_one_plus_delta(delta: Array, density_floor: float = 0.0) -> Array:
    """``ln(1 + delta)``; with a floor, ``ln(max(1 + delta, floor))`` and zero gradient under it."""
    if density_floor <= 0:
        return jnp.log1p(delta)
    above = 1 + delta > density_floor
    return jnp.where(above, jnp.log1p(jnp.where(above, delta, 0)), jnp.log(density_floor))

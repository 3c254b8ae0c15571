"""The intensity of halos per voxel, and its integral over the masses."""

from __future__ import annotations

from functools import partial
from math import log

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from halo_mdn.bias.base import Bias, features_of_density
from halo_mdn.field.density import check_density
from halo_mdn.field.grid import Grid


def log_intensity(
    bias: Bias, params: ArrayLike, delta: ArrayLike, grid: Grid, log_mass: ArrayLike
) -> Array:
    """``ln n(M | delta)`` per voxel: halos per (Mpc/h)^3 and per Msun/h.

    Parameters
    ----------
    log_mass : scalar or array (...)
        Natural log of the mass in Msun/h.

    Returns
    -------
    array (..., N0', N1', N2')
        Over the domain: the whole grid when periodic, its interior otherwise.

    Examples
    --------
    >>> import numpy as np
    >>> import halo_mdn as hm
    >>> bias, delta = hm.TruncatedPowerLaw(), np.zeros((4, 4, 4))
    >>> grid = hm.Grid(delta.shape, (40.0, 40.0, 40.0))
    >>> log_n = hm.log_intensity(bias, np.zeros(6), delta, grid, np.log([2e12, 2e13, 2e14]))
    >>> log_n.shape
    (3, 4, 4, 4)
    """
    check_density(delta, grid.shape, bias.density_floor)
    flat = _intensity(bias, jnp.asarray(params), jnp.asarray(delta), grid, jnp.ravel(log_mass))
    return flat.reshape(*jnp.shape(log_mass), *bias.domain(grid).shape)


def log_expected(bias: Bias, params: ArrayLike, delta: ArrayLike, grid: Grid) -> Array:
    """``ln Lambda`` per voxel: the intensity integrated above ``bias.mass_threshold``.

    Halos per (Mpc/h)^3; the expected number in a voxel is ``grid.voxel_volume`` times its
    exponential. Shape (N0', N1', N2') over the domain.

    Examples
    --------
    >>> import numpy as np
    >>> import halo_mdn as hm
    >>> bias, delta = hm.TruncatedPowerLaw(), np.zeros((4, 4, 4))
    >>> grid = hm.Grid(delta.shape, (40.0, 40.0, 40.0))
    >>> density = np.exp(hm.log_expected(bias, np.zeros(6), delta, grid))
    >>> density[0, 0, 0].round(5).item()  # of all halos above the threshold: 0.01 / e
    0.00368
    """
    check_density(delta, grid.shape, bias.density_floor)
    flat = _log_expected(bias, jnp.asarray(params), jnp.asarray(delta), grid)
    return flat.reshape(bias.domain(grid).shape)


@partial(jax.jit, static_argnums=(0, 3))
def _intensity(bias: Bias, params: Array, delta: Array, grid: Grid, u: Array) -> Array:
    mass_function = bias.mass_function(params, features_of_density(bias, delta, grid))
    return lax.map(mass_function.log_density, u)


@partial(jax.jit, static_argnums=(0, 3))
def _log_expected(bias: Bias, params: Array, delta: Array, grid: Grid) -> Array:
    mass_function = bias.mass_function(params, features_of_density(bias, delta, grid))
    return mass_function.log_integral(log(bias.mass_threshold))

"""Exact draws of halo catalogues from the model."""

from __future__ import annotations

from functools import partial
from math import log

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from halo_mdn.bias.base import Bias, features_of_density
from halo_mdn.errors import InputError
from halo_mdn.field.density import check_density
from halo_mdn.field.grid import Grid
from halo_mdn.halos.catalogue import HaloCatalogue, as_completeness
from halo_mdn.halos.mass_function import (
    MassFunction,
    Mixture,
    log_component_integral,
    sample_log_mass,
)
from halo_mdn.halos.mass_observation import EXACT, MassObservation, gaussian

_LARGEST = 40.0  # e-folds above the threshold where the largest mass is looked for
_HALVINGS = 50  # of that range: 4e-14 in ln M


def simulate(
    key: Array,
    bias: Bias,
    params: ArrayLike,
    delta: ArrayLike,
    grid: Grid,
    *,
    completeness: ArrayLike | None = None,
    observation: MassObservation = EXACT,
    max_halos: float = 1e8,
) -> HaloCatalogue:
    """An exact draw of a halo catalogue.

    The number of halos of component k in voxel v is Poisson with the mean of its part of the
    integral; ln M is a truncated Gaussian; the position is uniform in the voxel. Where the bias has
    a dispersion, the intensity of each voxel is first multiplied by a draw of its gamma
    distribution; where its mass function is no mixture, the integral is inverted numerically.

    Parameters
    ----------
    key : jax.random key
    params : array (num_params,)
    delta : array (N0, N1, N2)
    grid : Grid
        With the ``interior`` boundary, halos are drawn in the interior alone.
    completeness : array (N0, N1, N2), optional
        Expected observed fraction of the halos per voxel.
    observation : MassObservation
        Errors and completeness of the masses, which the catalogue then has.
    max_halos : float
        Refuse to draw more than this many halos.

    Returns
    -------
    HaloCatalogue
        With positions in Mpc/h. It may hold no halo.

    Raises
    ------
    InputError
        If the field or the completeness is unusable, or the parameters predict more than
        ``max_halos`` halos.

    Examples
    --------
    >>> import jax
    >>> import numpy as np
    >>> import halo_mdn as hm
    >>> from halo_mdn.bias.mock_params import MOCK_PARAMS
    >>> delta = np.zeros((8, 8, 8))
    >>> grid = hm.Grid(delta.shape, (40.0, 40.0, 40.0))
    >>> params = np.array(MOCK_PARAMS)
    >>> halos = hm.simulate(jax.random.key(0), hm.NeuralBias(), params, delta, grid)
    >>> halos.position.shape == (halos.num_halos, 3)
    True
    """
    check_density(delta, grid.shape, bias.density_floor)
    params = jnp.asarray(params)
    delta = jnp.asarray(delta)
    mass_function, rate = _rates(bias, params, delta, grid, observation)
    domain = bias.domain(grid)
    coverage = None if completeness is None else as_completeness(completeness, grid)
    if coverage is not None:
        rate = rate * domain.crop(coverage).reshape(1, -1)
    expected = float(jnp.sum(rate))
    if not expected <= max_halos:
        raise InputError(
            f"these parameters predict {expected:.3g} halos, more than max_halos = {max_halos:.3g}"
        )
    rng = _generator(key)
    rate, log_phi = np.asarray(rate, dtype=float), bias.log_dispersion(params)
    if log_phi is not None:
        phi = np.exp(float(log_phi))
        rate = rate * rng.gamma(1 / phi, phi, rate.shape[1])
    counts = rng.poisson(rate)
    component, flat = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(rate.shape))
    uniform, log_threshold = 1 - rng.random(len(flat)), log(bias.mass_threshold)
    if isinstance(mass_function, Mixture):
        mean, width = (
            np.asarray(field, dtype=float)[component, flat]
            for field in (mass_function.mean, mass_function.width)
        )
        log_mass = sample_log_mass(uniform, mean, width, log_threshold)
    else:
        features = features_of_density(bias, delta, grid)[:, flat]
        log_mass = _inverted(bias.mass_function(params, features), uniform, log_threshold)
    if not observation.is_exact:
        chance = np.exp(observation.log_completeness(log_mass, log(bias.mass_threshold)))
        detected = rng.random(len(flat)) < chance
        flat, log_mass = flat[detected], log_mass[detected]
    voxel = np.stack(np.unravel_index(flat, domain.shape), axis=-1) + np.array(domain.margin)
    place = np.minimum(rng.random(voxel.shape), 1 - 1e-9)  # clear of rounding into the next voxel
    position = (voxel + place) * np.array(grid.voxel_size)
    return HaloCatalogue(
        log_mass=log_mass,
        voxel=voxel.astype(np.int32),
        selected=np.ones(len(flat), dtype=bool),
        completeness=coverage,
        position=position,
        grid=grid,
        mass_threshold=bias.mass_threshold,
        observation=observation,
    )


def _generator(key: Array) -> np.random.Generator:
    """Random numbers of NumPy: their shapes vary with the draw, and JAX would compile each."""
    data = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    return np.random.default_rng(np.asarray(data).ravel())


def _inverted(at_halos: MassFunction, uniform: np.ndarray, log_threshold: float) -> np.ndarray:
    """Log masses above the threshold, (H,), from uniform numbers, by bisection of the integral."""
    log_left = np.asarray(at_halos.log_integral(log_threshold)) + np.log(uniform)
    low = np.full(len(uniform), log_threshold)
    high = low + _LARGEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = np.asarray(at_halos.log_integral(jnp.asarray(middle))) > log_left
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return low


@partial(jax.jit, static_argnums=(0, 3, 4))
def _rates(
    bias: Bias, params: Array, delta: Array, grid: Grid, observation: MassObservation
) -> tuple[MassFunction, Array]:
    """Mass function of observed masses, and expected counts per component and voxel, (K, N)."""
    mass_function = bias.mass_function(params, features_of_density(bias, delta, grid))
    if observation.is_exact and not isinstance(mass_function, Mixture):
        log_all = mass_function.log_integral(log(bias.mass_threshold))
        return mass_function, grid.voxel_volume * jnp.exp(log_all)[None]
    mixture = observation.blurred(gaussian(mass_function))
    log_part = log_component_integral(mixture, log(bias.mass_threshold))
    return mixture, grid.voxel_volume * jnp.exp(log_part)

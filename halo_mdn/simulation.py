"""Exact draws of halo catalogues from the model."""

from __future__ import annotations

from functools import partial
from math import log

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from halo_mdn.catalogue import HaloCatalogue, as_completeness
from halo_mdn.density import check_density
from halo_mdn.errors import InputError
from halo_mdn.grid import Grid
from halo_mdn.mass_function import Mixture, log_component_integral, sample_log_mass
from halo_mdn.mass_observation import EXACT, MassObservation
from halo_mdn.network import NeuralBias, features_of_density, mixture_of_features


def simulate(
    key: Array,
    bias: NeuralBias,
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
    integral; ln M is a truncated Gaussian; the position is uniform in the voxel.

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
    """
    check_density(delta, grid.shape, bias.density_floor)
    mixture, rate = _rates(bias, jnp.asarray(params), jnp.asarray(delta), grid, observation)
    margin, domain = grid.margin(bias._size), grid.domain_shape(bias._size)
    coverage = None if completeness is None else as_completeness(completeness, grid)
    if coverage is not None:
        inner = tuple(slice(m, n - m) for m, n in zip(margin, grid.shape, strict=True))
        rate = rate * coverage[inner].reshape(1, -1)
    expected = float(jnp.sum(rate))
    if not expected <= max_halos:
        raise InputError(
            f"these parameters predict {expected:.3g} halos, more than max_halos = {max_halos:.3g}"
        )
    rng = _generator(key)
    counts = rng.poisson(np.asarray(rate, dtype=float))
    component, flat = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(rate.shape))
    log_mass = sample_log_mass(
        1 - rng.random(len(flat)),
        np.asarray(mixture.mean, dtype=float)[component, flat],
        np.asarray(mixture.width, dtype=float)[component, flat],
        log(bias.mass_threshold),
    )
    if not observation.is_exact:
        chance = np.exp(observation.log_completeness(log_mass, log(bias.mass_threshold)))
        detected = rng.random(len(flat)) < chance
        flat, log_mass = flat[detected], log_mass[detected]
    voxel = np.stack(np.unravel_index(flat, domain), axis=-1) + np.array(margin)
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


@partial(jax.jit, static_argnums=(0, 3, 4))
def _rates(
    bias: NeuralBias, params: Array, delta: Array, grid: Grid, observation: MassObservation
) -> tuple[Mixture, Array]:
    """Mixture of observed masses and expected counts per component and voxel, each (K, N)."""
    mixture = mixture_of_features(bias, params, features_of_density(bias, delta, grid))
    mixture = observation.blurred(mixture)
    log_part = log_component_integral(mixture, log(bias.mass_threshold))
    return mixture, grid.voxel_volume * jnp.exp(log_part)

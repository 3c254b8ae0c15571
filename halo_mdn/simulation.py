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
from halo_mdn.network import NeuralBias, features_of_density, mixture_of_features


def simulate(
    key: Array,
    bias: NeuralBias,
    params: ArrayLike,
    delta: ArrayLike,
    grid: Grid,
    *,
    completeness: ArrayLike | None = None,
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
    mixture, rate = _rates(bias, jnp.asarray(params), jnp.asarray(delta), grid)
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
    count_key, mass_key, place_key = jax.random.split(key, 3)
    counts = np.asarray(jax.random.poisson(count_key, rate))
    component, flat = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(rate.shape))
    uniform = np.asarray(jax.random.uniform(mass_key, (len(flat),)), dtype=float)
    log_mass = sample_log_mass(
        np.clip(uniform, 1e-300, None),
        np.asarray(mixture.mean, dtype=float)[component, flat],
        np.asarray(mixture.width, dtype=float)[component, flat],
        log(bias.mass_threshold),
    )
    voxel = np.stack(np.unravel_index(flat, domain), axis=-1) + np.array(margin)
    place = np.asarray(jax.random.uniform(place_key, voxel.shape), dtype=float)
    position = (voxel + np.minimum(place, 1 - 1e-9)) * np.array(grid.voxel_size)
    return HaloCatalogue(
        log_mass=log_mass,
        voxel=voxel.astype(np.int32),
        selected=np.ones(len(flat), dtype=bool),
        completeness=coverage,
        position=position,
        grid=grid,
        mass_threshold=bias.mass_threshold,
    )


@partial(jax.jit, static_argnums=(0, 3))
def _rates(bias: NeuralBias, params: Array, delta: Array, grid: Grid) -> tuple[Mixture, Array]:
    """Mixture parameters and expected counts per component and voxel, each (K, N)."""
    mixture = mixture_of_features(bias, params, features_of_density(bias, delta, grid))
    log_part = log_component_integral(mixture, log(bias.mass_threshold))
    return mixture, grid.voxel_volume * jnp.exp(log_part)

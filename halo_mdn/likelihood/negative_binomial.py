"""Numbers of halos that scatter more than a Poisson process: gamma-Poisson mixing per voxel.

In voxel v the intensity is ``G_v n(M | delta_v)``, with independent G_v drawn from the gamma
distribution of mean 1 and variance phi. Given G_v the halos are the Poisson process of
:mod:`halo_mdn.likelihood.fixed_field`. With ``lambda_v = V c_v Lambda_v`` and N_v halos of masses
M_i, the integral over G_v (shape 1/phi) is a gamma function:

    L_v = prod_i [c_v n(M_i)] int G^N e^{-G lambda} p(G) dG
        = prod_i [c_v n(M_i)] Gamma(N + 1/phi)/Gamma(1/phi) phi^N (1 + phi lambda)^-(N + 1/phi),

the negative binomial distribution of N_v (Greenwood & Yule 1920, JRSS 83, 255) with mean lambda and
variance ``lambda + phi lambda^2``, times the distribution of the masses. With
``Gamma(N + 1/phi)/Gamma(1/phi) phi^N = prod_{j<N} (1 + j phi)`` the logarithm is

    ln L = sum_halos {ln[c n(M_i)] - ln(1 + phi lambda)} + sum_v sum_{j<N_v} ln(1 + j phi)
           - sum_v ln(1 + phi lambda_v)/phi,

which needs no gamma function and goes over into the Poisson process, term by term, for phi -> 0.
Negative binomial counts of halos in cells: Kitaura, Yepes & Prada (2014, MNRAS 439, L21).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from halo_mdn.errors import InputError
from halo_mdn.halos.placed import PlacedHalos


def check_dispersed(halos: PlacedHalos) -> None:
    """Refuse several catalogues of one field: whether they share the G_v is not known.

    Raises
    ------
    InputError
        If there are several.
    """
    if halos.num_catalogues > 1:
        raise InputError(
            f"the overdispersed likelihood got {halos.num_catalogues} catalogues of one field, "
            "expected one: fit them one by one, or take the model neural_bias"
        )


def neighbour_terms(halos: PlacedHalos, log_phi: Array) -> Array:
    """``ln(1 + j phi)`` of the halo that is number j in its voxel, (H,)."""
    return jnp.log1p(_place_in_voxel(halos) * jnp.exp(log_phi))


def voxel_terms(log_expected: Array, log_phi: Array) -> Array:
    """The terms of ln L that belong to each voxel, (N,), from ``ln lambda`` of the voxels.

    It is ``-inf`` where nothing is observed.
    """
    return -log_spread(log_expected, log_phi) * jnp.exp(-log_phi)


def log_spread(log_expected: Array, log_phi: Array) -> Array:
    """``ln(1 + phi lambda)``, which never overflows."""
    return jax.nn.softplus(log_phi + log_expected)


def gamma_weights(key: Array, log_phi: Array, shape: tuple[int, ...]) -> Array:
    """Draws of G: mean 1, variance phi."""
    log_shape = -log_phi
    # Through logarithms: for large phi most draws are smaller than any number.
    log_draw = jax.random.loggamma(key, jnp.exp(log_shape), shape, log_shape.dtype)
    return jnp.exp(log_draw - log_shape)


def _place_in_voxel(halos: PlacedHalos) -> Array:
    """How many used halos come before each one in its voxel, (H,): 0, 1, ..., N_v - 1.

    0 for halos that are not used.
    """
    voxel = jnp.where(halos.used, halos.voxel, halos.domain.num_voxels)
    order = jnp.argsort(voxel)
    ordered = voxel[order]
    place = jnp.arange(len(voxel)) - jnp.searchsorted(ordered, ordered)
    place = jnp.where(halos.used[order], place, 0)
    return jnp.zeros_like(halos.log_mass).at[order].set(place.astype(halos.log_mass.dtype))

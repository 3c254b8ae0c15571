"""The halo mass distribution function: a mixture of Gaussians in ``u = ln M``.

The number of halos per (Mpc/h)^3 and per unit mass is

    n(M) = sum_k alpha_k e^{-mu_k} Normal(u; mu_k, sigma_k),

and above a threshold, with ``dM = e^u du``,

    Lambda = sum_k 1/2 alpha_k e^{sigma_k^2/2} erfc[(ln M_th - mu_k - sigma_k^2)/(sqrt 2 sigma_k)].

(Charnock et al. 2020, arXiv:1909.06379.) Everything is computed in log space: sigma starts near 7
and reaches hundreds under the prior, where ``e^{sigma^2/2}`` overflows.
"""

from __future__ import annotations

from math import log, pi, sqrt
from typing import NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import logsumexp
from scipy.special import log_ndtr, ndtri_exp

from halo_mdn.halos.special import log_erfcx


class MassFunction(Protocol):
    """n(M) of many environments (voxels) at once; a pytree."""

    def log_density(self, log_mass: Array | float) -> Array:
        """``ln n(M)``, per (Mpc/h)^3 and per Msun/h, for one mass or one per environment."""

    def log_integral(self, log_threshold: Array | float) -> Array:
        """``ln`` of the number of halos per (Mpc/h)^3 above a mass, or one per environment."""


class Mixture(NamedTuple):
    """Parameters of the mixture, each of shape (K, ...): K components, any environments.

    ``log_amplitude`` is ``ln alpha`` in ln (Mpc/h)^-3, ``mean`` is mu in ln(Msun/h), ``width`` is
    sigma in ln M.
    """

    log_amplitude: Array
    mean: Array
    width: Array

    def log_density(self, log_mass: Array | float) -> Array:
        """See :class:`MassFunction`."""
        return log_density(self, log_mass)

    def log_integral(self, log_threshold: Array | float) -> Array:
        """See :class:`MassFunction`."""
        return log_integral(self, log_threshold)


def log_density(mixture: Mixture, log_mass: Array | float) -> Array:
    """``ln n(M)``, per (Mpc/h)^3 and per Msun/h.

    Parameters
    ----------
    mixture : Mixture of (K, ...) arrays
    log_mass : array (...) or scalar
        Natural log of the mass in Msun/h.
    """
    log_mass = jnp.asarray(log_mass)
    log_mass = log_mass[None] if log_mass.ndim else log_mass  # one for all components
    distance = (log_mass - mixture.mean) / mixture.width
    log_normal = -0.5 * distance**2 - jnp.log(mixture.width) - 0.5 * log(2 * pi)
    return logsumexp(mixture.log_amplitude - mixture.mean + log_normal, axis=0)


def log_integral(mixture: Mixture, log_threshold: Array | float, power: float = 0.0) -> Array:
    """``ln`` of the integral of ``(M/M_th)^power n(M)`` above the threshold, shape (...).

    With ``power = 0`` it is ``ln Lambda``, the log number of halos per (Mpc/h)^3.
    """
    return logsumexp(log_component_integral(mixture, log_threshold, power), axis=0)


def log_component_integral(
    mixture: Mixture, log_threshold: Array | float, power: float = 0.0
) -> Array:
    """The logarithm of each component's part of :func:`log_integral`, shape (K, ...).

    With ``p = 1 + power``, ``d = ln M_th - mu`` and ``s = d/sigma - p sigma`` the part is
    ``alpha e^{(1-p) d + p^2 sigma^2/2} erfc(s/sqrt 2)/2``. For ``s > 0`` the exponentials of
    ``sigma^2`` and of the tail cancel and are taken together; each branch is finite on the other's
    side as well, so that gradients are.
    """
    p = 1 + power
    depth = log_threshold - mixture.mean
    s = depth / mixture.width - p * mixture.width
    beyond = s > 0
    size = jnp.where(beyond, s, -s)
    log_tail = log_erfcx(size / sqrt(2)) - log(2)
    far = depth - 0.5 * (depth / mixture.width) ** 2 + log_tail
    log_upper = jnp.log1p(-jnp.exp(log_tail - 0.5 * size**2))
    near = (1 - p) * depth + 0.5 * (p * mixture.width) ** 2 + log_upper
    return mixture.log_amplitude + jnp.where(beyond, far, near)


def sample_log_mass(
    uniform: np.ndarray, mean: np.ndarray, width: np.ndarray, log_threshold: float
) -> np.ndarray:
    """Log masses of one component above the threshold, from uniform numbers in (0, 1).

    Weighted by the factor ``dM = e^u du``, a component of n(M) is a Gaussian in u with mean
    ``mu + sigma^2``, truncated to ``u > ln M_th``; its survival function is inverted in log space.
    """
    centre = mean + width**2
    log_above = log_ndtr((centre - log_threshold) / width)
    drawn = centre - width * ndtri_exp(np.log(uniform) + log_above)
    return np.maximum(drawn, log_threshold)

"""The likelihood as the source notebook writes it, in plain JAX: the baseline of the ratios.

A convolution, the heads, ``erfc`` and ``exp(sigma^2/2)``, and automatic differentiation (Charnock
et al. 2020, arXiv:1909.06379), with the integral counted once. It overflows where the stable
formulas of the package do not; it is here to be timed, with parameters for which it works.
"""

from __future__ import annotations

from math import log, pi, sqrt

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from halo_mdn import HaloCatalogue

SHELL = np.abs(np.indices((3, 3, 3)) - 1).sum(axis=0)  # centre, faces, edges, corners


def log_likelihood(params: Array, delta: Array, halos: HaloCatalogue) -> Array:
    """ln L of the default 17-parameter model on a periodic grid."""
    kernel = params[:4][SHELL]
    x = jnp.pad(jnp.log(1 + delta), 1, mode="wrap")
    convolved = jax.lax.conv_general_dilated(
        x[None, None], kernel[None, None], (1, 1, 1), "VALID", precision="highest"
    )[0, 0]
    z = jax.nn.softplus(convolved + params[4])
    threshold = log(halos.mass_threshold)
    voxel = halos.voxel
    at_halos = _mixture(params[5:], z[voxel[:, 0], voxel[:, 1], voxel[:, 2]], threshold)
    alpha, mu, sigma = at_halos
    gauss = jnp.exp(-0.5 * ((halos.log_mass - mu) / sigma) ** 2) / (sqrt(2 * pi) * sigma)
    log_n = jnp.log(jnp.sum(alpha * jnp.exp(-mu) * gauss, axis=0))
    alpha, mu, sigma = _mixture(params[5:], z, threshold)
    tail = jax.scipy.special.erfc((threshold - mu - sigma**2) / (sqrt(2) * sigma))
    integral = jnp.sum(0.5 * alpha * jnp.exp(0.5 * sigma**2) * tail)
    return jnp.sum(log_n) - halos.grid.voxel_volume * integral


def _mixture(heads: Array, z: Array, threshold: float) -> tuple[Array, Array, Array]:
    kernels, biases = heads.reshape(3, 2, 2)[:, 0], heads.reshape(3, 2, 2)[:, 1]
    amplitude, mean, width = (
        jnp.stack([kernels[head, k] * z + biases[head, k] for k in range(2)]) for head in range(3)
    )
    mu = jnp.cumsum(jnp.stack([threshold + mean[0], jax.nn.relu(mean[1])]), axis=0)
    alpha = jax.nn.softplus(amplitude + log(1e-3))
    return alpha, mu, jax.nn.softplus(width + log(1e3))

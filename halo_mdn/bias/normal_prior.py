"""The Normal prior of the parameters: its density, and draws."""

from __future__ import annotations

from math import log

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from halo_mdn.bias.base import Bias


def log_prior(bias: Bias, params: ArrayLike) -> Array:
    """Log density of the prior, the Normal of ``bias.prior`` on each parameter; normalised."""
    params = jnp.asarray(params)
    bias.unpack(params)
    mean, scale = (jnp.broadcast_to(x.astype(params.dtype), params.shape) for x in bias.prior)
    constant = np.sum(np.log(bias.prior[1])) + 0.5 * bias.num_params * log(2 * np.pi)
    return -0.5 * jnp.sum(((params - mean) / scale) ** 2, axis=-1) - float(constant)


def draw_params(bias: Bias, key: jax.Array, num: int) -> np.ndarray:
    """Independent draws of the prior, shape (num, num_params)."""
    mean, scale = bias.prior
    return mean + scale * np.asarray(jax.random.normal(key, (num, bias.num_params)), dtype=float)

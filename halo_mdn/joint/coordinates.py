"""Coordinates of joint inference, in which field and bias have about unit scale.

Halos pin down the largest waves of the initial conditions ten times better than the prior, and
the smallest not at all. Every sampler's step is limited by the narrowest direction, so the white
noise is sampled in units of its posterior width, one per shell of wavenumbers. A draw of the
posterior tells those widths by its gradient alone, without waiting for a chain to move: the mean
square of the gradient of a log-density is its mean curvature, 1 / width^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from halo_mdn.field.fourier import shells_of, weights_of
from halo_mdn.sampling.coordinates.bijections import LATENT_SUFFIX, Composed, Whitened
from halo_mdn.sampling.start.newton import positive_inverse

Position = dict[str, Array]
FIELD, BIAS = "white_noise" + LATENT_SUFFIX, "params" + LATENT_SUFFIX

_NARROWEST = 1e-2  # posterior width in units of the prior's, against a wild first gradient
_BROADENING = 0.75  # power of a shell's width at fixed other modes that comes near its full width
_PRIOR_DRAWS = 10  # weight of the present coordinates, in draws, against few new ones


class ShellScaled(NamedTuple):
    """White noise whose modes in shell ``s`` are ``scale[s]`` times those of the latent field.

    Attributes
    ----------
    scale
        About the posterior width of the modes of each shell, in units of the prior's; shape (S,).
    """

    scale: Array

    @classmethod
    def unit(cls, shape: Sequence[int]) -> ShellScaled:
        """The white noise itself."""
        return cls(jnp.ones(int(shells_of(shape).max()) + 1))

    def to_params(self, latent: Array) -> Array:
        """White noise (M0, M1, M2) of a latent field of that shape."""
        return self._filtered(latent, self.scale)

    def to_latent(self, params: Array) -> Array:
        """Latent field of white noise."""
        return self._filtered(params, 1 / self.scale)

    def log_det(self, latent: Array) -> Array:
        """Log absolute determinant of d white noise / d latent."""
        modes = np.bincount(shells_of(latent.shape).ravel(), weights_of(latent.shape).ravel())
        return jnp.sum(modes * jnp.log(self.scale))

    def at_slopes(self, power: np.ndarray) -> ShellScaled:
        """The scales that the mean square ``power`` (S,) of latent slopes tells."""
        return self.at_curvature(power / np.asarray(self.scale) ** 2)

    @classmethod
    def at_curvature(cls, curvature: np.ndarray) -> ShellScaled:
        """The scales for this mean curvature (S,) of the white noise's modes.

        The prior makes it at least 1. At fixed others a mode is up to some four times narrower
        than its posterior, as the small waves can make up for the displacements of large ones; a
        scale in between costs little accuracy and lets the large waves move faster.
        """
        width = 1 / np.sqrt(np.maximum(curvature, 1.0))
        return cls(jnp.asarray(np.maximum(width, _NARROWEST) ** _BROADENING))

    @staticmethod
    def _filtered(field: Array, factor: Array) -> Array:
        factor = factor[shells_of(field.shape)]
        return jnp.fft.irfftn(factor * jnp.fft.rfftn(field), field.shape)


class JointCoordinates(NamedTuple):
    """Coordinates of white noise and bias parameters; a pytree."""

    field: ShellScaled
    bias: Composed

    def to_position(self, white_noise: Array, params: Array) -> Position:
        """The latent position, without cosmology."""
        return {FIELD: self.field.to_latent(white_noise), BIAS: self.bias.to_latent(params)}

    def adapted(self, field_slopes: np.ndarray, bias_slopes: np.ndarray) -> JointCoordinates:
        """Coordinates that fit draws better.

        Parameters
        ----------
        field_slopes : array (draws, S)
            Mean square of the slope in the latent field, by shell.
        bias_slopes : array (draws, P, P)
            Mean outer product of the slopes in the latent bias parameters.
        """
        num, num_params = bias_slopes.shape[:2]
        curvature = np.sum(bias_slopes, axis=0) + _PRIOR_DRAWS * np.eye(num_params)
        width = positive_inverse(curvature / (num + _PRIOR_DRAWS))
        inner = self.bias.inner
        assert isinstance(inner, Whitened)
        half = np.asarray(inner.scale_tril)
        whitened = Whitened.at(np.asarray(inner.location), half @ width @ half.T)
        bias = Composed(self.bias.outer, whitened)
        return JointCoordinates(self.field.at_slopes(field_slopes.mean(axis=0)), bias)

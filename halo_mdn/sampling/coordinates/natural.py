"""Coordinates in which the mass function of every component is close to linear in what halos tell.

A component of the mixture is a parabola in ``x = ln M - ln M_pivot``,

    ln n_k = eta_0 + eta_1 x - x^2 / (2 sigma^2),
    eta_0 = ln alpha - mu - ln sigma - mu^2 / (2 sigma^2),    eta_1 = mu / sigma^2

(up to a constant, with mu relative to the pivot): level and slope of the mass function at the
pivot, and its curvature. These are what a catalogue measures, each with errors of much the same
size everywhere, while mean, width and amplitude of a Gaussian whose peak lies below the threshold
are only known in combination. A head that is linear in the C channels of the NPE field z is given
by its values at C + 1 reference points of z, so the coordinates are ``(eta_0, eta_1, ln sigma)`` of
every component at each, and the kernels. One point is low in every channel, standardised; at each
of the others one of them is high.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from math import log, prod
from operator import add, mul
from typing import TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from halo_mdn.bias.base import Bias
from halo_mdn.bias.neural import HEADS, NeuralBias
from halo_mdn.halos.special import log_softplus
from halo_mdn.likelihood.fixed_field import FixedFieldLikelihood
from halo_mdn.sampling.coordinates.bijections import (
    StandardisedField,
    field_moments,
    solved_for_slopes,
    weighted,
)

KERNELS = ("kernel_weights", "kernel_biases")  # come first in the vector
REFERENCES = (-0.5, 1.5)  # points in z, in spreads around its mean over voxels with halos


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class NaturalMixture:
    """Level, slope and log width of every component at reference points of the NPE field.

    A bijection also where a gap between means is negative and the model's relu closes it: the
    coordinates use the gap itself.

    Attributes
    ----------
    features : array (F, R)
        Shell features of the reference voxels.
    pivot : scalar
        ``ln M_pivot - ln M_th``.
    bias : NeuralBias
        One without hidden layers: its heads are linear in the NPE field.
    """

    features: Array
    pivot: Array
    bias: NeuralBias = field(metadata={"static": True})

    def to_latent(self, params: Array) -> Array:
        """Latent vector of parameters, both (P,)."""
        kernel, heads = self._split(params)
        *slopes, shifts = heads.swapaxes(0, 1)
        at = [self._natural(weighted(slopes, z) + shifts) for z in self._references(params)]
        return jnp.concatenate([kernel, jnp.stack(at).ravel()])

    def to_params(self, latent: Array) -> Array:
        """Parameters of a latent vector, both (P,)."""
        kernel, natural = self._split(latent)
        at_low, *others = (self._heads(part) for part in self._by_point(natural))
        low, *high = self._references(latent)
        slopes = solved_for_slopes([at_high - at_low for at_high in others], _steps(low, high))
        heads = jnp.stack([*slopes, at_low - weighted(slopes, low)], axis=1)
        return jnp.concatenate([kernel, heads.ravel()])

    def log_det(self, latent: Array) -> Array:
        """Log absolute determinant of d params / d latent.

        Level, slope and width depend on the heads in a triangle, so it is a sum over them.
        """
        low, *high = self._references(latent)
        lengths = reduce(add, (jnp.log(row[-1]) for row in _steps(low, high)))
        total = -3 * self.bias.components * lengths
        for part in self._by_point(self._split(latent)[1]):
            log_alpha, _, log_sigma = self._mixture(part)
            widths = 3 * log_sigma - _log_slope(log_sigma)
            total = total + jnp.sum(widths + log_alpha - _log_slope(log_alpha))
        return total

    def _split(self, vector: Array) -> tuple[Array, Array]:
        """The kernels' part of a vector, and the rest by head, channel or bias, and component."""
        size = sum(prod(self.bias.block_shapes[name]) for name in KERNELS)
        channels = self.bias.num_channels
        return vector[:size], vector[size:].reshape(len(HEADS), channels + 1, -1)

    def _by_point(self, natural: Array) -> Array:
        """By reference point, (C + 1, 3, K)."""
        return natural.reshape(self.bias.num_channels + 1, len(HEADS), -1)

    def _references(self, vector: Array) -> list[list[Array]]:
        """The reference points, C scalars each: low in all channels, then high in one."""
        # The kernels keep their places, so either vector will do.
        moments = field_moments(self.bias, self.bias.unpack(vector), self.features)
        low, high = REFERENCES
        rows = list(zip(moments.mean, moments.factor, strict=True))
        channels = range(len(moments.factor))
        steps = [[high if c == point else low for c in channels] for point in (None, *channels)]
        return [[m + reduce(add, map(mul, step, row)) for m, row in rows] for step in steps]

    def _natural(self, heads: Array) -> Array:
        """(eta_0, eta_1, ln sigma), (3, K), of the heads' values (3, K)."""
        log_alpha = log_softplus(heads[0] + self.bias.amplitude_offset)
        mean = jnp.cumsum(heads[1]) - self.pivot
        log_sigma = log_softplus(heads[2] + self.bias.width_offset)
        slope = mean * jnp.exp(-2 * log_sigma)
        return jnp.stack([log_alpha - mean - log_sigma - 0.5 * mean * slope, slope, log_sigma])

    def _mixture(self, natural: Array) -> tuple[Array, Array, Array]:
        """ln alpha, the mean relative to the pivot, and ln sigma, (K,) each."""
        level, slope, log_sigma = natural
        mean = slope * jnp.exp(2 * log_sigma)
        return level + mean + log_sigma + 0.5 * mean * slope, mean, log_sigma

    def _heads(self, natural: Array) -> Array:
        log_alpha, mean, log_sigma = self._mixture(natural)
        gaps = jnp.diff(mean + self.pivot, prepend=0)
        amplitude = _inverse_log_softplus(log_alpha) - self.bias.amplitude_offset
        width = _inverse_log_softplus(log_sigma) - self.bias.width_offset
        return jnp.stack([amplitude, gaps, width])


def natural_coordinates(
    log_likelihood: FixedFieldLikelihood, points: np.ndarray
) -> NaturalMixture | None:
    """Natural coordinates of a likelihood, where they apply.

    They apply to a network whose heads are linear in the NPE field, and at points where they can be
    computed: those with a component that halos know nothing of may be out of range. A prior that
    has a mean for each parameter is round in the parameters themselves and curved in these.

    Parameters
    ----------
    log_likelihood : FixedFieldLikelihood
    points : array (C, P)
        Parameters that must have coordinates, such as the chains' starts.
    """
    bias = log_likelihood.bias
    if not _is_linear(bias) or not bias.prior_is_vague.all():
        return None
    log_mass = np.asarray(log_likelihood.log_mass)[np.asarray(log_likelihood.used)]
    if len(log_mass) == 0:
        return None
    features = StandardisedField.at_halos(log_likelihood).features
    pivot = np.median(log_mass) - log(bias.mass_threshold)
    natural = NaturalMixture(features, jnp.asarray(pivot, features.dtype), bias)
    return natural if _holds(natural, jnp.asarray(points, features.dtype)) else None


def _is_linear(bias: Bias) -> TypeGuard[NeuralBias]:
    # Subclasses may have parameters that belong to no component.
    return type(bias) is NeuralBias and not bias.hidden_layers


def _holds(coordinates: NaturalMixture, points: Array) -> bool:
    """Whether the points have coordinates from which they come back."""
    latent = jax.vmap(coordinates.to_latent)(points)
    error = jnp.abs(jax.vmap(coordinates.to_params)(latent) - points) / (1 + jnp.abs(points))
    volumes = jax.vmap(coordinates.log_det)(latent)
    tolerance = jnp.sqrt(jnp.finfo(points.dtype).eps)
    return bool(jnp.all(error < tolerance) & jnp.all(jnp.isfinite(volumes)))


def _steps(low: list[Array], high: list[list[Array]]) -> list[list[Array]]:
    """From the low point to the others: by channel, a triangle as that of the field's moments."""
    return [[high[c][j] - low[j] for c in range(j + 1)] for j in range(len(low))]


def _inverse_log_softplus(y: Array) -> Array:
    """``x`` with ``ln softplus(x) = y``; below -20 the first terms of its series, to 1e-17."""
    low = y < -20
    size = jnp.exp(jnp.where(low, 0, y))
    series = y + 0.5 * jnp.exp(jnp.where(low, y, -20))
    return jnp.where(low, series, size + jnp.log(-jnp.expm1(-size)))


def _log_slope(y: Array) -> Array:
    """``ln softplus'(x)`` where ``ln softplus(x) = y``."""
    size = jnp.exp(y)
    return jnp.where(y < -20, y - 0.5 * size, jnp.log(-jnp.expm1(-jnp.maximum(size, 1e-12))))

"""The log-posterior that the search for a start climbs."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
from jax import Array

from halo_mdn.bias.base import Bias
from halo_mdn.bias.normal_prior import log_prior
from halo_mdn.likelihood.fixed_field import FixedFieldLikelihood


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LogPosterior:
    """``weight * ln L + ln prior``; a pytree.

    Attributes
    ----------
    log_likelihood : FixedFieldLikelihood
    weight : float
        One over the fraction of the voxels in the likelihood, so that the prior keeps its place.
    bias : Bias
    """

    log_likelihood: FixedFieldLikelihood
    weight: float
    bias: Bias = field(metadata={"static": True})

    def __call__(self, params: Array) -> Array:
        return self.weight * self.log_likelihood(params) + log_prior(self.bias, params)


@jax.jit
def values_of(posterior: LogPosterior, params: Array) -> Array:
    return jax.lax.map(posterior, params)

"""ln L of each sub-box of the grid, from halos and expected numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from halo_mdn.bias.base import Bias
from halo_mdn.halos.mass_observation import MassObservation
from halo_mdn.likelihood.fixed_field import FixedFieldLikelihood
from halo_mdn.predictions.expected_counts import evaluate


def block_log_likelihood(
    log_l: FixedFieldLikelihood, block: np.ndarray, params: np.ndarray, expected: np.ndarray
) -> np.ndarray:
    """Log-likelihood of sub-boxes, (..., B), from their expected numbers of halos, (..., B).

    The same as ``log_l.by_block``, which evaluates the network at every voxel; here it is
    evaluated only at the halos, unless numbers scatter more than a Poisson process.
    """
    if log_l.bias.log_dispersion(jnp.asarray(params[0, 0])) is not None:
        per_side = round(expected.shape[-1] ** (1 / 3))
        return evaluate(Partial(lambda log_l, p: log_l.by_block(p, per_side), log_l), params)
    used = np.asarray(log_l.used)
    coverage = None if log_l.halo_coverage is None else jnp.log(log_l.halo_coverage[used])
    sums = _HaloSums(
        features=log_l.halo_features[:, used],
        log_mass=jnp.asarray(log_l.log_mass)[used],
        log_completeness=coverage,
        block=jnp.asarray(block[log_l.halos.used_voxel()], jnp.int32),
        bias=log_l.bias,
        num_blocks=expected.shape[-1],
        observation=log_l.observation,
    )
    return evaluate(sums, params) - expected


def usable_blocks(log_l: FixedFieldLikelihood, wanted: int) -> int:
    """So many sub-boxes per side that none lies in a border that is left out."""
    edges = zip(log_l.grid.shape, log_l.halos.domain.margin, strict=True)
    return min(wanted, *(n // (m + 1) for n, m in edges))


def block_volume(log_l: FixedFieldLikelihood, per_side: int) -> np.ndarray:
    """Volume of each sub-box in (Mpc/h)^3, times completeness and number of catalogues, (B,)."""
    block = log_l.halos.domain.sub_boxes(per_side)
    weight = log_l.grid.voxel_volume * log_l.num_catalogues * np.ones(len(block))
    if log_l.weight is not None:
        weight = weight * np.asarray(log_l.weight, dtype=float)
    return np.bincount(block, weights=weight, minlength=per_side**3)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _HaloSums:
    """Sum of ``ln(c n)`` over the halos of each sub-box, from the features at the halos."""

    features: Array
    log_mass: Array
    log_completeness: Array | None
    block: Array
    bias: Bias = field(metadata={"static": True})
    num_blocks: int = field(metadata={"static": True})
    observation: MassObservation = field(metadata={"static": True})

    def __call__(self, params: Array) -> Array:
        mixture = self.bias.mass_function(params, self.features)
        log_threshold = log(self.bias.mass_threshold)
        log_n = self.observation.log_density(mixture, self.log_mass, log_threshold)
        log_n = log_n if self.log_completeness is None else log_n + self.log_completeness
        return jax.ops.segment_sum(log_n, self.block, self.num_blocks)

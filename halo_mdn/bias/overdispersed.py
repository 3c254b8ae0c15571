"""A neural bias whose numbers of halos scatter more than a Poisson process."""

from __future__ import annotations

from dataclasses import dataclass

from jax import Array

from halo_mdn.bias.neural import NeuralBias

BLOCK = "log_dispersion"
CENTRE, SCALE = -2.0, 0.2  # ln phi = -2 + 0.2 q: with q ~ Normal(0, 10), phi is 0.0025 to 7 (95 %)


@dataclass(frozen=True)
class OverdispersedBias(NeuralBias):
    """A neural bias whose numbers of halos per voxel are gamma-Poisson mixtures.

    One more parameter q, the last, in the block ``log_dispersion``: ``ln phi = -2 + 0.2 q``. With
    its Normal(0, 10) prior, ln phi is Normal(-2, 2). Settings are those of :class:`NeuralBias`.

    Examples
    --------
    >>> import numpy as np
    >>> import halo_mdn as hm
    >>> bias = hm.OverdispersedBias()
    >>> bias.num_params, float(bias.log_dispersion(np.zeros(18)))
    (18, -2.0)
    """

    @property
    def block_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each named block, in the order of the parameter vector."""
        return {**super().block_shapes, BLOCK: ()}

    @property
    def block_dims(self) -> dict[str, tuple[str, ...]]:
        """Names of the dimensions of each block."""
        return {**super().block_dims, BLOCK: ()}

    def log_dispersion(self, params: Array) -> Array:
        """``ln phi`` of parameters (..., num_params)."""
        return CENTRE + SCALE * self.unpack(params)[BLOCK]

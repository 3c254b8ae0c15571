"""Richer networks from the optimum of poorer ones: one more filter at a time.

Random networks with several filters seldom climb to the best summits. A network with one filter
less is a point of the richer one's space: the new filter with heads that do not read it. From there
a new filter is tried in several random directions, with heads that read it a little.
"""

from __future__ import annotations

from typing import TypeGuard

import numpy as np

from halo_mdn.bias.base import Bias
from halo_mdn.bias.neural import NeuralBias, is_network, reading_blocks

NUM_WAYS = 12  # in which a filter is added
READ = 0.1  # standard deviation of the new weights that read it; the channel is of order one


def can_grow(bias: Bias) -> TypeGuard[NeuralBias]:
    """Whether there is a network with one filter less, and a prior for it."""
    if not is_network(bias) or bias.filters == 1:
        return False
    return isinstance(bias.prior_mean, float) and isinstance(bias.prior_scale, float)


def with_one_more_filter(
    poorer: NeuralBias,
    params: np.ndarray,
    richer: NeuralBias,
    features: np.ndarray,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """Networks with a further, random filter each.

    Parameters
    ----------
    poorer, richer : NeuralBias
        They differ by one filter.
    params : array (P,)
        Of the poorer network.
    features : array (F, N)
        Shell features of the voxels, which set the scale of the filter.
    rng : numpy Generator
    """
    old = poorer.blocks_of(np.asarray(params, dtype=float))
    shapes = richer.block_shapes
    scale = _scale_of_weights(richer, features)
    grown = []
    for _ in range(NUM_WAYS):
        new = {name: block.copy() for name, block in old.items()}
        weights = rng.normal(size=scale.shape) * scale
        shift = rng.normal(size=len(richer.multipoles))
        if richer.multipoles == (0,):
            shift -= weights @ features.mean(axis=1)
        new["kernel_weights"] = np.vstack([old["kernel_weights"], weights])
        new["kernel_biases"] = np.append(old["kernel_biases"], shift)
        for name in reading_blocks(richer):
            more = shapes[name][0] - len(old[name])
            rows = READ * rng.normal(size=(more, shapes[name][1]))
            new[name] = np.vstack([old[name], rows])
        vector = np.concatenate([new[name].ravel() for name in shapes])
        grown.append(vector.astype(params.dtype))
    return grown


def _scale_of_weights(bias: NeuralBias, features: np.ndarray) -> np.ndarray:
    """Of the weights of a filter with a response of order one, (W,)."""
    basis = bias.basis
    spread = np.std(features, axis=1) + 1e-12
    scales = []
    for num_shells, part in zip(basis.num_shells, basis.slices, strict=True):
        by_shell = spread[part].reshape(-1, num_shells)
        scales.append(1 / np.sqrt(np.sum(by_shell**2, axis=0)))
    return np.concatenate(scales) / np.sqrt(basis.num_shells[0])

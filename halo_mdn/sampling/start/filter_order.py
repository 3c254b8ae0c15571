"""Filters of a network can be exchanged: one order for all networks that differ by that alone."""

from __future__ import annotations

import numpy as np

from halo_mdn.bias.neural import NeuralBias, reading_blocks


def exchanged(bias: NeuralBias, order: np.ndarray) -> np.ndarray:
    """Where each parameter of the network with its filters in this order comes from, (P,).

    Parameters
    ----------
    bias : NeuralBias
    order : array (filters,) of int
    """
    place = bias.blocks_of(np.arange(bias.num_params))
    per_filter = len(bias.multipoles)
    channels = (order[:, None] * per_filter + np.arange(per_filter)).ravel()
    place["kernel_weights"] = place["kernel_weights"][order]
    for name in ("kernel_biases", *reading_blocks(bias)):
        place[name] = place[name][channels]
    return np.concatenate([place[name].ravel() for name in bias.block_shapes])


def usual_order(bias: NeuralBias, params: np.ndarray) -> np.ndarray:
    """As :func:`exchanged`, with the filter first that answers a denser universe most strongly.

    The answer is that of the convolution of ln(1 + delta) to a uniform change of it, with its sign.
    """
    cells = np.sum(bias.basis.coefficients[bias.basis.slices[0]] != 0, axis=1)
    weights = bias.blocks_of(np.asarray(params))["kernel_weights"][:, : len(cells)]
    return exchanged(bias, np.argsort(-(weights @ cells), kind="stable"))

"""Exchangeable filters are brought into one order."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import halo_mdn as hm
from halo_mdn.sampling.start.filter_order import exchanged, usual_order

NETWORKS = [
    hm.NeuralBias(filters=3),
    hm.NeuralBias(filters=2, multipoles=(0, 2)),
    hm.NeuralBias(filters=3, hidden_layers=(4,)),
    hm.NeuralBias(filters=2, first_layer=(0.5, 0.05, 0.02, 0.01, 0.3)),
]


@pytest.mark.parametrize("network", NETWORKS)
def test_the_order_changes_nothing_but_names(network, delta, grid):
    params = 0.1 * np.random.default_rng(1).normal(size=network.num_params)
    order = np.random.default_rng(2).permutation(network.filters)[::-1]
    other = params[exchanged(network, order)]
    one, two = (np.asarray(hm.log_expected(network, p, delta, grid)) for p in (params, other))
    np.testing.assert_allclose(one, two, rtol=1e-12)
    again = [vector[usual_order(network, vector)] for vector in (params, other)]
    np.testing.assert_array_equal(*again)


def test_the_first_filter_answers_most_strongly():
    bias = hm.NeuralBias(filters=2)
    blocks = bias.blocks_of(np.zeros(bias.num_params))
    blocks["kernel_weights"][0] = [2.0, 0.0, 0.0, 0.0]
    blocks["kernel_weights"][1] = [0.0, 0.0, 0.0, 0.5]  # eight corners
    params = np.asarray(bias.pack({name: jnp.asarray(part) for name, part in blocks.items()}))
    ordered = bias.blocks_of(params[usual_order(bias, params)])
    assert ordered["kernel_weights"][0, 3] == 0.5

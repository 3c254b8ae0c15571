"""Richer networks from the optimum of poorer ones."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import halo_mdn as hm
from halo_mdn.sampling import find_start
from halo_mdn.sampling.start import growth


@pytest.mark.parametrize(
    "settings", [{}, {"multipoles": (0, 2)}, {"hidden_layers": (3,)}, {"first_layer": (0.1,) * 5}]
)
def test_a_filter_that_nobody_reads_changes_nothing(monkeypatch, settings, delta, grid):
    monkeypatch.setattr(growth, "READ", 0.0)
    poorer, richer = (hm.NeuralBias(filters=n, **settings) for n in (1, 2))
    rng = np.random.default_rng(3)
    params = 0.1 * rng.normal(size=poorer.num_params)
    features = rng.normal(size=(poorer.basis.num_features, 50))
    grown = growth.with_one_more_filter(poorer, params, richer, features, rng)
    assert len({tuple(vector) for vector in grown}) == growth.NUM_WAYS
    before = hm.log_expected(poorer, params, delta, grid)
    for vector in grown[:2]:
        np.testing.assert_allclose(hm.log_expected(richer, vector, delta, grid), before, rtol=1e-12)


def test_what_can_grow():
    assert growth.can_grow(hm.NeuralBias(filters=2))
    assert not growth.can_grow(hm.NeuralBias())
    assert not growth.can_grow(hm.NeuralBias(filters=2, prior_scale=(1.0,) * 28))
    assert not growth.can_grow(hm.TruncatedPowerLaw())


@pytest.mark.slow
def test_a_richer_network_starts_at_least_as_high(delta, halos):
    """Of the same halos, up to the prior's constant for each of the eleven parameters more."""
    if halos.grid.boundary != "periodic":
        pytest.skip("one boundary is enough")
    heights = []
    for bias in (hm.NeuralBias(), hm.NeuralBias(filters=2)):
        log_l = hm.fixed_field_likelihood(bias, delta, halos)
        start = find_start(log_l, bias, jax.random.key(1), num_chains=2, num_starts=4)
        constant = bias.num_params * np.log(10 * np.sqrt(2 * np.pi))
        heights.append(start.log_posterior[0] + constant)
        assert np.isfinite(start.position).all()
    assert heights[1] > heights[0] - 0.5
    assert "then one more filter in 12 ways" in start.description

"""Expected counts through bins of the convolved field agree with the voxel-by-voxel sum."""

from __future__ import annotations

import numpy as np
import pytest

import halo_mdn as hm
from halo_mdn.predictions.expected_counts import evaluate, expected_counts, observed_counts
from tests.run_for_tests import TRUTH, mock_fit

EDGES = np.log(np.geomspace(2e12, 1e14, 5))


@pytest.fixture(scope="module")
def label() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 3, size=512)


@pytest.mark.parametrize("scale", [0.0, 0.1, 0.5])
def test_bins_agree_with_voxels(label: np.ndarray, scale: float) -> None:
    log_l = mock_fit().log_l
    params = TRUTH + scale * np.random.default_rng(1).normal(size=(2, 4, 17))
    binned = evaluate(expected_counts(log_l, label, EDGES, binned=True), params)
    exact = evaluate(expected_counts(log_l, label, EDGES, binned=False), params)
    assert exact.shape == (2, 4, 3, 5)
    # (step of ln Lambda between two nodes)^2/8; where nothing is expected, it may be steeper.
    np.testing.assert_allclose(binned, exact, rtol=1e-3, atol=1e-6 * exact.max())


def test_an_open_last_bin_makes_the_bins_add_up(label: np.ndarray) -> None:
    fit = mock_fit()
    counts = expected_counts(fit.log_l, label, EDGES)(TRUTH)
    log_lambda = hm.log_expected(fit.bias, TRUTH, fit.delta, fit.grid).ravel()
    per_label = np.bincount(label, weights=64.0 * np.exp(log_lambda))
    np.testing.assert_allclose(counts.sum(axis=1), per_label, rtol=1e-12)


def test_a_uniform_field_fills_one_bin() -> None:
    grid = hm.Grid((4, 4, 4), (16.0,) * 3)
    halos = hm.HaloCatalogue.from_voxels([[0, 0, 0]], [np.log(3e12)], grid)
    log_l = hm.fixed_field_likelihood(hm.NeuralBias(), np.zeros(grid.shape), halos)
    counts = expected_counts(log_l, np.zeros(64, int), EDGES[:1], binned=True)(TRUTH)
    direct = np.exp(hm.log_expected(hm.NeuralBias(), TRUTH, np.zeros(grid.shape), grid)).sum() * 64
    np.testing.assert_allclose(counts, [[direct]], rtol=1e-12)


def test_an_overflow_is_infinite_and_not_a_number_elsewhere(label: np.ndarray) -> None:
    params = TRUTH.copy()
    params[15] = 60.0  # a width of 67: e^(sigma^2/2) overflows float64
    for binned in (True, False):
        counts = expected_counts(mock_fit().log_l, label, EDGES[:1], binned=binned)(params)
        assert np.isinf(counts).all()


def test_observed_counts_put_edge_masses_into_their_bin() -> None:
    grid = hm.Grid((4, 4, 4), (16.0,) * 3)
    log_mass = np.array([EDGES[0], EDGES[1], EDGES[1] - 1e-6, EDGES[4] + 3])
    halos = hm.HaloCatalogue.from_voxels(np.zeros((4, 3), int), log_mass, grid)
    log_l = hm.fixed_field_likelihood(hm.NeuralBias(), np.zeros(grid.shape), halos)
    seen = observed_counts(log_l, np.zeros(64, int), EDGES)
    np.testing.assert_array_equal(seen, [[2, 1, 0, 0, 1]])


def test_chains_are_evaluated_alike_whatever_their_number(label: np.ndarray) -> None:
    counts = expected_counts(mock_fit().log_l, label, EDGES)
    params = TRUTH + 0.1 * np.random.default_rng(1).normal(size=(5, 3, 17))
    together = evaluate(counts, params)
    for chain in range(5):
        np.testing.assert_array_equal(
            together[chain], evaluate(counts, params[chain : chain + 1])[0]
        )

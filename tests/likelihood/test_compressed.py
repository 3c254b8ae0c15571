"""The compressed likelihood: its moments, its error, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import halo_mdn as hm
from halo_mdn.likelihood.compressed import _cells, _cubature, _nodes, compress


@pytest.fixture(scope="module")
def smooth():
    """A correlated log-normal field of 24^3 voxels, with an exact draw of halos in it."""
    from conftest import REALISTIC

    rng = np.random.default_rng(7)
    gauss = rng.normal(size=(24, 24, 24))
    for axis in (0, 1, 2):
        gauss = gauss + 0.6 * (np.roll(gauss, 1, axis) + np.roll(gauss, -1, axis))
    delta = np.exp(0.8 * gauss / gauss.std() - 0.32) - 1
    grid = hm.Grid((24, 24, 24), (96.0, 96.0, 96.0))
    bias, params = hm.NeuralBias(), np.asarray(REALISTIC)
    halos = hm.simulate(jax.random.key(1), bias, params, delta, grid)
    return hm.fixed_field_likelihood(bias, delta, halos), params


def around(params, count, width=0.02):
    return params + width * np.random.default_rng(2).normal(size=(count, len(params)))


def test_cubature_keeps_weight_mean_and_covariance():
    rng = np.random.default_rng(0)
    points, weight = rng.normal(size=(4, 50)) ** 3, rng.uniform(size=50)
    nodes, w = _cubature(points, weight)
    assert nodes.shape == (4, 8)
    mean = np.average(points, axis=1, weights=weight)
    np.testing.assert_allclose(w.sum(), weight.sum(), rtol=1e-14)
    np.testing.assert_allclose(np.average(nodes, axis=1, weights=w), mean, rtol=1e-12)
    expected = np.cov(points, aweights=weight, bias=True)
    np.testing.assert_allclose(np.cov(nodes, aweights=w, bias=True), expected, rtol=1e-12)


def test_cells_hold_every_point_once_in_equal_shares():
    rng = np.random.default_rng(1)
    points, share = rng.normal(size=(3, 4096)), rng.uniform(0.5, 1.5, size=4096)
    cells = _cells(points, share, 64)
    assert len(cells) == 64
    np.testing.assert_array_equal(np.sort(np.concatenate(cells)), np.arange(4096))
    shares = np.array([share[cell].sum() for cell in cells])
    # Six cuts, each within half the heaviest point (1.5) of even.
    assert np.ptp(shares) < 6 * 1.5


def test_small_cells_keep_their_points():
    points = np.arange(12.0).reshape(2, 6)
    cells = [np.array([0, 1, 2]), np.array([3, 4, 5])]
    nodes, weight = _nodes(points, np.ones(2), np.ones(6), cells)
    np.testing.assert_array_equal(nodes, points)
    np.testing.assert_array_equal(weight, np.ones(6))


@pytest.mark.parametrize("observed", [False, True], ids=["complete", "incomplete"])
def test_the_error_is_what_it_says(smooth, observed):
    log_l, params = smooth
    if observed:
        weight = jnp.asarray(np.random.default_rng(3).uniform(0.3, 1, log_l.features.shape[1]))
        coverage = weight[log_l.halo_voxel]
        seen = replace(log_l.halos, completeness=weight, coverage=coverage)
        log_l = replace(log_l, halos=seen)
    small = compress(log_l, params, around(params, 12), tolerance=0.05)
    assert small.num_nodes <= log_l.features.shape[1] // 2
    elsewhere = params + 0.02 * np.random.default_rng(9).normal(size=(12, 17))
    error = [float(small.log_likelihood(p) - log_l(p)) for p in elsewhere]
    assert np.std(error) < 0.1  # other trials than it was made with: twice the tolerance
    assert abs(np.mean(error) - small.error_mean) < 0.2
    # The halo sum is the exact one, so the gradient differs by that of the error alone.
    gradient = jax.grad(lambda p, f: f(p))
    difference = gradient(params, small.log_likelihood) - gradient(params, log_l)
    assert np.max(np.abs(difference)) < 2.0  # nats per unit of a parameter; the fields' are 1e3


def test_more_nodes_for_less_error(smooth):
    log_l, params = smooth
    coarse = compress(log_l, params, around(params, 6, 0.05), tolerance=1.0)
    fine = compress(log_l, params, around(params, 6, 0.05), tolerance=0.2 * coarse.error_sd)
    assert fine.num_nodes > coarse.num_nodes
    assert fine.error_sd <= 0.2 * coarse.error_sd


def test_refuses_what_it_cannot_do(smooth):
    log_l, params = smooth
    with pytest.raises(hm.InputError, match="cannot be compressed to 1e-09 nats"):
        compress(log_l, params, around(params, 4), tolerance=1e-9)
    other = replace(log_l, bias=hm.NeuralBias(multipoles=(0, 1)))
    with pytest.raises(hm.InputError, match="multipoles"):
        compress(other, params, around(params, 4))

"""Clustering of data and predictions, against definitions written out independently."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import halo_mdn as hm
from halo_mdn.predictions import clustering as module
from halo_mdn.predictions.clustering import (
    _Measure,
    clustering,
    kernel_radii,
    linear_bias,
    response_of_features,
)
from halo_mdn.predictions.expected_counts import expected_counts
from tests.run_for_tests import TRUTH, good_posterior, mock_fit

EDGES = np.log([2e12, 1e13])


@pytest.mark.parametrize("binned", [False, True])
def test_linear_bias_is_the_response_to_a_denser_universe(binned: bool) -> None:
    """Against central differences of the expected number on fields multiplied by e^eps."""
    fit = mock_fit()
    counts = expected_counts(fit.log_l, np.zeros(512, int), EDGES, binned=binned)

    def numbers(eps: float) -> np.ndarray:
        field = np.exp(eps) * (1 + fit.delta) - 1
        log_l = hm.fixed_field_likelihood(fit.bias, field, fit.halos)
        exact = expected_counts(log_l, np.zeros(512, int), EDGES, binned=False)
        return np.asarray(exact(jnp.asarray(TRUTH)))[0]

    step = 1e-4
    slope = (np.log(numbers(step)) - np.log(numbers(-step))) / (2 * step)
    response = response_of_features(fit.bias, fit.delta, fit.halos.grid)
    found = np.asarray(linear_bias(counts, response, jnp.asarray(TRUTH)))
    # the bins of the field cost 1e-4, the differences 1e-8
    np.testing.assert_allclose(found, slope, rtol=1e-3 if binned else 1e-6)
    assert found[1] > found[0] > 0.5  # rarer halos are more biased


@pytest.mark.parametrize("shape", [(8, 8, 8), (6, 8, 7)])
def test_power_against_a_sum_over_all_modes(shape) -> None:
    rng = np.random.default_rng(0)
    delta, counts = rng.normal(size=shape), rng.poisson(3.0, shape).astype(float)
    grid = hm.Grid(shape, tuple(4.0 * n for n in shape))
    measure = _Measure.of(delta, grid)
    found = measure(counts)
    k = np.sqrt(sum(np.meshgrid(*[(2 * np.pi * np.fft.fftfreq(n, 4.0)) ** 2 for n in shape],
                                indexing="ij")))  # fmt: skip
    power = np.abs(np.fft.fftn(counts / counts.mean() - 1)) ** 2
    power *= np.prod(grid.box_size) / counts.size**2
    num = len(measure.wave_number)
    edges = np.linspace(np.pi / np.max(grid.box_size), np.pi / 4 * (1 + 1e-9), num + 1)
    for i in range(num):
        inside = (k >= edges[i]) & (k < edges[i + 1])
        assert found["counts_power"][i] == pytest.approx(power[inside].mean(), rel=1e-10)
        assert measure.wave_number[i] == pytest.approx(k[inside].mean(), rel=1e-10)


def test_correlation_is_one_for_the_density_itself_and_shot_noise_is_flat() -> None:
    rng = np.random.default_rng(1)
    grid = hm.Grid((24, 24, 24), (96.0,) * 3)
    delta = 0.3 * rng.normal(size=grid.shape)
    delta -= delta.mean()
    measure = _Measure.of(delta, grid)
    np.testing.assert_allclose(measure(2 * (1 + delta))["counts_correlation"], 1, rtol=1e-9)
    unclustered = rng.poisson(2.0, grid.shape).astype(float)
    found = measure(unclustered)
    noise = np.prod(grid.box_size) / unclustered.sum()
    # the emptiest band averages 50 modes: 14 % each
    np.testing.assert_allclose(found["counts_power"], noise, rtol=0.5)
    np.testing.assert_allclose(found["cell_ratio"][0], 1, atol=0.06)  # sqrt(2/24^3) = 0.012


def test_predictions_scatter_like_catalogues_of_simulate() -> None:
    """Two ways to draw: numbers per voxel here, halo by halo there."""
    fit = mock_fit()
    rng = np.random.default_rng(2)
    found = clustering(fit.log_l, fit.delta, TRUTH[None, None], EDGES, rng, num_replicates=80)
    measure = _Measure.of(fit.delta, fit.grid)
    drawn = []
    for seed in range(80):
        halos = hm.simulate(jax.random.key(seed), fit.bias, TRUTH, fit.delta, fit.grid)
        counts = np.zeros(fit.grid.shape)
        np.add.at(counts, tuple(halos.voxel.T), 1)
        drawn.append(measure(counts))
    for name in ("counts_power", "counts_correlation", "cell_ratio"):
        ours, theirs = found.predicted[name][1], np.stack([values[name] for values in drawn])
        error = np.sqrt((ours.var(axis=0) + theirs.var(axis=0)) / 80)
        assert np.abs((ours.mean(axis=0) - theirs.mean(axis=0)) / error).max() < 4


def test_the_container_holds_data_and_predictions() -> None:
    posterior = good_posterior()
    observed = posterior["observed_data"].to_dataset()
    predicted = posterior["posterior_predictive"].to_dataset()
    for name in ("counts_power", "counts_correlation", "cell_ratio"):
        assert predicted[name].shape == (100, *observed[name].shape)
    assert predicted["linear_bias"].dims == ("chain", "draw", "mass_bin")
    fit, counts = mock_fit(), np.zeros((8, 8, 8))
    np.add.at(counts, tuple(fit.halos.voxel.T), 1)
    assert float(observed["cell_ratio"][0]) == pytest.approx(counts.var() / counts.mean())


def test_kernel_radii_are_distances_of_the_shells() -> None:
    np.testing.assert_allclose(kernel_radii(mock_fit().log_l), 4 * np.sqrt([0, 1, 2, 3]))
    assert module._kernel_cells(mock_fit().log_l).tolist() == [1, 6, 12, 8]

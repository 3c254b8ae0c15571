"""Mass errors and completeness: analytic integrals, simulation, and the bias of ignoring them."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import halo_mdn as hm
from halo_mdn.halos.mass_function import Mixture, log_density
from halo_mdn.likelihood.definition import log_integral_of
from halo_mdn.predictions.expected_counts import expected_counts

LOG_THRESHOLD = float(np.log(2e12))
MIXTURE = Mixture(
    jnp.log(jnp.array([1e-3, 3e-4])),
    LOG_THRESHOLD + jnp.array([-1.0, 0.5]),
    jnp.array([0.9, 1.3]),
)
OBSERVED = hm.MassObservation(scatter=0.4, threshold_completeness=0.3, completeness_slope=1.5)


def quadrature(integrand, low: float, high: float) -> jax.Array:
    """Gauss-Legendre on 40 panels of 20 nodes: exact to rounding for these smooth integrands."""
    nodes, weights = np.polynomial.legendre.leggauss(20)
    edges = np.linspace(low, high, 41)
    half = np.diff(edges)[:, None] / 2
    u = ((edges[1:] + edges[:-1])[:, None] / 2 + half * nodes).ravel()
    return jnp.sum(integrand(u) * (half * weights).ravel())


def test_blurred_is_the_convolution() -> None:
    """Halos per d ln M, convolved with the error numerically."""
    u = LOG_THRESHOLD + 0.7
    mixture = Mixture(*(field[:, None] for field in MIXTURE))

    def integrand(true: np.ndarray) -> jax.Array:
        return jnp.exp(log_density(mixture, true) + true) * stats.norm.pdf(u, true, 0.4)

    actual = jnp.exp(log_density(OBSERVED.blurred(MIXTURE), u) + u)
    np.testing.assert_allclose(actual, quadrature(integrand, u - 5, u + 5), rtol=1e-10)


@pytest.mark.parametrize("above", [0.0, 1.3])
def test_integral_against_quadrature(above: float) -> None:
    edge = LOG_THRESHOLD + above
    mixture = Mixture(*(field[:, None] for field in MIXTURE))

    def integrand(u: np.ndarray) -> jax.Array:
        return jnp.exp(OBSERVED.log_density(mixture, u, LOG_THRESHOLD) + u)

    actual = jnp.exp(OBSERVED.log_integral(MIXTURE, edge, LOG_THRESHOLD))
    np.testing.assert_allclose(actual, quadrature(integrand, edge, edge + 25), rtol=1e-10)


def test_exact_masses_change_nothing(bias, params, delta, halos) -> None:
    nearly = replace(halos, observation=hm.MassObservation(1e-9, 1 - 1e-12))
    expected = hm.log_likelihood(bias, params, delta, halos)
    np.testing.assert_allclose(hm.log_likelihood(bias, params, delta, nearly), expected, rtol=1e-9)


def test_ignoring_the_errors_biases_and_modelling_them_does_not(bias, params, delta) -> None:
    """The score (the gradient at the true parameters) has mean zero for the right model alone."""
    grid = hm.Grid(delta.shape, (64.0, 72.0, 80.0))
    steeper = hm.MassObservation(scatter=0.5, threshold_completeness=0.5, completeness_slope=2.0)

    mocks = [
        hm.simulate(key, bias, params, delta, grid, observation=steeper)
        for key in jax.random.split(jax.random.key(0), 40)
    ]
    stacked = hm.HaloCatalogue.stack(mocks)  # one shape, so one compilation

    def scores(observation: hm.MassObservation) -> np.ndarray:
        halos = replace(stacked, observation=observation)
        return np.array([hm.adjoint(bias, params, delta, halos[i]).params_cot for i in range(40)])

    def worst_deviation(values: np.ndarray) -> float:
        error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
        return float(np.abs(values.mean(axis=0) / error).max())

    # of 17 correlated standard deviates; the seeds are fixed
    assert worst_deviation(scores(steeper)) < 4
    assert worst_deviation(scores(hm.MassObservation())) > 10


def test_expected_counts_are_those_of_observed_masses(bias, params, delta, halos) -> None:
    """By mass bin, per voxel: they add up to the integral in the likelihood."""
    log_l = hm.fixed_field_likelihood(bias, delta, replace(halos, observation=OBSERVED))
    num_voxels = log_l.features.shape[1]
    edges = LOG_THRESHOLD + np.array([0.0, 1.0, 2.0])
    counts = expected_counts(log_l, np.zeros(num_voxels, int), edges, binned=False)
    log_lambda = log_integral_of(log_l, bias.mass_function(params, log_l.features))
    expected = log_l.grid.voxel_volume * jnp.sum(jnp.exp(log_lambda))
    np.testing.assert_allclose(counts(params).sum(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "setting",
    [
        {"scatter": -0.1},
        {"scatter": np.nan},
        {"threshold_completeness": 0.0},
        {"threshold_completeness": 1.1},
        {"completeness_slope": 0.0},
    ],
)
def test_bad_settings(setting: dict) -> None:
    with pytest.raises(hm.InputError, match=list(setting)[0]):
        hm.MassObservation(**setting)

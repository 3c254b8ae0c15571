"""Gamma-Poisson mixing: against quadrature, scipy's negative binomial, simulations and limits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import halo_mdn as hm
from halo_mdn.likelihood.negative_binomial import gamma_weights
from halo_mdn.predictions.expected_counts import evaluate, expected_counts
from halo_mdn.predictions.sub_boxes import block_log_likelihood

BIAS, POISSON = hm.OverdispersedBias(), hm.NeuralBias()
Q = 7.5  # ln phi = -2 + 0.2 q


@pytest.fixture
def dispersed(params: jax.Array) -> jax.Array:
    return jnp.append(params, Q)


@pytest.fixture
def periodic_halos(params: jax.Array, delta: np.ndarray) -> hm.HaloCatalogue:
    grid = hm.Grid(delta.shape, (32.0, 36.0, 40.0))
    return hm.simulate(jax.random.key(20), POISSON, params, delta, grid)


def of_counts(log_l: hm.FixedFieldLikelihood, params: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of halos N_v and their means lambda_v."""
    halos = np.asarray(log_l.halo_voxel)[np.asarray(log_l.used)]
    counts = np.bincount(halos, minlength=log_l.features.shape[1])
    one = expected_counts(log_l, np.arange(len(counts)), np.log([2e12]))
    return counts, np.asarray(one(params))[:, 0]


def test_dispersion_is_a_documented_function_of_the_last_parameter(dispersed) -> None:
    assert list(BIAS.block_shapes)[-1] == "log_dispersion" and BIAS.num_params == 18
    np.testing.assert_allclose(BIAS.log_dispersion(dispersed), -2 + 0.2 * Q)
    assert POISSON.log_dispersion(dispersed[:-1]) is None


def test_counts_are_negative_binomial_and_masses_those_of_the_process(
    dispersed, delta, grid
) -> None:
    """Take the Poisson probability of the counts away, and put that of scipy in its place."""
    halos = hm.simulate(jax.random.key(9), BIAS, dispersed, delta, grid)
    log_l = hm.fixed_field_likelihood(BIAS, delta, halos)
    plain = hm.fixed_field_likelihood(POISSON, delta, halos)
    counts, mean = of_counts(log_l, dispersed)
    assert counts.max() > 1
    phi = np.exp(-2 + 0.2 * Q)
    wanted = float(plain(dispersed[:-1])) - stats.poisson.logpmf(counts, mean).sum()
    wanted += stats.nbinom.logpmf(counts, 1 / phi, 1 / (1 + phi * mean)).sum()
    np.testing.assert_allclose(log_l(dispersed), wanted, rtol=1e-12)
    np.testing.assert_allclose(log_l.by_block(dispersed, 2).sum(), wanted, rtol=1e-12)


def test_the_adjoint_is_that_of_the_mixture(dispersed, delta, periodic_halos) -> None:
    log_l = hm.fixed_field_likelihood(BIAS, delta, periodic_halos)
    out = hm.adjoint(BIAS, dispersed, delta, periodic_halos)
    np.testing.assert_allclose(out.value, log_l(dispersed), rtol=1e-12)
    step = 1e-5 * np.eye(18)[-1]
    slope = (log_l(dispersed + step) - log_l(dispersed - step)) / 2e-5
    np.testing.assert_allclose(out.params_cot[-1], slope, rtol=1e-5)  # rounding of 1e4 / 1e-5


def test_the_integral_over_the_gamma_distribution_by_quadrature(params) -> None:
    """One voxel with three halos, 26 without: average the Poisson-process likelihood over G."""
    grid = hm.Grid((3, 3, 3), (30.0,) * 3)
    used = np.arange(4) < 3
    halos = hm.HaloCatalogue.from_voxels([[1, 1, 1]] * 4, np.full(4, 29.5), grid, selected=used)
    log_l = hm.fixed_field_likelihood(BIAS, np.zeros(grid.shape), halos)
    plain = hm.fixed_field_likelihood(POISSON, np.zeros(grid.shape), halos)
    dispersed = jnp.append(params, Q)
    phi, mean = np.exp(-2 + 0.2 * Q), of_counts(log_l, dispersed)[1][0]

    def averaged(count: int) -> float:
        weight = stats.gamma(1 / phi, scale=phi).pdf
        return integrate.quad(lambda g: g**count * np.exp(-g * mean) * weight(g), 0, 60)[0]

    intensities = float(plain(params)) + 27 * mean  # sum of ln n alone
    wanted = intensities + np.log(averaged(3)) + 26 * np.log(averaged(0))
    np.testing.assert_allclose(log_l(dispersed), wanted, rtol=1e-9)


def test_goes_over_into_the_poisson_process(params, delta, periodic_halos) -> None:
    log_l = hm.fixed_field_likelihood(BIAS, delta, periodic_halos)
    plain = hm.fixed_field_likelihood(POISSON, delta, periodic_halos)
    wanted, slope = jax.value_and_grad(plain)(params)
    for q, phi in ((-50.0, 6e-6), (-90.0, 2e-9), (-3000.0, 0.0)):
        value, gradient = jax.value_and_grad(log_l)(jnp.append(params, q))
        # The first neglected term is phi/2 [sum (N - lambda)^2 - sum N], about phi N here.
        np.testing.assert_allclose(value, wanted, rtol=1e-14, atol=300 * phi + 1e-8)
        np.testing.assert_allclose(
            gradient[:-1], slope, rtol=1e-4 if phi > 1e-8 else 1e-9, atol=1e-6
        )


def test_simulated_counts_scatter_by_lambda_plus_phi_lambda_squared(params) -> None:
    grid = hm.Grid((12, 12, 12), (240.0,) * 3)  # a uniform field: all voxels share one lambda
    dispersed = jnp.append(params, Q)
    halos = hm.simulate(jax.random.key(2), BIAS, dispersed, np.full(grid.shape, 2.0), grid)
    log_l = hm.fixed_field_likelihood(BIAS, np.full(grid.shape, 2.0), halos)
    counts, mean = of_counts(log_l, dispersed)
    phi, mean = np.exp(-2 + 0.2 * Q), mean[0]
    variance = mean + phi * mean**2
    assert variance > 2 * mean  # or the test could not tell
    assert abs(counts.mean() - mean) < 4.5 * np.sqrt(variance / counts.size)
    np.testing.assert_allclose(counts.var(), variance, rtol=0.25)  # 1728 voxels: 5 %, heavy tail


def test_predicted_counts_scatter_alike(params, delta, periodic_halos) -> None:
    dispersed = jnp.append(params, Q)
    log_l = hm.fixed_field_likelihood(BIAS, delta, periodic_halos)
    _, mean = of_counts(log_l, dispersed)
    total = expected_counts(log_l, np.zeros(len(mean), int), np.log([2e12]))
    jitter = 1e-9 * np.random.default_rng(0).normal(size=(1, 400, 18))
    drawn = evaluate(total.scattered(jax.random.key(1)), np.asarray(dispersed) + jitter)
    phi = np.exp(-2 + 0.2 * Q)
    deviation = np.sqrt(phi * (mean**2).sum())
    assert abs(drawn.mean() - mean.sum()) < 4.5 * deviation / 20
    np.testing.assert_allclose(drawn.std(), deviation, rtol=0.2)  # 400 draws: 4 %, heavy tail


@pytest.mark.parametrize("log_phi", [-3.0, 0.0, 3.0])
def test_weights_have_mean_one_and_variance_phi(log_phi: float) -> None:
    weights = np.asarray(gamma_weights(jax.random.key(0), jnp.asarray(log_phi), (200_000,)))
    phi = np.exp(log_phi)
    assert (weights >= 0).all()
    assert abs(weights.mean() - 1) < 4.5 * np.sqrt(phi / 200_000)
    # The fourth moment of a gamma distribution gives the error of its variance.
    assert abs(weights.var() - phi) < 4.5 * np.sqrt((6 * phi**3 + 2 * phi**2) / 200_000)


def test_sub_boxes_of_the_container_are_those_of_the_likelihood(
    params, delta, periodic_halos
) -> None:
    log_l = hm.fixed_field_likelihood(BIAS, delta, periodic_halos)
    draws = np.asarray(jnp.append(params, Q))[None, None]
    found = block_log_likelihood(log_l, np.zeros(1, int), draws, np.zeros((1, 1, 8)))
    np.testing.assert_allclose(found[0, 0], log_l.by_block(draws[0, 0], 2), rtol=1e-12)


def test_never_nan_under_the_prior(delta, periodic_halos) -> None:
    log_l = hm.fixed_field_likelihood(BIAS, delta, periodic_halos)
    draws = 10 * jax.random.normal(jax.random.key(8), (100, 18))
    evaluate_all = jax.jit(jax.vmap(jax.value_and_grad(lambda p, f: f(p)), in_axes=(0, None)))
    value, gradient = evaluate_all(draws, log_l)
    assert not np.isnan(value).any() and np.isfinite(gradient).all()


def test_several_catalogues_are_refused(params, delta, periodic_halos) -> None:
    twice = hm.HaloCatalogue.stack([periodic_halos, periodic_halos])
    with pytest.raises(hm.InputError, match="2 catalogues of one field, expected one"):
        hm.log_likelihood(BIAS, jnp.append(params, Q), delta, twice)

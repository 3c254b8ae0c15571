"""Other samplers: the same density, the same posterior."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import halo_mdn as hm
from halo_mdn.config.model_files import load_model
from halo_mdn.predictions.identified import IdentifiedFunctions, identified_functions
from halo_mdn.sampling import LogPosterior, NutsSettings, StandardisedField, Start, run_nuts
from halo_mdn.sampling.coordinates.bijections import whitened_in
from halo_mdn.sampling.cross_check import (
    agreement,
    draw_microcanonical,
    draw_nuts,
    flat_log_density,
)
from halo_mdn.sampling.start.newton import climb, positive_inverse

COVARIANCE = np.array([[1.0, 0.6, 0.0], [0.6, 2.0, -0.5], [0.0, -0.5, 0.5]])
MEAN = np.array([1.0, -2.0, 0.5])


def gaussian(precision, mean, x):
    return -0.5 * (x - mean) @ precision @ (x - mean)


@pytest.mark.parametrize("sampler", [draw_nuts, draw_microcanonical])
def test_a_gaussian_is_sampled_with_its_moments(sampler) -> None:
    pytest.importorskip("blackjax")
    density = Partial(gaussian, jnp.linalg.inv(COVARIANCE), jnp.asarray(MEAN))
    draws = sampler(jax.random.key(1), density, np.zeros((2, 3)), num_samples=1500)
    exact = np.random.default_rng(2).multivariate_normal(MEAN, COVARIANCE, size=(2, 20_000))
    assert draws.shape == (2, 1500, 3)
    # Six numbers, each with standard normal scatter.
    assert agreement(draws, exact).worst < 4


def test_agreement_is_in_monte_carlo_errors() -> None:
    random = np.random.default_rng(3)
    one, other = random.normal(size=(2, 4, 1000, 200))
    apart = agreement(one, other)
    # Of independent draws, both are standard normal numbers: 200 of them have this spread.
    assert apart.mean.std() == pytest.approx(1, abs=0.2)
    assert apart.sd.std() == pytest.approx(1, abs=0.2)
    error = np.sqrt(2 / 4000)
    shifted = agreement(one, other + 10 * error).mean - apart.mean
    np.testing.assert_allclose(shifted, -10, rtol=0.1)
    wider = agreement(one, 1.2 * other).sd
    assert wider.max() < -5  # 0.2 / sqrt(2 / 8000) = 12.6


def small_problem():
    """Eight parameters of order one and 300 halos: a posterior that is simple to sample."""
    bias = hm.NeuralBias(
        kernel_size=1, components=1, amplitude_offset=-4.0, width_offset=0.0, prior_scale=1.0
    )
    truth = np.array([0.8, 0.3, 1.0, -0.3, 0.4, -0.3, 0.2, 0.1])
    grid = hm.Grid((6, 6, 6), (24.0, 24.0, 24.0))
    delta = np.expm1(0.7 * np.random.default_rng(4).normal(size=grid.shape) - 0.25)
    halos = hm.simulate(jax.random.key(5), bias, truth, delta, grid)
    return bias, truth, delta, halos, hm.fixed_field_likelihood(bias, delta, halos)


def test_the_flat_density_is_the_posterior_in_any_coordinates() -> None:
    bias, truth, _, _, log_l = small_problem()
    model = load_model("neural_bias")
    posterior = LogPosterior(log_l, 1.0, bias)
    plain = flat_log_density(model, (bias, log_l))
    assert float(plain(truth)) == pytest.approx(float(posterior(truth)), rel=1e-12)
    coordinates = StandardisedField.at_halos(log_l)
    latent = coordinates.to_latent(truth)
    changed = flat_log_density(model, (bias, log_l), coordinates=coordinates)
    jacobian = jax.jacfwd(coordinates.to_params)(latent)
    expected = float(plain(truth)) + np.linalg.slogdet(np.asarray(jacobian))[1]
    assert float(changed(latent)) == pytest.approx(expected, rel=1e-12)


def around_the_mode(posterior, params, num_chains):
    summit = climb(posterior, params)
    covariance = positive_inverse(-summit.hessian)
    random = np.random.default_rng(6)
    position = random.multivariate_normal(summit.params, covariance, size=num_chains)
    return Start(position, summit.params, covariance, np.array([summit.value]), "the mode")


@pytest.mark.slow
def test_three_samplers_agree_on_the_functions() -> None:
    pytest.importorskip("blackjax")
    bias, truth, delta, halos, log_l = small_problem()
    model = load_model("neural_bias")
    start = around_the_mode(LogPosterior(log_l, 1.0, bias), truth, num_chains=4)
    standardised = StandardisedField.at_halos(log_l)
    settings = NutsSettings(num_warmup=300, num_samples=1000, target_accept=0.9)
    ours = run_nuts(
        model, (bias, log_l), start=start, key=jax.random.key(7), settings=settings,
        coordinates=standardised,
    ).params  # fmt: skip
    coordinates = whitened_in(standardised, start.location, start.inverse_mass)
    density = flat_log_density(model, (bias, log_l), coordinates=coordinates)
    latent = jax.vmap(coordinates.to_latent)(jnp.asarray(start.position))
    functions = identified_functions(bias, delta, halos)
    monitored = Partial(IdentifiedFunctions.constrained, functions)

    @jax.jit
    def values(monitored, params):
        return jax.vmap(jax.vmap(monitored))(params)

    reference = np.asarray(values(monitored, ours))
    for sampler in (draw_nuts, draw_microcanonical):
        draws = sampler(jax.random.key(8), density, latent, num_samples=500)
        params = jax.vmap(jax.vmap(coordinates.to_params))(jnp.asarray(draws))
        apart = agreement(np.asarray(values(monitored, params)), reference)
        # Some thirty functions, strongly correlated, with a mean and a deviation each.
        assert apart.worst < 4, (sampler.__name__, apart)

"""Sensitivity to prior and likelihood, against a posterior that is known in closed form."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import jax
import numpy as np
import pytest
import xarray as xr
from scipy.stats import genpareto, norm

from halo_mdn.posterior import prior_sensitivity as power_scaling
from halo_mdn.posterior import summary as diagnostics
from halo_mdn.posterior.pareto import smoothed_log_weights
from halo_mdn.posterior.prior_sensitivity import POWER, sensitivity
from halo_mdn.sampling import LogPosterior
from tests.run_for_tests import TRUTH, independent_draws, mock_fit, posterior_of


def gaussian(prior_sd: float, prior_mean: float, powers: tuple[float, float]):
    """The mean of data with value 1 and error 0.5, prior and likelihood raised to powers."""
    precision = powers[0] / prior_sd**2 + powers[1] / 0.5**2
    mean = (powers[0] * prior_mean / prior_sd**2 + powers[1] / 0.5**2) / precision
    return norm(mean, precision**-0.5)


def exact_distance(p, q, low: float, high: float) -> float:
    """The definition by quadrature, over the range that the draws cover."""
    x = np.linspace(low, high, 40_001)

    def one_sided(p: np.ndarray, q: np.ndarray) -> float:
        middle = 0.5 * (p + q)
        integrand = p * np.log2(p / middle) + q * np.log2(q / middle)
        return float(np.sqrt(np.trapezoid(integrand, x) / np.trapezoid(p + q, x)))

    return max(one_sided(p.cdf(x), q.cdf(x)), one_sided(p.sf(x), q.sf(x)))


@pytest.mark.parametrize("prior_sd", [0.3, 1.0, 10.0])
def test_sensitivity_of_a_conjugate_gaussian_is_the_analytic_one(prior_sd: float) -> None:
    posterior = gaussian(prior_sd, 0.0, (1, 1))
    draws = posterior.rvs(20_000, random_state=1)
    parts = (norm(0, prior_sd).logpdf(draws), norm(1, 0.5).logpdf(draws))
    for component, log_component in enumerate(parts):
        ours = sensitivity(draws[:, None], log_component)[0]
        exact = 0.0
        for power in (POWER, 1 / POWER):
            powers = tuple(power if i == component else 1.0 for i in range(2))
            scaled = gaussian(prior_sd, 0.0, powers)
            exact += exact_distance(posterior, scaled, draws.min(), draws.max())
        exact /= 2 * np.log2(POWER)
        # Weights of 20,000 draws: their shift of the mean scatters by 1 to 2 % of itself.
        assert ours == pytest.approx(exact, rel=0.06, abs=1e-3)


def test_a_shift_of_a_third_of_a_deviation_is_the_threshold() -> None:
    distance = exact_distance(norm(0, 1), norm(0.3, 1), -3.5, 3.8)
    assert distance == pytest.approx(power_scaling.SENSITIVE, rel=0.35)


def test_a_component_that_says_nothing_has_no_influence() -> None:
    draws = np.random.default_rng(2).normal(size=(500, 2))
    np.testing.assert_array_equal(sensitivity(draws, np.full(500, -3.0)), 0.0)


def test_few_draws_give_no_false_alarm() -> None:
    """ArviZ 1 refuses to smooth so few weights: that is no number, and no traceback."""
    draws = np.random.default_rng(3).normal(size=(6, 1))
    assert not sensitivity(draws, 1e-3 * draws[:, 0])[0] > power_scaling.SENSITIVE


@pytest.mark.parametrize("shape", [-0.3, 0.2, 0.8])
def test_the_shape_of_a_tail_of_weights_is_found(shape: float) -> None:
    """That of the 3 sqrt(S) largest, which is the shape of all for this distribution."""
    weight = genpareto(shape, scale=2.0).rvs(100_000, random_state=4)
    log_weight, found = smoothed_log_weights(np.log(weight))
    deviation = (1 + max(shape, 0)) / np.sqrt(3 * np.sqrt(len(weight)))
    assert found == pytest.approx(shape, abs=2.5 * deviation)
    assert np.exp(log_weight).sum() == pytest.approx(1, rel=1e-12)


def test_smoothed_weights_give_the_mean_of_the_target() -> None:
    """A Gaussian seen from one half as wide again: draws, not ratios, decide the sign."""
    draws = 1.5 * np.random.default_rng(5).normal(size=20_000)
    log_weight, shape = smoothed_log_weights(
        norm(0.5, 1).logpdf(draws) - norm(0, 1.5).logpdf(draws)
    )
    assert shape < 0.5
    assert np.exp(log_weight) @ draws == pytest.approx(0.5, abs=0.04)  # four standard errors


def test_a_tail_without_values_of_its_own_is_not_fitted() -> None:
    log_ratio = np.where(np.arange(400) < 3, 0.0, -1.0)
    for ratio in (log_ratio, np.linspace(0, 1, 8), np.linspace(-2e3, 0, 12)):
        log_weight, shape = smoothed_log_weights(ratio)
        assert shape == np.inf
        np.testing.assert_allclose(log_weight - log_weight[0], ratio - ratio[0], atol=1e-12)


def test_equal_weights_stay_equal() -> None:
    log_weight, shape = smoothed_log_weights(np.full(50, -1e6))
    np.testing.assert_allclose(log_weight, -np.log(50))
    assert shape == -np.inf


@cache
def consistent_posterior() -> xr.DataTree:
    """A container whose `lp` is the log-posterior of its draws, under a Normal(0, 10) prior."""
    fit, draws = mock_fit(), independent_draws(2, 100)
    log_posterior = LogPosterior(fit.log_l, 1.0, fit.bias)
    values = jax.jit(lambda params: jax.lax.map(log_posterior, params))(
        draws.params.reshape(-1, len(TRUTH))
    )
    draws.stats["potential_energy"] = -np.asarray(values).reshape(2, 100)
    return posterior_of(draws, predictive_draws=40)


def test_components_come_from_the_container_whatever_the_prior() -> None:
    """All draws where the prior is the stated one; only those with a stored likelihood if not."""
    params = independent_draws(2, 100).params
    other = consistent_posterior().copy()
    other.attrs["prior_scale"] = 0.5
    for posterior, num in ((consistent_posterior(), 100), (other, 20)):
        known = power_scaling.log_components(posterior)
        assert known is not None
        log_prior, log_likelihood, draw = known
        assert len(draw) == num
        wanted = -0.5 * (params[:, draw] ** 2).sum(axis=-1) / 10.0**2
        np.testing.assert_allclose(np.ptp(log_prior - wanted), 0, atol=1e-6)  # up to a constant
        direct = float(mock_fit().log_l(params[1, draw[3]]) - mock_fit().log_l(params[0, draw[0]]))
        assert log_likelihood[1, 3] - log_likelihood[0, 0] == pytest.approx(direct, abs=1e-6)


def test_the_summary_says_what_the_prior_does() -> None:
    summary = diagnostics.summarise(consistent_posterior())
    assert all(np.isfinite(row.prior_sensitivity) for row in summary.rows)
    assert "The prior does not matter for the" in summary.to_text()  # draws of width 0.01
    row = replace(summary.rows[0], prior_sensitivity=0.2, likelihood_sensitivity=0.01)
    pulled = replace(summary.rows[1], prior_sensitivity=0.1, likelihood_sensitivity=0.3)
    (sentence,) = power_scaling.sentences([row, pulled])
    assert "1 show the prior more than the data (kernel_weights" in sentence
    assert "1 depend on both" in sentence
    (sentence,) = power_scaling.sentences([row, replace(pulled, ess_tail=20.0)])
    assert "cannot be told from 20 effective draws" in sentence  # noise would look like the prior


def test_unknown_densities_give_no_sentence() -> None:
    posterior = consistent_posterior().copy()
    del posterior["log_likelihood"]
    summary = diagnostics.summarise(posterior)
    assert all(np.isnan(row.prior_sensitivity) for row in summary.rows)
    assert power_scaling.sentences(summary.rows) == []

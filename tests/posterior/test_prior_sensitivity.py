"""Sensitivity to prior and likelihood, against a posterior that is known in closed form."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache

import jax
import numpy as np
import pytest
import xarray as xr
from scipy.stats import genpareto, norm

from halo_mdn.posterior import prior_sensitivity as power_scaling
from halo_mdn.posterior import summary as diagnostics
from halo_mdn.posterior.pareto import pareto_fit, pareto_quantile, smoothed_log_weights
from halo_mdn.posterior.prior_sensitivity import POWER, cumulative_distance, sensitivity
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


def test_distance_is_symmetric_bounded_and_zero_for_equal_weights() -> None:
    draws = np.random.default_rng(2).normal(size=(500, 1)) ** 3
    assert cumulative_distance(draws, np.full(500, 1 / 500))[0] == pytest.approx(0, abs=1e-7)
    weight = np.where(draws[:, 0] > np.median(draws), 1.0, 0.0)
    weight /= weight.sum()
    there, mirrored = cumulative_distance(draws, weight), cumulative_distance(-draws, weight)
    np.testing.assert_allclose(there, mirrored, rtol=1e-12)
    assert 0.1 < there[0] <= 1


def test_agrees_with_arviz_where_it_has_the_function() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ 0.23 announces 1.0
        import arviz
    if not hasattr(arviz, "psens"):
        pytest.skip("this ArviZ has another function for it")
    random = np.random.default_rng(3)
    x = random.normal(size=(4, 500))
    log_prior = -0.5 * (x - 1) ** 2 + 0.3 * random.normal(size=x.shape)
    data = arviz.from_dict({"x": x, "skew": np.exp(x)})
    data.add_groups({"log_prior": {"x": log_prior}})
    wanted = arviz.psens(data, component="prior")
    draws = np.stack([x.ravel(), np.exp(x).ravel()], axis=1)
    ours = sensitivity(draws, log_prior.ravel())
    np.testing.assert_allclose(ours, [float(wanted["x"]), float(wanted["skew"])], rtol=1e-6)
    for spread in (0.1, 3.0):
        ratio = spread * random.normal(size=2000)
        theirs, shape = arviz.psislw(ratio)
        log_weight, k = smoothed_log_weights(ratio)
        np.testing.assert_allclose(log_weight, theirs, rtol=1e-6)
        assert k == pytest.approx(float(shape), rel=1e-6)


@pytest.mark.parametrize("shape", [-0.3, 0.2, 0.8])
def test_the_tail_is_fitted_and_its_quantiles_are_those_of_scipy(shape: float) -> None:
    values = np.sort(genpareto(shape, scale=2.0).rvs(4000, random_state=4))
    found, scale = pareto_fit(values)
    assert found == pytest.approx(shape, abs=0.06)  # deviation of the estimate: (1 + k) / 63
    assert scale == pytest.approx(2.0, rel=0.1)
    levels = np.linspace(0.01, 0.99, 9)
    wanted = genpareto(shape, scale=2.0).ppf(levels)
    np.testing.assert_allclose(pareto_quantile(levels, shape, 2.0), wanted, rtol=1e-9)


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

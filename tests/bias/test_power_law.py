"""The truncated power law: its formulas against mpmath, its catalogues, its likelihood."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import halo_mdn as hm
from halo_mdn.sampling import LogPosterior, find_start

BIAS = hm.TruncatedPowerLaw()
PARAMS = np.array([0.6, 0.4, -0.8, 0.3, 0.2, -0.4])


def physical(params: np.ndarray) -> dict[str, float]:
    """The parameters as the literature writes them, from the table in the module's docstring."""
    a, alpha, b, eps, beta, ratio = params
    return {
        "A": 1e-2 * np.exp(2 * a),
        "alpha": 1 + alpha,
        "B": np.exp(b),
        "epsilon": 0.5 * np.exp(0.5 * eps),
        "beta": 0.5 * np.exp(0.5 * beta),
        "M_star": 2e12 * np.exp(3 + 2 * ratio),
    }


def number_above(mass: float, p: dict[str, float]) -> mpmath.mpf:
    """The integral of M^(beta/2 - 2) exp[-(M/M_*)^beta] above a mass: an incomplete gamma."""
    beta, knee = mpmath.mpf(p["beta"]), mpmath.mpf(p["M_star"])
    order = mpmath.mpf(1) / 2 - 1 / beta
    return mpmath.gammainc(order, (mass / knee) ** beta) / beta * knee ** (beta / 2 - 1)


@pytest.mark.parametrize("seed", range(8))
def test_formulas_are_those_of_the_papers(seed: int) -> None:
    params = np.random.default_rng(seed).normal(size=6)  # the prior
    p, rho = physical(params), np.array([0.1, 1.0, 7.0])
    with jax.numpy_rank_promotion("raise"):
        n = BIAS.mass_function(jnp.asarray(params), jnp.log(rho)[None])
        number = np.exp(n.log_integral(np.log(2e12)))
        above = np.exp(n.log_integral(np.log(3e13)))
        density = np.exp(n.log_density(np.log(3e13)))
    wanted = p["A"] * rho ** p["alpha"] * np.exp(-p["B"] * rho ** -p["epsilon"])
    np.testing.assert_allclose(number, wanted, rtol=1e-12)
    norm = number_above(2e12, p)
    # 64 nodes are good to 1e-12 under this prior; the fractions may be as small as 1e-30
    fraction = float(number_above(3e13, p) / norm)
    np.testing.assert_allclose(above, wanted * fraction, rtol=1e-9)
    shape = mpmath.mpf(3e13) ** (p["beta"] / 2 - 2) * mpmath.exp(
        -((3e13 / p["M_star"]) ** p["beta"])
    )
    np.testing.assert_allclose(density, wanted * float(shape / norm), rtol=1e-9)


def test_likelihood_is_the_sum_over_halos_minus_the_integral(grid, delta) -> None:
    halos = hm.simulate(jax.random.key(3), BIAS, PARAMS, delta, grid)
    log_l = hm.fixed_field_likelihood(BIAS, delta, halos)
    p, rho = physical(PARAMS), 1 + delta
    number = p["A"] * rho ** p["alpha"] * np.exp(-p["B"] * rho ** -p["epsilon"])
    norm = float(mpmath.log(number_above(2e12, p)))
    mass, at = halos.mass, number[tuple(halos.voxel.T)]
    log_n = (
        np.log(at) + (p["beta"] / 2 - 2) * np.log(mass) - (mass / p["M_star"]) ** p["beta"] - norm
    )
    wanted = log_n.sum() - grid.voxel_volume * number.sum()  # without a kernel, no border either
    np.testing.assert_allclose(log_l(PARAMS), wanted, rtol=1e-11)
    np.testing.assert_allclose(log_l.by_block(PARAMS, 2).sum(), wanted, rtol=1e-11)


def test_the_adjoint_has_no_fast_path_to_stray_into(delta) -> None:
    halos = hm.simulate(jax.random.key(3), BIAS, PARAMS, delta, hm.Grid(delta.shape, (40.0,) * 3))
    out = hm.adjoint(BIAS, PARAMS, delta, halos)
    np.testing.assert_allclose(out.value, hm.log_likelihood(BIAS, PARAMS, delta, halos), rtol=1e-12)
    assert np.isfinite(out.delta_cot).all() and np.isfinite(out.params_cot).all()


def test_catalogues_have_the_numbers_and_masses_of_the_model() -> None:
    grid = hm.Grid((6, 6, 6), (60.0,) * 3)
    rho = np.random.default_rng(1).lognormal(sigma=1.0, size=grid.shape)
    halos = hm.simulate(jax.random.key(4), BIAS, PARAMS, rho - 1, grid)
    p = physical(PARAMS)
    number = p["A"] * rho ** p["alpha"] * np.exp(-p["B"] * rho ** -p["epsilon"])
    expected = grid.voxel_volume * number
    count = np.histogramdd(halos.voxel, bins=[np.arange(7)] * 3)[0]
    chi2 = ((count - expected) ** 2 / expected)[expected > 5]
    assert abs(chi2.sum() - len(chi2)) < 4.5 * np.sqrt(2 * len(chi2) + chi2.size / 5)
    norm = number_above(2e12, p)
    for mass in (3e12, 1e13, 5e13):
        fraction = float(number_above(mass, p) / norm)
        error = np.sqrt(fraction * (1 - fraction) / halos.num_halos)
        assert abs(np.mean(halos.mass > mass) - fraction) < 4.5 * error


def test_the_start_is_a_summit_near_the_truth() -> None:
    grid = hm.Grid((8, 8, 8), (64.0,) * 3)
    delta = np.random.default_rng(2).lognormal(sigma=0.8, size=grid.shape) - 1
    halos = hm.simulate(jax.random.key(5), BIAS, PARAMS, delta, grid)
    log_l = hm.fixed_field_likelihood(BIAS, delta, halos)
    start = find_start(log_l, BIAS, jax.random.key(6), num_chains=2, num_starts=3)
    posterior = LogPosterior(log_l, 1.0, BIAS)
    at_truth = float(posterior(jnp.asarray(PARAMS)))
    # The maximum lies above the truth by half a chi-squared of six parameters.
    assert at_truth <= start.log_posterior[0] < at_truth + 15
    slope = np.asarray(jax.grad(posterior)(start.location))
    # What is left to gain, by the curvature that was found there, in nats.
    assert slope @ start.inverse_mass @ slope / 2 < 0.01


@pytest.mark.parametrize(
    ("settings", "complaint"), [({"mass_threshold": 0.0}, "mass_threshold"),
                                ({"density_floor": -1.0}, "density_floor")],
)  # fmt: skip
def test_settings_out_of_range(settings, complaint: str) -> None:
    with pytest.raises(hm.InputError, match=complaint):
        hm.TruncatedPowerLaw(**settings)


def test_mass_errors_need_gaussians(delta, grid) -> None:
    blurred = hm.MassObservation(scatter=0.2)
    halos = hm.HaloCatalogue.from_voxels([[2, 2, 2]], [30.0], grid, observation=blurred)
    with pytest.raises(hm.InputError, match="mixture of Gaussians"):
        hm.log_likelihood(BIAS, PARAMS, delta, halos)

"""Growth and linear power against closed forms, an ODE, quadrature and an independent code."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import hyp2f1

from halo_mdn import InputError
from halo_mdn.field.cosmology import (
    Cosmology,
    check_cosmology,
    growth_factor,
    linear_power,
    matter_fraction,
    second_order_growth,
    transfer_function,
)

REDSHIFTS = np.array([0.0, 0.5, 1.0, 2.0, 9.0, 24.0])

# colossus, cosmology of the defaults without relativistic species, model "eisenstein98", z = 0;
# it interpolates in tables, which costs it about 1e-4 at the wiggles.
COLOSSUS_K = np.array([1e-3, 0.01, 0.02, 0.05, 0.07, 0.1, 0.15, 0.3, 1.0, 5.0])
COLOSSUS_POWER = np.array(
    [3697.6353, 21198.173, 23180.686, 12203.072, 9514.5132]
    + [5594.935, 3147.4208, 870.05926, 66.411351, 1.3440157]
)
COLOSSUS_GROWTH = np.array([0.999968, 0.7700186, 0.6080511, 0.4182382, 0.1272461, 0.0509180])


@pytest.fixture
def cosmology() -> Cosmology:
    return Cosmology()


@pytest.mark.parametrize("omega_m", [0.1, 0.3111, 0.9, 1.0])
def test_growth_is_the_hypergeometric_function(omega_m: float) -> None:
    def closed_form(a: np.ndarray) -> np.ndarray:
        return a * hyp2f1(1 / 3, 1, 11 / 6, -(1 - omega_m) / omega_m * a**3)

    expected = closed_form(1 / (1 + REDSHIFTS)) / closed_form(np.ones(1))
    growth = growth_factor(Cosmology(omega_m=omega_m), REDSHIFTS)
    np.testing.assert_allclose(growth, expected, rtol=1e-12)


def test_first_and_second_order_growth_solve_their_equations(cosmology: Cosmology) -> None:
    # With N = ln a:  D1'' + (2 + dlnH/dN) D1' = 3/2 Om(a) D1, and for the second order the
    # same operator on D2 equals -3/2 Om(a) D1^2 (here D2 < 0, as in the module).
    omega_m = 0.3111

    def slopes(n: float, state: np.ndarray) -> list[float]:
        matter = omega_m * np.exp(-3 * n)
        fraction = matter / (matter + 1 - omega_m)
        friction = 2 - 1.5 * fraction
        d1, v1, d2, v2 = state
        source = 1.5 * fraction
        return [v1, source * d1 - friction * v1, v2, source * (d2 - d1**2) - friction * v2]

    a0 = 1e-3
    start = [a0, a0, -3 / 7 * a0**2, -6 / 7 * a0**2]
    times = np.log(1 / (1 + REDSHIFTS))[::-1]
    solution = solve_ivp(slopes, (np.log(a0), 0), start, t_eval=times, rtol=1e-10, atol=1e-14)
    d1, d2 = solution.y[0, ::-1], solution.y[2, ::-1]
    # The start is the Einstein-de Sitter solution, wrong by the dark energy at a = 1e-3 (1e-9).
    np.testing.assert_allclose(growth_factor(cosmology, REDSHIFTS), d1 / d1[0], rtol=1e-7)
    # Bouchet et al. state 6e-4 for their fit.
    expected = d2 / d1[0] ** 2
    np.testing.assert_allclose(second_order_growth(cosmology, REDSHIFTS), expected, rtol=6e-4)


def test_einstein_de_sitter_has_the_textbook_growth() -> None:
    flat = Cosmology(omega_m=1.0)
    np.testing.assert_allclose(growth_factor(flat, REDSHIFTS), 1 / (1 + REDSHIFTS), rtol=1e-12)
    np.testing.assert_allclose(second_order_growth(flat, 0.0), -3 / 7, rtol=1e-14)
    np.testing.assert_allclose(matter_fraction(flat, REDSHIFTS), 1.0)


def test_power_spectrum_integrates_to_sigma8(cosmology: Cosmology) -> None:
    k = np.geomspace(1e-6, 300, 1_000_001)
    x = 8 * k
    window = np.where(x > 1e-2, 3 * (np.sin(x) - x * np.cos(x)) / x**3, 1 - x**2 / 10)
    integrand = k**3 * np.asarray(linear_power(cosmology, k)) * window**2 / (2 * np.pi**2)
    sigma8 = np.sqrt(np.trapezoid(integrand, np.log(k)))
    np.testing.assert_allclose(sigma8, cosmology.sigma8, rtol=1e-7)


def test_power_and_growth_agree_with_colossus(cosmology: Cosmology) -> None:
    np.testing.assert_allclose(linear_power(cosmology, COLOSSUS_K), COLOSSUS_POWER, rtol=1e-4)
    np.testing.assert_allclose(growth_factor(cosmology, REDSHIFTS), COLOSSUS_GROWTH, rtol=4e-5)


def test_power_scales_with_sigma8_and_growth(cosmology: Cosmology) -> None:
    k = jnp.array([0.01, 0.1, 1.0])
    power = linear_power(cosmology, k)
    doubled = linear_power(replace(cosmology, sigma8=2 * cosmology.sigma8), k)
    np.testing.assert_allclose(doubled, 4 * power, rtol=1e-12)
    growth = growth_factor(cosmology, 1.5)
    np.testing.assert_allclose(linear_power(cosmology, k, 1.5), growth**2 * power, rtol=1e-12)


def test_power_vanishes_at_zero_and_transfer_is_one_there(cosmology: Cosmology) -> None:
    assert linear_power(cosmology, jnp.zeros(1))[0] == 0
    np.testing.assert_allclose(transfer_function(cosmology, jnp.array([1e-6])), 1, atol=1e-5)


@pytest.mark.parametrize("name", ["omega_m", "omega_b", "h", "n_s", "sigma8"])
def test_gradients_are_finite_differences(cosmology: Cosmology, name: str) -> None:
    k = jnp.array([0.0, 0.003, 0.05, 0.7])

    @jax.jit
    def log_power(value: jax.Array) -> jax.Array:
        return jnp.sum(jnp.log1p(linear_power(replace(cosmology, **{name: value}), k, 1.0)))

    value, step = float(getattr(cosmology, name)), 1e-5
    expected = (log_power(value + step) - log_power(value - step)) / (2 * step)
    # Central differences: step^2 times a third derivative of order 1e3, and rounding / step.
    np.testing.assert_allclose(jax.jit(jax.grad(log_power))(value), expected, rtol=1e-6)


def test_single_precision_is_good_to_1e_5(cosmology: Cosmology) -> None:
    k = np.geomspace(1e-3, 5, 50)
    exact = np.asarray(linear_power(cosmology, k))
    with jax.enable_x64(False):
        single = np.asarray(linear_power(cosmology, k.astype(np.float32)))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, exact, rtol=5e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"omega_m": 3.1}, "omega_m is 3.1"),
        ({"sigma8": -0.1}, "sigma8 is -0.1"),
        ({"h": float("nan")}, "h is nan"),
        ({"omega_m": 0.1, "omega_b": 0.15}, "less than omega_m"),
    ],
)
def test_impossible_parameters_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_cosmology(Cosmology(**changes))

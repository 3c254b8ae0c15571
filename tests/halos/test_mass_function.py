"""The mass function against quadrature."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy import stats

from halo_mdn.halos.mass_function import (
    Mixture,
    log_component_integral,
    log_density,
    log_integral,
    sample_log_mass,
)

LOG_THRESHOLD = float(np.log(2e12))
# amplitude, mean above threshold, width: ordinary, far above, far below, narrow, wide
CASES = [
    (1e-3, 0.5, 1.0),
    (1e-3, 8.0, 0.5),
    (1e-3, -6.0, 0.7),
    (2.0, 1.0, 0.05),
    (1e-3, 0.0, 3.0),
    (1e-3, -30.0, 5.0),
    (1e-3, -3.0, 1.7),
]


def mixture_of(*cases: tuple[float, float, float]) -> Mixture:
    alpha, gap, sigma = np.array(cases).T
    return Mixture(jnp.log(alpha), LOG_THRESHOLD + gap, jnp.asarray(sigma))


@pytest.mark.parametrize("case", CASES)
def test_integral_against_quadrature(case: tuple[float, float, float]) -> None:
    mixture = mixture_of(case)
    _, mean, width = (float(v[0]) for v in mixture)
    peak = max(mean + width**2, LOG_THRESHOLD)
    low = max(LOG_THRESHOLD, peak - 12 * width)
    nodes, weights = np.polynomial.legendre.leggauss(20)
    edges = np.linspace(low, peak + 15 * width, 61)
    half = np.diff(edges)[:, None] / 2
    u = ((edges[1:] + edges[:-1])[:, None] / 2 + half * nodes).ravel()
    wide = Mixture(*(field[:, None] for field in mixture))
    total = jnp.sum(jnp.exp(log_density(wide, u) + u) * (half * weights).ravel())
    # what is left out beyond 12 widths is below 1e-30; the panels are exact to rounding
    np.testing.assert_allclose(jnp.exp(log_integral(mixture, LOG_THRESHOLD)), total, rtol=1e-11)


@pytest.mark.parametrize("gap", [-1e5, -300.0, -20.0, -1.0, 0.0, 0.3, 40.0, 1e4])
@pytest.mark.parametrize("width", [1e-3, 0.3, 1.0, 7.0, 60.0, 1e3])
def test_log_integral_against_high_precision(gap: float, width: float) -> None:
    """Where erfc and the exponentials over- or underflow by thousands of orders of magnitude."""
    with mpmath.workdps(60):
        # the depth as float64 sees it, so that only the formula is compared
        mean = LOG_THRESHOLD + gap
        depth, sigma = mpmath.mpf(LOG_THRESHOLD - mean), mpmath.mpf(width)
        y = (depth / sigma - sigma) / mpmath.sqrt(2)
        if y > 1e6:
            log_erfc = (
                -(y**2) - mpmath.log(y * mpmath.sqrt(mpmath.pi)) + mpmath.log1p(-1 / (2 * y * y))
            )
        else:
            log_erfc = mpmath.log(mpmath.erfc(y))
        expected = float(sigma**2 / 2 + log_erfc - mpmath.log(2))
    actual = log_component_integral(
        Mixture(*(jnp.array([v]) for v in (0.0, mean, width))), LOG_THRESHOLD
    )
    np.testing.assert_allclose(actual[0], expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("case", CASES)
def test_gradients_against_differences(case: tuple[float, float, float], index: int) -> None:
    def value(x: jax.Array) -> jax.Array:
        mixture = Mixture(*(x[:, None]))
        return log_integral(mixture, LOG_THRESHOLD) + log_density(mixture, LOG_THRESHOLD + 0.1)

    x = jnp.array([np.log(case[0]), LOG_THRESHOLD + case[1], case[2]])
    step = 1e-4 * case[2] * np.eye(3)[index]
    weights = np.array([1, -8, 8, -1]) / 12  # fourth order: the error is about (1e-4)^4
    numeric = sum(w * value(x + n * step) for w, n in zip(weights, (-2, -1, 1, 2), strict=True))
    analytic = jax.grad(value)(x)[index]
    np.testing.assert_allclose(numeric / (1e-4 * case[2]), analytic, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("case", CASES)
def test_samples_follow_the_density(case: tuple[float, float, float]) -> None:
    mixture = mixture_of(case)
    uniform = np.random.default_rng(5).uniform(size=4000)
    u = sample_log_mass(uniform, float(mixture.mean[0]), case[2], LOG_THRESHOLD)
    assert u.min() >= LOG_THRESHOLD and np.isfinite(u).all()

    def cdf(v: np.ndarray) -> np.ndarray:
        above = log_component_integral(
            Mixture(*(jnp.broadcast_to(p, (1, len(v))) for p in mixture)), v[None]
        )
        return 1 - np.exp(np.asarray(above[0] - log_integral(mixture, LOG_THRESHOLD)))

    assert stats.kstest(u, cdf).pvalue > 1e-3  # seeded: no chance of a random failure

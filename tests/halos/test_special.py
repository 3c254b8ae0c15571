"""Special functions against SciPy and 50-digit arithmetic."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy import special

from halo_mdn.halos.special import log_erfcx, log_softplus

X = np.concatenate([[0.0], np.logspace(-8, 8, 400)])


def test_log_erfcx_value() -> None:
    # an absolute error of the logarithm is a relative error of erfcx: a few units of rounding
    np.testing.assert_allclose(log_erfcx(X), np.log(special.erfcx(X)), rtol=4e-15, atol=2e-15)


def test_log_erfcx_derivative() -> None:
    def exact(x: float) -> float:
        with mpmath.workdps(60):
            x = mpmath.mpf(x)
            return float(2 * x - 2 / mpmath.sqrt(mpmath.pi) / (mpmath.exp(x**2) * mpmath.erfc(x)))

    x = np.array([0.0, 1e-6, 0.1, 0.5, 1.0, 3.0, 10.0, 30.0, 100.0])
    expected = np.array([exact(v) for v in x])
    np.testing.assert_allclose(jax.vmap(jax.grad(log_erfcx))(x), expected, rtol=2e-14)


def test_log_erfcx_is_finite_far_out() -> None:
    x = jnp.array([1e20, 1e80, 1e150])
    assert jnp.isfinite(log_erfcx(x)).all()
    assert jnp.isfinite(jax.vmap(jax.grad(log_erfcx))(x)).all()


@pytest.mark.parametrize("dtype, rtol", [(np.float64, 4e-16), (np.float32, 3e-7)])
def test_log_softplus(dtype: type, rtol: float) -> None:
    x = np.array([-1e5, -800, -100, -37, -20.5, -20, -19.5, -5, 0, 1, 5, 40, 1e4], dtype=dtype)
    with mpmath.workdps(50):
        logs = [
            mpmath.log(mpmath.log1p(mpmath.exp(mpmath.mpf(float(v))))) if v > -1e4 else v for v in x
        ]
    expected = np.array([float(v) for v in logs])
    actual = log_softplus(jnp.asarray(x))
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol)


def test_log_softplus_gradient_is_sigmoid_over_softplus() -> None:
    x = np.array([-1e5, -800.0, -37, -20.1, -19.9, -1, 0, 3, 50, 1e4])
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        expected = special.expit(x) / np.logaddexp(0, x)
    expected = np.where(x < -700, 1.0, expected)  # its limit, where both underflow
    np.testing.assert_allclose(jax.vmap(jax.grad(log_softplus))(x), expected, rtol=1e-13)

"""Special functions of the Gaussian tail, in log space and smooth under differentiation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

_SCALE = 2.5
_LOG_ERFCX = (  # ln(erfcx(x)/t), t = 2.5/(2.5+x), as a polynomial in 2t-1; from 50-digit values
    -0.8636680921673191,
    0.7634037549319552,
    0.13925290696454617,
    -0.01798380987801496,
    -0.02378798432209932,
    -0.0019463315872206878,
    0.004720977023967267,
    0.0011575351791752503,
    -0.0010479623234290027,
    -0.00039519670690824543,
    0.00025452115241278873,
    0.0001172957609604683,
    -6.631463573152332e-05,
    -3.1820269461311456e-05,
    1.792143370223248e-05,
    7.851324521082295e-06,
    -4.776350778915837e-06,
    -1.72107654668849e-06,
    1.178437762608421e-06,
    3.250753313165076e-07,
    -2.4912819492595706e-07,
    -5.12152434049936e-08,
    4.060153596437024e-08,
    6.343213867862375e-09,
    -4.282069642138964e-09,
    -4.82334355460585e-10,
    1.9626776398642655e-10,
)


def log_erfcx(x: Array) -> Array:
    """``ln(exp(x^2) erfc(x))`` for ``x >= 0``.

    A polynomial of degree 26 in ``(2.5 - x)/(2.5 + x)`` (a Chebyshev expansion of 50-digit
    values), accurate to the rounding of float64 in value and derivative for every ``x >= 0``, also
    where ``erfc`` itself underflows.
    """
    return log_erfcx_polynomial(x)[1] - jnp.log1p(x / _SCALE)


def log_erfcx_polynomial(x: Array) -> tuple[Array, Array]:
    """``t`` in (0, 1] and ``p`` with ``exp(x^2) erfc(x) = t e^p``, for ``x >= 0``."""
    t = _SCALE / (_SCALE + x)
    s = 2 * t - 1
    polynomial = jnp.full_like(s, _LOG_ERFCX[-1])
    for coefficient in _LOG_ERFCX[-2::-1]:
        polynomial = polynomial * s + coefficient
    return t, polynomial


def log_softplus(x: Array) -> Array:
    """``ln(ln(1 + e^x))`` without underflow.

    Below -20 the first two terms of its series, ``x - e^x/2``, hold to 1e-17.
    """
    low = x < -20
    safe = jnp.where(low, 0, x)
    return jnp.where(low, x - 0.5 * jnp.exp(jnp.where(low, x, -20)), jnp.log(jax.nn.softplus(safe)))

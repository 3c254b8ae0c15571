"""Elementary functions that XLA turns into short vector loops on CPU.

``jax.nn.softplus`` and ``jnp.log`` in float64 cost five to ten times what ``exp`` does there. These
are made of additions, products, divisions and one ``exp``, to the rounding of float64.
"""

from __future__ import annotations

from math import log, sqrt

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

_LOG1P_NUMERATOR = (  # ln(1+e)/e on [0, 1] to 1.3e-16, a minimax fit to 60-digit values
    0.9999999999999999,
    2.239893136707684,
    1.751911967369621,
    0.5666442939322752,
    0.06885052592400488,
    0.002037163323029691,
)
_LOG1P_DENOMINATOR = (
    1.0,
    2.7398931367076313,
    2.788525202393633,
    1.2976091828007386,
    0.27312000197048686,
    0.0218800994224614,
    0.0003890759824898884,
)
_EXPONENT_BITS = 52
_EXPONENT_BIAS = 1023


@jax.custom_jvp
def softplus_and_slope(x: Array) -> tuple[Array, Array]:
    """``ln(1 + e^x)`` and its derivative ``1/(1 + e^-x)``, float64."""
    small = jnp.exp(-jnp.abs(x))
    log1p = small * _polynomial(_LOG1P_NUMERATOR, small) / _polynomial(_LOG1P_DENOMINATOR, small)
    slope = jnp.where(x > 0, 1, small) / (1 + small)
    return jnp.maximum(x, 0) + log1p, slope


@softplus_and_slope.defjvp
def _softplus_jvp(
    primals: tuple[Array], tangents: tuple[Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    value, slope = softplus_and_slope(*primals)
    tangent = slope * tangents[0]
    return (value, slope), (tangent, (1 - slope) * tangent)


@jax.custom_jvp
def log_positive(x: Array) -> Array:
    """``ln x`` of positive normal float64 numbers; anything else gives a meaningless number."""
    bits = lax.bitcast_convert_type(x, jnp.int64)
    exponent = (bits >> _EXPONENT_BITS).astype(jnp.int32) - _EXPONENT_BIAS
    one = np.int64(_EXPONENT_BIAS << _EXPONENT_BITS)
    fraction = lax.bitcast_convert_type(
        (bits & np.int64((1 << _EXPONENT_BITS) - 1)) | one, jnp.float64
    )
    upper = fraction > sqrt(2)
    fraction = jnp.where(upper, 0.5 * fraction, fraction)
    power = jnp.where(upper, exponent + 1, exponent).astype(x.dtype)
    s = (fraction - 1) / (fraction + 1)
    series = _polynomial(tuple(2 / (2 * k + 1) for k in range(11)), s * s)  # 2 artanh(s)/s
    return power * log(2) + s * series


@log_positive.defjvp
def _log_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return log_positive(*primals), tangents[0] / primals[0]


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    result = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        result = result * x + coefficient
    return result

"""Sums over halos and voxels of a mixture, with derivatives written by hand.

Both start from what enters the heads of a network: amplitude, mean and width of every component.
Masses and means are relative to the threshold. Components are kept in lists: a stacked axis would
make XLA compute every row again for each that it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import accumulate
from math import pi, sqrt
from operator import add

import jax.numpy as jnp
from jax import Array

from halo_mdn.bias.neural import NeuralBias, smallest_width
from halo_mdn.halos.special import log_erfcx_polynomial
from halo_mdn.likelihood.table.elementary import log_positive, softplus_and_slope

SMALLEST = 1e-280  # density that has a logarithm; below, floats lose their digits
HeadInputs = Sequence[Sequence[Array]]  # amplitude, mean, width; each by component, (H,) or (N,)


def log_density_sum(
    bias: NeuralBias, inputs: HeadInputs, u: Array, used: Array
) -> tuple[Array, list[Array], Array]:
    """The log mixture at ln M, summed; its derivatives in the inputs, (H,) each; if it is right.

    Constants are left out.
    """
    amplitude_in, mean_in, width_in = inputs
    amplitude = [softplus_and_slope(x + bias.amplitude_offset) for x in amplitude_in]
    width = [softplus_and_slope(x + bias.width_offset) for x in width_in]
    gaps = [_step_and_slope(bias, x) for x in mean_in[1:]]
    step = [(mean_in[0], jnp.ones_like(mean_in[0])), *gaps]
    mean = list(accumulate(size for size, _ in step))
    inverse = [1 / size for size, _ in width]
    distance = [(u - m) * i for m, i in zip(mean, inverse, strict=True)]
    exponent = [-m - 0.5 * d**2 for m, d in zip(mean, distance, strict=True)]
    top = reduce(jnp.maximum, exponent)
    part = [i * jnp.exp(e - top) for i, e in zip(inverse, exponent, strict=True)]
    total = reduce(add, (a * p for (a, _), p in zip(amplitude, part, strict=True)))
    value = jnp.sum(jnp.where(used, top + log_positive(total), 0))
    scale = used / total
    share = [p * scale for p in part]
    weight = [a * s for (a, _), s in zip(amplitude, share, strict=True)]
    mean_cot = [w * (d * i - 1) for w, d, i in zip(weight, distance, inverse, strict=True)]
    step_cot = list(accumulate(reversed(mean_cot)))[::-1]
    cots = [s * slope for s, (_, slope) in zip(share, amplitude, strict=True)]
    cots += [c * slope for c, (_, slope) in zip(step_cot, step, strict=True)]
    cots += [
        w * (d**2 - 1) * i * slope
        for w, d, i, (_, slope) in zip(weight, distance, inverse, width, strict=True)
    ]
    return value, cots, _all_wide(width) & jnp.all(total > SMALLEST)


def integral_sum(
    bias: NeuralBias, inputs: HeadInputs, weight: Array | float
) -> tuple[Array, list[Array]]:
    """The number of halos per (Mpc/h)^3 above the threshold, weighted and summed over voxels; its
    derivatives in the inputs, (N,) each. It is NaN where a component is too narrow to be trusted.

    With ``d = -mu``, ``s = d/sigma - sigma`` and ``E = exp(d - d^2/(2 sigma^2))`` a component has
    ``Lambda/alpha = erfcx(s/sqrt 2) E/2``, or ``exp(sigma^2/2) - erfcx(-s/sqrt 2) E/2`` where
    ``s < 0``; its derivatives in mu and sigma need no more than these.
    """
    amplitude_in, mean_in, width_in = inputs
    gaps = [_step_and_slope(bias, x) for x in mean_in[1:]]
    step = [(mean_in[0], jnp.ones_like(mean_in[0])), *gaps]
    mean = list(accumulate(size for size, _ in step))
    width = [softplus_and_slope(x + bias.width_offset) for x in width_in]
    totals, amplitude_cots, mean_cots, width_cots = [], [], [], []
    for a, m, (sigma, sigma_slope) in zip(amplitude_in, mean, width, strict=True):
        alpha, alpha_slope = softplus_and_slope(a + bias.amplitude_offset)
        inverse = 1 / sigma
        tilted = jnp.exp(-m - 0.5 * (m * inverse) ** 2)
        s = -m * inverse - sigma
        tail = 0.5 * tilted * _erfcx(jnp.abs(s) * sqrt(0.5))
        part = weight * jnp.where(s > 0, tail, jnp.exp(0.5 * sigma**2) - tail)
        edge = weight * alpha * tilted / sqrt(2 * pi)
        totals.append(alpha * part)
        amplitude_cots.append(part * alpha_slope)
        mean_cots.append(edge * inverse)
        width_cots.append((alpha * part * sigma + edge * (1 - m * inverse**2)) * sigma_slope)
    step_cots = list(accumulate(reversed(mean_cots)))[::-1]
    step_cots = [cot * slope for cot, (_, slope) in zip(step_cots, step, strict=True)]
    total = jnp.where(_all_wide(width), jnp.sum(reduce(add, totals)), jnp.nan)
    return total, [*amplitude_cots, *step_cots, *width_cots]


def _all_wide(widths: list[tuple[Array, Array]]) -> Array:
    """Narrower components are kept at the smallest width by the definition."""
    narrowest = reduce(jnp.minimum, (size for size, _ in widths))
    return jnp.all(narrowest > smallest_width(narrowest.dtype))


def _step_and_slope(bias: NeuralBias, x: Array) -> tuple[Array, Array]:
    if bias.ordering == "softplus":
        return softplus_and_slope(x)
    return jnp.maximum(x, 0), (x > 0).astype(x.dtype)


def _erfcx(x: Array) -> Array:
    """``exp(x^2) erfc(x)`` for ``x >= 0``."""
    t, exponent = log_erfcx_polynomial(x)
    return t * jnp.exp(exponent)

"""The classical baseline: a truncated power law of the density times one mass function.

The mean number density of halos is the local bias of Neyrinck et al. (2014, MNRAS 441, 646;
arXiv:1309.6641),

    N(rho) = A rho^alpha exp(-B rho^-epsilon),     rho = 1 + delta of the voxel,

and every environment has the same masses, distributed like the function of Press & Schechter (1974,
ApJ 187, 425) for a spectrum that is a power law, whose exponent beta = (n + 3)/3 is free:

    p(M) proportional to M^(beta/2 - 2) exp[-(M/M_*)^beta],   normalised above the threshold.

Parameters q are of unit scale, Normal(0, 1) each:

    ln A = ln 1e-2 + 2 q_0          per (Mpc/h)^3: A/e at the mean density if B = 1
    alpha = 1 + q_1
    ln B = q_2
    ln epsilon = ln 0.5 + 0.5 q_3
    ln beta = ln 0.5 + 0.5 q_4      n = -1.5, a spectrum at the scale of clusters and groups
    ln(M_*/M_th) = 3 + 2 q_5        M_* = 4e13 Msun/h for a threshold of 2e12
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import logsumexp

from halo_mdn.bias.base import Bias
from halo_mdn.errors import InputError

NAMES = ("amplitude", "slope", "truncation", "truncation_slope", "mass_exponent", "mass_scale")
_CENTRE = (log(1e-2), 1.0, 0.0, log(0.5), log(0.5), 3.0)
_SCALE = (2.0, 1.0, 1.0, 0.5, 0.5, 2.0)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_NEGLECTED = 45.0  # e-folds below its largest value where the integrand is cut off: 3e-20


class PressSchechter(NamedTuple):
    """The mass function of each voxel; see :class:`halo_mdn.halos.mass_function.MassFunction`.

    Attributes
    ----------
    log_number : array (N,)
        ``ln`` of the number of halos per (Mpc/h)^3 above the threshold.
    exponent, log_knee, log_threshold : scalar
        beta, ``ln M_*`` and ``ln M_th``, with masses in Msun/h; the same in every voxel.
    """

    log_number: Array
    exponent: Array
    log_knee: Array
    log_threshold: Array

    def log_density(self, log_mass: Array | float) -> Array:
        """``ln n(M)``, per (Mpc/h)^3 and per Msun/h."""
        u = jnp.asarray(log_mass)
        shape = self._log_shape(u - self.log_threshold) - u
        return self.log_number + shape - self._log_sum(0.0)

    def log_integral(self, log_threshold: Array | float) -> Array:
        """``ln`` of the number of halos per (Mpc/h)^3 above a mass."""
        above = self._log_sum(log_threshold - self.log_threshold)
        return self.log_number + above - self._log_sum(0.0)

    @property
    def _log_tail(self) -> Array:
        return self.exponent * (self.log_threshold - self.log_knee)

    def _log_shape(self, x: Array) -> Array:
        """``ln[M p(M)]`` at ``x = ln(M/M_th)``, 0 at the threshold."""
        growth = jnp.exp(self._log_tail) * jnp.expm1(self.exponent * x)
        return -(1 - self.exponent / 2) * x - growth

    def _log_sum(self, x: Array | float) -> Array:
        """``ln`` of the integral of ``M p(M) dx`` above x, by Gauss-Legendre quadrature."""
        x = jnp.asarray(x, self.exponent.dtype)
        # The integral ends where the exponential, or the power law alone, has fallen enough; near
        # beta = 2 it is the exponential that falls.
        by_tail = jnp.log1p(_NEGLECTED * jnp.exp(-self._log_tail - self.exponent * x))
        by_slope = _NEGLECTED / jnp.maximum(1 - self.exponent / 2, 1e-3)
        half = jnp.minimum(by_tail / self.exponent, by_slope) / 2
        nodes, weights = (
            jnp.asarray(v, x.dtype).reshape(-1, *[1] * x.ndim) for v in (_NODES, _WEIGHTS)
        )
        points = x[None] + half[None] * (1 + nodes)
        return logsumexp(self._log_shape(points) + jnp.log(weights), axis=0) + jnp.log(half)


@dataclass(frozen=True)
class TruncatedPowerLaw(Bias):
    """Truncated power law of the local density, with one Press-Schechter mass function.

    Six parameters, each of them a block with a Normal(0, 1) prior.

    Parameters
    ----------
    mass_threshold : float
        M_th in Msun/h.
    density_floor : float
        Floor on ``1 + delta``; 0 for none.

    Raises
    ------
    InputError
        If a setting is out of range.

    Examples
    --------
    >>> import halo_mdn as hm
    >>> hm.TruncatedPowerLaw(mass_threshold=1e13).num_params
    6
    """

    mass_threshold: float = 2e12
    density_floor: float = 0.0
    prior_scale: ClassVar[float] = 1.0  # type: ignore[misc]  # the scales above are the prior's

    def __post_init__(self) -> None:
        if not 0 < self.mass_threshold < np.inf:
            raise InputError(
                f"mass_threshold is {self.mass_threshold!r}, expected a mass in Msun/h"
            )
        if not 0 <= self.density_floor < np.inf:
            raise InputError(
                f"density_floor is {self.density_floor!r}, expected a floor on 1 + delta, or 0 for "
                "none"
            )

    @property
    def block_shapes(self) -> dict[str, tuple[int, ...]]:
        """Six scalars."""
        return {name: () for name in NAMES}

    @property
    def block_dims(self) -> dict[str, tuple[str, ...]]:
        """None: all blocks are scalars."""
        return {name: () for name in NAMES}

    def mass_function_at(self, params: Array, activation: Array) -> PressSchechter:
        """The mass function of each voxel, from its ``ln rho`` alone, (1, N)."""
        self.unpack(params)
        scale, centre = (jnp.asarray(v, params.dtype) for v in (_SCALE, _CENTRE))
        log_a, alpha, log_b, log_eps, log_beta, log_ratio = centre + scale * params
        log_rho = activation[0]
        # The exponent is capped far beyond any use: its exponential must not overflow.
        depth = jnp.exp(jnp.minimum(log_b - jnp.exp(log_eps) * log_rho, 60.0))
        log_threshold = jnp.asarray(log(self.mass_threshold), params.dtype)
        return PressSchechter(
            log_number=log_a + alpha * log_rho - depth,
            exponent=jnp.exp(log_beta),
            log_knee=log_threshold + log_ratio,
            log_threshold=log_threshold,
        )

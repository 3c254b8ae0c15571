"""Masses as they are observed: with log-normal errors, and incompletely near the threshold.

An error of standard deviation s in ln M turns a component of the mass function into another
Gaussian. Counting halos per ``d ln M``, a component is ``alpha e^{sigma^2/2}`` times
``Normal(u; mu + sigma^2, sigma)``; convolved with ``Normal(0, s)`` and written as a component of
n(M) again it has

    sigma' = sqrt(sigma^2 + s^2),   mu' = mu - s^2,   alpha' = alpha e^{-s^2/2}.

The fraction of halos detected at observed mass M above the threshold is

    f(M) = 1 - (1 - f_th) (M / M_th)^{-kappa},

f_th at the threshold and one far above. A power of M times a Gaussian in ln M is a Gaussian again,
so its integral is one more term of the same form.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from halo_mdn.errors import InputError
from halo_mdn.halos.mass_function import MassFunction, Mixture, log_density, log_integral


@dataclass(frozen=True)
class MassObservation:
    """How the masses of a catalogue were observed.

    Parameters
    ----------
    scatter : float
        Standard deviation of the error of ln M; 0 for exact masses. The threshold then applies to
        observed masses.
    threshold_completeness : float
        Fraction f_th of halos detected at the threshold, in (0, 1].
    completeness_slope : float
        The exponent kappa with which the missing fraction falls with mass.

    Raises
    ------
    InputError
        If a value is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> import halo_mdn as hm
    >>> seen = hm.MassObservation(scatter=0.1, threshold_completeness=0.5)
    >>> log_completeness = seen.log_completeness(np.log([2e12, 2e13]), np.log(2e12))
    >>> np.exp(log_completeness).round(3).tolist()
    [0.5, 0.95]
    """

    scatter: float = 0.0
    threshold_completeness: float = 1.0
    completeness_slope: float = 1.0

    def __post_init__(self) -> None:
        wanted = {
            "scatter": (0 <= self.scatter < np.inf, "a standard deviation of ln M, at least 0"),
            "threshold_completeness": (0 < self.threshold_completeness <= 1, "a number in (0, 1]"),
            "completeness_slope": (0 < self.completeness_slope < np.inf, "a positive number"),
        }
        for name, (ok, expected) in wanted.items():
            if not ok:
                raise InputError(f"{name} is {getattr(self, name)!r}, expected {expected}")

    @property
    def is_exact(self) -> bool:
        """Whether every halo is seen with its true mass."""
        return self.scatter == 0 and self.threshold_completeness == 1

    def blurred(self, mixture: Mixture) -> Mixture:
        """The mass function of observed masses, before selection."""
        if self.scatter == 0:
            return mixture
        variance = self.scatter**2
        return Mixture(
            log_amplitude=mixture.log_amplitude - 0.5 * variance,
            mean=mixture.mean - variance,
            width=jnp.sqrt(mixture.width**2 + variance),
        )

    def log_completeness(self, log_mass: ArrayLike, log_threshold: float) -> Array:
        """``ln f`` at observed masses, shape of ``log_mass``."""
        missing = (
            log(1 - self.threshold_completeness) if self.threshold_completeness < 1 else -np.inf
        )
        return jnp.log1p(
            -jnp.exp(missing - self.completeness_slope * (jnp.asarray(log_mass) - log_threshold))
        )

    def log_density(self, mixture: MassFunction, log_mass: Array, log_threshold: float) -> Array:
        """``ln[f(M) n(M)]`` of observed masses; as
        :func:`halo_mdn.halos.mass_function.log_density`.
        """
        if self.is_exact:
            return mixture.log_density(log_mass)
        mixture = gaussian(mixture)
        log_n = log_density(self.blurred(mixture), log_mass)
        if self.threshold_completeness == 1:
            return log_n
        return log_n + self.log_completeness(log_mass, log_threshold)

    def log_integral(
        self, mixture: MassFunction, log_edge: Array | float, log_threshold: float
    ) -> Array:
        """``ln`` of the number of halos per (Mpc/h)^3 observed above a mass, shape (...).

        Parameters
        ----------
        mixture : MassFunction
            Of true masses; a `Mixture` unless masses are exact.
        log_edge : scalar
            Natural log of the lowest observed mass, at least ``log_threshold``.
        log_threshold : float
            Natural log of the threshold, where the completeness is ``threshold_completeness``.
        """
        if self.is_exact:
            return mixture.log_integral(log_edge)
        mixture = self.blurred(gaussian(mixture))
        log_all = log_integral(mixture, log_edge)
        if self.threshold_completeness == 1:
            return log_all
        # (M/M_th)^-kappa = (M_edge/M_th)^-kappa (M/M_edge)^-kappa
        slope = self.completeness_slope
        at_edge = log(1 - self.threshold_completeness) - slope * (log_edge - log_threshold)
        log_weighted = log_integral(mixture, log_edge, power=-slope)
        return log_all + jnp.log1p(-jnp.exp(at_edge + log_weighted - log_all))


def gaussian(mass_function: MassFunction) -> Mixture:
    """The mass function, if it is a mixture of Gaussians: errors of ln M make another one of it."""
    if not isinstance(mass_function, Mixture):
        raise InputError(
            f"masses with errors or incompleteness need a mixture of Gaussians, got the mass "
            f"function {type(mass_function).__name__}: take a neural bias, or exact masses"
        )
    return mass_function


EXACT = MassObservation()

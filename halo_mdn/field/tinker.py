"""The halo mass function of Tinker et al. 2008 (ApJ 688, 709), as a reference line.

Halos of 200 times the mean density, the fit of their equations 3 and 5 to 8:

    dn/dlnM = f(sigma) (rho_m/M) dln(1/sigma)/dlnM,   f = A [(sigma/b)^-a + 1] e^{-c/sigma^2}.
"""

from __future__ import annotations

import numpy as np

from halo_mdn.field.cosmology import Cosmology, linear_power

_CRITICAL = 2.77536627e11  # critical density today, Msun/h per (Mpc/h)^3


def tinker_mass_function(cosmology: Cosmology, mass: np.ndarray, redshift: float) -> np.ndarray:
    """``dn/dlnM`` in (Mpc/h)^-3 at masses in Msun/h, shape of ``mass``."""
    k = np.geomspace(1e-4, 1e2, 4096)
    # Their redshift dependence beyond that of sigma; alpha for 200 times the mean density.
    stretch = 1 + redshift
    alpha = 10 ** -((0.75 / np.log10(200 / 75)) ** 1.2)
    amplitude, a = 0.186 * stretch**-0.14, 1.47 * stretch**-0.06
    b, c = 2.57 * stretch**-alpha, 1.19
    power = np.asarray(linear_power(cosmology, k, redshift), dtype=float)
    mean = _CRITICAL * float(cosmology.omega_m)
    log_mass, step = np.log(np.ravel(mass)), 0.01
    below, sigma, above = (
        _sigma(k, power, np.cbrt(3 * np.exp(log_mass + shift) / (4 * np.pi * mean)))
        for shift in (-step, 0.0, step)
    )
    slope = -(np.log(above) - np.log(below)) / (2 * step)
    f = amplitude * ((sigma / b) ** -a + 1) * np.exp(-c / sigma**2)
    return (f * mean / np.exp(log_mass) * slope).reshape(np.shape(mass))


def _sigma(k: np.ndarray, power: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Rms of the linear overdensity in spheres of radius (M,) in Mpc/h."""
    x = radius[:, None] * k
    window = 3 * (np.sin(x) - x * np.cos(x)) / x**3
    return np.sqrt(np.trapezoid(k**3 * power * window**2 / (2 * np.pi**2), np.log(k), axis=1))

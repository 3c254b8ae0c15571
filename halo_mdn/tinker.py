"""The halo mass function of Tinker et al. 2008 (ApJ 688, 709), as a reference line.

Halos of 200 times the mean density, the fit of their equations 3 and 5 to 8:

    dn/dlnM = f(sigma) (rho_m/M) dln(1/sigma)/dlnM,   f = A [(sigma/b)^-a + 1] e^{-c/sigma^2}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from halo_mdn.cosmology import Cosmology, check_cosmology, linear_power

_CRITICAL = 2.77536627e11  # critical density today, Msun/h per (Mpc/h)^3
_NAMES = {  # ours, and what others call it
    "omega_m": ("omega_m", "Om0", "Omega_m"),
    "omega_b": ("omega_b", "Ob0", "Omega_b"),
    "h": ("h",),
    "n_s": ("n_s", "ns"),
    "sigma8": ("sigma8", "sigma_8"),
}


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


def cosmology_of(text: Any) -> Cosmology | None:
    """The cosmology that a run states as JSON; None if it is not complete or not usable."""
    try:
        known = json.loads(text)
        values = {ours: _first(known, names) for ours, names in _NAMES.items()}
        cosmology = Cosmology(**values)
        check_cosmology(cosmology)
        return cosmology
    except (TypeError, ValueError, StopIteration):
        return None


def reference_mass_function(posterior: xr.DataTree) -> np.ndarray | None:
    """Masses and ``dn/dlnM``, (2, M), for the cosmology and redshift of a run; None if unknown."""
    cosmology = cosmology_of(posterior.attrs.get("cosmology"))
    try:
        redshift = float(posterior.attrs.get("redshift", ""))
    except ValueError:
        return None
    if cosmology is None:
        return None
    lower = posterior["constant_data"].to_dataset()["mass_bin_lower"].values
    highest = lower[-1] * (lower[1] / lower[0] if len(lower) > 1 else 10)
    mass = np.geomspace(lower[0], highest, 60)
    return np.stack([mass, tinker_mass_function(cosmology, mass, redshift)])


def _first(known: Mapping[str, Any], names: tuple[str, ...]) -> float:
    return float(next(known[name] for name in names if name in known))


def _sigma(k: np.ndarray, power: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Rms of the linear overdensity in spheres of radius (M,) in Mpc/h."""
    x = radius[:, None] * k
    window = 3 * (np.sin(x) - x * np.cos(x)) / x**3
    return np.sqrt(np.trapezoid(k**3 * power * window**2 / (2 * np.pi**2), np.log(k), axis=1))

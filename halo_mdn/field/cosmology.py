"""Flat LCDM: linear growth and the linear power spectrum, differentiable in the parameters.

The transfer function is that of Eisenstein & Hu 1998 (ApJ 496, 605; astro-ph/9709112), with
baryon wiggles; equation numbers below are theirs. Radiation is left out of the expansion, as it
is from the simulations this package is compared with.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from halo_mdn.errors import InputError
from halo_mdn.setting_field import setting

_GROWTH_NODES = 48  # Gauss-Legendre: rounding error in float64 for a <= 1
_SIGMA_NODES = 4096  # of the trapezoidal rule in ln k: 1e-9 relative at R = 8 Mpc/h
_SIGMA_RANGE = (1e-5, 1e2)  # wavenumbers in h/Mpc


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cosmology:
    """Parameters of a flat LCDM universe; a pytree, so that gradients flow into them.

    The defaults are those of the bundled N-body box.

    Attributes
    ----------
    omega_m, omega_b : float
        Density of all matter and of baryons today, in units of the critical density.
    h : float
        Hubble constant in 100 km/s/Mpc.
    n_s : float
        Slope of the primordial power spectrum.
    sigma8 : float
        Linear rms overdensity in spheres of 8 Mpc/h at redshift 0.
    cmb_temperature : float
        In kelvin.
    """

    omega_m: Array | float = setting(0.3111, "density of matter", above=0.0)
    omega_b: Array | float = setting(0.049, "density of baryons", above=0.0)
    h: Array | float = setting(0.6766, "Hubble constant, 100 km/s/Mpc", above=0.0)
    n_s: Array | float = setting(0.9665, "slope of the primordial spectrum", above=0.0)
    sigma8: Array | float = setting(
        0.8102, "rms linear overdensity in 8 Mpc/h at redshift 0", above=0.0
    )
    cmb_temperature: float = field(default=2.7255, metadata={"static": True})


def check_cosmology(cosmology: Cosmology) -> None:
    """Refuse parameters outside of what the formulas describe.

    Raises
    ------
    InputError
        Naming the parameter.
    """
    wanted = {
        "omega_m": (0.05, 1.0),
        "omega_b": (1e-3, 0.2),
        "h": (0.3, 1.5),
        "n_s": (0.5, 1.5),
        "sigma8": (0.0, 3.0),
    }
    for name, (low, high) in wanted.items():
        value = float(getattr(cosmology, name))
        if not low <= value <= high:
            raise InputError(f"{name} is {value:g}, expected {low:g} to {high:g}")
    if float(cosmology.omega_b) >= float(cosmology.omega_m):
        raise InputError(
            f"omega_b is {float(cosmology.omega_b):g}, expected less than omega_m = "
            f"{float(cosmology.omega_m):g}"
        )


@jax.jit
def growth_factor(cosmology: Cosmology, redshift: ArrayLike) -> Array:
    """Linear growth D1, normalised to 1 at redshift 0; shape of ``redshift``.

    The growing mode is ``H(a)`` times the integral of ``(a' H(a'))^-3`` from 0 to a (Heath 1977).
    With ``a' = a s^2`` the integrand is smooth and Gauss-Legendre quadrature is exact to rounding.
    """
    today = _growing_mode(cosmology, jnp.ones(()))
    return _growing_mode(cosmology, 1 / (1 + jnp.asarray(redshift, dtype=float))) / today


@jax.jit
def second_order_growth(cosmology: Cosmology, redshift: ArrayLike) -> Array:
    """Growth of the second-order displacement, ``D2 = -3/7 D1^2 Omega_m(z)^(-1/143)``.

    The fit of Bouchet et al. 1995 (A&A 296, 575) for flat universes, good to 6e-4 there.
    """
    growth = growth_factor(cosmology, redshift)
    return -3 / 7 * growth**2 * matter_fraction(cosmology, redshift) ** (-1 / 143)


def matter_fraction(cosmology: Cosmology, redshift: ArrayLike) -> Array:
    """Omega_m(z), the fraction of the energy density that is matter."""
    matter = cosmology.omega_m * (1 + jnp.asarray(redshift, dtype=float)) ** 3
    return matter / (matter + 1 - cosmology.omega_m)


@jax.jit
def linear_power(cosmology: Cosmology, k: ArrayLike, redshift: ArrayLike = 0.0) -> Array:
    """Linear matter power spectrum in (Mpc/h)^3; 0 at k = 0.

    Parameters
    ----------
    cosmology : Cosmology
    k : array
        Wavenumber in h/Mpc.
    redshift : float

    Returns
    -------
    array
        Shape of ``k``.
    """
    nodes = jnp.geomspace(*_SIGMA_RANGE, _SIGMA_NODES)
    variance = _variance(nodes, _unnormalised_power(cosmology, nodes), radius=8.0)
    amplitude = cosmology.sigma8**2 / variance * growth_factor(cosmology, redshift) ** 2
    return amplitude * _unnormalised_power(cosmology, jnp.asarray(k, dtype=float))


@jax.jit
def transfer_function(cosmology: Cosmology, k: Array) -> Array:
    """Matter transfer function of Eisenstein & Hu 1998, 1 at small k.

    Parameters
    ----------
    cosmology : Cosmology
    k : array
        Wavenumber in h/Mpc, positive.
    """
    h = jnp.asarray(cosmology.h)
    k = k * h  # 1/Mpc, the unit of the paper
    matter, baryons = cosmology.omega_m * h**2, cosmology.omega_b * h**2
    fraction = baryons / matter
    theta = cosmology.cmb_temperature / 2.7
    k_eq = 7.46e-2 * matter / theta**2  # equation 3
    horizon, ratio_drag, y = _sound_horizon(matter, baryons, theta, k_eq)
    q = k / (13.41 * k_eq)  # equation 10
    cold = _cold_part(k * horizon, q, matter, fraction)
    baryonic = _baryonic_part(k, q, matter, baryons, horizon, k_eq, ratio_drag, y)
    return fraction * baryonic + (1 - fraction) * cold


def _growing_mode(cosmology: Cosmology, a: Array) -> Array:
    nodes, weights = np.polynomial.legendre.leggauss(_GROWTH_NODES)
    last_axis = (1,) * a.ndim + (-1,)
    s, ds = (jnp.reshape(x, last_axis) for x in ((nodes + 1) / 2, weights / 2))
    omega_m, upper = cosmology.omega_m, a[..., None]
    matter_share = omega_m + (1 - omega_m) * (upper * s**2) ** 3
    integral = jnp.sum(ds * 2 * s**4 * (upper / matter_share) ** 1.5 * upper, axis=-1)
    return jnp.sqrt(omega_m / a**3 + 1 - omega_m) * integral


def _unnormalised_power(cosmology: Cosmology, k: Array) -> Array:
    positive = jnp.where(k > 0, k, 1.0)  # keeps the gradient finite at k = 0
    power = positive**cosmology.n_s * transfer_function(cosmology, positive) ** 2
    return jnp.where(k > 0, power, 0.0)


def _variance(k: Array, power: Array, radius: float) -> Array:
    """Variance in top-hat spheres: integral over ln k of k^3 P W^2 / (2 pi^2)."""
    x = k * radius
    # The closed form loses all digits at small x, where the series is exact.
    large = jnp.where(x > 0.05, x, 1.0)
    closed = 3 * (jnp.sin(large) - large * jnp.cos(large)) / large**3
    window = jnp.where(x > 0.05, closed, 1 - x**2 / 10 + x**4 / 280)
    return jnp.trapezoid(k**3 * power * window**2, jnp.log(k)) / (2 * np.pi**2)


def _sound_horizon(
    matter: Array, baryons: Array, theta: float, k_eq: Array
) -> tuple[Array, Array, Array]:
    """Sound horizon at the drag epoch in Mpc, the ratio R there, and (1 + z_eq) / (1 + z_drag)."""
    z_eq = 2.50e4 * matter / theta**4  # equation 2
    b1 = 0.313 * matter**-0.419 * (1 + 0.607 * matter**0.674)
    b2 = 0.238 * matter**0.223
    z_drag = 1291 * matter**0.251 / (1 + 0.659 * matter**0.828) * (1 + b1 * baryons**b2)
    ratio_eq, ratio_drag = (31.5 * baryons / theta**4 * 1e3 / z for z in (z_eq, z_drag))
    top = jnp.sqrt(1 + ratio_drag) + jnp.sqrt(ratio_drag + ratio_eq)
    horizon = 2 / (3 * k_eq) * jnp.sqrt(6 / ratio_eq) * jnp.log(top / (1 + jnp.sqrt(ratio_eq)))
    return horizon, ratio_drag, (1 + z_eq) / (1 + z_drag)


def _pressureless(q: Array, alpha: ArrayLike, beta: ArrayLike) -> Array:
    """Equations 19 and 20."""
    logarithm = jnp.log(np.e + 1.8 * beta * q)
    return logarithm / (logarithm + (14.2 / alpha + 386 / (1 + 69.9 * q**1.08)) * q**2)


def _cold_part(ks: Array, q: Array, matter: Array, fraction: Array) -> Array:
    """Transfer function of the cold dark matter, equations 11, 12, 17 and 18."""
    a1 = (46.9 * matter) ** 0.670 * (1 + (32.1 * matter) ** -0.532)
    a2 = (12.0 * matter) ** 0.424 * (1 + (45.0 * matter) ** -0.582)
    alpha = a1**-fraction * a2 ** -(fraction**3)
    b1 = 0.944 / (1 + (458 * matter) ** -0.708)
    b2 = (0.395 * matter) ** -0.0266
    beta = 1 / (1 + b1 * ((1 - fraction) ** b2 - 1))
    f = 1 / (1 + (ks / 5.4) ** 4)
    return f * _pressureless(q, 1.0, beta) + (1 - f) * _pressureless(q, alpha, beta)


def _baryonic_part(
    k: Array,
    q: Array,
    matter: Array,
    baryons: Array,
    horizon: Array,
    k_eq: Array,
    ratio_drag: Array,
    y: Array,
) -> Array:
    """Transfer function of the baryons, equations 7, 14, 15 and 21 to 24."""
    root = jnp.sqrt(1 + y)
    g = y * (-6 * root + (2 + 3 * y) * jnp.log((root + 1) / (root - 1)))
    alpha = 2.07 * k_eq * horizon * (1 + ratio_drag) ** -0.75 * g
    fraction = baryons / matter
    beta = 0.5 + fraction + (3 - 2 * fraction) * jnp.sqrt((17.2 * matter) ** 2 + 1)
    k_silk = 1.6 * baryons**0.52 * matter**0.73 * (1 + (10.4 * matter) ** -0.95)
    ks = k * horizon
    node = 8.41 * matter**0.435
    effective = ks / (1 + (node / ks) ** 3) ** (1 / 3)
    smooth = _pressureless(q, 1.0, 1.0) / (1 + (ks / 5.2) ** 2)
    wiggles = alpha / (1 + (beta / ks) ** 3) * jnp.exp(-((k / k_silk) ** 1.4))
    return (smooth + wiggles) * jnp.sinc(effective / np.pi)

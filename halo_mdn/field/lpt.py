"""Lagrangian perturbation theory: white noise -> linear field -> displacements -> density.

    delta_lin(k) = D1 sqrt(P(k) N / V) w(k)                 w: unit white noise, one per cell
    psi_1(k)     = i k / k^2 delta_lin(k)                   first order (Zel'dovich 1970)
    psi_2(k)     = -D2/D1^2 i k / k^2 S(k)                  second order (Bouchet et al. 1995)
    S            = sum_{i<j} (phi_ii phi_jj - phi_ij^2),    phi_ij(k) = k_i k_j / k^2 delta_lin(k)
    x            = q + psi_1 + psi_2

Field values belong to the centres of cells, of the white noise as of the density. Particles start
at the centres of the cells of their own lattice, which is finer than that of the white noise by
``supersampling`` along each axis; displacements get there by Fourier interpolation. The Nyquist
planes of the white noise do not enter, as a real field has no gradient of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from halo_mdn.errors import InputError
from halo_mdn.field.cosmology import Cosmology, growth_factor, linear_power, second_order_growth
from halo_mdn.field.fourier import Shape, inverse_square, not_nyquist, refine, wavevector
from halo_mdn.field.grid import Grid
from halo_mdn.field.painting import deposit
from halo_mdn.setting_field import setting


@dataclass(frozen=True)
class Lpt:
    """Settings of the forward model of the density; hashable, static under ``jit``.

    Parameters
    ----------
    grid : Grid
        Of the density: periodic.
    redshift : float
    order : {1, 2}
        1LPT (Zel'dovich) or 2LPT.
    supersampling : int
        Particles per cell of the white noise and axis. With 1, many cells of the density can end
        up empty, delta = -1, which the bias model cannot take; with 2 hardly any does.
    modes : tuple of 3 int, optional
        Shape of the white noise; that of the grid by default. A finer one adds small-scale power.

    Raises
    ------
    InputError
        If a setting is out of range.
    """

    grid: Grid
    redshift: float = 0.0
    order: Literal[1, 2] = setting(2, "order of Lagrangian perturbation theory, 1 or 2", minimum=1)
    supersampling: int = setting(2, "particles per cell of the white noise and side", minimum=1)
    modes: Shape | None = None

    def __post_init__(self) -> None:
        modes = self.grid.shape if self.modes is None else tuple(int(n) for n in self.modes)
        object.__setattr__(self, "modes", modes)
        object.__setattr__(self, "redshift", float(self.redshift))
        wanted = {
            "order": (self.order in (1, 2), "1 or 2"),
            "supersampling": (self.supersampling >= 1, "a positive integer"),
            "redshift": (0 <= self.redshift < np.inf, "a redshift of at least 0"),
            "modes": (len(modes) == 3 and min(modes) >= 2, "three integers of at least 2"),
            "grid": (self.grid.boundary == "periodic", "a periodic grid"),
        }
        for name, (ok, expected) in wanted.items():
            if not ok:
                raise InputError(f"{name} is {getattr(self, name)!r}, expected {expected}")

    @property
    def noise_shape(self) -> Shape:
        """Shape of the white noise."""
        assert self.modes is not None
        return self.modes

    @property
    def lattice(self) -> Shape:
        """Particles per axis."""
        n0, n1, n2 = (self.supersampling * n for n in self.noise_shape)
        return (n0, n1, n2)


def linear_field(white_noise: ArrayLike, lpt: Lpt, cosmology: Cosmology) -> Array:
    """Linear overdensity at the redshift of ``lpt``, on the cells of the white noise.

    Parameters
    ----------
    white_noise : array ``lpt.noise_shape``
        Independent Normal(0, 1) values.
    lpt : Lpt
    cosmology : Cosmology

    Returns
    -------
    array ``lpt.noise_shape``
    """
    white_noise = _as_white_noise(white_noise, lpt)
    return _linear_field(white_noise, lpt, cosmology)


def density(white_noise: ArrayLike, lpt: Lpt, cosmology: Cosmology) -> Array:
    """Overdensity on ``lpt.grid``: the whole chain. Arguments as :func:`linear_field`.

    Its mean is 0 and it is at least -1; differentiable in ``white_noise`` and ``cosmology``.
    """
    white_noise = _as_white_noise(white_noise, lpt)
    return _density(white_noise, lpt, cosmology)


def displacement(white_noise: ArrayLike, lpt: Lpt, cosmology: Cosmology) -> tuple[Array, ...]:
    """The three components of x - q in Mpc/h, each of shape ``lpt.lattice``.

    Arguments as :func:`linear_field`.
    """
    white_noise = _as_white_noise(white_noise, lpt)
    return _displacement(white_noise, lpt, cosmology)


@partial(jax.jit, static_argnums=1)
def _linear_field(white_noise: Array, lpt: Lpt, cosmology: Cosmology) -> Array:
    return jnp.fft.irfftn(_linear_modes(white_noise, lpt, cosmology), lpt.noise_shape)


@partial(jax.jit, static_argnums=1)
def _density(white_noise: Array, lpt: Lpt, cosmology: Cosmology) -> Array:
    psi = _displacement(white_noise, lpt, cosmology)
    cells = []
    for axis, (num, size) in enumerate(zip(lpt.lattice, lpt.grid.voxel_size, strict=True)):
        start = (np.arange(num) + 0.5) * lpt.grid.shape[axis] / num - 0.5
        along = [1, 1, 1]
        along[axis] = num
        cells.append(psi[axis] / size + jnp.asarray(start.reshape(along), dtype=psi[axis].dtype))
    mesh = deposit((cells[0], cells[1], cells[2]), lpt.grid.shape)
    return mesh * (prod(lpt.grid.shape) / prod(lpt.lattice)) - 1


@partial(jax.jit, static_argnums=1)
def _displacement(white_noise: Array, lpt: Lpt, cosmology: Cosmology) -> tuple[Array, ...]:
    modes = refine(_linear_modes(white_noise, lpt, cosmology), lpt.noise_shape, lpt.lattice)
    k = wavevector(lpt.lattice, lpt.grid.box_size, modes.real.dtype)
    inverse = inverse_square(k)
    if lpt.order == 2:
        ratio = second_order_growth(cosmology, lpt.redshift)
        ratio = ratio / growth_factor(cosmology, lpt.redshift) ** 2
        modes = modes - ratio.astype(inverse.dtype) * _second_order_source(
            modes, k, inverse, lpt.lattice
        )
    return tuple(jnp.fft.irfftn(1j * ki * inverse * modes, lpt.lattice) for ki in k)


def _second_order_source(modes: Array, k: tuple[Array, ...], inverse: Array, shape: Shape) -> Array:
    """Modes of S, the sum of the second-order minors of the linear tidal tensor."""

    def tidal(i: int, j: int) -> Array:
        return jnp.fft.irfftn(k[i] * k[j] * inverse * modes, shape)

    xx, yy, zz = (tidal(i, i) for i in range(3))
    source = xx * yy + xx * zz + yy * zz
    for i, j in ((0, 1), (0, 2), (1, 2)):
        source = source - tidal(i, j) ** 2
    return jnp.fft.rfftn(source)


def _linear_modes(white_noise: Array, lpt: Lpt, cosmology: Cosmology) -> Array:
    """Fourier modes (``rfftn``) of the linear overdensity; Nyquist planes are zero."""
    shape, box_size = lpt.noise_shape, lpt.grid.box_size
    k = wavevector(shape, box_size, white_noise.dtype)
    wavenumber = jnp.sqrt(sum(ki**2 for ki in k))
    power = linear_power(cosmology, wavenumber, lpt.redshift)
    amplitude = jnp.sqrt(jnp.where(power > 0, power, 1) * (prod(shape) / prod(box_size)))
    kept = not_nyquist(shape) & (power > 0)
    return jnp.where(kept, amplitude.astype(white_noise.dtype), 0) * jnp.fft.rfftn(white_noise)


def _as_white_noise(white_noise: ArrayLike, lpt: Lpt) -> Array:
    if jnp.shape(white_noise) != lpt.noise_shape:
        raise InputError(
            f"the white noise has shape {jnp.shape(white_noise)}, expected {lpt.noise_shape}"
        )
    return jnp.asarray(white_noise)

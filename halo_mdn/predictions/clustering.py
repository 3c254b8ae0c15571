"""How halos cluster: data beside posterior predictive catalogues, and the bias of each mass bin.

For catalogues drawn from the posterior (a Poisson number of halos in each voxel) and for the data:

* the power spectrum of the counts per voxel, in (Mpc/h)^3, shot noise included, voxels not
  deconvolved;
* its cross-correlation coefficient with the density, ``r = P_hd / sqrt(P_hh P_dd)``;
* the ratio of variance to mean of the counts in cubic cells of several sizes, 1 for an unclustered
  Poisson process.

All treat the domain as periodic; where it is not, data and predictions share the same error.

The linear bias of the halos in a mass bin is the response of their mean number to a uniform change
of the density: ``b = d ln N / d eps`` with ``1 + delta -> e^eps (1 + delta)`` everywhere, exactly,
by automatic differentiation. It is the peak-background split at the scale of the model: a long
mode is taken to shift ln(1 + delta) of every voxel alike.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from jax.typing import ArrayLike
from scipy import fft

from halo_mdn.bias.base import Bias, features_of_density
from halo_mdn.field.fourier import wave_numbers, weights_of
from halo_mdn.field.grid import Grid
from halo_mdn.likelihood.fixed_field import FixedFieldLikelihood
from halo_mdn.predictions.expected_counts import ExpectedCounts, evaluate, expected_counts
from halo_mdn.predictions.poisson import poisson_numbers

Variables = dict[str, tuple[tuple[str, ...], Any]]

_MAX_BANDS = 16  # of wave number
_LEAST_CELLS = 4  # per side, for a variance among cells to mean something
_LARGE = 100**3  # voxels from which on fewer catalogues are drawn, to keep the time bounded


class Clustering(NamedTuple):
    """Variables of the groups ``posterior_predictive``, ``observed_data`` and ``constant_data``."""

    predicted: Variables
    observed: Variables
    constant: Variables


def clustering(
    log_l: FixedFieldLikelihood,
    delta: ArrayLike,
    params: np.ndarray,
    log_edges: np.ndarray,
    random: np.random.Generator,
    *,
    num_replicates: int = 100,
) -> Clustering:
    """Clustering of data and predictions.

    Parameters
    ----------
    log_l : FixedFieldLikelihood
        Of the fitted field and halos.
    delta : array (N0, N1, N2)
        The fitted overdensity.
    params : array (C, D, P)
        Posterior draws.
    log_edges : array (B,)
        Lower edges of the mass bins in ln(Msun/h); the last bin is open.
    random : numpy Generator
    num_replicates : int
        Catalogues to draw (fewer on grids beyond 100^3, but at least 20).
    """
    grid, domain = log_l.grid, log_l.halos.domain.shape
    measure = _Measure.of(log_l.halos.domain.crop(np.asarray(delta, dtype=float)), grid)
    counts = expected_counts(log_l, np.zeros(int(np.prod(domain)), int), log_edges)
    flat = params.reshape(-1, params.shape[-1])
    wanted = max(20, int(num_replicates * min(1.0, _LARGE / np.prod(domain))))
    chosen = flat[np.linspace(0, len(flat) - 1, min(wanted, num_replicates)).astype(int)]
    drawn = [measure(_catalogue(counts, draw, random).reshape(domain)) for draw in chosen]
    seen = log_l.halos.counts()
    dims = {"counts_power": "band", "counts_correlation": "band", "cell_ratio": "cell"}
    predicted: Variables = {
        name: (("replicate", dim), np.stack([values[name] for values in drawn]))
        for name, dim in dims.items()
    }
    response = response_of_features(log_l.bias, delta, grid).astype(counts.features.dtype)
    bias = evaluate(Partial(linear_bias, counts, response), params)
    predicted["linear_bias"] = (("chain", "draw", "mass_bin"), bias)
    observed: Variables = {
        name: ((dims[name],), values)
        for name, values in measure(seen.reshape(domain).astype(float)).items()
    }
    volume = float(np.prod(domain)) * grid.voxel_volume
    constant: Variables = {
        "wave_number": (("band",), measure.wave_number),
        "cell_side": (("cell",), np.array(measure.cells) * grid.voxel_size[0]),
        "shot_noise": ((), volume / max(int(seen.sum()), 1)),
        "kernel_radius": (("kernel_weight",), kernel_radii(log_l)),
        "kernel_cells": (("kernel_weight",), _kernel_cells(log_l)),
    }
    return Clustering(predicted, observed, constant)


def linear_bias(counts: ExpectedCounts, response: Array, params: Array) -> Array:
    """``d ln N / d eps`` of the expected number in each mass bin, shape (B,).

    ``eps`` is a uniform change of ln(1 + delta), ``response`` that of the features to it, from
    :func:`response_of_features`. Where a bin has no expected halos it is NaN.
    """

    def expected(eps: Array) -> Array:
        shifted = replace(counts, features=counts.features + eps * response)
        return jnp.sum(shifted(params), axis=0)

    zero = jnp.zeros((), counts.features.dtype)
    number, change = jax.jvp(expected, (zero,), (jnp.ones_like(zero),))
    return jnp.where(number > 0, change / jnp.where(number > 0, number, 1), jnp.nan)


def response_of_features(bias: Bias, delta: ArrayLike, grid: Grid) -> Array:
    """Derivative of the shell features with a uniform change of ln(1 + delta), (F, 1) or (F, N)."""
    if bias.reach == bias.kernel_shape:  # every sum changes by the number of cells it adds up
        return jnp.asarray(bias.basis.coefficients.sum(axis=1), float)[:, None]

    def changed(eps: Array) -> Array:
        return features_of_density(bias, (1 + jnp.asarray(delta)) * jnp.exp(eps) - 1, grid)

    return jax.jvp(changed, (jnp.zeros(()),), (jnp.ones(()),))[1]


def kernel_radii(log_l: FixedFieldLikelihood) -> np.ndarray:
    """Mean distance in Mpc/h of the cells that share each weight of the kernel."""
    basis = log_l.bias.basis
    distance = np.linalg.norm(basis.offsets * np.array(log_l.grid.voxel_size), axis=1)
    return np.array(
        [distance[cells].mean() if cells.any() else 0.0 for cells in _cells_of_weights(log_l)]
    )


def _kernel_cells(log_l: FixedFieldLikelihood) -> np.ndarray:
    return np.array([int(cells.sum()) for cells in _cells_of_weights(log_l)])


def _cells_of_weights(log_l: FixedFieldLikelihood) -> list[np.ndarray]:
    """Which cells of the kernel each weight acts on."""
    basis = log_l.bias.basis
    cells: list[np.ndarray] = []
    for num_shells, part in zip(basis.num_shells, basis.slices, strict=True):
        chunk = basis.coefficients[part].reshape(-1, num_shells, len(basis.offsets))
        cells += list((chunk != 0).any(axis=0))
    return cells


def _catalogue(
    counts: ExpectedCounts, params: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Numbers of halos per voxel of the domain, shape (N,), drawn from the model."""
    rate = np.asarray(_rate(counts, jnp.asarray(params, counts.features.dtype)), dtype=float)
    log_phi = counts.bias.log_dispersion(jnp.asarray(params))
    if log_phi is not None:
        phi = np.exp(float(log_phi))
        rate = rate * random.gamma(1 / phi, phi, rate.shape)
    return poisson_numbers(random, rate).astype(float)


@jax.jit
def _rate(counts: ExpectedCounts, params: Array) -> Array:
    mixture = counts.bias.mass_function(params, counts.features)
    return counts.weight * counts.above(mixture, counts.log_edges[0])


class _Measure(NamedTuple):
    """Measures the statistics of a field of counts against one density."""

    density: np.ndarray  # Fourier coefficients of the overdensity
    band: np.ndarray  # band of each mode; the last one holds what lies outside of all
    weight: np.ndarray  # 2 for modes that stand for their mirror image as well
    wave_number: np.ndarray  # mean of each band, h/Mpc
    cells: tuple[int, ...]  # voxels per side
    volume: float

    @classmethod
    def of(cls, delta: np.ndarray, grid: Grid) -> _Measure:
        side = np.array(grid.voxel_size)
        size = wave_numbers(delta.shape, tuple(side * delta.shape)).ravel()
        lowest = float(2 * np.pi / np.max(side * delta.shape))
        highest = float(np.pi / np.max(side))
        num = min(_MAX_BANDS, max(1, round(highest / lowest)))
        edges = np.linspace(0.5 * lowest, highest * (1 + 1e-9), num + 1)
        band = np.searchsorted(edges, size, side="right") - 1
        band = np.where((band < 0) | (band >= num), num, band)
        weight = weights_of(delta.shape).ravel()
        modes = np.maximum(np.bincount(band, weight, num + 1)[:-1], 1)
        mean = np.bincount(band, weight * size, num + 1)[:-1] / modes
        sides = [2**i for i in range(32) if 2**i * _LEAST_CELLS <= min(delta.shape)] or [1]
        volume = float(np.prod(side * delta.shape))
        return cls(fft.rfftn(delta).ravel(), band, weight, mean, tuple(sides), volume)

    def __call__(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        mean = max(float(counts.mean()), 1e-300)
        field = fft.rfftn(counts / mean - 1).ravel()
        auto = self._average(np.abs(field) ** 2)
        cross = self._average((field * self.density.conj()).real)
        density = self._average(np.abs(self.density) ** 2)
        scale = np.sqrt(np.maximum(auto * density, 1e-300))
        return {
            "counts_power": auto * self.volume / counts.size**2,
            "counts_correlation": cross / scale,
            "cell_ratio": np.array([_variance_to_mean(counts, side) for side in self.cells]),
        }

    def _average(self, values: np.ndarray) -> np.ndarray:
        num = len(self.wave_number)
        modes = np.maximum(np.bincount(self.band, self.weight, num + 1)[:-1], 1)
        return np.bincount(self.band, self.weight * values, num + 1)[:-1] / modes


def _variance_to_mean(counts: np.ndarray, side: int) -> float:
    """Of the numbers in cubic cells of `side` voxels; what does not fill a cell is left out."""
    n0, n1, n2 = (n // side for n in counts.shape)
    whole = counts[: n0 * side, : n1 * side, : n2 * side]
    cells = whole.reshape(n0, side, n1, side, n2, side).sum(axis=(1, 3, 5))
    return float(cells.var() / max(cells.mean(), 1e-300))

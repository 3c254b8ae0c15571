"""Environments: the voxels of a field sorted by density, from void to cluster.

The density of a voxel's environment is the exponential of the mean of ``ln(1 + delta)`` over the
kernel around it, the surroundings that the model sees. Voxels fall into classes between quantiles
of that density, finer towards the densest voxels because massive halos are there. Each class is
represented by the voxel closest to the median of its shell means, a real voxel of the field.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from halo_mdn.bias.base import Bias
from halo_mdn.errors import InputError
from halo_mdn.field.density import check_density, log_one_plus_delta
from halo_mdn.field.grid import Grid
from halo_mdn.field.kernels import kernel_basis, shell_features

_QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)  # the densest 1 % hosts most massive halos


@dataclass(frozen=True)
class Environments:
    """Classes of voxels by the density around them.

    Attributes
    ----------
    label : array (N,) of int
        Class of each voxel of the domain, 0 the emptiest.
    voxel : array (E,) of int
        The representative voxel of each class, flat index in the domain.
    density : array (E,)
        ``exp(mean ln(1 + delta))`` over the kernel around the representative.
    edges : array (E + 1,)
        Quantiles between which the classes lie.
    """

    label: np.ndarray
    voxel: np.ndarray
    density: np.ndarray
    edges: np.ndarray

    @property
    def num(self) -> int:
        """Number of classes."""
        return len(self.voxel)

    @property
    def names(self) -> tuple[str, ...]:
        """A name per class: the density of its representative, in units of the mean density."""
        names = [f"rho={density:.3g}" for density in self.density]
        repeated = len(set(names)) < len(names)  # a uniform field has one density only
        return tuple(f"{n} ({i})" if repeated else n for i, n in enumerate(names))


def environments(
    bias: Bias, delta: ArrayLike, grid: Grid, num_environments: int = 6
) -> Environments:
    """Sort the voxels of a field into environments.

    Parameters
    ----------
    bias : Bias
        Decides the size of the surroundings, and the floor on ``1 + delta``.
    delta : array (N0, N1, N2)
        Overdensity.
    grid : Grid
    num_environments : int
        Number of classes.

    Raises
    ------
    InputError
        If the field is unusable or has fewer voxels than there would be classes.
    """
    check_density(delta, grid.shape, bias.density_floor)
    shells = np.asarray(_shell_means(bias, jnp.asarray(delta), grid), dtype=float)
    if not 1 <= num_environments <= shells.shape[1]:
        raise InputError(
            f"num_environments is {num_environments}, expected 1 to {shells.shape[1]} (voxels)"
        )
    smooth = _cells_per_shell(bias) @ shells
    edges = _edges(num_environments)
    rank = np.empty(len(smooth), dtype=int)
    rank[np.argsort(smooth, kind="stable")] = np.arange(len(smooth))
    # Ranks rather than values: classes keep their sizes where many voxels share one density.
    bounds = np.floor(edges * len(smooth)).astype(int)
    label = np.searchsorted(bounds[1:-1], rank, side="right")
    label = label if len(set(label.tolist())) == num_environments else _even(rank, num_environments)
    voxel = np.array([_representative(shells, label == e) for e in range(num_environments)])
    return Environments(label.astype(np.int32), voxel, np.exp(smooth[voxel]), edges)


def _edges(num: int) -> np.ndarray:
    return np.interp(np.linspace(0, 1, num + 1), np.linspace(0, 1, len(_QUANTILES)), _QUANTILES)


def _even(rank: np.ndarray, num: int) -> np.ndarray:
    """Classes of equal size, for fields so small that a quantile slice would be empty."""
    return rank * num // len(rank)


def _cells_per_shell(bias: Bias) -> np.ndarray:
    """Fraction of the kernel's cells in each shell."""
    cells = kernel_basis(bias.kernel_shape, (0,), bias.grouping).coefficients.sum(axis=1)
    return cells / cells.sum()


def _shell_means(bias: Bias, delta: Array, grid: Grid) -> Array:
    """Mean of ln(1 + delta) over each shell around each voxel of the domain, (S, N)."""
    basis = kernel_basis(bias.kernel_shape, (0,), bias.grouping)
    x = log_one_plus_delta(delta, bias.density_floor)
    sums = shell_features(x, grid, bias.kernel_shape, basis).reshape(basis.num_features, -1)
    return sums / jnp.asarray(basis.coefficients.sum(axis=1)[:, None], sums.dtype)


def _representative(shells: np.ndarray, member: np.ndarray) -> int:
    """The member closest to the median shell means, in units of their scatter."""
    index = np.flatnonzero(member)
    values = shells[:, index]
    scatter = np.maximum(values.std(axis=1, keepdims=True), 1e-12)
    distance = ((values - np.median(values, axis=1, keepdims=True)) / scatter) ** 2
    return int(index[np.argmin(distance.sum(axis=0))])

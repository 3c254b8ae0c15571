"""Environments: the voxels of a field sorted by density, from void to cluster.

The density of a voxel's environment is the exponential of the mean of ``ln(1 + delta)`` over the
kernel around it, the surroundings that the model sees. Voxels fall into classes between quantiles
of that density, finer towards the densest voxels because massive halos are there. Each class is
represented by the voxel closest to the median of its shell means, a real voxel of the field.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

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
    bias: Bias,
    delta: ArrayLike,
    grid: Grid,
    num_environments: int = 6,
    *,
    features: Array | None = None,
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
    features : array (F, N), optional
        The model's shell features of this field where they are known: they are read in the place
        of ``delta`` if the sums over the shells are among them.

    Raises
    ------
    InputError
        If the field is unusable or has fewer voxels than there would be classes.
    """
    check_density(delta, grid.shape, bias.density_floor)
    shells = _shell_sums(bias, delta, grid, features)
    if not 1 <= num_environments <= shells.shape[1]:
        raise InputError(
            f"num_environments is {num_environments}, expected 1 to {shells.shape[1]} (voxels)"
        )
    smooth = np.sum(shells, axis=0, dtype=float) / prod(bias.kernel_shape)
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


def _shell_sums(bias: Bias, delta: ArrayLike, grid: Grid, features: Array | None) -> np.ndarray:
    """Sum of ln(1 + delta) over each shell around each voxel of the domain, (S, N)."""
    basis = kernel_basis(bias.kernel_shape, (0,), bias.grouping)
    own = bias.basis.coefficients[: basis.num_features]
    if features is not None and np.array_equal(own, basis.coefficients):
        return np.asarray(features)[: basis.num_features]
    x = log_one_plus_delta(jnp.asarray(delta), bias.density_floor)
    sums = np.asarray(shell_features(x, grid, bias.kernel_shape, basis))
    return np.stack([_cropped(part, bias.domain(grid).shape).ravel() for part in sums])


def _cropped(field: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inner part: a model may see further than its kernel."""
    edges = [((n - inner) // 2, inner) for n, inner in zip(field.shape, shape, strict=True)]
    return field[tuple(slice(first, first + inner) for first, inner in edges)]


def _representative(shells: np.ndarray, member: np.ndarray) -> int:
    """The member closest to the median shell sums, in units of their scatter."""
    index = np.flatnonzero(member)
    values = shells[:, index].astype(float)
    scatter = np.maximum(values.std(axis=1, keepdims=True), 1e-12)
    distance = ((values - np.median(values, axis=1, keepdims=True)) / scatter) ** 2
    return int(index[np.argmin(distance.sum(axis=0))])

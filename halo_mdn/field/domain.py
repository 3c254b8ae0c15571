"""The domain: the voxels of a grid on which a kernel is evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TypeVar

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from halo_mdn.errors import InputError
from halo_mdn.field.grid import Grid

Map = TypeVar("Map", np.ndarray, Array)


@dataclass(frozen=True)
class Domain:
    """The whole grid where a kernel wraps around the box, the part where it fits otherwise.

    Parameters
    ----------
    grid : Grid
    kernel_shape : tuple of 3 int
        Voxels per axis of the kernel, odd.

    Raises
    ------
    InputError
        If the kernel does not fit into the grid.
    """

    grid: Grid
    kernel_shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        self.shape  # noqa: B018  # refuses a grid smaller than the kernel

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Voxels per axis."""
        return self.grid.domain_shape(self.kernel_shape)

    @property
    def num_voxels(self) -> int:
        """Number of voxels."""
        return prod(self.shape)

    @property
    def margin(self) -> tuple[int, int, int]:
        """Layers of the grid left out on each side of each axis."""
        return self.grid.margin(self.kernel_shape)

    def crop(self, field: Map) -> Map:
        """The part of a field (N0, N1, N2) of the grid that lies on the domain, (N0', N1', N2')."""
        edges = zip(self.margin, self.shape, strict=True)
        return field[tuple(slice(first, first + length) for first, length in edges)]

    def index_of(self, voxel: ArrayLike) -> tuple[Array, Array]:
        """Flat index in the domain of voxels (..., 3) of the grid; 0 outside, and who is inside."""
        place = jnp.moveaxis(jnp.asarray(voxel), -1, 0)
        i, j, k = (along - first for along, first in zip(place, self.margin, strict=True))
        n0, n1, n2 = self.shape
        inside = (i >= 0) & (j >= 0) & (k >= 0) & (i < n0) & (j < n1) & (k < n2)
        return jnp.where(inside, (i * n1 + j) * n2 + k, 0), inside

    def sub_boxes(self, per_side: int) -> np.ndarray:
        """Index of the sub-box of each voxel, (num_voxels,), for ``per_side^3`` sub-boxes.

        The grid is cut up, not the domain: kernels of different size share their sub-boxes.

        Raises
        ------
        InputError
            If there are more sub-boxes than voxels along an axis.
        """
        shape = self.grid.shape
        if not 1 <= per_side <= min(shape):
            raise InputError(f"blocks_per_side is {per_side}, expected 1 to {min(shape)}")
        edges = zip(self.margin, shape, strict=True)
        i, j, k = (np.arange(m, n - m) * per_side // n for m, n in edges)
        return ((i[:, None, None] * per_side + j[:, None]) * per_side + k).ravel()

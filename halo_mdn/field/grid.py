"""The box and its voxels: which point of space belongs to which cell, and which cells count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from halo_mdn.errors import InputError

Boundary = Literal["periodic", "interior"]


@dataclass(frozen=True)
class Grid:
    """A regular grid of voxels on a box.

    Voxel ``(i, j, k)`` covers ``[i, i+1) L0/N0 x [j, j+1) L1/N1 x [k, k+1) L2/N2``; the value of a
    field in a voxel belongs to the voxel's **centre**. Axes are x, y, z, in C order.

    Parameters
    ----------
    shape : tuple of 3 int
        Voxels per axis, ``(N0, N1, N2)``.
    box_size : tuple of 3 float
        Side lengths in Mpc/h.
    boundary : {"periodic", "interior"}
        ``"periodic"`` wraps the kernel around the box: right for a full simulation box.
        ``"interior"`` leaves out every voxel whose kernel would reach outside, from the integral
        and from the catalogue alike: right for a sub-patch.

    Raises
    ------
    InputError
        If a side is not positive or the boundary is unknown.

    Examples
    --------
    >>> import halo_mdn as hm
    >>> grid = hm.Grid(shape=(16, 16, 16), box_size=(64.0, 64.0, 64.0))
    >>> grid.voxel_size
    (4.0, 4.0, 4.0)
    >>> hm.Grid((16, 16, 16), (64.0, 64.0, 64.0), "interior").domain_shape((3, 3, 3))
    (14, 14, 14)
    """

    shape: tuple[int, int, int]
    box_size: tuple[float, float, float]
    boundary: Boundary = "periodic"

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in np.ravel(self.shape))
        box_size = tuple(float(side) for side in np.ravel(self.box_size))
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(f"grid shape is {self.shape}, expected three positive integers")
        if len(box_size) != 3 or not all(0 < side < np.inf for side in box_size):
            raise InputError(
                f"box_size is {self.box_size}, expected three positive lengths in Mpc/h"
            )
        if self.boundary not in ("periodic", "interior"):
            raise InputError(f"boundary is {self.boundary!r}, expected 'periodic' or 'interior'")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "box_size", box_size)

    @property
    def num_voxels(self) -> int:
        """Number of voxels of the whole grid."""
        return int(np.prod(self.shape))

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Side lengths of a voxel in Mpc/h."""
        l0, l1, l2 = (side / n for side, n in zip(self.box_size, self.shape, strict=True))
        return (l0, l1, l2)

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel in (Mpc/h)^3."""
        return float(np.prod(self.voxel_size))

    def margin(self, kernel_size: tuple[int, int, int]) -> tuple[int, int, int]:
        """Layers of voxels left out on each side of each axis, for a kernel of this size."""
        if self.boundary == "periodic":
            return (0, 0, 0)
        m0, m1, m2 = (size // 2 for size in kernel_size)
        return (m0, m1, m2)

    def domain_shape(self, kernel_size: tuple[int, int, int]) -> tuple[int, int, int]:
        """Shape of the part of the grid on which the model is evaluated.

        Raises
        ------
        InputError
            If the kernel does not fit into the grid.
        """
        if any(size > n for size, n in zip(kernel_size, self.shape, strict=True)):
            raise InputError(
                f"a kernel of {kernel_size} voxels does not fit a grid of {self.shape}"
            )
        margins = self.margin(kernel_size)
        n0, n1, n2 = (n - 2 * m for n, m in zip(self.shape, margins, strict=True))
        return (n0, n1, n2)

    def voxel_of(self, position: np.ndarray) -> np.ndarray:
        """Voxel ``floor(x / L * N)`` of each position.

        Parameters
        ----------
        position : array (..., 3)
            Positions in Mpc/h, in ``[0, L]``. A position at ``L`` belongs to voxel 0 of a periodic
            box and to the last voxel otherwise.

        Returns
        -------
        array (..., 3) of int32

        Raises
        ------
        InputError
            If a position is not finite or lies outside the box.
        """
        position = np.asarray(position, dtype=float)
        if position.ndim < 1 or position.shape[-1] != 3:
            raise InputError(f"positions have shape {position.shape}, expected (..., 3)")
        box, shape = np.array(self.box_size), np.array(self.shape)
        inside = (position >= 0) & (position <= box)  # False for NaN
        if not inside.all():
            num = int((~inside.all(axis=-1)).sum())
            example = position[~inside.all(axis=-1)][0]
            raise InputError(
                f"{num} positions are outside the box [0, {self.box_size}] Mpc/h or not finite, "
                f"for instance {tuple(float(x) for x in example)}: check the units and the origin"
            )
        voxel = np.floor(position / box * shape).astype(np.int32)
        at_end = 0 if self.boundary == "periodic" else shape - 1
        return np.where(voxel < shape, voxel, at_end).astype(np.int32)

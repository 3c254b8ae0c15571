"""Halo catalogues: validated once, at the edge, and then plain arrays."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import numpy as np
from jax.typing import ArrayLike

from halo_mdn.errors import InputError
from halo_mdn.field.grid import Grid
from halo_mdn.halos.mass_observation import EXACT, MassObservation

logger = logging.getLogger(__name__)

_SHARED = ("grid", "mass_threshold", "observation")  # by the catalogues of a stack
_ROUNDING = 1e-9  # of ln M: a halo exactly at the threshold stays in after exp and log


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("log_mass", "voxel", "selected", "completeness", "position"),
    meta_fields=("grid", "mass_threshold", "observation"),
)
@dataclass(frozen=True)
class HaloCatalogue:
    """One halo catalogue, or several of the same density field.

    Make it with :meth:`from_positions`, :meth:`from_voxels` or :meth:`stack`, which validate.
    A single catalogue has arrays of shape (H, ...); several have a leading axis, (C, H, ...),
    padded with halos that are not selected.

    Attributes
    ----------
    log_mass : array (..., H)
        Natural logarithm of the halo mass in Msun/h.
    voxel : array (..., H, 3) of int
        Voxel of each halo, 0-based.
    selected : array (..., H) of bool
        Which halos enter the likelihood.
    completeness : array (N0, N1, N2) or None
        Expected fraction of halos observed per voxel, in [0, 1]; 0 outside of the survey. It
        multiplies the intensity, so it enters the halo sum and the integral alike.
    position : array (..., H, 3) or None
        Positions in Mpc/h, where known; the likelihood needs the voxel alone.
    grid : Grid
    mass_threshold : float
        The catalogue holds every halo of at least this (observed) mass in Msun/h, up to
        ``completeness`` and ``observation``.
    observation : MassObservation
        Errors and completeness of the masses; exact unless given.

    Examples
    --------
    >>> import halo_mdn as hm
    >>> grid = hm.Grid((8, 8, 8), (40.0, 40.0, 40.0))
    >>> position, mass = [[1.0, 2.0, 39.0], [11.0, 2.0, 3.0]], [3e12, 5e13]
    >>> halos = hm.HaloCatalogue.from_positions(position, mass, grid)
    >>> halos.num_halos, halos.voxel.tolist()
    (2, [[0, 0, 7], [2, 0, 0]])
    """

    log_mass: np.ndarray
    voxel: np.ndarray
    selected: np.ndarray
    completeness: np.ndarray | None
    position: np.ndarray | None
    grid: Grid
    mass_threshold: float
    observation: MassObservation = EXACT

    @classmethod
    def from_positions(
        cls,
        position: ArrayLike,
        mass: ArrayLike,
        grid: Grid,
        mass_threshold: float = 2e12,
        selected: ArrayLike | None = None,
        *,
        completeness: ArrayLike | None = None,
        observation: MassObservation = EXACT,
    ) -> HaloCatalogue:
        """A catalogue from positions in Mpc/h, shape (..., H, 3), and masses in Msun/h, (..., H).

        Raises
        ------
        InputError
            If shapes disagree, the catalogue is empty, a selected halo lies outside the box or
            below the threshold, a value is not finite, or the masses look like logarithms.
        """
        position = np.asarray(position, dtype=float)
        mass = not_below(np.asarray(mass), mass_threshold)
        _check_shapes("position", position, mass.shape)
        used = _as_selected(selected, mass.shape)
        _check_mass_scale(mass[used])
        voxel = np.zeros(position.shape, dtype=np.int32)
        voxel[used] = grid.voxel_of(position[used])
        log_mass = np.log(np.where(used, mass, mass_threshold))
        halos = cls._validated(voxel, log_mass, grid, mass_threshold, used, completeness)
        return replace(halos, position=position, observation=observation)

    @classmethod
    def from_voxels(
        cls,
        voxel: ArrayLike,
        log_mass: ArrayLike,
        grid: Grid,
        mass_threshold: float = 2e12,
        selected: ArrayLike | None = None,
        *,
        completeness: ArrayLike | None = None,
        observation: MassObservation = EXACT,
    ) -> HaloCatalogue:
        """A catalogue from 0-based voxels, shape (..., H, 3), and natural log masses, (..., H).

        Raises
        ------
        InputError
            As :meth:`from_positions`.
        """
        voxel, log_mass = np.asarray(voxel), np.asarray(log_mass, dtype=float)
        _check_shapes("voxel", voxel, log_mass.shape)
        if not np.issubdtype(voxel.dtype, np.integer):
            raise InputError(f"voxel indices have type {voxel.dtype}, expected integers")
        used = _as_selected(selected, log_mass.shape)
        _check_log_mass_scale(log_mass[used])
        outside = ~((voxel >= 0) & (voxel < np.array(grid.shape))).all(axis=-1) & used
        if outside.any():
            raise InputError(
                f"{int(outside.sum())} voxel indices are outside the grid of {grid.shape}, for "
                f"instance {tuple(int(i) for i in voxel[outside][0])}: they count from 0"
            )
        halos = cls._validated(voxel, log_mass, grid, mass_threshold, used, completeness)
        return replace(halos, observation=observation)

    @classmethod
    def stack(cls, catalogues: Sequence[HaloCatalogue]) -> HaloCatalogue:
        """Several catalogues of the same field as one, padded to the longest.

        The likelihood of the result is the sum over its catalogues; ``result[c]`` picks one.
        """
        if not catalogues:
            raise InputError("no catalogue was given, expected at least one")
        first, length = catalogues[0], max(c.log_mass.shape[-1] for c in catalogues)
        if any(c.log_mass.ndim != 1 for c in catalogues):
            raise InputError("stack takes single catalogues, got one that is stacked already")
        for other in catalogues[1:]:
            if any(getattr(other, name) != getattr(first, name) for name in _SHARED):
                raise InputError(f"stacked catalogues must share {', '.join(_SHARED)}")
            if not _same(other.completeness, first.completeness):
                raise InputError("stacked catalogues must share the completeness map")

        def padded(name: str, fill: float) -> np.ndarray:
            rows = [np.asarray(getattr(c, name)) for c in catalogues]
            pads = [[(0, length - len(row))] + [(0, 0)] * (row.ndim - 1) for row in rows]
            pairs = zip(rows, pads, strict=True)
            return np.stack([np.pad(row, pad, constant_values=fill) for row, pad in pairs])

        return cls(
            log_mass=padded("log_mass", np.log(first.mass_threshold)),
            voxel=padded("voxel", 0),
            selected=padded("selected", False),
            completeness=first.completeness,
            position=None,
            grid=first.grid,
            mass_threshold=first.mass_threshold,
            observation=first.observation,
        )

    @classmethod
    def _validated(
        cls,
        voxel: np.ndarray,
        log_mass: np.ndarray,
        grid: Grid,
        mass_threshold: float,
        used: np.ndarray,
        completeness: ArrayLike | None,
    ) -> HaloCatalogue:
        if log_mass.size == 0:
            raise InputError("the catalogue is empty, expected at least one halo")
        _check_threshold(log_mass[used], mass_threshold)
        voxel = np.where(used[..., None], voxel, 0).astype(np.int32)
        coverage = None if completeness is None else as_completeness(completeness, grid)
        if coverage is not None:
            observed = coverage[tuple(np.moveaxis(voxel, -1, 0))] > 0
            if not observed[used].all():
                num = int((~observed[used]).sum())
                logger.info("%d halos lie where the completeness is zero: not used", num)
            used = used & observed
        log_mass = np.where(used, log_mass, np.log(mass_threshold))
        return cls(log_mass, voxel, used, coverage, None, grid, float(mass_threshold))

    def __getitem__(self, catalogue: int) -> HaloCatalogue:
        """One of several catalogues (the index may be traced)."""
        if self.log_mass.ndim != 2:
            raise InputError("this is a single catalogue: there is none to pick")
        position = None if self.position is None else self.position[catalogue]
        return replace(
            self,
            log_mass=self.log_mass[catalogue],
            voxel=self.voxel[catalogue],
            selected=self.selected[catalogue],
            position=position,
        )

    @property
    def num_catalogues(self) -> int:
        """Number of catalogues."""
        return 1 if self.log_mass.ndim == 1 else self.log_mass.shape[0]

    @property
    def num_halos(self) -> int:
        """Number of selected halos, of all catalogues together."""
        return int(np.sum(self.selected))

    @property
    def mass(self) -> np.ndarray:
        """Halo masses in Msun/h, shape (..., H)."""
        return np.exp(np.asarray(self.log_mass))


def _check_shapes(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if len(shape) not in (1, 2) or array.shape != (*shape, 3):
        raise InputError(
            f"{name} has shape {array.shape} and the masses {shape}, expected (H, 3) and (H,), "
            "or (C, H, 3) and (C, H) for C catalogues"
        )


def _as_selected(selected: ArrayLike | None, shape: tuple[int, ...]) -> np.ndarray:
    if selected is None:
        return np.ones(shape, dtype=bool)
    mask = np.asarray(selected)
    if mask.shape != shape or mask.dtype != bool:
        raise InputError(
            f"selected has shape {mask.shape} and type {mask.dtype}, "
            f"expected one bool per halo, shape {shape}"
        )
    return mask


def not_below(mass: np.ndarray, threshold: float, precision: float = 0.0) -> np.ndarray:
    """Masses in float64, those within rounding below the threshold put at it.

    ``precision`` is relative, of masses as they were stored; at least that of their type counts: in
    float32 a mass at the threshold can come out 6e-8 lighter.
    """
    precision = max(precision, _ROUNDING)
    if mass.dtype.kind == "f":
        precision = max(precision, float(np.finfo(mass.dtype).eps))
    mass = np.asarray(mass, dtype=float)
    at_threshold = (mass < threshold) & (mass >= threshold * (1 - precision))
    return np.where(at_threshold, threshold, mass)


def _check_mass_scale(mass: np.ndarray) -> None:
    if not (np.isfinite(mass) & (mass > 0)).all():
        raise InputError("a halo mass is NaN, infinite or not positive")
    if mass.size and mass.max() < 100:
        raise InputError(
            f"the halo masses are between {mass.min():.4g} and {mass.max():.4g}: these look like "
            "logarithms, expected masses in Msun/h"
        )


def _check_log_mass_scale(log_mass: np.ndarray) -> None:
    if not np.isfinite(log_mass).all():
        raise InputError("a log mass is NaN or infinite")
    if log_mass.size and (log_mass.min() > 200 or 5 < log_mass.max() < 20):
        raise InputError(
            f"the log masses are between {log_mass.min():.4g} and {log_mass.max():.4g}, expected "
            "natural logarithms of masses in Msun/h (28 to 36), not log10 and not masses"
        )


def _check_threshold(log_mass: np.ndarray, mass_threshold: float) -> None:
    if not 0 < mass_threshold < np.inf:
        raise InputError(f"mass_threshold is {mass_threshold}, expected a mass in Msun/h")
    below = log_mass < np.log(mass_threshold) - _ROUNDING
    if below.any():
        raise InputError(
            f"{int(below.sum())} of {log_mass.size} halos are below the mass threshold "
            f"{mass_threshold:.4g} Msun/h, the lightest at {np.exp(log_mass.min()):.4g}: leave "
            "them out (selected=mass >= mass_threshold) or lower the threshold"
        )


def as_completeness(completeness: ArrayLike, grid: Grid) -> np.ndarray:
    """A completeness map as an array, checked for its shape and its range."""
    coverage = np.asarray(completeness, dtype=float)
    if coverage.shape != grid.shape:
        raise InputError(f"completeness has shape {coverage.shape}, expected {grid.shape}")
    if not ((coverage >= 0) & (coverage <= 1)).all():
        raise InputError("completeness has values outside [0, 1] or NaN")
    return coverage


def _same(left: np.ndarray | None, right: np.ndarray | None) -> bool:
    if left is None or right is None:
        return left is right
    return np.array_equal(left, right)

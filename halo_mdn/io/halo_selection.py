"""From the halos of a file to the catalogue that is fitted: in the frame of the grid, checked."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from halo_mdn.config.schema import DataConfig
from halo_mdn.errors import InputError
from halo_mdn.field.grid import Grid
from halo_mdn.halos.catalogue import HaloCatalogue, not_below
from halo_mdn.halos.mass_observation import MassObservation
from halo_mdn.io.formats.stated import HaloTable
from halo_mdn.io.plausible import Box, complaint_of, warnings_of

_FEW_OUTSIDE = 0.01  # of the halos


class Selection(NamedTuple):
    """A validated catalogue.

    Attributes
    ----------
    halos : HaloCatalogue
    num_dropped : int
        Halos left out because they are below the threshold.
    complaint : str
        Why they cannot be all the halos above the threshold in the box; empty if they can.
    warnings : tuple of str
        What is odd about them.
    """

    halos: HaloCatalogue
    num_dropped: int
    complaint: str
    warnings: tuple[str, ...]


def select(
    table: HaloTable, path: Path, data: DataConfig, grid: Grid, completeness: np.ndarray | None
) -> Selection:
    """The halos above the threshold.

    Raises
    ------
    InputError
        If none is left, some are below the threshold and not to be dropped, or
        ``HaloCatalogue.from_positions`` refuses them.
    """
    position, selected = table.position, table.selected
    assert selected is not None  # read_halos gives it
    mass = not_below(table.mass, data.mass_threshold, table.mass_precision)
    num_dropped = 0
    if selected.shape == mass.shape == position.shape[:1]:
        below = selected & (mass < data.mass_threshold)
        _check_below(mass, selected, below, path, data)
        if data.below_threshold == "drop":
            keep = ~(mass < data.mass_threshold)
            num_dropped = int((~keep).sum())
            position, mass, selected = position[keep], mass[keep], selected[keep]
    position, note = _wrapped(on_grid(position, data, grid), selected, grid)
    try:
        halos = HaloCatalogue.from_positions(
            position,
            mass,
            grid,
            mass_threshold=data.mass_threshold,
            selected=selected,
            completeness=completeness,
            observation=observation_of(data),
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    used = halos.selected
    if not used.any():
        raise InputError(f"{path}: no halo is left after selection, expected at least one")
    box = Box(grid.box_size, whole=completeness is None)
    seen = halos.observation.threshold_completeness
    complaint = complaint_of(position[used], mass[used], data.mass_threshold, box, seen)
    warnings = note + warnings_of(position[used], mass[used], box)
    return Selection(
        halos,
        num_dropped,
        f"{path}: {complaint}" if complaint else "",
        tuple(f"{path.name}: {warning}" for warning in warnings),
    )


def on_grid(position: np.ndarray, data: DataConfig, grid: Grid) -> np.ndarray:
    """Positions in the frame of a grid whose field values lie at the centres of voxels.

    They are counted from the box's corner. If field values lie at corners, the voxel around value
    (i, j, k) begins half a voxel before it, so halos move up by half a voxel, and those of the last
    half voxel wrap around. Positions outside of the box stay outside, to be refused.
    """
    if len(data.box_corner) not in (0, 3):
        raise InputError(f"data.box_corner is {data.box_corner}, expected x, y, z in Mpc/h")
    if position.ndim < 1 or position.shape[-1] != 3:
        return position
    if data.box_corner:
        position = position - np.array(data.box_corner)
    if data.field_points != "corners":
        return position
    sides, half = np.array(grid.box_size), np.array(grid.voxel_size) / 2
    position = position + half
    return np.where((position >= sides) & (position <= sides + half), position - sides, position)


def _wrapped(
    position: np.ndarray, selected: np.ndarray, grid: Grid
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Positions with the few that lie just outside of a periodic box on its other side; a note.

    Rounding and drift put halos there. Many, or far ones, are a wrong origin or unit: they stay, to
    be refused.
    """
    if grid.boundary != "periodic" or position.shape != (*selected.shape, 3):
        return position, ()
    sides, voxel = np.array(grid.box_size), np.array(grid.voxel_size)
    beyond = np.maximum(-position, position - sides)
    outside = selected & (beyond > 0).any(axis=-1)
    num, far = int(outside.sum()), (beyond > voxel)[outside].any()
    if num == 0 or far or num > _FEW_OUTSIDE * selected.sum():
        return position, ()
    note = (
        f"{num:,} halos lie up to {beyond[outside].max():.2g} Mpc/h outside of the periodic box: "
        "they are on its other side"
    )
    return np.where(outside[:, None], position % sides, position), (note,)


def observation_of(data: DataConfig) -> MassObservation:
    """Errors and completeness of the masses."""
    return MassObservation(
        scatter=data.mass_scatter or 0.0,
        threshold_completeness=1.0
        if data.threshold_completeness is None
        else data.threshold_completeness,
        completeness_slope=1.0 if data.completeness_slope is None else data.completeness_slope,
    )


def _check_below(
    mass: np.ndarray, selected: np.ndarray, below: np.ndarray, path: Path, data: DataConfig
) -> None:
    """Refuse halos below the threshold, unless they are dropped and others are left."""
    threshold = data.mass_threshold
    used = mass[selected]
    if not used.size or not np.isfinite(used).all() or used.max() < 100:
        return  # refused by the catalogue, which says why
    if used.max() < threshold:
        raise InputError(
            f"{path}: all of its {used.size:,} halos are below the mass threshold {threshold:.4g} "
            f"Msun/h, the heaviest has {used.max():.4g}: set data.mass_threshold, and check "
            "data.mass_unit (--data.mass_threshold, --data.mass_unit)"
        )
    if below.any() and data.below_threshold == "error":
        raise InputError(
            f"{path}: {int(below.sum()):,} of {used.size:,} halos are below the mass threshold "
            f"{threshold:.6g} Msun/h, the lightest at {used.min():.6g}: leave them out with "
            "--data.below_threshold drop, or lower --data.mass_threshold if the catalogue is "
            "complete there"
        )

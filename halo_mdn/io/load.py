"""Reads and validates all data of a run, before anything compiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from halo_mdn.config.schema import DataConfig
from halo_mdn.errors import InputError
from halo_mdn.field.density import check_density
from halo_mdn.field.grid import Grid
from halo_mdn.halos.catalogue import HaloCatalogue
from halo_mdn.halos.mass_observation import MassObservation
from halo_mdn.io.example import path_of, with_example_values
from halo_mdn.io.field_file import read_field
from halo_mdn.io.formats.arrays import read_array
from halo_mdn.io.formats.stated import DensityField, HaloTable
from halo_mdn.io.halo_file import read_halos
from halo_mdn.io.overdensity import boundary_of

_SAME = 1e-5  # relative difference of box sizes: files print six digits
_SAME_EPOCH = 1e-3  # of 1 + z


@dataclass(frozen=True)
class RunData:
    """What a run fits.

    Attributes
    ----------
    delta : array (N0, N1, N2)
        Overdensity, float64.
    halos : HaloCatalogue
        One catalogue, or several stacked.
    num_dropped : int
        Halos left out because they are below the mass threshold.
    files : dict
        Every file that was read, by what it holds.
    settings : DataConfig
        The settings, with what the files know about themselves filled in.
    notes : tuple of str
        What was assumed while reading, a sentence each.
    mass_assignment : str
        How particles became the density.
    """

    delta: np.ndarray
    halos: HaloCatalogue
    num_dropped: int
    files: dict[str, Path]
    settings: DataConfig
    notes: tuple[str, ...] = ()
    mass_assignment: str = "not stated"


def load_data(data: DataConfig) -> RunData:
    """Read the field and the catalogues that the settings name.

    Raises
    ------
    InputError
        If a file is missing or unreadable, or an array is not what it should be.
    """
    data = with_example_values(data)
    field = read_field(data)
    return with_halos(field, with_stated(data, field, path_of(data.field)))


def with_halos(field: DensityField, data: DataConfig) -> RunData:
    """Read the catalogues onto a field; `data` is complete, from :func:`with_stated`.

    Raises
    ------
    InputError
        As :func:`load_data`.
    """
    grid = grid_of(field, data)
    check_density(field.delta, grid.shape, data.density_floor)
    completeness = None
    if data.completeness:
        completeness = read_array(Path(data.completeness), data.completeness_key)
    notes, catalogues, num_dropped = field.notes, [], 0
    for name in data.catalogue:
        table = read_halos(path_of(name), data)
        data, more = _with_stated_by_halos(data, table, path_of(name))
        halos, dropped = _catalogue(table, path_of(name), data, grid, completeness)
        catalogues.append(halos)
        notes += table.notes + more
        num_dropped += dropped
    if not catalogues:
        raise InputError("data.catalogue is an empty list, expected at least one halo catalogue")
    halos = catalogues[0] if len(catalogues) == 1 else HaloCatalogue.stack(catalogues)
    return RunData(
        field.delta, halos, num_dropped, _files(data), data, notes, field.mass_assignment
    )


def with_stated(data: DataConfig, field: DensityField, path: Path) -> DataConfig:
    """Settings with what the field's file states, where they leave it open.

    Raises
    ------
    InputError
        If the settings say something else than the file, or neither knows the box.
    """
    if field.box_size is not None:
        _check_same_box(field.box_size, data, path)
    points = field.points if data.field_points == "auto" else data.field_points
    return replace(
        data,
        box_size=data.box_size or field.box_size or (),
        box_corner=data.box_corner or field.corner or (),
        field_points=points,
        boundary=boundary_of(field, data),
        redshift=field.redshift if data.redshift is None else data.redshift,
        cosmology=data.cosmology or field.cosmology,
    )


def grid_of(field: DensityField, data: DataConfig) -> Grid:
    """The grid of a field."""
    return Grid(field.delta.shape, _three_sides(data.box_size), data.boundary)  # type: ignore[arg-type]


def _with_stated_by_halos(
    data: DataConfig, table: HaloTable, path: Path
) -> tuple[DataConfig, tuple[str, ...]]:
    """Settings with what a catalogue states, and what is odd about that."""
    if table.box_size is not None:
        _check_same_box(table.box_size, data, path)
    check_threshold(table.mass_threshold, data.mass_threshold, path)
    notes: tuple[str, ...] = ()
    ours, theirs = data.redshift, table.redshift
    if ours is not None and theirs is not None and abs(theirs - ours) > _SAME_EPOCH * (1 + ours):
        notes = (f"{path.name} is of redshift {theirs:.4g}, the field of {ours:.4g}",)
    data = replace(
        data,
        redshift=theirs if ours is None else ours,
        cosmology=data.cosmology or table.cosmology,
        mass_definition=data.mass_definition or table.mass_definition,
    )
    return data, notes


def _catalogue(
    table: HaloTable, path: Path, data: DataConfig, grid: Grid, completeness: np.ndarray | None
) -> tuple[HaloCatalogue, int]:
    """A validated catalogue and the number of halos dropped below the threshold."""
    position, mass, selected = table.position, table.mass, table.selected
    assert selected is not None  # read_halos gives it
    keep = np.ones(mass.shape, dtype=bool)
    if data.below_threshold == "drop" and selected.shape == mass.shape == position.shape[:1]:
        keep = ~(mass < data.mass_threshold)
        position, mass, selected = position[keep], mass[keep], selected[keep]
    try:
        halos = HaloCatalogue.from_positions(
            on_grid(position, data, grid),
            mass,
            grid,
            mass_threshold=data.mass_threshold,
            selected=selected,
            completeness=completeness,
            observation=_observation(data),
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if halos.num_halos == 0:
        raise InputError(f"{path}: no halo is left after selection, expected at least one")
    return halos, int((~keep).sum())


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


def check_threshold(stated: float | None, ours: float, path: Path) -> None:
    """Refuse to model masses of which the file says that halos are missing.

    Raises
    ------
    InputError
        If ours is below the threshold that the file states.
    """
    if stated is not None and ours < stated * (1 - _SAME):
        raise InputError(
            f"{path} states that it is complete above {stated:.4g} Msun/h, data.mass_threshold is "
            f"{ours:.4g}: raise it to {stated:.4g}"
        )


def _check_same_box(box_size: tuple[float, ...], data: DataConfig, path: Path) -> None:
    """The file's box, unless the settings say another."""
    if data.box_size and not np.allclose(_three_sides(data.box_size), box_size, rtol=_SAME):
        raise InputError(f"{path} is a box of {box_size} Mpc/h, data.box_size is {data.box_size}")


def _observation(data: DataConfig) -> MassObservation:
    return MassObservation(
        scatter=data.mass_scatter,
        threshold_completeness=data.threshold_completeness,
        completeness_slope=data.completeness_slope,
    )


def _three_sides(box_size: tuple[float, ...]) -> tuple[float, float, float]:
    if len(box_size) not in (1, 3):
        raise InputError(f"data.box_size is {box_size}, expected one side or three, in Mpc/h")
    first, second, third = box_size * 3 if len(box_size) == 1 else box_size
    return (first, second, third)


def _files(data: DataConfig) -> dict[str, Path]:
    catalogues = {f"catalogue_{i}": name for i, name in enumerate(data.catalogue)}
    mask = data.selected if data.selected.endswith(".npy") else ""
    names = {"field": data.field, "completeness": data.completeness, "selected": mask, **catalogues}
    return {what: path_of(name) for what, name in names.items() if name}

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
from halo_mdn.halos.mass_observation import EXACT
from halo_mdn.io.example import path_of, with_example_values
from halo_mdn.io.field_file import read_field
from halo_mdn.io.formats.arrays import read_array
from halo_mdn.io.formats.stated import DensityField, HaloTable
from halo_mdn.io.halo_file import read_halos
from halo_mdn.io.halo_selection import select
from halo_mdn.io.overdensity import boundary_of
from halo_mdn.io.plausible import check_box

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
    warnings : tuple of str
        What is odd about the halos, a sentence each.
    """

    delta: np.ndarray
    halos: HaloCatalogue
    num_dropped: int
    files: dict[str, Path]
    settings: DataConfig
    notes: tuple[str, ...] = ()
    mass_assignment: str = "not stated"
    warnings: tuple[str, ...] = ()


def load_data(data: DataConfig, *, refuse: bool = True) -> RunData:
    """Read the field and the catalogues that the settings name.

    Halos that cannot be all those above the threshold in the box are refused, or else warned of.

    Raises
    ------
    InputError
        If a file is missing or unreadable, or an array is not what it should be.
    """
    data = with_example_values(data)
    field = read_field(data)
    return with_halos(field, with_stated(data, field, path_of(data.field)), refuse=refuse)


def with_halos(field: DensityField, data: DataConfig, *, refuse: bool = True) -> RunData:
    """Read the catalogues onto a field; `data` is complete, from :func:`with_stated`.

    Halos that cannot be all those above the threshold in the box are refused, or else warned of.

    Raises
    ------
    InputError
        As :func:`load_data`.
    """
    _check_catalogues(data)
    grid = grid_of(field, data)
    check_density(field.delta, grid.shape, data.density_floor)
    given = None
    if data.completeness:
        given = read_array(Path(data.completeness), data.completeness_key)
    notes, selections = field.notes, []
    for name in data.catalogue:
        table = read_halos(path_of(name), data)
        data, more = _with_stated_by_halos(data, table, path_of(name))
        completeness = _completeness(given, table, path_of(name))
        selections.append(select(table, path_of(name), data, grid, completeness))
        notes += table.notes + more
    catalogues = [one.halos for one in selections]
    _check_different(catalogues)
    warnings = tuple(text for one in selections for text in one.warnings)
    complaints = tuple(one.complaint for one in selections if one.complaint)
    if complaints and refuse:
        raise InputError(complaints[0])
    return RunData(
        field.delta,
        catalogues[0] if len(catalogues) == 1 else HaloCatalogue.stack(catalogues),
        sum(one.num_dropped for one in selections),
        _files(data),
        data,
        notes,
        field.mass_assignment,
        complaints + warnings,
    )


def _check_catalogues(data: DataConfig) -> None:
    """Refuse a list of catalogues that nobody said to be draws of the same universe."""
    num = len(data.catalogue)
    if num == 0:
        raise InputError("data.catalogue is an empty list, expected at least one halo catalogue")
    if num > 1 and not data.realisations:
        raise InputError(
            f"data.catalogue is a list of {num} files, which would count as independent catalogues "
            "of the same field: set data.realisations = true if they are, and if they are parts of "
            "one catalogue, name the first part alone (HDF5) or join them in one file"
        )
    if len({path_of(name).resolve() for name in data.catalogue}) < num:
        raise InputError("data.catalogue names a file twice: its halos would count twice")


def _check_different(catalogues: list[HaloCatalogue]) -> None:
    """Refuse a copy of a catalogue among realisations."""
    for i, one in enumerate(catalogues):
        for j, other in enumerate(catalogues[:i]):
            if np.array_equal(one.log_mass, other.log_mass) and np.array_equal(
                one.voxel, other.voxel
            ):
                raise InputError(
                    f"catalogues {j + 1} and {i + 1} of data.catalogue hold the same halos, which "
                    "would count twice: name one of them"
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
    if data.boundary == "periodic" and field.boundary == "interior":
        raise InputError(
            f"{path} states that it is a patch with an interior boundary, data.boundary is "
            "periodic: leave the setting out"
        )
    points = field.points if data.field_points == "auto" else data.field_points
    return replace(
        data,
        box_size=data.box_size or field.box_size or (),
        box_corner=data.box_corner or field.corner or (),
        field_points=points,
        boundary=boundary_of(field, data),  # type: ignore[arg-type]
        field_is="region" if field.field_is == "region" else data.field_is,
        redshift=field.redshift if data.redshift is None else data.redshift,
        cosmology=data.cosmology or field.cosmology,
    )


def grid_of(field: DensityField, data: DataConfig) -> Grid:
    """The grid of a field.

    Raises
    ------
    InputError
        If its box is not known, or cannot be.
    """
    sides = _three_sides(data.box_size)
    check_box(sides)
    return Grid(field.delta.shape, sides, boundary_of(field, data))  # type: ignore[arg-type]


def _with_stated_by_halos(
    data: DataConfig, table: HaloTable, path: Path
) -> tuple[DataConfig, tuple[str, ...]]:
    """Settings with what a catalogue states, and what is odd about that."""
    if table.box_size is not None:
        _check_same_box(table.box_size, data, path)
    check_threshold(table.mass_threshold, data.mass_threshold, path)
    data = _with_observation(data, table, path)
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


def _with_observation(data: DataConfig, table: HaloTable, path: Path) -> DataConfig:
    """Settings with the errors of masses that the file states; exact masses where nobody does."""
    names = {
        "mass_scatter": "scatter",
        "threshold_completeness": "threshold_completeness",
        "completeness_slope": "completeness_slope",
    }
    for ours, theirs in names.items():
        given, stated = getattr(data, ours), getattr(table.observation, theirs, None)
        if given is not None and stated is not None and given != stated:
            raise InputError(
                f"{path} states {ours} = {stated:g}, data.{ours} is {given:g}: leave it out"
            )
        usual = getattr(EXACT, theirs) if stated is None else stated
        data = replace(data, **{ours: usual if given is None else given})
    return data


def _completeness(given: np.ndarray | None, table: HaloTable, path: Path) -> np.ndarray | None:
    """The completeness map of the settings or of the catalogue's file."""
    stated = table.completeness
    if given is not None and stated is not None and not np.array_equal(given, stated):
        raise InputError(
            f"{path} has a completeness map, and data.completeness is another one: leave it out"
        )
    return stated if given is None else given


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


def _three_sides(box_size: tuple[float, ...]) -> tuple[float, float, float]:
    if not box_size:
        raise InputError(
            "no file states the side of the box: give data.box_size (--data.box_size), expected "
            "one side or three, in Mpc/h"
        )
    if len(box_size) not in (1, 3):
        raise InputError(f"data.box_size is {box_size}, expected one side or three, in Mpc/h")
    first, second, third = box_size * 3 if len(box_size) == 1 else box_size
    return (first, second, third)


def _files(data: DataConfig) -> dict[str, Path]:
    catalogues = {f"catalogue_{i}": name for i, name in enumerate(data.catalogue)}
    mask = data.selected if data.selected.endswith(".npy") else ""
    names = {"field": data.field, "completeness": data.completeness, "selected": mask, **catalogues}
    return {what: path_of(name) for what, name in names.items() if name}

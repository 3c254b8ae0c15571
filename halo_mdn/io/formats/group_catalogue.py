"""Reads halos of group catalogues and other HDF5 files whose datasets the settings name.

All files of a set are read, and their number of halos is compared with the header's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from halo_mdn.config.schema import DataConfig
from halo_mdn.errors import InputError
from halo_mdn.io.formats import hdf5
from halo_mdn.io.formats.simulation_header import (
    header_of,
    num_files,
    parts_of,
    stated_cosmology,
    stated_length,
    stated_mass,
    stated_redshift,
)
from halo_mdn.io.formats.snapshot import box_of, length_unit
from halo_mdn.io.formats.stated import HaloTable
from halo_mdn.io.formats.units import LENGTH

_TOTALS = {  # of the group in which a dataset is
    "Group": ("Ngroups_Total", "NumGroups_Total"),
    "Subhalo": ("Nsubgroups_Total", "Nsubhalos_Total"),
}


class Columns(NamedTuple):
    """Columns of all parts of a file, and the units that they state."""

    values: list[np.ndarray]
    units: list[str]
    header: dict[str, Any]
    num_files: int


def read_columns(path: Path, names: list[str]) -> Columns:
    """Datasets of a file, or of the set of files of which it is one.

    Raises
    ------
    InputError
        If a file, a dataset or a part of the halos is missing.
    """
    with hdf5.opened(path) as file:
        header = header_of(file, path)
    num = num_files(header)
    if num <= 1:
        values, units = zip(*(hdf5.read_dataset(path, name) for name in names), strict=True)
        columns = Columns(list(values), list(units), header, 1)
    else:
        columns = _joined(parts_of_set(path, num, header, names), names, header)
    _check_total(columns, names, path)
    return columns


def parts_of_set(path: Path, num: int, header: dict[str, Any], names: list[str]) -> list[Path]:
    """The files of a set; if one is missing, the error says how many halos are there.

    Raises
    ------
    InputError
        As ``parts_of``.
    """
    try:
        return parts_of(path, num)
    except InputError as error:
        total = _total(header, names)
        with hdf5.opened(path) as file:
            here = len(file[names[-1]]) if names[-1] in file else 0
        stated = f" ({here:,} of {total:,} halos are in it)" if total else ""
        raise InputError(f"{error}{stated}") from None


def as_table(table: HaloTable, columns: Columns, path: Path, data: DataConfig) -> HaloTable:
    """A table with what the header states: units, box, redshift, cosmology.

    Raises
    ------
    InputError
        If the header states a box in a unit that is not known, or contradicts the settings.
    """
    header = columns.header
    stated = stated_length(header, path)
    table = table._replace(
        redshift=stated_redshift(header),
        cosmology=stated_cosmology(header),
        num_files=columns.num_files,
        mass_unit=table.mass_unit or _mass_words(stated_mass(header, path)),
    )
    if table.length_unit:
        return table
    if stated is None and "BoxSize" not in header:
        return table
    unit = length_unit(header, path, data)
    table = table._replace(box_size=box_of(header, unit, path, data))
    if data.length_unit is not None:  # what is stated is the same, or not stated
        return table
    return table._replace(position=np.asarray(table.position, float) * unit, length_unit=LENGTH)


def _joined(parts: list[Path], names: list[str], header: dict[str, Any]) -> Columns:
    pieces: list[list[np.ndarray]] = [[] for _ in names]
    units = [""] * len(names)
    for part in parts:
        with hdf5.opened(part) as file:
            is_empty = not any(name in file for name in names)
        if is_empty:  # no halo lies in this part
            continue
        for i, name in enumerate(names):
            values, units[i] = hdf5.read_dataset(part, name)
            pieces[i].append(values)
    if not pieces[0]:
        raise InputError(f"{parts[0]} and its parts have no datasets {', '.join(names)}")
    return Columns([np.concatenate(one) for one in pieces], units, header, len(parts))


def _total(header: dict[str, Any], names: list[str]) -> int | None:
    spellings = _TOTALS.get(names[-1].strip("/").partition("/")[0], ())
    return next((int(header[name]) for name in spellings if name in header), None)


def _check_total(columns: Columns, names: list[str], path: Path) -> None:
    total = _total(columns.header, names)
    if total is not None and len(columns.values[-1]) != total:
        raise InputError(
            f"{path} holds {len(columns.values[-1]):,} halos in {columns.num_files} files, its "
            f"header states {total:,}: is a part missing?"
        )


def _mass_words(unit: float | None) -> str:
    if unit is None:
        return ""
    return "1e10 Msun/h" if abs(unit / 1e10 - 1) < 1e-3 else f"{unit:.6g} Msun/h"

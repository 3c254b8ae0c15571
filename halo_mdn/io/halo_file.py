"""Reads a halo catalogue from whichever format its file has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from halo_mdn.config.schema import DataConfig
from halo_mdn.errors import InputError
from halo_mdn.io.example import example_path, example_provenance
from halo_mdn.io.formats import fits_table, hdf5, kinds, parquet_table, text
from halo_mdn.io.formats.arrays import read_array
from halo_mdn.io.formats.exchange import read_exchange
from halo_mdn.io.formats.group_catalogue import as_table, read_columns
from halo_mdn.io.formats.guard import listed, reading
from halo_mdn.io.formats.rockstar import USUAL_MASS, read_rockstar
from halo_mdn.io.formats.stated import HaloTable, checked_halos
from halo_mdn.io.formats.units import LENGTH, MASS, assumed, in_mpc_h, in_msun_h

DISTINCT = "distinct"


def read_halos(path: Path, data: DataConfig) -> HaloTable:
    """Halos of a file with positions in Mpc/h and masses in Msun/h, as the settings say.

    Raises
    ------
    InputError
        If the file is missing or unreadable, a column is missing, or units contradict the settings.
    """
    with reading(path):
        return checked_halos(_in_our_units(_read(path, data), path, data), path)


def _in_our_units(table: HaloTable, path: Path, data: DataConfig) -> HaloTable:
    notes = table.notes
    if path == example_path():
        table = _of_example(table)
    else:
        notes += assumed(path, table.length_unit, table.mass_unit, data)
    precision = _precision(table, data)
    position = in_mpc_h(table.position, table.length_unit, data, path)
    mass = in_msun_h(table.mass, table.mass_unit, data, path)
    selected = np.ones(mass.shape, dtype=bool)
    if data.selected.endswith(".npy"):
        selected = _boolean(read_array(Path(data.selected)), path)
    elif table.selected is not None:
        selected = _boolean(table.selected, path)
    return table._replace(
        position=position,
        mass=mass,
        selected=selected,
        notes=notes,
        length_unit=LENGTH,
        mass_unit=MASS,
        mass_precision=precision,
    )


def _of_example(table: HaloTable) -> HaloTable:
    """The table with what the example knows about its halos."""
    known = example_provenance()
    return table._replace(
        box_size=(known["box_size_mpc_h"],) * 3,
        redshift=known["redshift"],
        cosmology=json.dumps(known["cosmology"]),
        mass_definition=known["mass_definition"],
    )


def _precision(table: HaloTable, data: DataConfig) -> float:
    """The relative precision of masses as they are stored."""
    mass = table.mass
    if mass.dtype.kind != "f":
        return 0.0
    rounding = max(float(np.finfo(mass.dtype).eps), table.mass_precision)
    if not data.mass_is_log10:
        return rounding
    return rounding * np.log(10) * float(np.abs(mass).max(initial=1.0))


def _read(path: Path, data: DataConfig) -> HaloTable:
    kinds.check_kind(path, kinds.CATALOGUES)
    if kinds.is_list(path):
        return _read_list(path, data)
    if hdf5.is_hdf5(path):
        return _read_hdf5(path, data)
    pick = partial(_pick, data=data, path=path)
    if fits_table.is_fits(path):
        columns, units = fits_table.read_fits(path, pick, data.table)
    elif parquet_table.is_parquet(path):
        columns, units = parquet_table.read_parquet(path, pick)
    else:
        columns = _read_arrays(path, data)
        units = [""] * len(columns)
    table = _of_columns(columns, units, data, path)
    if text.is_text(path):
        table = table._replace(mass_precision=text.decimal_precision(table.mass))
    return table


def _read_arrays(path: Path, data: DataConfig) -> list[np.ndarray]:
    keys, mask = data.position_key, _mask_column(data)
    if text.is_text(path):
        keys = ("x", "y", "z") if keys == ("position",) else keys
        return text.columns_of(text.read_table(path), [*keys, data.mass_key, *mask], path)
    if path.suffix.lower() == ".npy":
        _refuse_mask_column(data, path)
        return _columns_of_array(read_array(path), path)
    return [read_array(path, key) for key in (*keys, data.mass_key, *mask)]


def _read_list(path: Path, data: DataConfig) -> HaloTable:
    _refuse_mass_settings(data, path)
    if data.selected != DISTINCT:
        _refuse_mask_column(data, path)
    column = USUAL_MASS if data.mass_key == "mass" else data.mass_key
    return read_rockstar(path, column, only_distinct=data.selected == DISTINCT)


def _read_hdf5(path: Path, data: DataConfig) -> HaloTable:
    """An exchange file, or datasets that the settings name."""
    found = hdf5.layout(path)
    if found != hdf5.EXCHANGE and data.position_key != DataConfig().position_key:
        names = [*data.position_key, data.mass_key, *_mask_column(data)]
        columns = read_columns(path, names)
        return as_table(_of_columns(columns.values, columns.units, data, path), columns, path, data)
    if found in (hdf5.BORG, hdf5.SNAPSHOT):
        raise InputError(f"{path} is a {found} and holds no halos: give their own file")
    if found == hdf5.EXCHANGE:
        _refuse_mass_settings(data, path)
        _refuse_mask_column(data, path)
    content = read_exchange(path)  # which says what is wrong with any other file
    return HaloTable(
        content.position,
        content.mass,
        length_unit=LENGTH,
        mass_unit=MASS,
        box_size=content.box_size,
        redshift=content.known_redshift,
        mass_definition=content.mass_definition,
        mass_threshold=content.mass_threshold,
        observation=None if content.is_plain else content.observation,
        completeness=content.completeness,
    )


def _of_columns(
    columns: list[np.ndarray], units: list[str], data: DataConfig, path: Path
) -> HaloTable:
    """Position columns first, then the mass, then the selection, if there is one."""
    if any(column.dtype.kind not in "fiub" for column in columns):
        types = ", ".join(str(column.dtype) for column in columns)
        raise InputError(f"{path}: columns have types {types}, expected numbers")
    num_axes = len(columns) - 1 - len(_mask_column(data))
    position = columns[0] if num_axes == 1 else _joined(columns[:num_axes], path)
    if len(set(units[:num_axes])) != 1:
        stated = ", ".join(sorted(set(units[:num_axes])))
        raise InputError(f"{path} states different units for the axes: {stated}")
    return HaloTable(
        position,
        columns[num_axes],
        columns[-1] if len(columns) > num_axes + 1 else None,
        length_unit=units[0],
        mass_unit=units[num_axes],
    )


def _pick(names: Sequence[str], *, data: DataConfig, path: Path) -> list[str]:
    """The columns to read of those a table has; their case does not matter if it is clear."""
    by_lower = {name.lower(): name for name in names}
    keys = data.position_key
    if keys == ("position",) and "position" not in by_lower:
        keys = ("x", "y", "z")
    wanted = [*keys, data.mass_key, *_mask_column(data)]
    for name in wanted:
        if name not in names and name.lower() not in by_lower:
            raise InputError(f"{path} has no column {name!r}; it has: {listed(list(names))}")
    return [name if name in names else by_lower[name.lower()] for name in wanted]


def _mask_column(data: DataConfig) -> list[str]:
    return [] if not data.selected or data.selected.endswith(".npy") else [data.selected]


def _refuse_mask_column(data: DataConfig, path: Path) -> None:
    if _mask_column(data):
        raise InputError(
            f"{path} has no column for data.selected = {data.selected!r}: give a .npy file"
        )


def _refuse_mass_settings(data: DataConfig, path: Path) -> None:
    if data.mass_is_log10 or data.mass_unit != 1:
        raise InputError(
            f"{path} states its masses in Msun/h: leave out data.mass_unit and data.mass_is_log10"
        )


def _columns_of_array(table: np.ndarray, path: Path) -> list[np.ndarray]:
    if table.ndim != 2 or table.shape[1] != 4:
        raise InputError(f"{path} has shape {table.shape}, expected (halos, 4): x, y, z, mass")
    return [table[:, :3], table[:, 3]]


def _joined(columns: list[np.ndarray], path: Path) -> np.ndarray:
    if len(columns) != 3 or len({column.shape for column in columns}) != 1:
        shapes = ", ".join(str(column.shape) for column in columns)
        raise InputError(
            f"{path}: position columns have shapes {shapes}, expected three equal ones"
        )
    return np.stack(columns, axis=-1)


def _boolean(mask: np.ndarray, path: Path) -> np.ndarray:
    if not np.isin(mask, (0, 1)).all():
        raise InputError(f"{path}: the selection has values other than 0 and 1")
    return mask.astype(bool)

"""Says what a data file holds: shapes, ranges, units, and what is found or assumed about them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from halo_mdn.config.schema import DataConfig
from halo_mdn.errors import InputError
from halo_mdn.io.formats import arrays, fits_table, hdf5, kinds, parquet_table, text
from halo_mdn.io.formats.guard import one_line
from halo_mdn.io.formats.stated import DensityField, HaloTable
from halo_mdn.io.formats.text import lines_of, read_table

_MOST = 40  # lines of a listing


def listing(path: Path) -> list[str]:
    """A line for every array or column of a file.

    Raises
    ------
    InputError
        If the file is missing, unreadable, or of a kind that we do not read.
    """
    if hdf5.is_hdf5(path):
        with hdf5.opened(path) as file:
            return _shortened(_of_hdf5(file, path))
    if path.suffix.lower() == ".asdf":
        kinds.check_kind(path, "")
    if arrays.is_arrays(path):
        return _shortened(_line(name, values) for name, values in arrays.arrays_of(path))
    if fits_table.is_fits(path):
        return _shortened(fits_table.listing_of(path))
    if parquet_table.is_parquet(path):
        return _shortened(parquet_table.listing_of(path))
    if kinds.is_list(path) or text.is_text(path):
        return _shortened([f"columns {_columns_line(path)}"])
    raise InputError(f"{path} is of no kind that we read: expected {kinds.CATALOGUES}")


def describe_field(field: DensityField, data: DataConfig) -> list[str]:
    """What a density field is like; `data` completes what its file states."""
    delta, shape = field.delta, field.delta.shape
    sides = " x ".join(f"{side:g}" for side in dict.fromkeys(data.box_size))
    sides = f"{sides} Mpc/h" if sides else "unknown size (give data.box_size)"
    finite = delta[np.isfinite(delta)]
    if not finite.size:
        return ["density    without a finite value"]
    lines = [
        f"density    {' x '.join(map(str, shape))} voxels, delta from {finite.min():.4g} to "
        f"{finite.max():.4g}, mean {finite.mean() + 0.0:.4f}",
        f"           box of {sides}; values at the {data.field_points} of voxels; mass "
        f"assignment: {field.mass_assignment}",
    ]
    num_empty, num_bad = int((delta <= -1).sum()), delta.size - finite.size
    if num_empty:
        lines.append(f"           {num_empty:,} voxels have delta <= -1: set data.density_floor")
    if num_bad:
        lines.append(f"           {num_bad:,} voxels are NaN or infinite: it cannot be used")
    return lines


def describe_halos(table: HaloTable, data: DataConfig) -> list[str]:
    """What a catalogue is like."""
    mass, position = table.mass, table.position
    if mass.size == 0:
        return ["halos      none"]
    low, high = position.min(axis=0), position.max(axis=0)
    ranges = ", ".join(
        f"{axis} {a:.4g} to {b:.4g}" for axis, a, b in zip("xyz", low, high, strict=True)
    )
    num_below = int((mass < data.mass_threshold).sum())
    stated = {
        "box": None if table.box_size is None else f"{table.box_size[0]:g} Mpc/h",
        "redshift": None if table.redshift is None else f"{table.redshift:.4g}",
        "masses": table.mass_definition or None,
        "complete above": f"{table.mass_threshold:g} Msun/h" if table.mass_threshold else None,
        "cosmology": table.cosmology or None,
    }
    said = ", ".join(f"{name} {text}" for name, text in stated.items() if text)
    return [
        f"halos      {mass.size:,}, masses from {mass.min():.4g} to {mass.max():.4g} Msun/h, "
        f"{num_below:,} of them below data.mass_threshold = {data.mass_threshold:g}",
        f"           positions in Mpc/h: {ranges}",
        f"           stated: {said or 'nothing else'}",
    ]


def _of_hdf5(file: h5py.File, path: Path) -> Iterable[str]:
    for name, part in sorted(hdf5.members(file, path), key=lambda one: one[0]):
        if isinstance(part, h5py.Dataset):
            unit = hdf5.unit_of(part)
            yield f"{name}  {part.shape} {part.dtype}" + (f", {unit}" if unit else "")
        elif len(part.attrs):
            yield f"{name}  attributes {', '.join(part.attrs)}"


def _line(name: str, values: np.ndarray) -> str:
    text = f"{name}  {values.shape} {values.dtype}"
    finite = values[np.isfinite(values)] if values.dtype.kind in "fiu" else np.empty(0)
    return text + (f", {finite.min():.6g} to {finite.max():.6g}" if finite.size else "")


def _shortened(lines: Iterable[str]) -> list[str]:
    lines = list(lines)
    left = len(lines) - _MOST
    shown = [one_line(line) for line in lines[:_MOST]]
    return shown if left <= 0 else [*shown, f"... and {left} more"]


def _columns_line(path: Path) -> str:
    """The first line of a Rockstar list, or the header of another table in text."""
    if kinds.is_list(path):
        return next(lines_of(path), "").lstrip("#").strip()
    table = read_table(path)
    return (table.delimiter or " ").join(table.names)

"""Says what a data file holds: shapes, ranges, units, and what is found or assumed about them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from halo_mdn.config.schema import DataConfig
from halo_mdn.errors import InputError
from halo_mdn.io.formats import fits_table, hdf5, parquet_table
from halo_mdn.io.formats.arrays import unreadable
from halo_mdn.io.formats.stated import DensityField, HaloTable

_MOST = 40  # lines of a listing


def listing(path: Path) -> list[str]:
    """A line for every array or column of a file.

    Raises
    ------
    InputError
        If the file is missing, unreadable, or of a kind that we do not read.
    """
    name = path.name.lower()
    if hdf5.is_hdf5(path):
        with hdf5.opened(path) as file:
            return _shortened(_of_hdf5(file))
    if name.endswith((".npy", ".npz")):
        return _shortened(_of_numpy(path))
    if name.endswith(fits_table.SUFFIXES):
        return _shortened(fits_table.columns_of(path))
    if name.endswith(parquet_table.SUFFIXES):
        return _shortened(parquet_table.columns_of(path))
    if name.endswith((".csv", ".list")):
        return [f"columns {_first_line(path).lstrip('#').strip()}"]
    raise InputError(
        f"{path} is of no kind that we read: expected .npy, .npz, .csv, .fits, .parquet, .h5, "
        ".hdf5 or a Rockstar .list"
    )


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
    if abs(finite.mean()) > 0.05:
        lines.append(
            "           the mean is not 0, as that of a whole box is: is this a patch of one?"
        )
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


def _of_hdf5(file: h5py.File) -> Iterable[str]:
    lines: list[str] = []

    def visit(name: str, part: h5py.Group | h5py.Dataset) -> None:
        if isinstance(part, h5py.Dataset):
            unit = part.attrs.get("units", part.attrs.get("unit", ""))
            unit = f", {unit}" if isinstance(unit, str) and unit else ""
            lines.append(f"{name}  {part.shape} {part.dtype}{unit}")
        elif len(part.attrs):
            lines.append(f"{name}  attributes {', '.join(part.attrs)}")

    file.visititems(visit)
    return lines


def _of_numpy(path: Path) -> Iterable[str]:
    try:
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return [_line("array", loaded)]
            return [_line(name, loaded[name]) for name in loaded.files]
    except (OSError, ValueError, EOFError) as error:
        raise unreadable(path, error) from None


def _line(name: str, values: np.ndarray) -> str:
    text = f"{name}  {values.shape} {values.dtype}"
    finite = values[np.isfinite(values)] if values.dtype.kind in "fiu" else np.empty(0)
    return text + (f", {finite.min():.6g} to {finite.max():.6g}" if finite.size else "")


def _shortened(lines: Iterable[str]) -> list[str]:
    lines = list(lines)
    left = len(lines) - _MOST
    return lines if left <= 0 else [*lines[:_MOST], f"... and {left} more"]


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as stream:
            return stream.readline()
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None

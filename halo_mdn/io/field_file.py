"""Reads a density field from whichever format its file has."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from halo_mdn.config.schema import DataConfig
from halo_mdn.errors import InputError
from halo_mdn.io.example import path_of
from halo_mdn.io.formats import hdf5
from halo_mdn.io.formats.arrays import is_arrays, read_array
from halo_mdn.io.formats.borg import read_borg
from halo_mdn.io.formats.exchange import read_exchange
from halo_mdn.io.formats.guard import reading
from halo_mdn.io.formats.kinds import FIELDS
from halo_mdn.io.formats.stated import DensityField, checked_field
from halo_mdn.io.overdensity import as_overdensity


def read_field(data: DataConfig) -> DensityField:
    """The overdensity that the settings name, and what its file states.

    Raises
    ------
    InputError
        If the file is missing or unreadable, or holds no overdensity.
    """
    return as_overdensity(stored_field(data), data, path_of(data.field))


def stored_field(data: DataConfig) -> DensityField:
    """The field as the file has it, which need not be an overdensity.

    Raises
    ------
    InputError
        If the file is missing or unreadable, or holds no field.
    """
    path = path_of(data.field)
    with reading(path):
        return checked_field(_read(path, data), path)


def _read(path: Path, data: DataConfig) -> DensityField:
    if not hdf5.is_hdf5(path):
        if not is_arrays(path):
            raise InputError(f"cannot read {path}: expected {FIELDS}")
        return _of_array(read_array(path, data.field_key, usual_name="delta"), path)
    found = hdf5.layout(path)
    if found == hdf5.BORG and data.field_key in ("", hdf5.BORG_DENSITY):
        return read_borg(path)
    if data.field_key and found != hdf5.EXCHANGE:
        return _of_array(hdf5.read_dataset(path, data.field_key)[0], path)
    if found == hdf5.SNAPSHOT:
        raise InputError(
            f"{path} holds particles, expected a density: make one with "
            "`run_inference.py convert OUT.h5 --particles FILE --cells NUMBER`"
        )
    content = read_exchange(path)  # which says what is wrong with any other file
    return DensityField(
        np.asarray(content.delta, dtype=float),
        box_size=content.box_size,
        redshift=content.known_redshift,
        mass_assignment=content.mass_assignment,
        boundary=content.boundary,
        field_is=content.field_is,
    )


def _of_array(field: np.ndarray, path: Path) -> DensityField:
    if field.ndim != 3:
        raise InputError(f"the field in {path} has shape {field.shape}, expected three axes")
    if field.size == 0:
        raise InputError(f"the field in {path} has shape {field.shape} and so no voxel")
    return DensityField(field.astype(float))

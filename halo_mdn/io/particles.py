"""Reads particle positions in pieces: `.npy`, `.npz`, and HDF5 snapshots of Gadget and AREPO."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from halo_mdn.config.schema import DataConfig
from halo_mdn.errors import InputError
from halo_mdn.io.formats import hdf5
from halo_mdn.io.formats.arrays import check_header, read_array
from halo_mdn.io.formats.guard import reading
from halo_mdn.io.formats.snapshot import USUAL, Source, box_of, length_unit, open_snapshot

CHUNK = 2_000_000  # particles held at a time
_OUTSIDE = 0.01  # of the box: drift between two domain decompositions
Chunk = tuple[np.ndarray, np.ndarray | None]


def open_particles(path: Path, data: DataConfig) -> Source:
    """What a file with particles states, completed by the settings.

    ``data.position_key`` names the array or dataset, ``data.length_unit`` and ``data.box_size`` say
    what the file leaves open.

    Raises
    ------
    InputError
        If box or unit of length are known from neither, or file and settings differ.
    """
    key = "" if data.position_key == ("position",) else ",".join(data.position_key)
    if hdf5.is_hdf5(path):
        return open_snapshot(path, key or USUAL, data)
    unit = length_unit({}, path, data)
    return Source([(path, key)], unit, box_of({}, unit, path, data))


def chunks(source: Source, data: DataConfig) -> Iterator[Chunk]:
    """Positions (n, 3) in Mpc/h, counted from the box's corner, and masses (n,) or None.

    Raises
    ------
    InputError
        If a position is not finite or outside of the box, or the particles are not as many as the
        header states or fill less than half of the box: the unit of length is then wrong.
    """
    sides, corner = np.array(source.box_size), np.array(data.box_corner or (0.0, 0.0, 0.0))
    low, high, num = np.full(3, np.inf), np.full(3, -np.inf), 0
    path = source.arrays[0][0]
    for path, name in source.arrays:
        for raw, weight in _pieces(path, name):
            position = _checked(raw, path) * source.length_unit - corner
            low = np.minimum(low, position.min(axis=0))
            high = np.maximum(high, position.max(axis=0))
            if (low < -_OUTSIDE * sides).any() or (high > (1 + _OUTSIDE) * sides).any():
                raise InputError(
                    f"positions in {path} reach from {low.min():.6g} to {high.max():.6g} Mpc/h in "
                    f"a box of {source.box_size} Mpc/h: check data.length_unit and data.box_corner"
                )
            num += len(position)
            yield position, weight
    if num == 0:
        raise InputError(f"{path} holds no particles")
    if (high - low < 0.5 * sides).any():
        raise InputError(
            f"positions in {path} span {(high - low).min():.6g} Mpc/h of a box of "
            f"{source.box_size} Mpc/h: check data.length_unit and data.box_size"
        )
    if source.num_particles not in (None, num):
        raise InputError(
            f"{path} and its parts hold {num:,} particles, its header states "
            f"{source.num_particles:,}: is a part missing?"
        )


def _pieces(path: Path, name: str) -> Iterator[Chunk]:
    if not hdf5.is_hdf5(path):
        array = _array(path, name)
        for start in range(0, max(len(array), 1), CHUNK):
            yield np.asarray(array[start : start + CHUNK]), None
        return
    with hdf5.opened(path) as file:
        if name not in file:  # a part of a snapshot without particles of this type
            return
        masses = file.get(f"{name.rpartition('/')[0]}/Masses") if "/" in name else None
        for part in (file[name], *([] if masses is None else [masses])):
            hdf5.check_size(part, path)
        for start in range(0, len(file[name]), CHUNK):
            piece = slice(start, start + CHUNK)
            yield file[name][piece], None if masses is None else masses[piece]


def _array(path: Path, name: str) -> np.ndarray:
    if path.suffix.lower() != ".npy":
        return read_array(path, name, usual_name="position")
    with reading(path):
        with path.open("rb") as stream:
            check_header(stream, path, "the array", path.stat().st_size)
        return np.load(path, mmap_mode="r", allow_pickle=False)


def _checked(raw: np.ndarray, path: Path) -> np.ndarray:
    if raw.ndim != 2 or raw.shape[1] != 3 or raw.dtype.kind not in "fiu":
        raise InputError(
            f"positions in {path} have shape {raw.shape} and type {raw.dtype}, expected numbers "
            "(particles, 3)"
        )
    if len(raw) == 0:
        raise InputError(f"{path} holds no particles")
    if not np.isfinite(raw).all():
        raise InputError(f"positions in {path} hold NaN or infinite values")
    return raw.astype(float)

"""Reads arrays from .npy and .npz files, with errors that name the file."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from halo_mdn.errors import InputError
from halo_mdn.io.formats.guard import check_unpacked, check_whole, listed, reading

SUFFIXES = (".npy", ".npz")
_HEADERS: dict[tuple[int, int], Callable[[IO[bytes]], Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def is_arrays(path: Path) -> bool:
    """Whether a file's name says NumPy."""
    return path.name.lower().endswith(SUFFIXES)


def read_array(path: Path, key: str = "", *, usual_name: str = "") -> np.ndarray:
    """One numeric array of a `.npy` or `.npz` file.

    Parameters
    ----------
    path : Path
    key : str
        Name of the array in a `.npz` file. Empty: the only array, or the one called `usual_name`.
    usual_name : str

    Raises
    ------
    InputError
        If the file is missing or unreadable, has no such array, or does not hold numbers.
    """
    if not is_arrays(path):
        raise InputError(f"cannot read {path}: expected a .npy or .npz file")
    # Our own stream: np.load leaves the file of a damaged archive open.
    with reading(path), path.open("rb") as stream:
        if zipfile.is_zipfile(stream):
            array = _of_archive(stream, path, key, usual_name)
        else:
            check_header(stream, path, "the array", path.stat().st_size)
            array = np.load(stream, allow_pickle=False)
        if array.dtype.kind not in "fiub":
            raise InputError(f"{path} holds values of type {array.dtype}, expected numbers")
        return array


def arrays_of(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """All arrays of a `.npy` or `.npz` file with their names, one at a time.

    Raises
    ------
    InputError
        If the file is missing or unreadable.
    """
    with reading(path), path.open("rb") as stream:
        if not zipfile.is_zipfile(stream):
            check_header(stream, path, "the array", path.stat().st_size)
            yield "array", np.load(stream, allow_pickle=False)
            return
        with _archive(stream, path) as archive:
            for name in archive.files:
                yield name, _member(archive, name, path)


def check_header(stream: IO[bytes], path: Path, what: str, size: int) -> None:
    """Refuse a `.npy` stream whose header promises more than follows, and rewind the stream."""
    stream.seek(0)
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise InputError(f"cannot read {path}: it has .npy version {version}, expected 1 or 2")
    shape, _, dtype = _HEADERS[version](stream)
    if min(shape, default=0) < 0:
        raise InputError(f"cannot read {path}: {what} has shape {shape}")
    check_whole(path, what, prod(shape) * dtype.itemsize, size - stream.tell())
    stream.seek(0)


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _archive(stream: IO[bytes], path: Path) -> np.lib.npyio.NpzFile:
    stream.seek(0)
    archive = np.load(stream, allow_pickle=False)
    packed: Any = archive.zip
    total = sum(member.file_size for member in packed.infolist())
    check_unpacked(path, "its content", total, path.stat().st_size)
    return archive


def _of_archive(stream: IO[bytes], path: Path, key: str, usual_name: str) -> np.ndarray:
    with _archive(stream, path) as archive:
        names = archive.files
        if not key:
            key = names[0] if len(names) == 1 else usual_name
        if key not in names:
            raise InputError(
                f"{path} has no array {key!r}; it has: {listed(names)}; name the one to read"
            )
        return _member(archive, key, path)


def _member(archive: np.lib.npyio.NpzFile, name: str, path: Path) -> np.ndarray:
    packed: Any = archive.zip
    stored = f"{name}.npy" if f"{name}.npy" in packed.namelist() else name
    size = packed.getinfo(stored).file_size
    with packed.open(stored) as stream:
        check_header(stream, path, f"the array {name!r}", size)
    array = archive[name]
    if not isinstance(array, np.ndarray):
        raise InputError(f"cannot read {path}: {name!r} is no array")
    return array

"""Reads arrays and columns from .npy, .npz and CSV files, with errors that name the file."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from halo_mdn.errors import InputError


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
    if path.suffix not in (".npy", ".npz"):
        raise InputError(f"cannot read {path}: expected a .npy or .npz file")
    try:
        # Our own stream: np.load leaves the file of a damaged archive open.
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            is_array = isinstance(loaded, np.ndarray)
            array = loaded if is_array else _pick(loaded, path, key, usual_name)
    except InputError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise unreadable(path, error) from None
    if array.dtype.kind not in "fiub":
        raise InputError(f"{path} holds values of type {array.dtype}, expected numbers")
    return array


def read_columns(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Columns of a CSV file with a header line, as float64.

    Raises
    ------
    InputError
        If the file is missing or unreadable, or a column or a value is.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            header = [name.strip() for name in stream.readline().lstrip("#").split(",")]
        for name in names:
            if name not in header:
                raise InputError(f"{path} has no column {name!r}; it has: {', '.join(header)}")
        which = [header.index(name) for name in names]
        # A file without rows is the catalogue's business: loadtxt would only warn about it.
        table = np.loadtxt(_rows(path), delimiter=",", usecols=which, ndmin=2)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    return list(table.reshape(-1, len(which)).T)


def unreadable(path: Path, error: Exception) -> InputError:
    """The error for a file that is missing, or that is not what its name says."""
    if isinstance(error, FileNotFoundError):
        return InputError(f"there is no file {path}")
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return InputError(f"cannot read {path}: {reason}")


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _pick(archive: np.lib.npyio.NpzFile, path: Path, key: str, usual_name: str) -> np.ndarray:
    names = archive.files
    if not key:
        key = names[0] if len(names) == 1 else usual_name
    if key not in names:
        raise InputError(
            f"{path} has no array {key!r}; it has: {', '.join(names)}; name the one to read"
        )
    return archive[key]


def _rows(path: Path) -> list[str]:
    rows = path.read_text(encoding="utf-8").splitlines()[1:]
    rows = [row for row in rows if row.strip() and not row.startswith("#")]
    if not rows:
        raise InputError(f"{path} has a header but no rows: the catalogue is empty")
    return rows

"""Which of the HDF5 layouts that we read a file has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from halo_mdn.errors import InputError
from halo_mdn.io.formats.exchange import FORMAT

EXCHANGE, BORG, SNAPSHOT = "exchange file", "BORG sample", "snapshot"
BORG_DENSITY = "scalars/BORG_final_density"


def is_hdf5(path: Path) -> bool:
    """Whether a file's name says HDF5; BORG's restart files end in `.h5_0`."""
    return path.suffix in (".h5", ".hdf5", ".hdf") or path.suffix.startswith(".h5_")


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file for reading; a missing or damaged one gets a sentence."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except OSError as error:
        reason = error.strerror or "it is not an HDF5 file, or damaged"
        raise InputError(f"cannot read {path}: {reason}") from None


def read_dataset(path: Path, name: str) -> tuple[np.ndarray, str]:
    """A dataset of numbers, and the unit in its attribute ``units`` or ``unit`` (else empty).

    Raises
    ------
    InputError
        If the file is missing or damaged, or has no such dataset of numbers.
    """
    with opened(path) as file:
        part = file.get(name)
        if not isinstance(part, h5py.Dataset) or part.dtype.kind not in "fiub":
            found: list[str] = []
            file.visititems(lambda key, item: found.append(key) if is_dataset(item) else None)
            known = ", ".join(found[:20]) or "none"
            raise InputError(f"{path} has no dataset of numbers {name!r}; it has: {known}")
        unit = part.attrs.get("units", part.attrs.get("unit", ""))
        return part[()], unit.decode() if isinstance(unit, bytes) else str(unit)


def is_dataset(part: object) -> bool:
    """Whether a member of an HDF5 file holds data, rather than other members."""
    return isinstance(part, h5py.Dataset)


def layout(path: Path) -> str:
    """``EXCHANGE``, ``BORG`` or ``SNAPSHOT``; empty for any other.

    Raises
    ------
    InputError
        If it is missing or no HDF5 file.
    """
    with opened(path) as file:
        if file.attrs.get("format") == FORMAT:
            return EXCHANGE
        if BORG_DENSITY in file:
            return BORG
        return SNAPSHOT if any(name.startswith("PartType") for name in file) else ""

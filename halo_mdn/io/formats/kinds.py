"""The sentence for files of kinds that we do not read: what is read instead."""

from __future__ import annotations

from pathlib import Path

from halo_mdn.errors import InputError
from halo_mdn.io.formats import arrays, parquet_table, text
from halo_mdn.io.formats.fits_table import is_fits
from halo_mdn.io.formats.hdf5 import is_hdf5

FIELDS = "a .npy or .npz file, or HDF5 (.h5, .hdf5): an exchange file, a BORG sample"
CATALOGUES = (
    "a .npy or .npz file, a table (.csv, .txt, .fits, .parquet), a Rockstar .list, or HDF5 (.h5, "
    ".hdf5); .csv, .txt, .list and .fits also as .gz or .bz2"
)
_ABACUS = (
    "is an ASDF file, as of AbacusSummit: read it with CompaSOHaloCatalog of abacusutils, and "
    "save positions in Mpc/h, mass N times ParticleMassHMsun, and box as .npz"
)


def is_list(path: Path) -> bool:
    """Whether a file's name says that it is a list of Rockstar or Consistent Trees."""
    return text.plain_name(path).endswith(".list")


def is_known(path: Path) -> bool:
    """Whether a file's name says that it is of a kind that we read."""
    readers = (is_hdf5, is_fits, is_list, text.is_text, parquet_table.is_parquet, arrays.is_arrays)
    return any(is_read(path) for is_read in readers)


def check_kind(path: Path, expected: str) -> None:
    """Refuse a file whose name says that it is of no kind that we read.

    Raises
    ------
    InputError
        Naming the kinds that are `expected`.
    """
    if path.suffix.lower() == ".asdf":
        raise InputError(f"{path} {_ABACUS}")
    if not is_known(path):
        raise InputError(f"cannot read {path}: expected {expected}")

"""Reads columns of a FITS table (needs astropy)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from halo_mdn.errors import InputError
from halo_mdn.io.formats.arrays import unreadable
from halo_mdn.io.formats.optional import needed

SUFFIXES = (".fits", ".fit", ".fits.gz")
Pick = Callable[[Sequence[str]], Sequence[str]]


def read_fits(path: Path, pick: Pick) -> tuple[list[np.ndarray], list[str]]:
    """Columns of the first table in a FITS file, and the units it states for them.

    Parameters
    ----------
    path : Path
    pick : callable
        Gets the names of all columns and returns those to read.

    Returns
    -------
    columns : list of array
        Scaled as TSCAL and TZERO say, in native byte order.
    units : list of str
        TUNIT of each; empty where there is none.

    Raises
    ------
    InputError
        If astropy is missing, or the file is missing, unreadable or without a table.
    """
    with _first_table(path) as table:
        names = pick(table.columns.names)
        columns = [_native(table.data[name]) for name in names]
        return columns, [table.columns[name].unit or "" for name in names]


def columns_of(path: Path) -> list[str]:
    """A line for each column: name, format and unit."""
    with _first_table(path) as table:
        lines = [f"{table.header['NAXIS2']:,} rows"]
        for column in table.columns:
            unit = f", {column.unit}" if column.unit else ""
            lines.append(f"{column.name}  {column.format}{unit}")
        return lines


@contextmanager
def _first_table(path: Path) -> Iterator[Any]:
    fits = needed("astropy.io.fits", path)
    try:
        with warnings.catch_warnings(action="ignore"), fits.open(path) as file:
            tables = [unit for unit in file if isinstance(unit, fits.BinTableHDU | fits.TableHDU)]
            if not tables:
                raise InputError(f"{path} has no table, expected one with a row per halo")
            yield tables[0]
    except InputError:
        raise
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise unreadable(path, error) from None


def _native(column: np.ndarray) -> np.ndarray:
    """A copy that outlives the file, in this machine's byte order."""
    return np.array(column, dtype=column.dtype.newbyteorder("="))

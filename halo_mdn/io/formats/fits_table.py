"""Reads columns of a FITS table (needs astropy)."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from halo_mdn.errors import InputError
from halo_mdn.io.formats.guard import check_whole, listed, one_line, reading
from halo_mdn.io.formats.optional import needed
from halo_mdn.io.formats.text import plain_bytes, plain_name

SUFFIXES = (".fits", ".fit")
Pick = Callable[[Sequence[str]], Sequence[str]]
_BLOCK, _CARD = 2880, 80
_NUMBER = re.compile(rb"(NAXIS\d*|BITPIX|PCOUNT|GCOUNT|TFIELDS) *= *([+-]?\d+) *(?:/|$)")
_MOST_FIELDS = 999  # of the standard, for axes and for columns


def is_fits(path: Path) -> bool:
    """Whether a file's name says FITS, compressed or not."""
    return plain_name(path).endswith(SUFFIXES)


def read_fits(path: Path, pick: Pick, name: str = "") -> tuple[list[np.ndarray], list[str]]:
    """Columns of a table in a FITS file, and the units it states for them.

    Parameters
    ----------
    path : Path
    pick : callable
        Gets the names of all columns and returns those to read.
    name : str
        EXTNAME of the table; empty where the file has one alone.

    Returns
    -------
    columns : list of array
        Scaled as TSCAL and TZERO say, in native byte order.
    units : list of str
        TUNIT of each; empty where there is none.

    Raises
    ------
    InputError
        If astropy is missing, the file is missing, unreadable or without a table, it has several
        and none is named, or a value is marked as missing (TNULL).
    """
    with _tables(path) as tables:
        table = _named(tables, name, path)
        names = pick(table.columns.names)
        columns = [_values(table, name, path) for name in names]
        return columns, [one_line(table.columns[name].unit or "") for name in names]


def listing_of(path: Path) -> list[str]:
    """A line for each table, and one for each column: name, format and unit."""
    lines = []
    with _tables(path) as tables:
        for table in tables:
            name = f"table {table.name}, " if table.name else ""
            lines.append(f"{name}{table.header['NAXIS2']:,} rows")
            for column in table.columns:
                unit = f", {column.unit}" if column.unit else ""
                lines.append(one_line(f"{column.name}  {column.format}{unit}"))
        return lines


@contextmanager
def _tables(path: Path) -> Iterator[list[Any]]:
    fits = needed("astropy.io.fits", path)
    content = plain_bytes(path)
    with reading(path):
        _check_headers(content, path)
        with fits.open(io.BytesIO(content)) as file:
            tables = [unit for unit in file if isinstance(unit, fits.BinTableHDU | fits.TableHDU)]
            if not tables:
                raise InputError(f"{path} has no table, expected one with a row per halo")
            yield tables


def _named(tables: list[Any], name: str, path: Path) -> Any:
    """The table that is meant: the one so called, or the only one."""
    named = [table for table in tables if table.name.lower() == name.lower()] if name else tables
    if len(named) == 1:
        return named[0]
    known = listed([f"{table.name or 'without a name'}" for table in tables])
    asked = f"none of them called {name}" if name else "and none is named"
    raise InputError(
        f"{path} has {len(tables)} tables ({known}), {asked}: set data.table to the name of one"
    )


def _values(table: Any, name: str, path: Path) -> np.ndarray:
    """A copy that outlives the file, in this machine's byte order."""
    column = table.columns[name]
    if re.search("[PQ]", str(column.format)):
        raise InputError(f"{path}: column {name!r} has rows of different lengths, expected numbers")
    values = table.data[name]
    if column.null is not None:
        raw = np.recarray.field(table.data, name)  # before TSCAL and TZERO
        is_text = raw.dtype.kind == "S"
        null = str(column.null).strip().encode() if is_text else column.null
        num = int(((np.char.strip(raw) if is_text else raw) == null).sum())
        if num:
            raise InputError(
                f"{path}: {num:,} values of column {name!r} are missing (TNULL = {column.null}): "
                "leave these halos out"
            )
    return np.array(values, dtype=values.dtype.newbyteorder("="))


def _check_headers(content: bytes, path: Path) -> None:
    """Refuse what would make astropy loop or make room for what the file cannot hold."""
    start, num = 0, 0
    while start < len(content) and content[start : start + _CARD].strip(b" \0"):
        header, start = _header(content, start, path)
        axes = [header.get(f"NAXIS{i + 1}", 0) for i in range(header.get("NAXIS", 0))]
        bits = abs(header.get("BITPIX", 8)) * header.get("GCOUNT", 1)
        wanted = bits // 8 * (header.get("PCOUNT", 0) + (prod(axes) if axes else 0))
        check_whole(path, f"part {num} of it", wanted, len(content) - start)
        start += -(-wanted // _BLOCK) * _BLOCK
        num += 1


def _header(content: bytes, start: int, path: Path) -> tuple[dict[str, int], int]:
    """The whole numbers of a header, and where it ends."""
    numbers: dict[str, int] = {}
    for at in range(start, len(content), _CARD):
        card = content[at : at + _CARD]
        if card.rstrip() == b"END":
            return numbers, start + -(-(at + _CARD - start) // _BLOCK) * _BLOCK
        if found := _NUMBER.match(card):
            key, value = found[1].decode(), int(found[2])
            most = _MOST_FIELDS if key in ("NAXIS", "TFIELDS") else np.inf
            if not (0 if key != "BITPIX" else -64) <= value <= most:
                raise InputError(f"cannot read {path}: its header has {key} = {value}")
            numbers[key] = value
    raise InputError(f"cannot read {path}: a header in it has no end, or is no FITS header")

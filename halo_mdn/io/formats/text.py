"""Text as it is or compressed (.gz, .bz2), and the tables in it."""

from __future__ import annotations

import bz2
import gzip
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from halo_mdn.errors import InputError
from halo_mdn.io.formats.guard import check_unpacked, listed, reading

SUFFIXES = (".csv", ".txt", ".dat", ".ascii", ".tsv")
_PACKED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open}
_LONGEST = 1_000_000  # characters of a line


class TextTable(NamedTuple):
    """Names of columns, what parts them (None: blanks), and the rows."""

    names: list[str]
    delimiter: str | None
    rows: list[str]


def plain_name(path: Path) -> str:
    """A file's name in lower case, without the ending of a compression."""
    name = path.name.lower()
    return name.removesuffix(path.suffix.lower()) if path.suffix.lower() in _PACKED else name


def is_text(path: Path) -> bool:
    """Whether a file's name says that it is a table in text, compressed or not."""
    return plain_name(path).endswith(SUFFIXES)


def plain_bytes(path: Path) -> bytes:
    """A file's content, unpacked where its name says that it is compressed.

    Raises
    ------
    InputError
        If it is missing or damaged, or unpacks to absurdly more than it is.
    """
    with reading(path):
        _check_unpacked(path)
        with _opened(path) as stream:
            return stream.read()


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a text in UTF-8, without a byte-order mark.

    Raises
    ------
    InputError
        As :func:`plain_bytes`, or if it is no text.
    """
    with reading(path):
        _check_unpacked(path)
        with io.TextIOWrapper(_opened(path), encoding="utf-8-sig") as text:
            while line := text.readline(_LONGEST):
                if len(line) == _LONGEST or "\0" in line:
                    raise InputError(
                        f"cannot read {path}: it has zero bytes or endless lines, expected text"
                    )
                yield line


def read_table(path: Path) -> TextTable:
    """The header and the rows of a table; comments begin with ``#``.

    The header is the first line, or the comment above the rows that names as many columns as they
    have. Commas, semicolons, tabs or blanks part columns; beside the latter three, a comma is the
    decimal point.

    Raises
    ------
    InputError
        If the file is missing or no text, or no line names the columns.
    """
    lines = [line.strip() for line in lines_of(path) if line.strip()]
    comments = [line.lstrip("# ") for line in lines if line.startswith("#")]
    rows = [line for line in lines if not line.startswith("#")]
    if rows and not _is_numeric(rows[0]):
        header, rows = rows[0], rows[1:]
    elif rows and not comments:
        raise InputError(
            f"{path} has no header: its first line is {rows[0][:60]!r}, expected the names of the "
            "columns, such as x,y,z,mass"
        )
    else:
        header = _header_among(comments, rows)
    delimiter = _delimiter(header)
    if delimiter in (";", "\t"):
        rows = [row.replace(",", ".") for row in rows]
    names = [name.strip().strip("\"'") for name in header.split(delimiter)]
    return TextTable(names, delimiter, rows)


def columns_of(table: TextTable, names: Sequence[str], path: Path) -> list[np.ndarray]:
    """Columns of a table, as float64; the case of names does not matter where it is clear.

    Raises
    ------
    InputError
        If a column or a value is missing, or the table has no rows.
    """
    which = [_place(table.names, name, path) for name in names]
    if not table.rows:
        raise InputError(f"{path} has a header but no rows: the catalogue is empty")
    with reading(path):
        values = np.loadtxt(
            table.rows, delimiter=table.delimiter, usecols=which, ndmin=2, quotechar='"'
        )
    return list(values.reshape(-1, len(which)).T)


def _check_unpacked(path: Path) -> None:
    """Refuse a compressed file with absurdly much in it, before any of it is kept."""
    if path.suffix.lower() not in _PACKED:
        return
    size, seen = path.stat().st_size, 0
    with _opened(path) as stream:
        while piece := stream.read(2**20):
            seen += len(piece)
            check_unpacked(path, "its content", seen, size)


def _opened(path: Path) -> Any:
    return _PACKED.get(path.suffix.lower(), open)(path, "rb")


def _header_among(comments: list[str], rows: list[str]) -> str:
    """The comment with as many words as the first row has, else the last one."""
    num = len(_words(rows[0])) if rows else 0
    fitting = [line for line in comments if len(line.split(_delimiter(line))) == num]
    return (fitting or comments or [""])[0 if fitting else -1]


def _delimiter(header: str) -> str | None:
    return next((mark for mark in ";,\t" if mark in header), None)


def _words(row: str) -> list[str]:
    return row.split(_delimiter(row))


def _is_numeric(row: str) -> bool:
    delimiter = _delimiter(row)
    text = row.replace(",", ".") if delimiter in (";", "\t") else row
    try:
        return bool([float(word.strip().strip("\"'")) for word in text.split(delimiter)])
    except ValueError:
        return False


def _place(names: list[str], wanted: str, path: Path) -> int:
    if wanted in names:
        return names.index(wanted)
    alike = [name for name in names if name.lower() == wanted.lower()]
    if len(alike) != 1:
        what = "several columns" if alike else "no column"
        raise InputError(f"{path} has {what} {wanted!r}; it has: {listed(names)}")
    return names.index(alike[0])


def decimal_precision(values: np.ndarray) -> float:
    """The relative rounding of numbers that were printed with five to nine digits; else 0."""
    size = np.abs(values[np.isfinite(values) & (values != 0)])
    if not size.size:
        return 0.0
    scaled = size / 10.0 ** np.floor(np.log10(size))
    for digits in range(5, 10):
        step = 10.0 ** (1 - digits)
        if np.allclose(np.round(scaled / step) * step, scaled, rtol=1e-12, atol=0):
            return step / 2
    return 0.0

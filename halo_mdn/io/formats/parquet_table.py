"""Reads columns of a Parquet table (needs pyarrow)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from halo_mdn.errors import InputError
from halo_mdn.io.formats.guard import check_unpacked, reading
from halo_mdn.io.formats.optional import needed

SUFFIXES = (".parquet", ".pq")
Pick = Callable[[Sequence[str]], Sequence[str]]


def read_parquet(path: Path, pick: Pick) -> tuple[list[np.ndarray], list[str]]:
    """Columns of a Parquet file, and the units it states for them.

    Units are those that astropy writes (``table_meta_yaml``), or the ``unit`` in a column's own
    metadata. `pick` gets the names of all columns and returns those to read.

    Raises
    ------
    InputError
        If pyarrow is missing, or the file is missing or unreadable, or a value is.
    """
    with _opened(path) as file:
        names = list(pick(file.schema_arrow.names))
        table = file.read(columns=names)
        units = [_unit(file.schema_arrow, name) for name in names]
    return [_array(table.column(name), name, path) for name in names], units


def is_parquet(path: Path) -> bool:
    """Whether a file's name says Parquet."""
    return path.name.lower().endswith(SUFFIXES)


def listing_of(path: Path) -> list[str]:
    """A line for each column: name, type and unit."""
    with _opened(path) as file:
        schema = file.schema_arrow
        lines = [f"{file.metadata.num_rows:,} rows"]
        for name in schema.names:
            unit = f", {_unit(schema, name)}" if _unit(schema, name) else ""
            lines.append(f"{name}  {schema.field(name).type}{unit}")
        return lines


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    parquet = needed("pyarrow.parquet", path)
    with reading(path), parquet.ParquetFile(path) as file:
        _check_sizes(file.metadata, path)
        yield file


def _check_sizes(metadata: Any, path: Path) -> None:
    """Refuse row groups that unpack to absurdly more than the file is."""
    size, numbers = path.stat().st_size, 8 * metadata.num_rows
    check_unpacked(path, "a column", numbers, size)
    for group in range(metadata.num_row_groups):
        check_unpacked(path, "a part", metadata.row_group(group).total_byte_size, size)
        check_unpacked(path, "a part", 8 * metadata.row_group(group).num_rows, size)


def _array(column: Any, name: str, path: Path) -> np.ndarray:
    if column.null_count:
        raise InputError(f"{path}: {column.null_count} values of column {name!r} are missing")
    values = column.to_numpy()
    if values.dtype == object and len(values):  # lists, such as (x, y, z)
        sizes = {np.shape(value) for value in values}
        values = np.stack(values) if len(sizes) == 1 else values
    return values


def _unit(schema: Any, name: str) -> str:
    own = schema.field(name).metadata or {}
    if text := own.get(b"unit", own.get(b"units")):
        return text.decode()
    described = (schema.metadata or {}).get(b"table_meta_yaml", b"").decode()
    found = re.search(rf"name: {re.escape(name)}, unit: ([^,}}]+)", described)
    return found[1].strip() if found else ""

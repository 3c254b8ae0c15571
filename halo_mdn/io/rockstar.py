"""Reads halo lists in Rockstar's text layout (`out_*.list`, `hlist_*.list`)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from halo_mdn.errors import InputError
from halo_mdn.io.arrays import unreadable

USUAL_MASS = "Mvir"
POSITION = ("X", "Y", "Z")


def read_rockstar(path: Path, mass_column: str = USUAL_MASS) -> tuple[np.ndarray, np.ndarray]:
    """Positions (H, 3) in Mpc/h and masses (H,) in Msun/h.

    Column names are compared without regard to case and to the numbers that `hlist` files append,
    as in ``mvir(10)``. If a header names units, they must be Msun / h and Mpc / h.

    Raises
    ------
    InputError
        If the file is missing or unreadable, a column is, or the units are others.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            header = _header(stream)
        columns = [_bare(name) for name in header[0].lstrip("#").split()] if header else []
        which = [_index(columns, name, path) for name in (*POSITION, mass_column)]
        _check_units(header, path)
        table = np.loadtxt(path, comments="#", usecols=which, ndmin=2)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    return table[:, :3], table[:, 3]


def _header(lines: Iterable[str]) -> list[str]:
    header = []
    for line in lines:
        if not line.startswith("#"):
            break
        header.append(line)
    return header


def _bare(name: str) -> str:
    return re.sub(r"\(\d+\)$", "", name).lower()


def _index(columns: list[str], name: str, path: Path) -> int:
    if name.lower() not in columns:
        known = ", ".join(columns) or "none: its first line is no header"
        raise InputError(f"{path} has no column {name!r}; it has: {known}")
    return columns.index(name.lower())


def _check_units(header: list[str], path: Path) -> None:
    text = "".join(header)
    for what, unit in (("Masses", "Msun / h"), ("Positions", "Mpc / h")):
        found = re.search(rf"{what} in ([^(\n]*)", text)
        if found and found[1].strip().replace(" ", "") != unit.replace(" ", ""):
            raise InputError(f"{path} has {what.lower()} in {found[1].strip()}, expected {unit}")

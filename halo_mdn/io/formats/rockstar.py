"""Reads halo lists in the text layouts of Rockstar (`out_*.list`) and its trees (`hlist_*.list`).

Both state units, box, cosmology and scale factor in comment lines, in words of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from halo_mdn.errors import InputError
from halo_mdn.io.formats.guard import listed, reading
from halo_mdn.io.formats.stated import HaloTable
from halo_mdn.io.formats.text import decimal_precision, lines_of
from halo_mdn.io.formats.units import LENGTH, MASS, canonical

USUAL_MASS = "Mvir"
POSITION = ("X", "Y", "Z")
_NUMBER = r"\s*[=:]\s*([0-9.eE+-]+)"
# out: "#Units: Masses in Msun / h"; hlist: "#Mvir: Halo mass (Msun/h).", "#X/Y/Z: Halo position
# (Mpc/h comoving)."
_UNITS = (
    ("masses", "Msun / h", r"Masses in ([^(\n]*)|^#Mvir: Halo mass \(([^)\n]*)\)"),
    ("positions", "Mpc / h", r"Positions in ([^(\n]*)|^#X/Y/Z: Halo position \(([^)\n]*)\)"),
)


def read_rockstar(
    path: Path, mass_column: str = USUAL_MASS, *, only_distinct: bool = False
) -> HaloTable:
    """Halos with positions in Mpc/h and masses in Msun/h, and what the header states.

    Column names are compared without regard to case and to the numbers that `hlist` files append,
    as in ``mvir(10)``. If a header names units, they must be Msun / h and Mpc / h.

    Parameters
    ----------
    path : Path
    mass_column : str
    only_distinct : bool
        Select the halos that are no subhalos of others (``pid`` is -1) and no phantoms, which are
        interpolated where the halo finder found nothing.

    Raises
    ------
    InputError
        If the file is missing or unreadable, a column is, or the units are others.
    """
    with reading(path):
        header, has_rows = _header(lines_of(path))
        columns = [_bare(name) for name in header[0].lstrip("#").split()] if header else []
        which = [_index(columns, name, path) for name in (*POSITION, mass_column)]
        extra = [name for name in ("pid", "scale", "phantom") if name in columns]
        which += [columns.index(name) for name in extra]
        text = "".join(header)
        _check_units(text, path)
        if not has_rows:
            raise InputError(f"{path} has a header but no rows: the catalogue is empty")
        table = np.loadtxt(lines_of(path), comments="#", usecols=which, ndmin=2)
    more = dict(zip(extra, table[:, 4:].T, strict=True))
    phantom = more.get("phantom")
    distinct = more["pid"] < 0 if "pid" in more else None
    if only_distinct and distinct is None:
        raise InputError(f"{path} has no column pid, so it cannot tell which halos are distinct")
    return HaloTable(
        table[:, :3],
        table[:, 3],
        selected=_real(distinct, phantom) if only_distinct else None,
        length_unit=LENGTH,
        mass_unit=MASS,
        mass_precision=decimal_precision(table[:, 3]),
        box_size=_box(text),
        redshift=_redshift(text, more["scale"][0] if "scale" in more else None),
        cosmology=_cosmology(text),
        notes=(
            *_notes(path, columns[which[3]], distinct, only_distinct),
            *_phantoms(path, phantom, only_distinct),
        ),
    )


def _header(lines: Iterable[str]) -> tuple[list[str], bool]:
    """The comment lines at the top, and whether anything follows them."""
    header: list[str] = []
    for line in lines:
        if line.strip() and not line.startswith("#"):
            return header, True
        header.append(line)
    return header, False


def _bare(name: str) -> str:
    return re.sub(r"\(\d+\)$", "", name).lower()


def _index(columns: list[str], name: str, path: Path) -> int:
    if name.lower() not in columns:
        known = listed(columns) if columns else "none: its first line is no header"
        raise InputError(f"{path} has no column {name!r}; it has: {known}")
    return columns.index(name.lower())


def _check_units(text: str, path: Path) -> None:
    for what, unit, pattern in _UNITS:
        if found := re.search(pattern, text, flags=re.MULTILINE):
            stated = (found[1] or found[2]).strip()
            if canonical(stated) != canonical(unit):
                raise InputError(f"{path} has {what} in {stated}, expected {unit}")


def _stated(text: str, name: str) -> float | None:
    found = re.search(rf"\b{name}{_NUMBER}", text)
    return float(found[1]) if found else None


def _box(text: str) -> tuple[float, float, float] | None:
    side = _stated(text, "[Bb]ox size")
    return (side, side, side) if side else None  # 0 stands for not stated


def _redshift(text: str, scale: float | None) -> float | None:
    if scale is None:
        found = re.search(rf"^#a{_NUMBER}", text, flags=re.MULTILINE)
        scale = float(found[1]) if found else None
    return None if scale is None else 1 / scale - 1 if scale > 0 else np.nan


def _cosmology(text: str) -> str:
    names = {"omega_m": "(?:Om|Omega_M)", "h": "(?:h|h0)"}
    known = {name: _stated(text, pattern) for name, pattern in names.items()}
    known = {name: value for name, value in known.items() if value is not None}
    return json.dumps(known) if known else ""


def _notes(
    path: Path, mass_column: str, distinct: np.ndarray | None, only_distinct: bool
) -> tuple[str, ...]:
    notes = [f"{path.name}: masses from column {mass_column}"]
    num = 0 if distinct is None else int((~distinct).sum())
    if num and distinct is not None:
        use = "left out" if only_distinct else "used; data.selected = distinct leaves them out"
        notes.append(f"{path.name}: {num:,} of {len(distinct):,} halos are subhalos, {use}")
    return tuple(notes)


def _real(distinct: np.ndarray | None, phantom: np.ndarray | None) -> np.ndarray | None:
    return distinct if distinct is None or phantom is None else distinct & (phantom == 0)


def _phantoms(path: Path, phantom: np.ndarray | None, only_distinct: bool) -> tuple[str, ...]:
    num = 0 if phantom is None else int((phantom != 0).sum())
    if not num or phantom is None:
        return ()
    use = "left out" if only_distinct else "used; data.selected = distinct leaves them out"
    text = f"{num:,} of {len(phantom):,} halos are phantoms (interpolated across timesteps), {use}"
    return (f"{path.name}: {text}",)

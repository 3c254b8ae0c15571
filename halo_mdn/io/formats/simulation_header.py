"""What the headers of simulation codes state: Gadget, AREPO, SUBFIND, SWIFT and SOAP (HDF5)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from halo_mdn.errors import InputError
from halo_mdn.io.formats.guard import reading

_GROUPS = ("Parameters", "Cosmology", "Units", "Header")  # the last one wins
_CM_PER_MPC = 3.085678e24  # Gadget's own figure
_GRAMS_PER_MSUN = 1.989e33
_SWIFT_LENGTH, _SWIFT_MASS = "Unit length in cgs (U_L)", "Unit mass in cgs (U_M)"


def header_of(file: h5py.File, path: Path) -> dict[str, Any]:
    """The attributes of a file's headers; arrays of one number as that number.

    Raises
    ------
    InputError
        If they cannot be read.
    """
    header: dict[str, Any] = {}
    with reading(path):
        for name in (*(f"SWIFT/{group}" for group in _GROUPS), *_GROUPS):
            if isinstance(file.get(name), h5py.Group):
                header.update(file[name].attrs)
    return {key: _scalar(value) for key, value in header.items()}


def stated_length(header: dict[str, Any], path: Path) -> float | None:
    """A length of 1 in Mpc/h, where the header states it.

    Gadget's units are per h, SWIFT's are not.

    Raises
    ------
    InputError
        If it is not positive and finite, or a unit without h comes without h.
    """
    unit = _unit(header, "UnitLength_in_cm", _SWIFT_LENGTH, _CM_PER_MPC, path)
    # Codes write the centimetres with different numbers of digits.
    return unit and next((u for u in (1.0, 1e-3) if abs(unit / u - 1) < 1e-3), unit)


def stated_mass(header: dict[str, Any], path: Path) -> float | None:
    """A mass of 1 in Msun/h, as :func:`stated_length`."""
    return _unit(header, "UnitMass_in_g", _SWIFT_MASS, _GRAMS_PER_MSUN, path)


def stated_redshift(header: dict[str, Any]) -> float | None:
    """The redshift, where the header states it."""
    return float(header["Redshift"]) if "Redshift" in header else None


def stated_cosmology(header: dict[str, Any]) -> str:
    """Omega_m and h as JSON; empty where the header states neither."""
    names = {"omega_m": ("Omega0", "Omega_m"), "h": ("HubbleParam", "h")}
    known = {
        ours: float(header[theirs])
        for ours, spellings in names.items()
        for theirs in spellings
        if theirs in header
    }
    return json.dumps(known) if known else ""


def num_files(header: dict[str, Any]) -> int:
    """In how many files the data are."""
    return int(header.get("NumFilesPerSnapshot", header.get("NumFiles", 1)))


def parts_of(path: Path, num: int) -> list[Path]:
    """The files of a set of which one is named.

    Raises
    ------
    InputError
        If their names cannot be told from this one's, or one is missing.
    """
    if num <= 1:
        return [path]
    found = re.fullmatch(r"(.*\.)\d+(\.h(?:df)?5)", path.name)
    if not found or num > 10_000:
        raise InputError(f"{path} is one of {num} parts, expected a name such as snap_099.0.hdf5")
    parts = [path.with_name(f"{found[1]}{part}{found[2]}") for part in range(num)]
    missing = [part for part in parts if not part.is_file()]
    if missing:
        raise InputError(
            f"there is no file {missing[0]}: {path.name} is one of {num} parts, {len(missing)} of "
            "which are missing; put all of them beside it"
        )
    return parts


def _unit(header: dict[str, Any], gadget: str, swift: str, ours: float, path: Path) -> float | None:
    if gadget in header:
        unit = float(header[gadget]) / ours
    elif swift in header:
        if "h" not in header:
            raise InputError(f"{path} states units without h, and not h: give data.length_unit")
        unit = float(header[swift]) / ours * float(header["h"])
    else:
        return None
    if not 0 < unit < np.inf:
        raise InputError(f"{path} states {gadget if gadget in header else swift} = {unit * ours}")
    return unit


def _scalar(value: Any) -> Any:
    return value.ravel()[0] if isinstance(value, np.ndarray) and value.size == 1 else value

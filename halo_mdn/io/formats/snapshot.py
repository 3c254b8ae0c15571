"""What the header of a particle snapshot states (Gadget and AREPO, HDF5).

The unit of length is what the file states (``UnitLength_in_cm``) or what the settings say; kpc/h
and Mpc/h are both usual, so neither is taken for granted.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from halo_mdn.config.schema import DataConfig
from halo_mdn.errors import InputError
from halo_mdn.io.formats import hdf5

USUAL = "PartType1/Coordinates"
_CM_PER_MPC = 3.085678e24  # Gadget's own figure


class Source(NamedTuple):
    """Where particles are and what the file states about them.

    Attributes
    ----------
    arrays : list of (Path, str)
        Files and names of the arrays of positions in them.
    length_unit : float
        A length of 1 in the file, in Mpc/h.
    box_size : tuple of 3 float
        In Mpc/h.
    num_particles : int or None
        As the header states it.
    redshift : float or None
    cosmology : str
        JSON, or empty.
    notes : tuple of str
    """

    arrays: list[tuple[Path, str]]
    length_unit: float
    box_size: tuple[float, float, float]
    num_particles: int | None = None
    redshift: float | None = None
    cosmology: str = ""
    notes: tuple[str, ...] = ()


def open_snapshot(path: Path, name: str, data: DataConfig) -> Source:
    """What the header of a snapshot states; `name` is the dataset of positions.

    Raises
    ------
    InputError
        As ``open_particles``.
    """
    with hdf5.opened(path) as file:
        if name not in file:
            known = ", ".join(file) or "nothing"
            raise InputError(
                f"{path} has no {name}; at its top are: {known}; data.position_key names another"
            )
        header = dict(file["Header"].attrs) if "Header" in file else {}
        more = dict(file["Parameters"].attrs) if "Parameters" in file else {}
        masses = f"{name.rpartition('/')[0]}/Masses" in file
    header = {**more, **header}
    unit = length_unit(header, path, data)
    arrays = [(part, name) for part in _parts(path, int(header.get("NumFilesPerSnapshot", 1)))]
    weights = "each with its own mass" if masses else "all of one mass"
    redshift = header.get("Redshift")
    return Source(
        arrays,
        unit,
        box_of(header, unit, path, data),
        num_particles=_num_particles(header, name),
        redshift=None if redshift is None else float(redshift),
        cosmology=_cosmology(header),
        notes=(f"{path.name}: matter taken to be the particles of {name}, {weights}",),
    )


def length_unit(header: dict[str, Any], path: Path, data: DataConfig) -> float:
    """A length of 1 in Mpc/h, from the header or the settings, which must agree."""
    given, stated = data.length_unit, header.get("UnitLength_in_cm")
    if stated is None and given is None:
        box = f" (its BoxSize is {np.ravel(header['BoxSize'])[0]:g})" if "BoxSize" in header else ""
        raise InputError(
            f"{path} does not state its unit of length{box}: give data.length_unit, 0.001 for "
            "kpc/h or 1 for Mpc/h"
        )
    if stated is None:
        return float(given)  # type: ignore[arg-type]
    unit = float(stated) / _CM_PER_MPC
    if given is not None and abs(given / unit - 1) > 0.01:
        raise InputError(
            f"{path} states a unit of length of {unit:.4g} Mpc/h, data.length_unit is {given:g}: "
            "leave the setting out, unless the header is wrong"
        )
    # Codes write the centimetres with different numbers of digits.
    return next((u for u in (1.0, 1e-3) if abs(unit / u - 1) < 1e-3), unit)


def box_of(
    header: dict[str, Any], unit: float, path: Path, data: DataConfig
) -> tuple[float, float, float]:
    """The sides of the box in Mpc/h, from the header or the settings, which must agree."""
    stated = np.ravel(header.get("BoxSize", ())).astype(float) * unit
    given = np.array(data.box_size)
    sides = given if len(stated) == 0 else stated
    if len(sides) not in (1, 3):
        raise InputError(f"{path} does not state its box: give data.box_size in Mpc/h")
    if len(given) in (1, 3) and not np.allclose(given, sides, rtol=1e-5):
        raise InputError(
            f"{path} is a box of {sides[0]:g} Mpc/h, data.box_size is {data.box_size}: check "
            "data.length_unit"
        )
    first, second, third = (float(side) for side in np.broadcast_to(sides, 3))
    return (first, second, third)


def _parts(path: Path, num: int) -> list[Path]:
    if num <= 1:
        return [path]
    found = re.fullmatch(r"(.*\.)\d+(\.h(?:df)?5)", path.name)
    if not found:
        raise InputError(f"{path} is one of {num} parts, expected a name such as snap_099.0.hdf5")
    return [path.with_name(f"{found[1]}{part}{found[2]}") for part in range(num)]


def _num_particles(header: dict[str, Any], name: str) -> int | None:
    found = re.fullmatch(r"/?PartType(\d)/.*", name)
    if not found or "NumPart_Total" not in header:
        return None
    kind = int(found[1])
    high = np.ravel(header.get("NumPart_Total_HighWord", np.zeros(kind + 1)))[kind]
    return int(np.ravel(header["NumPart_Total"])[kind]) + (int(high) << 32)


def _cosmology(header: dict[str, Any]) -> str:
    names = {"omega_m": "Omega0", "h": "HubbleParam"}
    known = {ours: float(header[theirs]) for ours, theirs in names.items() if theirs in header}
    return json.dumps(known) if known else ""

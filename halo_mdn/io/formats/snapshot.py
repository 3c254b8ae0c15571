"""What the header of a particle snapshot states (Gadget and AREPO, HDF5).

The unit of length is what the file states (``UnitLength_in_cm``) or what the settings say; kpc/h
and Mpc/h are both usual, so neither is taken for granted.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from halo_mdn.config.schema import DataConfig
from halo_mdn.errors import InputError
from halo_mdn.io.formats import hdf5
from halo_mdn.io.formats.simulation_header import (
    header_of,
    num_files,
    parts_of,
    stated_cosmology,
    stated_length,
    stated_redshift,
)
from halo_mdn.io.formats.stated import check_redshift

USUAL = "PartType1/Coordinates"


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
        header = header_of(file, path)
        masses = f"{name.rpartition('/')[0]}/Masses" in file
    unit = length_unit(header, path, data)
    arrays = [(part, name) for part in parts_of(path, num_files(header))]
    weights = "each with its own mass" if masses else "all of one mass"
    redshift = stated_redshift(header)
    check_redshift(redshift, path)
    return Source(
        arrays,
        unit,
        box_of(header, unit, path, data),
        num_particles=_num_particles(header, name),
        redshift=redshift,
        cosmology=stated_cosmology(header),
        notes=(f"{path.name}: matter taken to be the particles of {name}, {weights}",),
    )


def length_unit(header: dict[str, Any], path: Path, data: DataConfig) -> float:
    """A length of 1 in Mpc/h, from the header or the settings, which must agree."""
    given, unit = data.length_unit, stated_length(header, path)
    if unit is None and given is None:
        box = f" (its BoxSize is {np.ravel(header['BoxSize'])[0]:g})" if "BoxSize" in header else ""
        raise InputError(
            f"{path} does not state its unit of length{box}: give data.length_unit, 0.001 for "
            "kpc/h or 1 for Mpc/h"
        )
    if unit is None:
        return float(given)  # type: ignore[arg-type]
    if given is not None and abs(given / unit - 1) > 0.01:
        raise InputError(
            f"{path} states a unit of length of {unit:.4g} Mpc/h, data.length_unit is {given:g}: "
            "leave the setting out, unless the header is wrong"
        )
    return unit


def box_of(
    header: dict[str, Any], unit: float, path: Path, data: DataConfig
) -> tuple[float, float, float]:
    """The sides of the box in Mpc/h, from the header or the settings, which must agree."""
    stated = np.ravel(header.get("BoxSize", ())).astype(float) * unit
    given = np.array(data.box_size)
    sides = given if len(stated) == 0 else stated
    if len(sides) not in (1, 3):
        raise InputError(f"{path} does not state its box: give data.box_size in Mpc/h")
    if not ((0 < sides) & (sides < np.inf)).all():
        raise InputError(f"{path} states a box of {sides} Mpc/h, expected positive lengths")
    if len(given) in (1, 3) and not np.allclose(given, sides, rtol=1e-5):
        raise InputError(
            f"{path} is a box of {sides[0]:g} Mpc/h, data.box_size is {data.box_size}: check "
            "data.length_unit"
        )
    first, second, third = (float(side) for side in np.broadcast_to(sides, 3))
    return (first, second, third)


def _num_particles(header: dict[str, Any], name: str) -> int | None:
    found = re.fullmatch(r"/?PartType(\d)/.*", name)
    if not found or "NumPart_Total" not in header:
        return None
    kind = int(found[1])
    high = np.ravel(header.get("NumPart_Total_HighWord", np.zeros(kind + 1)))[kind]
    return int(np.ravel(header["NumPart_Total"])[kind]) + (int(high) << 32)

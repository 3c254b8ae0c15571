"""Units of lengths and masses: what a file states, what the settings say, and what we use.

Lengths are Mpc/h and masses Msun/h. A statement of the file and a setting must not contradict each
other; logarithms and other units of mass are taken only when the settings say so.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from halo_mdn.config.schema import DataConfig
from halo_mdn.errors import InputError

LENGTH, MASS = "Mpc/h", "Msun/h"
_LENGTHS = {"mpc/h": 1.0, "kpc/h": 1e-3}  # in Mpc/h
_MASSES = {"msun/h": 1.0, **dict.fromkeys(("1e10msun/h", "1010msun/h", "10+10msun/h"), 1e10)}
_SPELLINGS = (
    (r"[\s*_^{}()$\\.]", ""),
    ("littleh", "h"),
    ("solmass|msolar|m⊙", "msun"),
    ("comoving|,", ""),
    ("c(mpc|kpc)", r"\1"),
)


def in_mpc_h(position: np.ndarray, stated: str, data: DataConfig, path: Path) -> np.ndarray:
    """Lengths in Mpc/h.

    Parameters
    ----------
    position : array
        As the file has it.
    stated : str
        The unit that the file states; empty if it states none.
    data : DataConfig
        Its ``length_unit`` may say what a length of 1 is.
    path : Path
        For errors.

    Raises
    ------
    InputError
        If file and settings contradict each other, or the file's unit is none that we know and
        the settings do not say what it is.
    """
    scale = _LENGTHS.get(canonical(stated)) if stated else 1.0
    given = data.length_unit
    if given is not None and stated and scale is not None and not np.isclose(given, scale):
        raise InputError(
            f"{path} states lengths in {stated}, which is not data.length_unit = {given:g} Mpc/h: "
            "leave the setting out"
        )
    if given is None and scale is None:
        raise InputError(
            f"{path} states lengths in {stated}, expected {LENGTH} or kpc/h: set data.length_unit, "
            "what a length of 1 in the file is in Mpc/h"
        )
    return np.asarray(position, dtype=float) * (scale if given is None else given)


def in_msun_h(values: np.ndarray, stated: str, data: DataConfig, path: Path) -> np.ndarray:
    """Masses in Msun/h: the settings say what a mass of 1 is, and whether logarithms are stored.

    Raises
    ------
    InputError
        If the file states something else, or the values are no logarithms of halo masses.
    """
    if stated:
        _check_stated_mass(stated, data, path)
    if not data.mass_is_log10:
        return np.asarray(values, dtype=float) * data.mass_unit
    if values.size and values.max() > 30:
        raise InputError(
            f"{path}: data.mass_is_log10 is set, but the masses go up to {values.max():.4g}, "
            "which is no log10 of a halo mass: set mass_is_log10 = false"
        )
    return 10.0 ** np.asarray(values, dtype=float) * data.mass_unit


def canonical(unit: str) -> str:
    """One spelling for all the ways in which people write ``Mpc/h`` and ``Msun/h``."""
    text = unit.lower()
    for pattern, replacement in _SPELLINGS:
        text = re.sub(pattern, replacement, text)
    bare = re.sub(r"h-1|/h$", "", text)
    return bare if bare == text else f"{bare}/h"


def assumed(path: Path, lengths: str, masses: str, data: DataConfig) -> tuple[str, ...]:
    """What was taken for granted about a catalogue that does not state its units."""
    length = 1.0 if data.length_unit is None else data.length_unit
    mass = f"log10 of {MASS}" if data.mass_is_log10 else MASS
    taken = [] if lengths else [f"positions taken as {_times(length)}{LENGTH}"]
    taken += [] if masses else [f"masses taken as {_times(data.mass_unit)}{mass}"]
    return (f"{path.name} states no units: {', '.join(taken)}",) if taken else ()


def _check_stated_mass(stated: str, data: DataConfig, path: Path) -> None:
    bare = re.sub(r"^(log10|log|lg|dex)", "", canonical(stated))
    if bare != canonical(stated) and not data.mass_is_log10:
        raise InputError(f"{path} states masses as {stated}: set data.mass_is_log10 = true")
    scale = _MASSES.get(bare)
    if scale is None and data.mass_unit == 1:
        raise InputError(
            f"{path} states masses in {stated}, expected {MASS}: set data.mass_unit, what a mass "
            "of 1 in the file is in Msun/h"
        )
    if scale is not None and not np.isclose(scale, data.mass_unit):
        raise InputError(
            f"{path} states masses in {stated}, and data.mass_unit is {data.mass_unit:g} Msun/h: "
            f"set it to {scale:g}"
        )


def _times(factor: float) -> str:
    return "" if factor == 1 else f"{factor:g} "

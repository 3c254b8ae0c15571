"""Can these halos be in this box? What no unit explains is refused, what is odd is warned of.

Every limit is one of physics, wide enough for small boxes: the observable universe, the matter in
the box, and that halos are spread over all of it, the lighter the more numerous.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from halo_mdn.errors import InputError

_UNIVERSE = 20_000.0  # Mpc/h: the diameter of what can be observed
_LIGHTEST, _HEAVIEST = 1e6, 1e17  # Msun/h, of a threshold and of a halo
_CRITICAL = 2.775e11  # Msun/h per (Mpc/h)^3: the mean density for omega_m = 1
_FEW = 30  # halos that may all lie in one half of a box by chance
_EMPTY, _MISSED = 0.1, 15.0  # of the box; halos expected in an empty slab of it
_STEEPNESS = 0.5  # N(> M) falls faster than M^-0.5 at every mass
_CERTAIN = 20.0  # halos expected and not there: by chance once in 1e9


class Box(NamedTuple):
    """Where halos can be.

    Attributes
    ----------
    sides : tuple of 3 float
        In Mpc/h.
    whole : bool
        Whether all of it was observed.
    """

    sides: tuple[float, float, float]
    whole: bool = True


def check_box(box_size: tuple[float, ...]) -> None:
    """Refuse a box that is larger than the observable universe.

    Raises
    ------
    InputError
        If a side is longer than 20,000 Mpc/h.
    """
    if max(box_size) > _UNIVERSE:
        raise InputError(
            f"the box has a side of {max(box_size):g} Mpc/h, longer than the observable universe: "
            f"is it in kpc/h? Give data.box_size in Mpc/h, such as {max(box_size) / 1000:g}"
        )


def complaint_of(
    position: np.ndarray, mass: np.ndarray, threshold: float, box: Box, seen: float = 1.0
) -> str:
    """Why halos cannot be all those above the threshold in the box; empty if they can.

    Parameters
    ----------
    position : array (H, 3)
        Of the halos that are used, counted from the corner of the box, in Mpc/h.
    mass : array (H,)
        In Msun/h.
    threshold : float
        In Msun/h.
    box : Box
    seen : float
        Fraction of halos detected there.
    """
    doubled = num_doubled(position, mass)
    if doubled > 0.01 * len(mass):
        return (
            f"{doubled:,} of {len(mass):,} halos are there twice, with the same position and mass: "
            "was a part of the catalogue appended twice?"
        )
    return (
        _wrong_masses(mass, threshold, box)
        or (_in_a_corner(position, box) if box.whole else "")
        or incomplete(mass, threshold, seen)
    )


def warnings_of(position: np.ndarray, mass: np.ndarray, box: Box) -> tuple[str, ...]:
    """What is odd about halos that are possible; arguments as :func:`complaint_of`."""
    found = []
    if doubled := num_doubled(position, mass):
        found.append(f"{doubled:,} halos are there twice, with the same position and mass")
    if box.whole and len(mass):
        sides = np.array(box.sides)
        empty = 1 - np.ptp(position, axis=0) / sides
        axis = int(empty.argmax())
        if empty[axis] > _EMPTY and empty[axis] * len(mass) > _MISSED:
            low, high = position[:, axis].min(), position[:, axis].max()
            found.append(
                f"positions along {'xyz'[axis]} reach from {low:.4g} to {high:.4g} Mpc/h in a box "
                f"of {sides[axis]:g}: are box and positions both in Mpc/h (not Mpc), and is the "
                "catalogue whole?"
            )
    return tuple(found)


def incomplete(mass: np.ndarray, threshold: float, seen_at_threshold: float = 1.0) -> str:
    """Why a catalogue cannot be complete above the threshold; empty if it can.

    Lighter halos are more numerous, at least as M^-0.5: so many are expected between threshold and
    lightest halo. Masses that are multiples of a particle's leave gaps, which are no sign.
    """
    different = np.unique(mass)
    if len(different) < 2:
        return ""
    lightest = float(different[0])
    is_step = lightest - threshold <= 1.01 * (different[1] - lightest)
    expected = len(mass) * seen_at_threshold * ((lightest / threshold) ** _STEEPNESS - 1)
    if is_step or expected < _CERTAIN:
        return ""
    return (
        f"the lightest of {len(mass):,} halos has {lightest:.5g} Msun/h, "
        f"{lightest / threshold:.3g} times data.mass_threshold = {threshold:.4g}, so "
        "lighter ones are missing: set "
        f"data.mass_threshold to {_below(lightest):.4g}"
    )


def num_doubled(position: np.ndarray, mass: np.ndarray) -> int:
    """Halos with position and mass of another one."""
    return len(mass) - len(np.unique(np.column_stack([position, mass]), axis=0))


def _wrong_masses(mass: np.ndarray, threshold: float, box: Box) -> str:
    matter = _CRITICAL * float(np.prod(box.sides))
    if threshold < _LIGHTEST:
        return (
            f"data.mass_threshold is {threshold:g} Msun/h, which is no mass of a halo: give it in "
            "Msun/h, and what a mass of 1 in the file is as data.mass_unit (1e10 in Gadget's units)"
        )
    if mass.max() > _HEAVIEST:
        return (
            f"the heaviest halo has {mass.max():.4g} Msun/h, more than any can have: check "
            "data.mass_unit"
        )
    if mass.sum() > matter:
        return (
            f"the halos hold {mass.sum():.4g} Msun/h, more than all matter in the box "
            f"({matter:.2g} at the most): check data.box_size, in Mpc/h, and data.mass_unit"
        )
    return ""


def _in_a_corner(position: np.ndarray, box: Box) -> str:
    sides = np.array(box.sides)
    part = np.ptp(position, axis=0) / sides
    if len(position) < _FEW or part.min() > 0.5:
        return ""
    axis = int(part.argmin())
    low, high = position[:, axis].min(), position[:, axis].max()
    return (
        f"positions along {'xyz'[axis]} reach from {low:.4g} to {high:.4g} Mpc/h, less than half "
        f"of a box of {sides[axis]:g}: check data.length_unit and data.box_size, and whether this "
        "is a part of the catalogue (a survey of a part of the box needs data.completeness)"
    )


def _below(mass: float) -> float:
    """A round number of four digits that is not larger."""
    unit = 10.0 ** (np.floor(np.log10(mass)) - 3)
    return float(np.floor(mass / unit) * unit)

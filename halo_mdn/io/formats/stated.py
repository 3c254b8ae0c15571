"""What a density file holds, before it is checked against the settings."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from halo_mdn.errors import InputError
from halo_mdn.halos.mass_observation import MassObservation

_POSITIVE = ("omega_m", "h")  # BORG writes sigma8 = 0 where it was not used


class DensityField(NamedTuple):
    """An overdensity and what its file states about it.

    Attributes
    ----------
    delta : array (N0, N1, N2)
        Overdensity, float64, axes x, y, z.
    box_size : tuple of 3 float, optional
        In Mpc/h, where the file states it.
    corner : tuple of 3 float, optional
        Lowest corner of the box in the coordinates of the data, Mpc/h.
    points : {"centres", "corners"}
        Where values lie: ``corner + (i + 1/2) L / N`` or ``corner + i L / N``.
    redshift : float, optional
    cosmology : str
        JSON; empty if the file does not state it.
    mass_assignment : str
        How particles became the density.
    notes : tuple of str
        What was assumed, a sentence each.
    boundary : {"periodic", "interior"}
        As the file states it; periodic if it does not.
    field_is : {"delta", "region"}
        Whether the file states that a periodic field has a mean of its own.
    """

    delta: np.ndarray
    box_size: tuple[float, float, float] | None = None
    corner: tuple[float, float, float] | None = None
    points: Literal["centres", "corners"] = "centres"
    redshift: float | None = None
    cosmology: str = ""
    mass_assignment: str = "not stated"
    notes: tuple[str, ...] = ()
    boundary: Literal["periodic", "interior"] = "periodic"
    field_is: Literal["delta", "region"] = "delta"


class HaloTable(NamedTuple):
    """Halos as a file has them, and what it states about them.

    Attributes
    ----------
    position : array (H, 3)
        In ``length_unit``.
    mass : array (H,)
        In ``mass_unit``.
    selected : array (H,), optional
        Which halos are used; all if None.
    length_unit, mass_unit : str
        As the file states them; empty if it does not.
    box_size : tuple of 3 float, optional
        In Mpc/h, where the file states it. Likewise ``redshift``, ``cosmology`` (JSON),
        ``mass_definition``, and ``mass_threshold`` in Msun/h, above which it is complete.
    notes : tuple of str
        What else a user should know, a sentence each.
    num_files : int
        How many files it was read from.
    mass_precision : float
        Relative, of a mass as it is stored.
    observation : MassObservation, optional
        Errors and completeness of the masses, where the file states them.
    completeness : array (N0, N1, N2), optional
        Fraction of halos observed per voxel, where the file has it.
    """

    position: np.ndarray
    mass: np.ndarray
    selected: np.ndarray | None = None
    length_unit: str = ""
    mass_unit: str = ""
    box_size: tuple[float, float, float] | None = None
    redshift: float | None = None
    cosmology: str = ""
    mass_definition: str = ""
    mass_threshold: float | None = None
    notes: tuple[str, ...] = ()
    num_files: int = 1
    mass_precision: float = 0.0
    observation: MassObservation | None = None
    completeness: np.ndarray | None = None


def checked_field(field: DensityField, path: Path) -> DensityField:
    """The field, if what its file states can be.

    Raises
    ------
    InputError
        If the box or a cosmological parameter is not positive and finite, or a redshift is none.
    """
    _check(path, field.box_size, field.redshift, field.cosmology)
    if field.corner is not None and not np.isfinite(field.corner).all():
        raise InputError(f"{path} states a corner of {field.corner}, expected lengths in Mpc/h")
    return field


def checked_halos(table: HaloTable, path: Path) -> HaloTable:
    """The table, if what its file states can be.

    Raises
    ------
    InputError
        As :func:`checked_field`, or if the mass threshold is not positive and finite.
    """
    _check(path, table.box_size, table.redshift, table.cosmology)
    threshold = table.mass_threshold
    if threshold is not None and not 0 < threshold < np.inf:
        raise InputError(f"{path} states a mass threshold of {threshold}, expected Msun/h")
    return table


def check_redshift(redshift: float | None, path: Path) -> None:
    """Refuse a redshift that none can be; None stands for not known.

    Raises
    ------
    InputError
        If it is not finite, or at most -1.
    """
    if redshift is not None and not (math.isfinite(redshift) and redshift > -1):
        raise InputError(
            f"{path} states a redshift of {redshift:g}, expected more than -1: correct its header"
        )


def _check(
    path: Path, box: tuple[float, ...] | None, redshift: float | None, cosmology: str
) -> None:
    if box is not None and not all(0 < side < np.inf for side in box):
        raise InputError(f"{path} states a box of {box} Mpc/h, expected positive lengths")
    check_redshift(redshift, path)
    known: Any = json.loads(cosmology) if cosmology.startswith("{") else {}
    for name, value in known.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and not (math.isfinite(value) and (value > 0 or name not in _POSITIVE)):
            raise InputError(
                f"{path} states {name} = {value:g}, expected a cosmology: correct its header"
            )

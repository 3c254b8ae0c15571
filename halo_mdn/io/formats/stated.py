"""What a density file holds, before it is checked against the settings."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np


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
    """

    delta: np.ndarray
    box_size: tuple[float, float, float] | None = None
    corner: tuple[float, float, float] | None = None
    points: Literal["centres", "corners"] = "centres"
    redshift: float | None = None
    cosmology: str = ""
    mass_assignment: str = "not stated"
    notes: tuple[str, ...] = ()


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

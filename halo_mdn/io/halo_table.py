"""What a catalogue file holds, before anything is checked against a grid."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


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

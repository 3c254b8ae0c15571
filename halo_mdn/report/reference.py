"""The mass function of simulations that a report shows beside the fitted one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from halo_mdn.field.cosmology import Cosmology, check_cosmology
from halo_mdn.field.tinker import tinker_mass_function


def cosmology_of(text: Any) -> Cosmology | None:
    """The cosmology that a run states as JSON; None if it is not complete or not usable."""
    try:
        known = json.loads(text)
        values = {ours: _first(known, names) for ours, names in _NAMES.items()}
        cosmology = Cosmology(**values)
        check_cosmology(cosmology)
        return cosmology
    except (TypeError, ValueError, StopIteration):
        return None


def reference_mass_function(posterior: xr.DataTree) -> np.ndarray | None:
    """Masses and ``dn/dlnM``, (2, M), for the cosmology and redshift of a run; None if unknown."""
    cosmology = cosmology_of(posterior.attrs.get("cosmology"))
    try:
        redshift = float(posterior.attrs.get("redshift", ""))
    except ValueError:
        return None
    if cosmology is None:
        return None
    lower = posterior["constant_data"].to_dataset()["mass_bin_lower"].values
    highest = lower[-1] * (lower[1] / lower[0] if len(lower) > 1 else 10)
    mass = np.geomspace(lower[0], highest, 60)
    return np.stack([mass, tinker_mass_function(cosmology, mass, redshift)])


def _first(known: Mapping[str, Any], names: tuple[str, ...]) -> float:
    return float(next(known[name] for name in names if name in known))


_NAMES = {  # ours, and what others call it
    "omega_m": ("omega_m", "Om0", "Omega_m"),
    "omega_b": ("omega_b", "Ob0", "Omega_b"),
    "h": ("h",),
    "n_s": ("n_s", "ns"),
    "sigma8": ("sigma8", "sigma_8"),
}

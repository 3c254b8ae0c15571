"""Reads the density of a sample of BORG (`mcmc_*.h5`), with the box that the run states.

A sample holds the field alone. Box, grid, corner and cosmology are in the run's restart file
beside it (`restart.h5_0`, or `restart.h5` where the ranks' files were merged).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from halo_mdn.errors import InputError
from halo_mdn.io.formats.hdf5 import BORG_DENSITY, opened, values_of
from halo_mdn.io.formats.stated import DensityField

RESTARTS = ("restart.h5_0", "restart.h5")
_COSMOLOGY = ("omega_m", "omega_b", "h", "n_s", "sigma8")


def read_borg(path: Path) -> DensityField:
    """The final density of a sample.

    Its values belong to the points ``corner + i L / N``: BORG's cloud-in-cell assignment puts a
    particle there into cell i alone, and its documentation calls the corner "center of the voxel
    at the corner of the box". Hence ``points = "corners"``, in our words.

    Raises
    ------
    InputError
        If the file is missing or damaged, or holds another grid than the restart file states, as
        that of one rank of many does.
    """
    with opened(path) as file:
        delta = np.asarray(values_of(file[BORG_DENSITY], path), dtype=float)
        known = _stated(file, path)
    beside = [path.parent / name for name in RESTARTS if (path.parent / name).is_file()]
    notes = [f"{path.name}: values taken to lie at corner + i L/N, where BORG's cloud-in-cell is"]
    if not known and beside:
        with opened(beside[0]) as file:
            known = _stated(file, beside[0])
        notes.append(f"{path.name}: box, corner and cosmology from {beside[0].name}")
    if not known:
        notes.append(
            f"{path.name}: no restart.h5_0 beside it, so positions are taken to start at 0; give "
            "data.box_corner for positions in BORG's coordinates"
        )
    shape = known.get("shape")
    if delta.ndim != 3 or (shape is not None and delta.shape != shape):
        raise InputError(
            f"{BORG_DENSITY} in {path} has shape {delta.shape}, expected "
            f"{shape or 'three axes'}: a part of the grid, as one rank of many writes it, is no use"
        )
    return DensityField(
        delta,
        box_size=known.get("box_size"),
        corner=known.get("corner"),
        points="corners",
        cosmology=known.get("cosmology", ""),
        mass_assignment="as BORG's forward model",
        notes=tuple(notes),
    )


def _stated(file: h5py.File, path: Path) -> dict[str, Any]:
    """Box, corner, grid and cosmology, where the file has them."""
    for place in ("scalars", "info/scalars"):
        group = file.get(place)
        if isinstance(group, h5py.Group) and all(f"L{axis}" in group for axis in range(3)):
            known: dict[str, Any] = {
                "box_size": _triple(group, "L", path),
                "corner": _triple(group, "corner", path),
            }
            shape = _triple(group, "N", path)
            known["shape"] = None if shape is None else tuple(map(int, shape))
            return {**known, "cosmology": _cosmology(group, path)}
    return {}


def _triple(group: h5py.Group, name: str, path: Path) -> tuple[float, float, float] | None:
    if not all(f"{name}{axis}" in group for axis in range(3)):
        return None
    first, second, third = (
        float(np.ravel(values_of(group[f"{name}{axis}"], path))[0]) for axis in range(3)
    )
    return (first, second, third)


def _cosmology(group: h5py.Group, path: Path) -> str:
    if "cosmology" not in group:
        return ""
    record = np.ravel(values_of(group["cosmology"], path))
    names = record.dtype.names or ()
    return json.dumps({name: float(record[name][0]) for name in _COSMOLOGY if name in names})

"""Is a field an overdensity? What it can be instead, and the setting that says so.

The overdensity rho / mean - 1 of a periodic box has the mean 0 by its definition, up to rounding.
The tolerance is 0.05, because clipped voxels, a mean taken from a cosmology, or neutrinos move it
by a few per cent (which the model's amplitudes take up), and five standard errors of the mean, for
fields on few voxels. What is meant to have another mean says so with `data.field_is`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from halo_mdn.config.schema import DataConfig
from halo_mdn.errors import InputError
from halo_mdn.io.formats.stated import DensityField

_MEAN, _ERRORS = 0.05, 5.0
_FILL = 1e6  # times the usual size of the other values: no density has such contrasts
_LOWEST = -20.0  # below any linear overdensity on a grid
_ROUNDING = 1e-5  # of a density of 0 in float32
_SAYS = "set data.field_is to what it is"


def as_overdensity(field: DensityField, data: DataConfig, path: Path) -> DensityField:
    """The field as an overdensity, converted as ``data.field_is`` says.

    Raises
    ------
    InputError
        If the values cannot be what the settings say.
    """
    values = field.delta
    if values.ndim != 3 or not values.size or not np.isfinite(values).all():
        return field  # refused by the check of the density, which counts the bad voxels
    periodic = boundary_of(field, data) == "periodic"
    kind = field.field_is if data.field_is == "delta" else data.field_is
    complaint = _fill_value(values) or _not_convertible(values, kind, periodic)
    if not complaint:
        values = _converted(values, kind)
        complaint = "" if kind == "region" else no_overdensity(values, periodic)
    if complaint:
        raise InputError(f"the field in {path} {complaint}")
    num_low = int((values < -1 - _ROUNDING).sum())
    notes = field.notes
    if num_low:
        notes += (
            f"{path.name}: {num_low:,} voxels have delta < -1, which no density has (is this a "
            "linear field?): data.density_floor acts there",
        )
    return field._replace(
        delta=values, notes=notes, field_is="region" if kind == "region" else "delta"
    )


def boundary_of(field: DensityField, data: DataConfig) -> str:
    """The boundary that the settings name, or else the file."""
    return field.boundary if data.boundary == "auto" else data.boundary


def no_overdensity(delta: np.ndarray, periodic: bool) -> str:
    """Why finite values cannot be an overdensity, to follow the name of the field; else ""."""
    mean, low = float(delta.mean()), float(delta.min())
    if low >= 0 and delta.any():
        return (
            f"is nowhere negative and its mean is {mean:.4g}: it looks like {_cause(delta, mean)}, "
            f"expected the overdensity delta = density / mean - 1: {_SAYS} (1+delta; density: "
            "counts or a density in any unit; region: delta of a dense region)"
        )
    tolerance = _MEAN + _ERRORS * float(delta.std()) / np.sqrt(delta.size)
    if periodic and abs(mean) > tolerance:
        return (
            f"has the mean {mean:.4g}, expected 0 within {tolerance:.2g}, as the overdensity of a "
            f"periodic box has: {_SAYS} (region: delta of a region that is not of mean density), "
            "or data.boundary = interior for a patch that is not periodic; a logarithm of the "
            "density is no overdensity"
        )
    return ""


def _cause(values: np.ndarray, mean: float) -> str:
    if abs(mean - 1) < 0.1:
        return "density over mean density, 1 + delta"
    if np.array_equal(values, np.round(values)):
        return "counts of particles"
    return "a density in some unit"


def _fill_value(values: np.ndarray) -> str:
    size = np.abs(values)
    largest = size.max()
    others = size[size < largest]
    usual = max(float(np.median(others)), 1.0) if others.size else np.inf
    if largest > _FILL * usual or (values.min() < _LOWEST and largest == -values.min()):
        extreme = float(values.flat[size.argmax()])
        return (
            f"holds {extreme:.4g} in {int((size == largest).sum()):,} voxels, which looks like the "
            "fill value of a masked array, expected an overdensity everywhere: put 0 there and "
            "leave the voxels out with data.completeness = 0"
        )
    return ""


def _not_convertible(values: np.ndarray, kind: str, periodic: bool) -> str:
    if kind not in ("1+delta", "density"):
        return ""
    if values.min() < 0:
        return f"has values down to {values.min():.4g}, and no {kind} is negative: {_SAYS}"
    if kind == "density" and not values.any():
        return "is zero everywhere, expected a density"
    if kind == "density" and not periodic:
        return (
            "is a density of a patch, whose own mean is not that of the universe: divide it by the "
            "mean of the whole box and set data.field_is = 1+delta"
        )
    return ""


def _converted(values: np.ndarray, kind: str) -> np.ndarray:
    if kind == "density":
        return values / values.mean() - 1
    return values - 1 if kind == "1+delta" else values

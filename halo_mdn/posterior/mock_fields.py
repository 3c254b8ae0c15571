"""Densities on which a posterior predicts halos: the one that was fitted, or any other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import xarray as xr

from halo_mdn.bias.base import Bias
from halo_mdn.config import DataConfig
from halo_mdn.errors import InputError
from halo_mdn.field.density import check_density
from halo_mdn.field.grid import Grid
from halo_mdn.io import load_data
from halo_mdn.io.field_file import stored_field
from halo_mdn.io.overdensity import as_overdensity
from halo_mdn.mocks.posterior_catalogues import MockField
from halo_mdn.posterior.reopened import config_of
from halo_mdn.provenance import sha256_of


def fitted_field(posterior: xr.DataTree, bias: Bias) -> MockField:
    """The density that was fitted, with the selection of its halos.

    Raises
    ------
    InputError
        If the file of the run's field is gone or holds another one by now.
    """
    config = config_of(posterior)
    data = load_data(config.data)
    if sha256_of(data.delta) != posterior.attrs.get("delta_sha256"):
        raise InputError(
            f"{config.data.field} no longer holds the field that was fitted: give --field and "
            "--box_size to draw on another one"
        )
    halos, redshift = data.halos, _redshift(posterior)
    kind = "region" if data.settings.field_is == "region" else "delta"
    field = MockField(data.delta, halos.grid, redshift, halos.completeness, halos.observation, kind)  # type: ignore[arg-type]
    return _checked(field, bias)


def field_of_file(
    posterior: xr.DataTree,
    bias: Bias,
    path: Path,
    *,
    box_size: tuple[float, float, float] | None = None,
    key: str = "",
    kind: str = "delta",
) -> tuple[MockField, str]:
    """Another density for the model of a posterior, and what has to be said about it.

    Parameters
    ----------
    posterior : xarray.DataTree
    bias : Bias
        Its model.
    path : Path
        Overdensity (.npy, .npz), exchange file or BORG sample (.h5).
    box_size : tuple of 3 float, optional
        In Mpc/h, where the file has none.
    key : str
        Array or dataset in the file, where it has several.
    kind : str
        What its values are, as ``data.field_is``.

    Raises
    ------
    InputError
        If the field cannot be read or used, or its box is not known, or known twice.
    """
    config = config_of(posterior)
    how = DataConfig(field=str(path), field_key=key, field_is=kind)  # type: ignore[arg-type]
    stored = stored_field(how)
    fitted = posterior.attrs.get("boundary", config.data.boundary)
    boundary = "interior" if "interior" in (fitted, stored.boundary) else "periodic"
    field = as_overdensity(stored, replace(how, boundary=boundary), path)  # type: ignore[arg-type]
    if field.box_size and box_size:
        raise InputError(f"{path} knows its box: leave out --box_size")
    sides = field.box_size or box_size
    if sides is None:
        raise InputError(f"--field {path} needs --box_size, one side or three in Mpc/h")
    grid = Grid(field.delta.shape, sides, boundary)  # type: ignore[arg-type]
    redshift = _redshift(posterior) if field.redshift is None else field.redshift
    note = f"{path}, every halo observed"
    if field.points == "corners":
        note += (
            "; its values are taken to lie at voxel centres: for positions in its own coordinates, "
            "subtract half a voxel and add the corner of its box"
        )
    mock_field = MockField(field.delta, grid, redshift, field_is=field.field_is)
    return _checked(mock_field, bias), note


def _checked(field: MockField, bias: Bias) -> MockField:
    try:
        check_density(field.delta, field.grid.shape, bias.density_floor)
    except InputError as error:
        raise InputError(f"{error} when fitting: its mocks have the floor of the fit") from None
    bias.domain(field.grid)  # refuses small grids
    return field


def _redshift(fitted: xr.DataTree) -> float:
    try:
        return float(fitted.attrs["redshift"])
    except (KeyError, ValueError):
        return float("nan")

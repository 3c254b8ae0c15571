"""Reads and validates all data of a run, before anything compiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from halo_mdn.catalogue import HaloCatalogue
from halo_mdn.config.schema import DataConfig, is_example
from halo_mdn.density import check_density
from halo_mdn.errors import InputError
from halo_mdn.grid import Grid
from halo_mdn.io.arrays import read_array, read_columns
from halo_mdn.io.example import example_path, with_example_values
from halo_mdn.io.exchange import read_exchange
from halo_mdn.io.rockstar import USUAL_MASS, read_rockstar
from halo_mdn.mass_observation import MassObservation

EXCHANGE = (".h5", ".hdf5")


@dataclass(frozen=True)
class RunData:
    """What a run fits.

    Attributes
    ----------
    delta : array (N0, N1, N2)
        Overdensity, float64.
    halos : HaloCatalogue
        One catalogue, or several stacked.
    num_dropped : int
        Halos left out because they are below the mass threshold.
    files : dict
        Every file that was read, by what it holds.
    settings : DataConfig
        The settings, with what the example knows about itself filled in.
    """

    delta: np.ndarray
    halos: HaloCatalogue
    num_dropped: int
    files: dict[str, Path]
    settings: DataConfig


def load_data(data: DataConfig) -> RunData:
    """Read the field and the catalogues that the settings name.

    Raises
    ------
    InputError
        If a file is missing or unreadable, or an array is not what it should be.
    """
    data = _with_box_of_file(with_example_values(data))
    delta = read_field(data)
    grid = Grid(delta.shape, _three_sides(data.box_size), data.boundary)  # type: ignore[arg-type]
    check_density(delta, grid.shape, data.density_floor)
    completeness = None
    if data.completeness:
        completeness = read_array(Path(data.completeness), data.completeness_key)
    catalogues, num_dropped = [], 0
    for name in data.catalogue:
        halos, dropped = read_catalogue(name, data, grid, completeness)
        catalogues.append(halos)
        num_dropped += dropped
    if not catalogues:
        raise InputError("data.catalogue is an empty list, expected at least one halo catalogue")
    halos = catalogues[0] if len(catalogues) == 1 else HaloCatalogue.stack(catalogues)
    return RunData(delta, halos, num_dropped, _files(data), data)


def read_field(data: DataConfig) -> np.ndarray:
    """The overdensity, a float64 array (N0, N1, N2)."""
    path = _path(data.field)
    if path.suffix in EXCHANGE:
        content = read_exchange(path)
        _check_same_box(content.box_size, data, path)
        return np.asarray(content.delta, dtype=float)
    field = read_array(path, data.field_key, usual_name="delta").astype(float)
    if field.ndim != 3:
        raise InputError(f"the field in {path} has shape {field.shape}, expected three axes")
    if field.min() >= 0 and abs(field.mean() - 1) < 0.1:
        raise InputError(
            f"the field in {path} is nowhere negative and its mean is {field.mean():.3g}: it looks "
            "like density over mean density, expected the overdensity delta (subtract 1)"
        )
    return field


def read_catalogue(
    name: str, data: DataConfig, grid: Grid, completeness: np.ndarray | None = None
) -> tuple[HaloCatalogue, int]:
    """A validated catalogue and the number of halos dropped below the threshold.

    `name` is a path, or ``"example"``; `data` says how to read it.
    """
    path = _path(name)
    position, mass, selected = _read_halos(path, data)
    mass = _in_solar_masses(mass, data, path)
    keep = np.ones(mass.shape, dtype=bool)
    if data.below_threshold == "drop" and selected.shape == mass.shape == position.shape[:1]:
        keep = ~(mass < data.mass_threshold)
        position, mass, selected = position[keep], mass[keep], selected[keep]
    try:
        halos = HaloCatalogue.from_positions(
            position,
            mass,
            grid,
            mass_threshold=data.mass_threshold,
            selected=selected,
            completeness=completeness,
            observation=_observation(data),
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if halos.num_halos == 0:
        raise InputError(f"{path}: no halo is left after selection, expected at least one")
    return halos, int((~keep).sum())


def _read_halos(path: Path, data: DataConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions (H, 3), masses (H,) in the file's units, and which halos are selected (H,)."""
    if path.suffix in (*EXCHANGE, ".list"):
        return _read_self_describing(path, data)
    keys = data.position_key
    mask_file = data.selected.endswith(".npy")
    mask_key = "" if mask_file else data.selected
    if path.suffix == ".csv":
        keys = ("x", "y", "z") if keys == ("position",) else keys
        columns = read_columns(path, [*keys, data.mass_key, *([mask_key] if mask_key else [])])
    elif path.suffix == ".npy":
        columns = _columns_of_array(read_array(path), path)
    else:
        columns = [read_array(path, key) for key in (*keys, data.mass_key)]
        columns += [read_array(path, mask_key)] if mask_key else []
    num_axes = len(columns) - 1 - bool(mask_key)
    position = columns[0] if num_axes == 1 else _joined(columns[:num_axes], path)
    mass = columns[num_axes]
    mask = read_array(Path(data.selected)) if mask_file else columns[-1] if mask_key else None
    return position, mass, np.ones(mass.shape, dtype=bool) if mask is None else _boolean(mask, path)


def _read_self_describing(
    path: Path, data: DataConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Halos of a file that states its own units: an exchange file or a Rockstar list."""
    if path.suffix in EXCHANGE:
        content = read_exchange(path)
        _check_same_box(content.box_size, data, path)
        position, mass = content.position, content.mass
    else:
        column = USUAL_MASS if data.mass_key == "mass" else data.mass_key
        position, mass = read_rockstar(path, column)
    if data.mass_is_log10 or data.mass_unit != 1:
        raise InputError(
            f"{path} states its masses in Msun/h: leave out data.mass_unit and data.mass_is_log10"
        )
    if data.selected and not data.selected.endswith(".npy"):
        raise InputError(f"{path} has no column for data.selected: give a .npy file")
    mask = read_array(Path(data.selected)) if data.selected else np.ones(mass.shape, dtype=bool)
    return position, mass, _boolean(mask, path)


def _check_same_box(box_size: tuple[float, ...], data: DataConfig, path: Path) -> None:
    """The file's box, unless the settings say another."""
    if data.box_size and not np.allclose(_three_sides(data.box_size), box_size, rtol=1e-9):
        raise InputError(f"{path} is a box of {box_size} Mpc/h, data.box_size is {data.box_size}")


def _with_box_of_file(data: DataConfig) -> DataConfig:
    """Settings with the box size that an exchange file states, where none is given."""
    path = _path(data.field)
    if data.box_size or path.suffix not in EXCHANGE:
        return data
    return replace(data, box_size=read_exchange(path).box_size)


def _observation(data: DataConfig) -> MassObservation:
    return MassObservation(
        scatter=data.mass_scatter,
        threshold_completeness=data.threshold_completeness,
        completeness_slope=data.completeness_slope,
    )


def _columns_of_array(table: np.ndarray, path: Path) -> list[np.ndarray]:
    if table.ndim != 2 or table.shape[1] != 4:
        raise InputError(f"{path} has shape {table.shape}, expected (halos, 4): x, y, z, mass")
    return [table[:, :3], table[:, 3]]


def _joined(columns: list[np.ndarray], path: Path) -> np.ndarray:
    if len(columns) != 3 or len({column.shape for column in columns}) != 1:
        shapes = ", ".join(str(column.shape) for column in columns)
        raise InputError(
            f"{path}: position columns have shapes {shapes}, expected three equal ones"
        )
    return np.stack(columns, axis=-1)


def _boolean(mask: np.ndarray, path: Path) -> np.ndarray:
    if not np.isin(mask, (0, 1)).all():
        raise InputError(f"{path}: the selection has values other than 0 and 1")
    return mask.astype(bool)


def _in_solar_masses(values: np.ndarray, data: DataConfig, path: Path) -> np.ndarray:
    if not data.mass_is_log10:
        return values * data.mass_unit
    if values.size and values.max() > 30:
        raise InputError(
            f"{path}: data.mass_is_log10 is set, but the masses go up to {values.max():.4g}, "
            "which is no log10 of a halo mass: set mass_is_log10 = false"
        )
    return 10.0**values * data.mass_unit


def _three_sides(box_size: tuple[float, ...]) -> tuple[float, float, float]:
    if len(box_size) not in (1, 3):
        raise InputError(f"data.box_size is {box_size}, expected one side or three, in Mpc/h")
    first, second, third = box_size * 3 if len(box_size) == 1 else box_size
    return (first, second, third)


def _path(name: str) -> Path:
    return example_path() if is_example(name) else Path(name)


def _files(data: DataConfig) -> dict[str, Path]:
    catalogues = {f"catalogue_{i}": name for i, name in enumerate(data.catalogue)}
    mask = data.selected if data.selected.endswith(".npy") else ""
    names = {"field": data.field, "completeness": data.completeness, "selected": mask, **catalogues}
    return {what: _path(name) for what, name in names.items() if name}

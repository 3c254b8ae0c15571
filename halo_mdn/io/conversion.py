"""Brings data of any format into the content of an exchange file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from halo_mdn.config.schema import DataConfig
from halo_mdn.errors import InputError
from halo_mdn.field.density import check_density
from halo_mdn.field.grid import Grid
from halo_mdn.field.painting import paint_in_pieces
from halo_mdn.halos.alignment import compare_placements
from halo_mdn.halos.mass_observation import EXACT
from halo_mdn.io.formats.exchange import Exchange
from halo_mdn.io.formats.stated import DensityField
from halo_mdn.io.load import RunData, grid_of, with_halos
from halo_mdn.io.particles import chunks, open_particles
from halo_mdn.provenance import versions


def density_of_particles(path: Path, cells: tuple[int, int, int], data: DataConfig) -> DensityField:
    """The overdensity of particles on a grid whose values lie at the centres of voxels.

    Raises
    ------
    InputError
        As ``open_particles`` and ``chunks``, or if the data settings name corners.
    """
    if data.field_points == "corners":
        raise InputError(
            "particles become a density at the centres of voxels: leave out field_points"
        )
    source = open_particles(path, data)
    mass, total = paint_in_pieces(chunks(source, data), Grid(cells, source.box_size))
    if not np.isclose(mass.sum(), total, rtol=1e-9) or total <= 0:
        raise InputError(
            f"{path}: the masses on the grid sum up to {mass.sum():.10g}, the particles' to "
            f"{total:.10g}: are there negative or infinite masses?"
        )
    return DensityField(
        mass / mass.mean() - 1,
        box_size=source.box_size,
        redshift=source.redshift,
        cosmology=source.cosmology,
        mass_assignment="CIC",
        notes=source.notes,
    )


def as_exchange(
    field: DensityField, data: DataConfig, source: Path, *, command: str
) -> tuple[Exchange, tuple[str, ...]]:
    """The content of an exchange file, and what was assumed.

    Parameters
    ----------
    field : DensityField
    data : DataConfig
        From ``with_stated``; without a catalogue the file holds no halos.
    source : Path
        What the field was read from; its name goes into the provenance, as ``command`` does.
    command : str

    Raises
    ------
    InputError
        If field and halos do not fit each other, or no file and no setting knows the redshift.
    """
    halos = with_halos(field, data) if data.catalogue else None
    notes = halos.notes + _warnings(halos) if halos else field.notes
    data = halos.settings if halos else data
    if data.density_floor:
        raise InputError(
            "an exchange file holds the density as it is: leave out data.density_floor (0), "
            "and give it to the fit"
        )
    if data.redshift is None:
        raise InputError("no file states the redshift: give --data.redshift")
    position, mass = _halos(halos)
    grid = halos.halos.grid if halos else grid_of(field, data)
    check_density(field.delta, grid.shape, density_floor=1.0)  # a density as such may be empty
    return Exchange(
        delta=field.delta,
        box_size=grid.box_size,
        position=position,
        mass=mass,
        redshift=data.redshift,
        mass_assignment=field.mass_assignment,
        mass_definition=data.mass_definition,
        mass_threshold=data.mass_threshold if halos else None,
        provenance={
            **versions(),
            "command": command,
            "made_from": json.dumps([source.name, *(Path(name).name for name in data.catalogue)]),
            "cosmology": data.cosmology,
            "notes": json.dumps(notes),
        },
        boundary=grid.boundary,
        field_is=field.field_is,
        observation=halos.halos.observation if halos else EXACT,
        completeness=halos.halos.completeness if halos else None,
    ), notes


def _warnings(data: RunData) -> tuple[str, ...]:
    """What is odd about the halos, and whether they do not follow the field."""
    floor = float((1 + data.delta)[data.delta > -1].min(initial=1.0))
    comparison = compare_placements(data.delta, data.halos, data.settings.density_floor or floor)
    found = () if comparison.aligned else (comparison.in_words(),)
    return tuple(f"warning: {text}" for text in data.warnings + found)


def _halos(data: RunData | None) -> tuple[np.ndarray, np.ndarray]:
    if data is None:
        return np.zeros((0, 3)), np.zeros(0)
    halos = data.halos
    assert halos.position is not None  # a single catalogue has them
    return halos.position[halos.selected], halos.mass[halos.selected]

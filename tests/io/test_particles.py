"""Particles to a density: against an independent deposit, mass conserved, units explicit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import h5py
import numpy as np
import pytest

from halo_mdn import Grid, InputError
from halo_mdn.config import DataConfig
from halo_mdn.field.painting import paint_in_pieces
from halo_mdn.io import particles
from halo_mdn.io.conversion import density_of_particles
from halo_mdn.io.particles import chunks, open_particles

BOX, CELLS = 20.0, (4, 5, 6)
POSITION = np.random.default_rng(3).uniform(0, BOX, (500, 3))
WEIGHT = np.random.default_rng(4).uniform(0.5, 2, 500)
KPC, MPC = DataConfig(length_unit=0.001), DataConfig(length_unit=1.0)
HEADER = {
    "BoxSize": BOX * 1e3,
    "Redshift": 0.5,
    "NumPart_Total": np.array([0, 500, 0, 0, 0, 0], dtype=np.uint32),
    "NumPart_Total_HighWord": np.zeros(6, dtype=np.uint32),
    "NumFilesPerSnapshot": 1,
    "Omega0": 0.3089,
    "HubbleParam": 0.6774,
}


def deposit(position: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Cloud-in-cell with np.add.at, written for this test: values at the centres of cells."""
    mesh = np.zeros(CELLS)
    place = position / BOX * CELLS - 0.5
    lower = np.floor(place).astype(int)
    for corner in product((0, 1), repeat=3):
        share = np.prod(np.where(corner, place - lower, 1 - place + lower), axis=1)
        np.add.at(mesh, tuple(((lower + corner) % CELLS).T), share * weight)
    return mesh


def write_snapshot(path: Path, header: Mapping, position: np.ndarray, **more: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file.create_group("Header").attrs.update(header)
        if len(position):
            file["PartType1/Coordinates"] = position
        for name, values in more.items():
            file[f"PartType1/{name}"] = values
    return path


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch) -> None:
    monkeypatch.setattr(particles, "CHUNK", 200)  # the last piece is shorter than the others


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    return write_snapshot(tmp_path / "snap_099.hdf5", HEADER, POSITION * 1e3)


def test_density_is_that_of_an_independent_deposit(snapshot: Path) -> None:
    field = density_of_particles(snapshot, CELLS, KPC)
    expected = deposit(POSITION, np.ones(500))
    np.testing.assert_allclose(field.delta, expected / expected.mean() - 1, atol=1e-12)
    assert field.box_size == (BOX,) * 3 and field.points == "centres" and field.redshift == 0.5
    assert json.loads(field.cosmology) == {"omega_m": 0.3089, "h": 0.6774}
    assert "PartType1/Coordinates, all of one mass" in field.notes[0]


def test_mass_is_conserved_and_weighed(tmp_path: Path) -> None:
    weight = WEIGHT.astype(np.float32)
    path = write_snapshot(tmp_path / "snap.hdf5", HEADER, POSITION * 1e3, Masses=weight)
    grid = Grid(CELLS, (BOX,) * 3)
    mass, total = paint_in_pieces(chunks(open_particles(path, KPC), KPC), grid)
    np.testing.assert_allclose(mass, deposit(POSITION, weight), rtol=1e-12)
    assert mass.sum() == pytest.approx(weight.sum(dtype=float), rel=1e-13)
    assert total == pytest.approx(weight.sum(dtype=float), rel=1e-13)


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_arrays_with_the_box_in_the_settings(tmp_path: Path, kind: str) -> None:
    if kind == "npy":
        np.save(tmp_path / "p.npy", POSITION)
    else:
        np.savez(tmp_path / "p.npz", position=POSITION, velocity=POSITION)
    path = tmp_path / f"p.{kind}"
    field = density_of_particles(path, CELLS, replace(MPC, box_size=(BOX,)))
    expected = deposit(POSITION, np.ones(500))
    np.testing.assert_allclose(field.delta, expected / expected.mean() - 1, atol=1e-12)
    centred = tmp_path / "centred.npy"
    np.save(centred, POSITION - BOX / 2)
    data = replace(MPC, box_size=(BOX,), box_corner=(-BOX / 2,) * 3)
    np.testing.assert_allclose(density_of_particles(centred, CELLS, data).delta, field.delta)
    with pytest.raises(InputError, match="does not state its box"):
        density_of_particles(path, CELLS, MPC)
    with pytest.raises(InputError, match="does not state its unit of length: give"):
        density_of_particles(path, CELLS, DataConfig(box_size=(BOX,)))


def test_a_snapshot_in_parts(tmp_path: Path) -> None:
    header = {**HEADER, "NumFilesPerSnapshot": 3}
    for part, piece in enumerate((POSITION[:200], POSITION[200:], POSITION[:0])):
        write_snapshot(tmp_path / f"snap_099.{part}.hdf5", header, piece * 1e3)
    field = density_of_particles(tmp_path / "snap_099.0.hdf5", CELLS, KPC)
    expected = deposit(POSITION, np.ones(500))
    np.testing.assert_allclose(field.delta, expected / expected.mean() - 1, atol=1e-12)
    (tmp_path / "snap_099.1.hdf5").unlink()
    with pytest.raises(InputError, match="there is no file .*snap_099.1.hdf5"):
        density_of_particles(tmp_path / "snap_099.0.hdf5", CELLS, KPC)
    write_snapshot(tmp_path / "snap_099.1.hdf5", header, POSITION[:200] * 1e3)
    with pytest.raises(InputError, match="hold 400 particles, its header states 500"):
        density_of_particles(tmp_path / "snap_099.0.hdf5", CELLS, KPC)


def test_the_unit_of_length_is_stated_or_asked_for(snapshot: Path) -> None:
    with pytest.raises(InputError, match="does not state its unit of length .its BoxSize is 20000"):
        open_particles(snapshot, DataConfig())
    with h5py.File(snapshot, "a") as file:
        file.create_group("Parameters").attrs["UnitLength_in_cm"] = 3.08568e21
    source = open_particles(snapshot, DataConfig())
    assert source.length_unit == 1e-3 and source.box_size == (BOX,) * 3
    with pytest.raises(InputError, match="states a unit of length of 0.001 Mpc/h"):
        open_particles(snapshot, MPC)


@pytest.mark.parametrize(
    ("scale", "settings", "complaint"),
    [
        (1.0, KPC, "span 0.0199"),  # Mpc/h taken as kpc/h
        (1e6, KPC, "reach from"),
        (1e3, MPC, "span 19"),  # and a box of 20,000 Mpc/h
        (1e3, replace(KPC, box_size=(25.0,)), "is a box of 20 Mpc/h, data.box_size is"),
        (np.nan, KPC, "NaN"),
    ],
)
def test_positions_that_do_not_fill_the_box(
    tmp_path: Path, scale: float, settings: DataConfig, complaint: str
) -> None:
    header = {**HEADER, "BoxSize": BOX * 1e3}
    path = write_snapshot(tmp_path / "snap.hdf5", header, POSITION * scale)
    if complaint.startswith("span 19"):
        path = write_snapshot(path, header, POSITION)
    with pytest.raises(InputError, match=complaint) as caught:
        density_of_particles(path, CELLS, settings)
    assert "\n" not in str(caught.value)


def test_other_mistakes(snapshot: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no PartType0/Coordinates; at its top are: Header"):
        open_particles(snapshot, replace(KPC, position_key=("PartType0/Coordinates",)))
    with pytest.raises(InputError, match="leave out field_points"):
        density_of_particles(snapshot, CELLS, replace(KPC, field_points="corners"))
    with pytest.raises(InputError, match="there is no file"):
        open_particles(tmp_path / "nowhere.hdf5", KPC)
    np.save(tmp_path / "flat.npy", POSITION.ravel())
    with pytest.raises(InputError, match="expected numbers .particles, 3."):
        density_of_particles(tmp_path / "flat.npy", CELLS, replace(MPC, box_size=(BOX,)))
    np.save(tmp_path / "none.npy", POSITION[:0])
    with pytest.raises(InputError, match="holds no particles"):
        density_of_particles(tmp_path / "none.npy", CELLS, replace(MPC, box_size=(BOX,)))

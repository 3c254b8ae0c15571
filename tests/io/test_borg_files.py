"""Samples of BORG: density, box and conventions, with a field that BORG itself made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from halo_mdn import Grid, InputError
from halo_mdn.config import DataConfig
from halo_mdn.field.painting import paint_overdensity
from halo_mdn.io import load_data, read_field
from halo_mdn.io.formats.borg import read_borg
from halo_mdn.io.halo_selection import on_grid

# BORG 2.1.2: LPT density of 16^3 particles on 8^3 cells of a (50 Mpc/h)^3 box, and the particles,
# from borg.forward.models.BorgLpt with supersampling 2; positions in single precision.
MADE_BY_BORG = np.load(Path(__file__).parents[1] / "reference" / "borg_lpt_8.npz")
CORNER = (-30.0, -20.0, -10.0)


def write_scalars(file: h5py.File, place: str = "scalars") -> None:
    """The scalars of a restart file, in the types and shapes that BORG gives them."""
    for axis in range(3):
        file[f"{place}/L{axis}"] = np.array([50.0])
        file[f"{place}/N{axis}"] = np.array([8], dtype=np.uint64)
        file[f"{place}/corner{axis}"] = np.array([CORNER[axis]])
    names = ("omega_r", "omega_m", "omega_b", "n_s", "sigma8", "h", "z0")
    cosmology = np.zeros(1, dtype=[(name, "f8") for name in names])
    cosmology["omega_m"], cosmology["h"] = 0.3175, 0.6711
    file[f"{place}/cosmology"] = cosmology
    file[f"{place}/localN0"] = np.array([8])


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "mcmc_12.h5"
    with h5py.File(path, "w") as file:
        file["scalars/BORG_final_density"] = MADE_BY_BORG["delta"]
        file["scalars/galaxy_nmean_0"] = np.array([1.0])
    with h5py.File(tmp_path / "restart.h5_0", "w") as file:
        write_scalars(file)
    return path


@pytest.fixture
def halos(tmp_path: Path) -> Path:
    """Particles as halos, in BORG's coordinates, where the box begins at its corner."""
    path = tmp_path / "halos.npz"
    position = MADE_BY_BORG["particles"].astype(float) + CORNER
    np.savez(path, position=position, mass=np.full(len(position), 3e12))
    return path


def test_box_corner_and_cosmology_come_from_the_restart_file(sample: Path) -> None:
    field = read_borg(sample)
    np.testing.assert_array_equal(field.delta, MADE_BY_BORG["delta"])
    assert field.box_size == (50.0, 50.0, 50.0) and field.corner == CORNER
    assert field.points == "corners"
    assert json.loads(field.cosmology)["omega_m"] == 0.3175
    assert any("restart.h5_0" in note for note in field.notes)


@pytest.mark.parametrize("place", ["scalars", "info/scalars"])
def test_scalars_inside_the_sample_serve_as_well(sample: Path, place: str) -> None:
    (sample.parent / "restart.h5_0").unlink()
    with h5py.File(sample, "a") as file:
        write_scalars(file, place)
    assert read_borg(sample).corner == CORNER


def test_our_painting_of_the_moved_particles_is_the_field(sample: Path, halos: Path) -> None:
    """The half voxel: halos put on the grid by our rule see the field of BORG around them."""
    data = load_data(DataConfig(field=str(sample), catalogue=(str(halos),), mass_threshold=1e12))
    grid = data.halos.grid
    assert grid == Grid((8, 8, 8), (50.0, 50.0, 50.0))
    ours = paint_overdensity(data.halos.position, grid)
    # Positions in single precision are good to 4e-6 Mpc/h, 6e-7 of a voxel, of 8 particles in each.
    np.testing.assert_allclose(ours, data.delta, atol=2e-5)
    centred = load_data(replace(data.settings, field_points="centres"))
    wrong = paint_overdensity(centred.halos.position, grid)
    assert np.abs(wrong - data.delta).max() > 0.5


def test_every_position_of_the_box_has_a_voxel_and_no_other() -> None:
    grid = Grid((8, 8, 8), (50.0, 50.0, 50.0))
    data = DataConfig(box_corner=CORNER, field_points="corners")
    place = np.array([[0, 0, 0], [3.124, 3.126, 46.874], [46.876, 50, 49.99]]) + CORNER
    np.testing.assert_array_equal(
        grid.voxel_of(on_grid(place, data, grid)), [[0, 0, 0], [0, 1, 7], [0, 0, 0]]
    )
    for outside in (-3.2, 50.1):
        with pytest.raises(InputError, match="outside the box"):
            grid.voxel_of(on_grid(np.array([[outside, 1, 1]]) + CORNER, data, grid))
    with pytest.raises(InputError, match="box_corner"):
        on_grid(place, DataConfig(box_corner=(1.0,)), grid)


def test_what_does_not_fit_is_refused(sample: Path, halos: Path) -> None:
    data = DataConfig(field=str(sample), catalogue=(str(halos),))
    with pytest.raises(InputError, match=r"is a box of \(50.0, 50.0, 50.0\)"):
        load_data(replace(data, box_size=(60.0,)))
    with pytest.raises(InputError, match="outside the box"):
        load_data(replace(data, box_corner=(0.0, 0.0, 0.0)))
    with pytest.raises(InputError, match="holds no halos"):
        load_data(replace(data, catalogue=(str(sample),)))
    with h5py.File(sample, "a") as file:
        del file["scalars/BORG_final_density"]
        file["scalars/BORG_final_density"] = MADE_BY_BORG["delta"][:4]
    with pytest.raises(InputError, match="one rank of many"):
        read_field(data)
    sample.write_bytes(b"nothing")
    with pytest.raises(InputError, match="damaged"):
        read_field(data)


def test_without_a_restart_file_the_settings_say_the_box(sample: Path, halos: Path) -> None:
    (sample.parent / "restart.h5_0").unlink()
    data = DataConfig(field=str(sample), catalogue=(str(halos),))
    with pytest.raises(InputError, match="data.box_size"):
        load_data(data)
    known = load_data(replace(data, box_size=(50.0,), box_corner=CORNER))
    assert known.settings.field_points == "corners"
    assert any("no restart.h5_0" in note for note in known.notes)

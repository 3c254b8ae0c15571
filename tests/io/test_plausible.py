"""Units and catalogues that cannot be right are refused before anything is fitted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from halo_mdn.config import DataConfig
from halo_mdn.errors import InputError
from halo_mdn.field.grid import Grid
from halo_mdn.fitting.inputs import misalignment
from halo_mdn.halos.catalogue import HaloCatalogue
from halo_mdn.io import RunData, example_path, load_data

EXAMPLE = np.load(example_path())
DELTA, POSITION, MASS = EXAMPLE["delta"], EXAMPLE["position"], EXAMPLE["mass"]
PARTICLE = MASS.min() / 25
BOX = 250.0


def read(folder: Path, position: np.ndarray, mass: np.ndarray, **change: object) -> RunData:
    np.save(folder / "delta.npy", DELTA)
    np.savez(folder / "halos.npz", position=position, mass=mass)
    data = DataConfig(
        field=str(folder / "delta.npy"), catalogue=(str(folder / "halos.npz"),), box_size=(BOX,)
    )
    return load_data(replace(data, **change))


def refused(folder: Path, complaint: str, position, mass, **change: object) -> None:
    with pytest.raises(InputError, match=complaint) as error:
        read(folder, position, mass, **change)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("few", [1, 500])
def test_lengths_in_other_units(tmp_path: Path, few: int) -> None:
    position, mass = POSITION[::few], MASS[::few]
    for scale in (1 / BOX, 1e-3, 0.45):  # unit box, Gpc/h, something else
        refused(tmp_path, "less than half of a box of 250", position * scale, mass)
    refused(tmp_path, "outside the box", position * 1e3, mass)
    refused(tmp_path, "outside the box", position / 0.7, mass)
    refused(tmp_path, "data.box_size in Mpc/h, such as 250", position * 1e3, mass, box_size=(25e4,))
    refused(tmp_path, "more than all matter", position / 1e3, mass, box_size=(0.25,))
    (warning,) = read(tmp_path, position * 0.7, mass).warnings
    assert "reach from" in warning and "not Mpc" in warning
    assert not read(tmp_path, position, mass).warnings


def test_a_part_of_a_catalogue(tmp_path: Path) -> None:
    slab = POSITION[:, 1] < 0.25 * BOX
    refused(tmp_path, "positions along y .* a part of the catalogue", POSITION[slab], MASS[slab])
    seen = np.zeros(DELTA.shape)
    seen[:, :16] = 1
    np.save(tmp_path / "seen.npy", seen)
    survey = read(tmp_path, POSITION[slab], MASS[slab], completeness=str(tmp_path / "seen.npy"))
    assert survey.halos.num_halos == slab.sum() and not survey.warnings


def test_masses_in_other_units(tmp_path: Path) -> None:
    gadget = MASS / 1e10
    refused(
        tmp_path, "no mass of a halo: .* data.mass_unit", POSITION, gadget, mass_threshold=200.0
    )
    refused(tmp_path, "the heaviest has .* check data.mass_unit", POSITION, gadget)
    refused(tmp_path, "more than any can have", POSITION, MASS * 1e10, mass_threshold=2e22)
    refused(tmp_path, "more than all matter", POSITION, MASS * 30, mass_threshold=6e13)


def test_halos_that_are_there_twice(tmp_path: Path) -> None:
    doubled, masses = np.concatenate([POSITION, POSITION]), np.concatenate([MASS, MASS])
    refused(tmp_path, "38,747 of 77,494 halos are there twice", doubled, masses)
    part = len(MASS) + 5_000
    refused(tmp_path, "5,000 of 43,747 halos", doubled[:part], masses[:part])
    data = read(tmp_path, doubled[: len(MASS) + 1], masses[: len(MASS) + 1])
    assert "1 halos are there twice" in data.warnings[0]


def test_lighter_halos_that_are_missing(tmp_path: Path) -> None:
    heavy = MASS > 6.6 * 2e12
    refused(
        tmp_path, "lighter ones are missing: set data.mass_threshold", POSITION[heavy], MASS[heavy]
    )
    some = np.flatnonzero(heavy)[::10]
    with pytest.raises(InputError, match="times data.mass_threshold") as error:
        read(tmp_path, POSITION[some], MASS[some])
    proposed = float(str(error.value).rsplit(" ", 1)[1])
    data = read(tmp_path, POSITION[some], MASS[some], mass_threshold=proposed)
    assert data.halos.num_halos == len(some) and not data.warnings
    few = some[:: len(some) // 8]  # too few to tell
    assert read(tmp_path, POSITION[few], MASS[few]).halos.num_halos == len(few)


def test_multiples_of_a_particle_mass_leave_gaps(tmp_path: Path) -> None:
    """A threshold between 24 and 25 particles is no sign of halos that are missing."""
    threshold = 24.01 * PARTICLE
    assert read(tmp_path, POSITION, MASS, mass_threshold=threshold).halos.num_halos == len(MASS)
    coarse = np.maximum(np.round(MASS / MASS.min()), 1) * MASS.min()  # one particle or more
    assert read(tmp_path, POSITION, coarse, mass_threshold=MASS.min() * 0.6).halos.num_halos


@pytest.mark.parametrize("below", ["error", "drop"])
def test_masses_at_the_threshold_stay_whatever_they_are_stored_in(tmp_path: Path, below) -> None:
    number = np.round(MASS / PARTICLE)
    for particles in range(25, 35):
        threshold = float(particles * PARTICLE)
        wanted = number >= particles
        mass = (number[wanted] * PARTICLE).astype(np.float32)
        data = read(
            tmp_path, POSITION[wanted], mass, mass_threshold=threshold, below_threshold=below
        )
        assert data.halos.num_halos == wanted.sum()
        halos = HaloCatalogue.from_positions(
            POSITION[wanted], mass, Grid(DELTA.shape, (BOX,) * 3), threshold
        )
        assert halos.num_halos == wanted.sum() and halos.log_mass.min() >= np.log(threshold)
    slightly = read(
        tmp_path, POSITION, MASS, mass_threshold=threshold * (1 + 1e-6), below_threshold="drop"
    )
    assert slightly.halos.num_halos == (number > particles).sum()


def test_masses_at_the_threshold_in_other_formats(tmp_path: Path) -> None:
    np.save(tmp_path / "delta.npy", DELTA)
    number = np.round(MASS / PARTICLE)
    unit, threshold = np.float32(1e10), 29 * PARTICLE
    kept = number >= 29
    with h5py.File(tmp_path / "groups.hdf5", "w") as file:
        file["Group/Pos"] = POSITION[kept]
        file["Group/Mass"] = (number[kept] * PARTICLE / unit).astype(np.float32)
    rows = np.column_stack([POSITION, MASS])[kept]
    header = {"header": "x,y,z,mass", "comments": ""}
    for digits in (5, 6, 9):
        path = tmp_path / f"halos{digits}.csv"
        np.savetxt(path, rows, delimiter=",", fmt=f"%.{digits - 1}e", **header)
    logs = np.column_stack([POSITION, np.log10(MASS)])[kept]
    np.savetxt(tmp_path / "logs.csv", logs, delimiter=",", fmt="%.6f", **header)
    groups = {"position_key": ("Group/Pos",), "mass_key": "Group/Mass", "mass_unit": 1e10}
    for name, change in (
        ("groups.hdf5", groups),
        *((f"halos{digits}.csv", {}) for digits in (5, 6, 9)),
        ("logs.csv", {"mass_is_log10": True}),
    ):
        data = DataConfig(
            field=str(tmp_path / "delta.npy"),
            catalogue=(str(tmp_path / name),),
            box_size=(BOX,),
            mass_threshold=float(threshold),
        )
        assert load_data(replace(data, **change)).halos.num_halos == kept.sum(), name


def test_a_small_box_of_few_halos_passes(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    np.save(tmp_path / "delta.npy", rng.lognormal(-0.18, 0.6, (8, 8, 8)) - 1)
    for num in (1, 2, 10, 60):
        mass = 2e12 * (1 + rng.pareto(1.5, num))
        np.savez(tmp_path / "halos.npz", position=rng.uniform(0, 40, (num, 3)), mass=mass)
        data = DataConfig(
            field=str(tmp_path / "delta.npy"),
            catalogue=(str(tmp_path / "halos.npz"),),
            box_size=(40.0,),
        )
        assert load_data(data).halos.num_halos == num


def test_halos_of_another_universe_are_warned_of(tmp_path: Path) -> None:
    from types import SimpleNamespace

    def warned(position: np.ndarray) -> str:
        inputs = SimpleNamespace(
            data=read(tmp_path, position, MASS), bias=SimpleNamespace(density_floor=0.0)
        )
        return misalignment(inputs)  # type: ignore[arg-type]

    assert warned(POSITION) == ""
    assert warned((POSITION + 97.0) % BOX).startswith("unrelated: ")
    assert warned(np.random.default_rng(0).uniform(0, BOX, POSITION.shape)).startswith(
        "unrelated: "
    )


def test_few_halos_just_outside_of_a_periodic_box_are_wrapped(tmp_path: Path) -> None:
    moved = POSITION.astype(float)
    moved[0], moved[1] = [BOX + 0.02, 3.0, 5.0], [7.0, -0.01, 5.0]
    data = read(tmp_path, moved, MASS)
    (warning,) = data.warnings
    assert "2 halos lie up to 0.02 Mpc/h outside" in warning
    assert data.halos.voxel[:2].tolist() == [[0, 0, 1], [1, 63, 1]]
    refused(tmp_path, "outside the box", moved, MASS, boundary="interior")
    refused(tmp_path, "outside the box", np.vstack([[[-9.0, 1, 1]], moved[1:]]), MASS)  # far
    refused(tmp_path, "outside the box", POSITION - 2.0, MASS)  # many: a wrong origin

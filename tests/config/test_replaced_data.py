"""What a run file says of its data does not outlive them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from halo_mdn import launch
from halo_mdn.config import DataConfig, load_config, load_settings
from halo_mdn.config.joint_schema import JointConfig
from halo_mdn.config.shipped import find_run_file
from halo_mdn.errors import InputError
from halo_mdn.io import example_path, load_data

RUN = """
seed = 7
[data]
field = "a.npy"
catalogue = "a.npz"
field_key = "delta"
field_points = "corners"
field_is = "region"
box_size = 100.0
box_corner = [1.0, 2.0, 3.0]
boundary = "interior"
density_floor = 0.1
completeness = "seen.npy"
redshift = 0.5
cosmology = "flat"
position_key = ["x", "y", "z"]
mass_key = "m"
selected = "used"
length_unit = 0.001
mass_unit = 1e10
mass_is_log10 = true
mass_threshold = 1e13
below_threshold = "drop"
mass_scatter = 0.2
threshold_completeness = 0.7
completeness_slope = 2.0
mass_definition = "200m"
[sampler]
num_samples = 20
"""
OF_FIELD = (
    "field_key", "field_points", "field_is", "box_size", "box_corner", "boundary", "density_floor",
    "completeness", "redshift", "cosmology",
)  # fmt: skip
OF_CATALOGUE = (
    "position_key", "mass_key", "selected", "length_unit", "mass_unit", "mass_is_log10",
    "mass_threshold", "below_threshold", "mass_scatter", "threshold_completeness",
    "completeness_slope", "mass_definition", "box_corner", "completeness",
)  # fmt: skip
USUAL = DataConfig()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run.toml").write_text(RUN)
    return tmp_path / "run.toml"


def test_facts_of_a_field_go_with_it(run: Path) -> None:
    stored = load_config(run).data
    data = load_config(run, {"data.field": "mine.npy", "data.redshift": "1"}).data
    for name in set(OF_FIELD) - {"redshift"}:
        assert getattr(data, name) == getattr(USUAL, name) != getattr(stored, name), name
    assert data.redshift == 1
    for name in set(OF_CATALOGUE) - set(OF_FIELD):
        assert getattr(data, name) == getattr(stored, name), name
    assert load_config(run, {"data.field": "mine.npy"}).sampler.num_samples == 20


def test_facts_of_a_catalogue_go_with_it(run: Path) -> None:
    stored = load_config(run).data
    flags = {"data.catalogue": "mine.npz", "data.mass_threshold": "3e12"}
    data = load_config(run, flags).data
    for name in set(OF_CATALOGUE) - {"mass_threshold"}:
        assert getattr(data, name) == getattr(USUAL, name) != getattr(stored, name), name
    assert data.mass_threshold == 3e12
    for name in set(OF_FIELD) - set(OF_CATALOGUE):
        assert getattr(data, name) == getattr(stored, name), name


def test_every_setting_of_data_belongs_somewhere() -> None:
    from halo_mdn.config.replaced_data import _OF_CATALOGUE, _OF_FIELD

    assert {"field", "catalogue", *_OF_FIELD, *_OF_CATALOGUE} == set(vars(USUAL))


def test_the_same_file_replaces_nothing(run: Path) -> None:
    folder = run.parent
    same = {"data.field": str(folder / "a.npy"), "data.catalogue": str(folder / "a.npz")}
    assert load_config(run, same) == load_config(run)
    assert load_config(run, {"data.catalogue": "example"}).data.mass_threshold == 2e12


@pytest.mark.parametrize("name", ["quickstart", "paper", "run"])
def test_a_threshold_must_be_given_with_a_catalogue(run: Path, name: str) -> None:
    path = run if name == "run" else find_run_file(name)
    with pytest.raises(InputError, match="give --data.mass_threshold, the mass in Msun/h"):
        load_config(path, {"data.catalogue": "mine.npz"})


def test_the_quickstart_with_data_of_ones_own(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("halo_mdn.cli.fit.set_up_jax", lambda runtime: "cpu, float64")
    example = np.load(example_path())
    np.save(tmp_path / "mine.npy", example["delta"])
    np.savez(tmp_path / "mine.npz", position=2 * example["position"], mass=example["mass"])
    flags = ["--data.field", str(tmp_path / "mine.npy"), "--output.folder", str(tmp_path / "out")]
    flags += ["--data.catalogue", str(tmp_path / "mine.npz")]
    assert launch.main(["quickstart", *flags]) == 2
    error = capsys.readouterr().err
    assert "--data.mass_threshold" in error and "data.box_size" in error and error.count("\n") == 1
    flags += ["--data.mass_threshold", "2.01e12"]
    assert launch.main(["quickstart", *flags]) == 2
    shown = capsys.readouterr()
    assert "its data.box_size, data.boundary, data.mass_threshold are not used" not in shown.out
    assert "its data.box_size, data.boundary are not used" in shown.out
    assert "--data.box_size" in shown.err and shown.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_example_speaks_of_its_own_halos_alone(tmp_path: Path) -> None:
    example = np.load(example_path())
    np.savez(tmp_path / "mine.npz", position=example["position"], mass=example["mass"])
    mine = load_data(DataConfig(catalogue=(str(tmp_path / "mine.npz"),)))
    assert mine.settings.mass_definition == "" and mine.settings.redshift == 0
    np.save(tmp_path / "mine.npy", example["delta"])
    data = DataConfig(field=str(tmp_path / "mine.npy"))
    with pytest.raises(InputError, match="is a box of .250.0, 250.0, 250.0. Mpc/h"):
        load_data(DataConfig(field=data.field, box_size=(500.0,)))
    whole = load_data(DataConfig(field=data.field, box_size=(250.0,))).settings
    assert whole.mass_definition.startswith("friends") and "sigma8" in whole.cosmology


def test_the_halos_of_a_joint_run(tmp_path: Path) -> None:
    run = tmp_path / "joint.toml"
    run.write_text('[data]\nfile = "a.h5"\nmass_threshold = 1e13\ndensity_floor = 0.1\n')
    assert load_settings(JointConfig, run).data.mass_threshold == 1e13
    with pytest.raises(InputError, match="--data.file replaces the halos .* --data.mass_threshold"):
        load_settings(JointConfig, run, {"data.file": "b.h5"})
    flags = {"data.file": "b.h5", "data.mass_threshold": "3e12"}
    assert load_settings(JointConfig, run, flags).data.density_floor == 0.01
    load_settings(JointConfig, find_run_file("joint"), {"data.file": "b.h5"})  # it had a mock

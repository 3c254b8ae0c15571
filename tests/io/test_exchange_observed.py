"""An exchange file carries all that a fit uses, and a fit uses all that it carries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from halo_mdn import MassObservation, launch
from halo_mdn.config import DataConfig
from halo_mdn.config.joint_schema import JointConfig, JointData
from halo_mdn.errors import InputError
from halo_mdn.io import load_data
from halo_mdn.io.formats.exchange import Exchange, read_exchange, write_exchange
from halo_mdn.joint.run import prepare

RNG = np.random.default_rng(4)
DELTA = RNG.lognormal(-0.125, 0.5, (8, 8, 8))
DELTA = DELTA / DELTA.mean() - 1
POSITION, MASS = RNG.uniform(0, 40, (60, 3)), 3e12 * (1 + RNG.pareto(1.5, 60))
SEEN = RNG.uniform(0.2, 1, (8, 8, 8))
OBSERVED = {"mass_scatter": 0.2, "threshold_completeness": 0.7, "completeness_slope": 2.0}
KINDS = {
    "scatter": {"mass_scatter": 0.2},
    "incomplete": {"threshold_completeness": 0.7, "completeness_slope": 2.0},
    "patch": {"boundary": "interior"},
    "region": {"field_is": "region"},
    "map": {"completeness": "seen.npy"},
    "all": {**OBSERVED, "boundary": "interior", "completeness": "seen.npy"},
}


@pytest.fixture
def data(tmp_path: Path, monkeypatch) -> DataConfig:
    monkeypatch.setattr("halo_mdn.cli.convert.set_up_jax", lambda runtime: "cpu, float64")
    np.save(tmp_path / "delta.npy", DELTA)
    np.save(tmp_path / "seen.npy", SEEN)
    np.savez(tmp_path / "halos.npz", position=POSITION, mass=MASS)
    return DataConfig(
        field=str(tmp_path / "delta.npy"),
        catalogue=(str(tmp_path / "halos.npz"),),
        box_size=(40.0,),
        redshift=0.0,
    )


def in_folder(change: dict[str, object], folder: Path) -> dict[str, object]:
    return {n: str(folder / "seen.npy") if n == "completeness" else v for n, v in change.items()}


def converted(data: DataConfig, folder: Path, change: dict[str, object]) -> Path:
    out = folder / "out.h5"
    settings = {"field": data.field, "catalogue": data.catalogue[0], "box_size": 40, "redshift": 0}
    settings |= {"mass_threshold": 2e12, **change}
    flags = [text for n, v in settings.items() for text in (f"--data.{n}", str(v))]
    assert launch.main(["convert", str(out), *flags]) == 0
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_of_the_converted_file_is_that_of_the_settings(data, tmp_path, kind: str) -> None:
    change = in_folder(KINDS[kind], tmp_path)
    direct = load_data(replace(data, **change))
    out = converted(data, tmp_path, change)
    read = load_data(DataConfig(field=str(out), catalogue=(str(out),)))
    assert read.halos.grid == direct.halos.grid
    assert read.halos.observation == direct.halos.observation
    assert read.settings.field_is == direct.settings.field_is
    np.testing.assert_array_equal(read.halos.completeness, direct.halos.completeness)
    np.testing.assert_allclose(read.halos.log_mass, direct.halos.log_mass, rtol=1e-14)
    np.testing.assert_array_equal(read.halos.voxel, direct.halos.voxel)
    with h5py.File(out) as file:
        assert file.attrs["format_version"] == 2


def test_a_plain_file_has_the_first_version(data, tmp_path: Path) -> None:
    out = converted(data, tmp_path, {})
    with h5py.File(out) as file:
        assert file.attrs["format_version"] == 1
        assert "boundary" not in file["density"].attrs
    read = load_data(replace(data, field=str(out), catalogue=(str(out),), **OBSERVED))
    assert read.halos.observation == MassObservation(0.2, 0.7, 2.0)  # the settings may say it
    with h5py.File(out, "a") as file:
        file.attrs["format_version"] = 3
    with pytest.raises(InputError, match="version 3, this program reads 1 and 2"):
        read_exchange(out)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"mass_scatter": 0.1}, "states mass_scatter = 0.2, data.mass_scatter is 0.1"),
        ({"mass_scatter": 0.0}, "data.mass_scatter is 0: leave"),
        ({"threshold_completeness": 1.0}, "states threshold_completeness = 0.7"),
        ({"completeness_slope": 1.0}, "states completeness_slope = 2"),
        ({"boundary": "periodic"}, "a patch with an interior boundary, data.boundary is periodic"),
        ({"completeness": "other.npy"}, "has a completeness map, and data.completeness is another"),
    ],
)
def test_settings_that_contradict_the_file_are_refused(data, tmp_path, change, complaint) -> None:
    out = converted(data, tmp_path, in_folder(KINDS["all"], tmp_path))
    np.save(tmp_path / "other.npy", SEEN / 2)
    change = {n: str(tmp_path / v) if n == "completeness" else v for n, v in change.items()}
    own = DataConfig(field=str(out), catalogue=(str(out),))
    with pytest.raises(InputError, match=complaint):
        load_data(replace(own, **change))
    same = in_folder(KINDS["all"], tmp_path)
    assert load_data(replace(own, **same)).halos.observation.scatter == 0.2


def test_what_cannot_be_carried_is_refused(data, tmp_path: Path, capsys) -> None:
    flags = ["--data.field", data.field, "--data.box_size", "40", "--data.redshift", "0"]
    out = str(tmp_path / "out.h5")
    assert launch.main(["convert", out, *flags, "--data.density_floor", "0.01"]) == 2
    assert "leave out data.density_floor" in capsys.readouterr().err


def test_damaged_statements_are_refused(data, tmp_path: Path) -> None:
    whole = read_exchange(converted(data, tmp_path, in_folder(KINDS["all"], tmp_path)))
    path = tmp_path / "other.h5"
    for place, name, value, complaint in (
        ("density", "boundary", "open", "has boundary 'open'"),
        ("density", "field_is", "counts", "has field_is 'counts'"),
        ("halos/mass", "scatter", -1.0, "scatter is -1.0"),
        ("halos/mass", "threshold_completeness", None, "is not complete"),
    ):
        write_exchange(path, whole, overwrite=True)
        with h5py.File(path, "a") as file:
            if value is None:
                del file[place].attrs[name]
            else:
                file[place].attrs[name] = value
        with pytest.raises(InputError, match=complaint):
            read_exchange(path)
    with pytest.raises(InputError, match="completeness has"):
        write_exchange(path, replace(whole, completeness=SEEN + 1), overwrite=True)


def test_joint_inference_refuses_what_it_would_not_use(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    plain = Exchange(DELTA, (40.0,) * 3, POSITION, MASS, 0.0)
    for change in (
        {"boundary": "interior"},
        {"field_is": "region"},
        {"observation": MassObservation(scatter=0.1)},
        {"completeness": SEEN},
    ):
        write_exchange(path, replace(plain, **change), overwrite=True)
        with pytest.raises(InputError, match="joint inference needs a periodic box"):
            prepare(JointConfig(data=JointData(file=str(path))))

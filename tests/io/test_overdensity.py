"""A field that is no overdensity is refused wherever it is read, unless a setting says what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from halo_mdn import launch
from halo_mdn.config import DataConfig
from halo_mdn.errors import InputError
from halo_mdn.io import example_path, load_data, read_field
from halo_mdn.io.formats.exchange import Exchange, write_exchange

RNG = np.random.default_rng(8)
COUNTS = RNG.poisson(8.0 * RNG.lognormal(-0.125, 0.5, (16, 16, 16)))
DELTA = COUNTS / COUNTS.mean() - 1


def filled(value: float, num: int) -> np.ndarray:
    field = DELTA.copy()
    field.flat[:num] = value
    return field


WRONG = {
    "counts": (COUNTS, "nowhere negative .* counts of particles"),
    "density": (8.3e10 * (1 + DELTA), "nowhere negative .* a density in some unit"),
    "one plus delta": (1 + DELTA, "nowhere negative .* 1 . delta"),
    "1 + delta of a dense region": (1.7 * (1 + DELTA), "nowhere negative"),
    "region": (0.3 + 1.3 * DELTA, "has the mean 0.3"),
    "logarithm": (np.log(1 + DELTA + 0.05), "has the mean -0"),
    "one filled voxel": (filled(1e20, 1), "1e.20 in 1 voxels, .* fill value"),
    "filled": (filled(1e20, 900), "1e.20 in 900 voxels, .* fill value"),
    "filled counts": (np.where(np.arange(16) < 3, 1e20, COUNTS), "fill value"),
    "filled below": (filled(-999.0, 9), "-999 in 9 voxels"),
}


def files_with(folder: Path, field: np.ndarray) -> list[DataConfig]:
    """The field in every format that holds one."""
    np.save(folder / "field.npy", field)
    np.savez(folder / "field.npz", field=field, other=np.zeros(3))
    with h5py.File(folder / "field.hdf5", "w") as file:
        file["grid/values"] = field
    with h5py.File(folder / "mcmc_1.h5", "w") as file:
        file["scalars/BORG_final_density"] = field
    content = Exchange(field, (40.0,) * 3, np.zeros((0, 3)), np.zeros(0), 0.0)
    write_exchange(folder / "own.h5", content, overwrite=True)
    keys = {"field.npy": "", "field.npz": "field", "field.hdf5": "grid/values"}
    keys |= {"mcmc_1.h5": "", "own.h5": ""}
    return [DataConfig(field=str(folder / name), field_key=key) for name, key in keys.items()]


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_overdensity_is_refused_in_every_format(tmp_path: Path, name: str) -> None:
    field, complaint = WRONG[name]
    for data in files_with(tmp_path, field):
        with pytest.raises(InputError, match=complaint) as error:
            read_field(data)
        assert "data.field_is" in str(error.value) or "data.completeness" in str(error.value)


def test_an_overdensity_passes(tmp_path: Path) -> None:
    clipped = np.maximum(DELTA, -0.9)
    for field in (DELTA, DELTA.astype(np.float32), clipped, np.zeros((4, 4, 4))):
        for data in files_with(tmp_path, field):
            np.testing.assert_array_equal(read_field(data).delta, field)


def test_the_setting_says_what_a_field_is(tmp_path: Path) -> None:
    for kind, values in (
        ("density", COUNTS),
        ("density", 8.3e10 * (1 + DELTA)),
        ("1+delta", 1 + DELTA),
        ("region", DELTA),
    ):
        for data in files_with(tmp_path, values):
            read = read_field(replace(data, field_is=kind)).delta
            np.testing.assert_allclose(read, DELTA, atol=1e-14)
    for data in files_with(tmp_path, 0.3 + DELTA):
        np.testing.assert_array_equal(
            read_field(replace(data, field_is="region")).delta, 0.3 + DELTA
        )


def test_a_setting_that_cannot_be_is_refused(tmp_path: Path) -> None:
    for values, change, complaint in (
        (DELTA, {"field_is": "density"}, "no density is negative"),
        (DELTA, {"field_is": "1+delta"}, "no 1.delta is negative"),
        (COUNTS, {"field_is": "1+delta"}, "nowhere negative|has the mean"),
        (COUNTS, {"field_is": "density", "boundary": "interior"}, "a density of a patch"),
        (0 * COUNTS, {"field_is": "density"}, "zero everywhere"),
    ):
        with pytest.raises(InputError, match=complaint):
            read_field(replace(files_with(tmp_path, values)[0], **change))


def test_a_patch_may_have_a_mean(tmp_path: Path) -> None:
    patch = files_with(tmp_path, 0.3 + DELTA)[0]
    assert read_field(replace(patch, boundary="interior")).delta.mean() == pytest.approx(0.3)
    with pytest.raises(InputError, match="nowhere negative"):
        read_field(replace(files_with(tmp_path, COUNTS)[0], boundary="interior"))


def test_the_example_is_an_overdensity() -> None:
    assert load_data(DataConfig()).delta.mean() == pytest.approx(0, abs=1e-12)


def test_inspect_says_it_and_goes_on(tmp_path: Path, capsys) -> None:
    path = tmp_path / "counts.npy"
    np.save(path, COUNTS)
    assert launch.main(["inspect", str(path)]) == 0
    assert "it cannot be used: the field in" in (said := capsys.readouterr().out)
    assert "counts of particles" in said
    assert launch.main(["inspect", str(path), "--data.field_is", "density"]) == 0
    assert "cannot be used" not in capsys.readouterr().out


def test_convert_and_joint_refuse_counts(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("halo_mdn.cli.convert.set_up_jax", lambda runtime: "cpu, float64")
    np.save(tmp_path / "counts.npy", COUNTS)
    out = str(tmp_path / "out.h5")
    flags = ["--data.field", str(tmp_path / "counts.npy"), "--data.box_size", "40"]
    flags += ["--data.redshift", "0"]
    assert launch.main(["convert", out, *flags]) == 2
    assert "counts of particles" in capsys.readouterr().err
    assert launch.main(["convert", out, *flags, "--data.field_is", "density"]) == 0
    np.testing.assert_allclose(read_field(DataConfig(field=out)).delta, DELTA, atol=1e-14)
    capsys.readouterr()
    example = np.load(example_path())
    content = Exchange(COUNTS, (250.0,) * 3, example["position"], example["mass"], 0.0)
    write_exchange(tmp_path / "joint.h5", content)
    assert launch.main(["joint", "joint", "--data.file", str(tmp_path / "joint.h5")]) == 2
    assert "counts of particles" in capsys.readouterr().err


def test_a_linear_field_gets_a_note(tmp_path: Path) -> None:
    linear = RNG.normal(0, 2, (16, 16, 16))
    for data in files_with(tmp_path, linear - linear.mean()):
        assert "voxels have delta < -1, which no density has" in read_field(data).notes[-1]
    assert not read_field(files_with(tmp_path, np.maximum(DELTA, -1))[0]).notes

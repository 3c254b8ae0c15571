"""The commands `convert` and `inspect`, and the warning before a fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from halo_mdn import InputError, launch
from halo_mdn.config import DataConfig
from halo_mdn.io import example_path, load_data
from halo_mdn.io.formats.exchange import Exchange, read_exchange, write_exchange

EXAMPLE = np.load(example_path())
DELTA, POSITION, MASS = EXAMPLE["delta"], EXAMPLE["position"], EXAMPLE["mass"]
LIGHTEST = ["--data.mass_threshold", repr(float(MASS[:4000].min()))]  # of the table below


@pytest.fixture(autouse=True)
def without_jax_settings(monkeypatch) -> None:
    monkeypatch.setattr("halo_mdn.cli.convert.set_up_jax", lambda runtime: "cpu, float64")


def call(*arguments: object) -> int:
    return launch.main([str(argument) for argument in arguments])


def check_refused(capsys, complaint: str, *arguments: object) -> None:
    assert call(*arguments) == 2
    captured = capsys.readouterr()
    assert complaint in captured.err
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1


def inspected(capsys, *arguments: object) -> str:
    assert call("inspect", *arguments) == 0
    return capsys.readouterr().out


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The example as a field and a table of its 4,000 heaviest halos."""
    np.save(tmp_path / "delta.npy", DELTA)
    table = np.column_stack([POSITION, MASS])[:4000]
    header = "x,y,z,mass"
    np.savetxt(tmp_path / "halos.csv", table, delimiter=",", header=header, comments="")
    return tmp_path


def test_convert_gives_what_a_fit_reads(files: Path, capsys) -> None:
    out = files / "all.h5"
    settings = ["--data.field", files / "delta.npy", "--data.catalogue", files / "halos.csv"]
    settings += ["--data.box_size", 250]
    check_refused(capsys, "give --data.mass_threshold", "convert", out, *settings)
    settings += LIGHTEST
    check_refused(capsys, "give --data.redshift", "convert", out, *settings)
    assert not out.exists()
    settings += ["--data.redshift", 0, "--data.mass_definition", "FoF b=0.2"]
    assert call("convert", out, *settings) == 0
    said = capsys.readouterr().out
    assert "halos.csv states no units: positions taken as Mpc/h" in said and "4,000 halos" in said
    content = read_exchange(out)
    np.testing.assert_array_equal(content.delta, DELTA)
    np.testing.assert_allclose(content.position, POSITION[:4000], rtol=1e-15)
    np.testing.assert_allclose(content.mass, MASS[:4000], rtol=1e-13)  # through ln and exp
    assert (content.redshift, content.mass_definition) == (0.0, "FoF b=0.2")
    assert json.loads(content.provenance["made_from"]) == ["delta.npy", "halos.csv"]
    data = DataConfig(field=str(out), catalogue=(str(out),), mass_threshold=content.mass_threshold)
    again = load_data(data)
    assert again.halos.num_halos == 4000 and again.settings.redshift == 0.0
    check_refused(capsys, "exists already", "convert", out, *settings)
    check_refused(capsys, "ends in .h5", "convert", files / "all.txt", *settings)


def test_convert_moves_halos_of_a_field_at_corners(files: Path) -> None:
    out = files / "corners.h5"
    settings = ["--data.field", files / "delta.npy", "--data.catalogue", files / "halos.csv"]
    settings += ["--data.box_size", 250, "--data.redshift", 0, "--data.field_points", "corners"]
    settings += LIGHTEST
    assert call("convert", out, *settings) == 0
    np.testing.assert_allclose(
        read_exchange(out).position, (POSITION[:4000] + 125 / 64) % 250, atol=1e-12
    )


def test_convert_particles(files: Path, capsys) -> None:
    lattice = (np.indices((16,) * 3).reshape(3, -1).T + 0.5) * 250 / 16
    with h5py.File(files / "snap.hdf5", "w") as file:
        file.create_group("Header").attrs.update({"BoxSize": 250e3, "Redshift": 0.25})
        file["PartType1/Coordinates"] = lattice * 1e3
    out, particles = files / "density.h5", ["--particles", files / "snap.hdf5"]
    check_refused(capsys, "belong together", "convert", out, *particles)
    check_refused(capsys, "unit of length", "convert", out, *particles, "--cells", 8)
    particles += ["--cells", 8, "--data.length_unit", 0.001]
    assert call("convert", out, *particles) == 0
    content = read_exchange(out)
    np.testing.assert_allclose(content.delta, 0, atol=1e-12)
    assert content.redshift == 0.25 and len(content.mass) == 0 and content.mass_assignment == "CIC"
    # The catalogue states no units and is in Mpc/h, whatever the particles are in.
    both = [*particles, "--data.catalogue", files / "halos.csv", "--overwrite", *LIGHTEST]
    assert call("convert", out, *both) == 0
    np.testing.assert_allclose(read_exchange(out).position, POSITION[:4000], rtol=1e-15)
    said = inspected(capsys, files / "snap.hdf5", "--data.length_unit", 0.001)
    assert "PartType1/Coordinates  (4096, 3) float64" in said
    assert "box of 250 Mpc/h, a length of 1 is 0.001 Mpc/h, redshift 0.25" in said


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "nothing to convert"),
        (["--particles", "a.npy", "--cells", "few"], "--cells is 'few'"),
        (["--particles", "a.npy", "--cells", "4", "--data.field", "b.npy"], "leave out --data."),
        (["--data.field", "nowhere.npy"], "there is no file"),
        (["--data.field", "a.npy", "--data.catalogue", "b.npz,c.npz"], "one at a time"),
        (["--sampler.num_samples", "3"], "unknown flag --sampler.num_samples"),
        (["another.h5"], "unexpected argument 'another.h5'"),
    ],
)
def test_mistakes_get_one_sentence(tmp_path: Path, capsys, arguments, complaint: str) -> None:
    check_refused(capsys, complaint, "convert", tmp_path / "out.h5", *arguments)
    assert not list(tmp_path.iterdir())


def test_inspect_the_example(capsys) -> None:
    said = inspected(capsys, "example")
    for text in (
        "delta  (64, 64, 64) float64, -0.929824 to 25.1353",
        "box of 250 Mpc/h; values at the centres of voxels",
        "halos      38,747, masses from 2.01e+12 to 2.236e+15 Msun/h, 0 of them below",
        "aligned: counts and ln(1 + delta) correlate by 0.488",
    ):
        assert text in said


def test_inspect_finds_swapped_axes_and_names_what_is_wrong(files: Path, capsys) -> None:
    np.save(files / "swapped.npy", np.ascontiguousarray(DELTA.transpose(2, 1, 0)))
    halos, box = files / "halos.csv", ["--data.box_size", 250]
    said = inspected(capsys, halos, "--field", files / "swapped.npy", *box)
    assert "misaligned: with the field's axes taken as z, y, x" in said
    assert "columns x,y,z,mass" in said and "states no units" in said
    said = inspected(capsys, halos, "--field", files / "delta.npy", *box)
    assert "\naligned: " in said
    check_refused(
        capsys, "outside the box", "inspect", halos, "--field", files / "delta.npy",
        "--data.box_size", 100,
    )  # fmt: skip
    check_refused(capsys, "no column 'M200'", "inspect", halos, "--data.mass_key", "M200")
    check_refused(capsys, "there is no file", "inspect", files / "nowhere.csv")
    check_refused(capsys, "of no kind that we read", "inspect", files)


def test_inspect_one_file_at_a_time(files: Path, capsys) -> None:
    said = inspected(capsys, files / "delta.npy")
    assert "density    64 x 64 x 64 voxels" in said and "unknown size (give data.box_size)" in said
    assert "halos" not in said.replace("halos.csv", "")
    emptied = np.where(DELTA < -0.8, -1, DELTA)
    np.savez(files / "both.npz", delta=emptied, position=POSITION, mass=MASS)
    said = inspected(capsys, files / "both.npz", "--data.box_size", 250)
    assert "have delta <= -1: set data.density_floor" in said and "\naligned: " in said


def test_inspect_a_run_file(files: Path, capsys) -> None:
    run = files / "run.toml"
    run.write_text('[data]\nfield = "delta.npy"\ncatalogue = "halos.csv"\nbox_size = 250.0\n')
    assert "\naligned: " in inspected(capsys, run)
    assert "\naligned: " in inspected(capsys, "runs/quickstart.toml")


def test_stated_threshold_is_heeded(files: Path, capsys) -> None:
    """Below it halos are missing, and a likelihood that counts on them would be wrong."""
    out, heavy = files / "heavy.h5", MASS > 1e13
    content = Exchange(DELTA, (250.0,) * 3, POSITION[heavy], MASS[heavy], 0.0, mass_threshold=1e13)
    write_exchange(out, content)
    data = DataConfig(field=str(out), catalogue=(str(out),), mass_threshold=2e12)
    with pytest.raises(InputError, match="complete above 1e.13 .* is 2e.12: raise it to 1e.13"):
        load_data(data)
    assert load_data(replace(data, mass_threshold=1e13)).halos.num_halos == heavy.sum()
    said = inspected(capsys, out)
    assert "complete above 1e+13 Msun/h" in said and "\naligned: " in said


def test_a_fit_warns_of_misaligned_data(files: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("halo_mdn.cli.fit.set_up_jax", lambda runtime: "cpu, float64")
    monkeypatch.setattr("halo_mdn.cli.fit.fit", lambda *arguments, **more: None)
    np.save(files / "rolled.npy", np.roll(DELTA, 1, axis=1))
    data = ["--data.catalogue", files / "halos.csv", "--data.box_size", 250]
    data += ["--output.folder", files / "results", *LIGHTEST]
    assert call(*data, "--data.field", files / "rolled.npy") == 0
    said = capsys.readouterr().out
    assert "warning: misaligned: with the halos shifted by (0, +1, 0) voxels" in said
    assert "note     halos.csv states no units" in said
    assert call("--output.folder", files / "results") == 0
    said = capsys.readouterr().out
    assert "warning" not in said and "note" not in said


def write_groups(path: Path, num_files: int) -> None:
    with h5py.File(path, "w") as file:
        header = {"BoxSize": 250e3, "Redshift": 0.0, "NumFiles": num_files, "Ngroups_Total": 4000}
        file.create_group("Header").attrs.update(header)
        file["Group/GroupPos"] = 1e3 * POSITION[:4000]
        file["Group/Group_M_Crit200"] = MASS[:4000] / 1e10


def test_inspect_groups_whose_datasets_are_named(files: Path, capsys) -> None:
    path = files / "groups_090.0.hdf5"
    write_groups(path, 1)
    said = inspected(capsys, path)
    assert "--data.position_key (Group/GroupPos) and --data.mass_key (Group/Group_M_C" in said
    named = ["--data.position_key", "Group/GroupPos", "--data.mass_key", "Group/Group_M_Crit200"]
    assert "halos      cannot be read" in (said := inspected(capsys, path, *named))
    assert "give --data.length_unit" in said or "data.length_unit" in said
    units = [*named, "--data.length_unit", 0.001, "--data.mass_unit", 1e10]
    said = inspected(capsys, path, *units)
    assert "halos      4,000" in said and "box 250 Mpc/h" in said
    said = inspected(capsys, path, *units, "--field", files / "delta.npy", "--data.box_size", 250)
    assert "\naligned: " in said and "lighter ones are missing" in said
    wrong = [*named[:-1], "Group/Mass"]
    assert "no dataset of numbers 'Group/Mass'; it has:" in inspected(capsys, path, *wrong)
    write_groups(path, 4)
    said = inspected(capsys, path, *units)
    assert "halos      cannot be read" in said and "is one of 4 parts, 3 of which" in said
    assert "(4,000 of 4,000 halos are in it)" in said

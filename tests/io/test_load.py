"""Readers: the same halos from every format, and one sentence for everything that is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from halo_mdn.config import DataConfig
from halo_mdn.errors import InputError
from halo_mdn.io import example_path, example_provenance, load_data

BOX = 40.0
SOURCE = Path(__file__).parents[3] / "shared" / "data" / "nbody_s1001.npz"


def survey(rng: np.random.Generator, num: int = 50) -> dict[str, np.ndarray]:
    mass = 2e12 * (1 + rng.exponential(5, num))
    density = rng.uniform(0.1, 2, (8, 8, 8))
    return {
        "delta": density / density.mean() - 1,
        "position": rng.uniform(0, BOX, (num, 3)),
        "mass": mass,
        "used": np.arange(num) % 3 > 0,
    }


def write_npz(folder: Path, arrays: dict[str, np.ndarray]) -> DataConfig:
    """Writes field and catalogue, and returns the settings that read them."""
    np.save(folder / "delta.npy", arrays["delta"])
    halos = {name: array for name, array in arrays.items() if name != "delta"}
    np.savez(folder / "halos.npz", **halos)
    return DataConfig(
        field=str(folder / "delta.npy"), catalogue=(str(folder / "halos.npz"),), box_size=(BOX,)
    )


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    return survey(np.random.default_rng(5))


def check_refused(data: DataConfig, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        load_data(data)
    assert "\n" not in str(caught.value)


def test_npz_round_trip(tmp_path: Path, arrays) -> None:
    read = load_data(write_npz(tmp_path, arrays))
    np.testing.assert_array_equal(read.delta, arrays["delta"])
    np.testing.assert_allclose(read.halos.mass, arrays["mass"], rtol=1e-14)  # through ln and exp
    np.testing.assert_array_equal(read.halos.position, arrays["position"])
    assert read.halos.grid.box_size == (BOX, BOX, BOX)
    assert set(read.files) == {"field", "catalogue_0"}


def test_csv_gives_the_same_halos(tmp_path: Path, arrays) -> None:
    data = write_npz(tmp_path, arrays)
    table = np.column_stack([arrays["mass"], arrays["position"], arrays["used"]])
    path = tmp_path / "halos.csv"
    np.savetxt(path, table, delimiter=",", header="mass,x, y,z,used", fmt="%.17g")
    csv = replace(data, catalogue=(str(path),), selected="used")
    npz = replace(data, selected="used")
    left, right = load_data(csv).halos, load_data(npz).halos
    np.testing.assert_array_equal(left.log_mass, right.log_mass)
    np.testing.assert_array_equal(left.voxel, right.voxel)
    np.testing.assert_array_equal(left.selected, right.selected)
    assert left.num_halos == arrays["used"].sum()


def test_npy_table_and_separate_columns_give_the_same_halos(tmp_path: Path, arrays) -> None:
    data = write_npz(tmp_path, arrays)
    np.save(tmp_path / "table.npy", np.column_stack([arrays["position"], arrays["mass"]]))
    x, y, z = arrays["position"].T
    np.savez(tmp_path / "columns.npz", x=x, y=y, z=z, M=arrays["mass"])
    table = replace(data, catalogue=(str(tmp_path / "table.npy"),))
    columns = replace(
        data,
        catalogue=(str(tmp_path / "columns.npz"),),
        position_key=("x", "y", "z"),
        mass_key="M",
    )
    for other in (table, columns):
        np.testing.assert_array_equal(load_data(other).halos.position, arrays["position"])


def test_log10_and_units_only_when_said(tmp_path: Path, arrays) -> None:
    mass = arrays["mass"]
    data = write_npz(tmp_path, {**arrays, "mass": np.log10(mass / 1e10)})
    check_refused(data, "look like logarithms")
    read = load_data(replace(data, mass_is_log10=True, mass_unit=1e10))
    np.testing.assert_allclose(read.halos.mass, mass, rtol=1e-13)  # log10 of 1e4 loses 1e-15 x 4
    plain = write_npz(tmp_path, arrays)
    check_refused(replace(plain, mass_is_log10=True), "no log10 of a halo mass")


def test_below_the_threshold_is_an_error_unless_dropped(tmp_path: Path, arrays) -> None:
    data = replace(write_npz(tmp_path, arrays), mass_threshold=1e13)
    check_refused(data, "below the mass threshold")
    read = load_data(replace(data, below_threshold="drop"))
    assert read.halos.num_halos == (arrays["mass"] >= 1e13).sum()
    assert read.num_dropped == (arrays["mass"] < 1e13).sum()
    dropped_all = replace(data, below_threshold="drop", mass_threshold=1e20)
    heaviest = f"all of its 50 halos are below .* the heaviest has {arrays['mass'].max():.4g}"
    check_refused(dropped_all, heaviest.replace("+", "."))
    check_refused(replace(dropped_all, below_threshold="error"), heaviest.replace("+", "."))
    check_refused(data, "--data.below_threshold drop, or lower --data.mass_threshold")


def test_several_catalogues_share_the_field(tmp_path: Path, arrays) -> None:
    data = write_npz(tmp_path, arrays)
    np.savez(tmp_path / "few.npz", position=arrays["position"][:7], mass=arrays["mass"][:7])
    several = replace(data, catalogue=(*data.catalogue, str(tmp_path / "few.npz")))
    check_refused(several, "a list of 2 files, .* set data.realisations = true .* name the first")
    twice = replace(data, catalogue=data.catalogue * 2, realisations=True)
    check_refused(twice, "names a file twice")
    np.savez(tmp_path / "copy.npz", position=arrays["position"], mass=arrays["mass"])
    copied = (*data.catalogue, str(tmp_path / "few.npz"), str(tmp_path / "copy.npz"))
    check_refused(
        replace(data, catalogue=copied, realisations=True), "catalogues 1 and 3 .* the same halos"
    )
    both = load_data(replace(several, realisations=True)).halos
    assert both.num_catalogues == 2
    assert both.num_halos == len(arrays["mass"]) + 7


def test_completeness_and_a_mask_from_their_own_files(tmp_path: Path, arrays) -> None:
    data = write_npz(tmp_path, arrays)
    np.save(tmp_path / "mask.npy", arrays["used"])
    np.save(tmp_path / "seen.npy", np.full((8, 8, 8), 0.5))
    read = load_data(
        replace(data, selected=str(tmp_path / "mask.npy"), completeness=str(tmp_path / "seen.npy"))
    )
    assert read.halos.num_halos == arrays["used"].sum()
    np.testing.assert_array_equal(read.halos.completeness, 0.5)
    assert set(read.files) == {"field", "catalogue_0", "completeness", "selected"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"delta": np.tile([-1.0, 1.0], (8, 8, 4))}, "256 of 512 density cells .* delta <= -1"),
        ({"delta": np.full((8, 8, 8), np.nan)}, "NaN or infinite"),
        ({"delta": np.full((8, 8, 8), np.inf)}, "NaN or infinite"),
        ({"delta": np.zeros((8, 8))}, "expected three axes"),
        ({"delta": np.full((8, 8, 8), 1.0)}, "density over mean density"),
        ({"delta": np.full((8, 8, 8), "a")}, "expected numbers"),
        ({"position": np.full((50, 3), 41.0)}, "outside the box"),
        ({"position": np.full((50, 3), np.nan)}, "outside the box .* or not finite"),
        ({"position": np.zeros((49, 3))}, "shape"),
        ({"mass": np.full(50, 1e12)}, "below the mass threshold"),
        ({"mass": np.full(50, 12.5)}, "look like logarithms"),
        ({"mass": np.full(50, np.nan)}, "NaN"),
        ({"position": np.zeros((0, 3)), "mass": np.zeros(0)}, "empty"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: Path, arrays, change, complaint: str) -> None:
    check_refused(write_npz(tmp_path, {**arrays, **change}), complaint)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"selected": "used"}, "one bool per halo"),
        ({"mass_key": "M200"}, "no array 'M200'; it has: position, mass, used"),
        ({"position_key": ("position", "mass")}, "expected three equal ones"),
        ({"box_size": ()}, "expected one side or three"),
        ({"box_size": (1.0, 2.0)}, "expected one side or three"),
        ({"field": "nowhere.npy"}, "there is no file nowhere.npy"),
        ({"field": "delta.fits"}, "expected a .npy or .npz file"),
        ({"catalogue": ()}, "expected at least one halo catalogue"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, arrays, change, complaint: str) -> None:
    data = write_npz(tmp_path, {**arrays, "used": arrays["used"][:-1]})
    check_refused(replace(data, **change), complaint)


@pytest.mark.parametrize("name", ["delta.npy", "delta.npz"])
def test_a_damaged_file_is_refused(tmp_path: Path, arrays, name: str) -> None:
    data = write_npz(tmp_path, arrays)
    np.savez(tmp_path / "delta.npz", delta=arrays["delta"])
    path = tmp_path / name
    whole = path.read_bytes()
    for content in (b"", b"no array at all", whole[: len(whole) // 2]):
        path.write_bytes(content)
        check_refused(replace(data, field=str(path)), f"cannot read .*{name}")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x,y,z,mass\n", "no rows"),
        ("", "no column 'x'"),
        ("x,y,z\n1,2,3\n", "no column 'mass'"),
        ("x,y,z,mass\n1,2,three,4e12\n", "cannot read"),
        ("x,y,z,mass\n1,2\n", "cannot read"),
    ],
)
def test_a_wrong_csv_is_refused(tmp_path: Path, arrays, text: str, complaint: str) -> None:
    data = write_npz(tmp_path, arrays)
    path = tmp_path / "halos.csv"
    path.write_text(text, encoding="utf-8")
    check_refused(replace(data, catalogue=(str(path),)), complaint)


def test_an_archive_with_several_arrays_needs_a_name(tmp_path: Path, arrays) -> None:
    data = write_npz(tmp_path, arrays)
    path = tmp_path / "fields.npz"
    np.savez(path, a=arrays["delta"], b=arrays["delta"] + 0.1)
    several = replace(data, field=str(path))
    check_refused(several, "it has: a, b")
    np.testing.assert_array_equal(
        load_data(replace(several, field_key="b")).delta, arrays["delta"] + 0.1
    )


def test_the_example_is_small_and_knows_itself() -> None:
    assert example_path().stat().st_size <= 4 * 2**20
    read = load_data(DataConfig())
    assert read.delta.shape == (64, 64, 64) and read.delta.dtype == np.float64
    assert read.halos.num_halos == 38_747
    assert read.halos.grid.box_size == (250.0, 250.0, 250.0)
    assert read.settings.redshift == 0.0
    assert json.loads(read.settings.cosmology)["sigma8"] == 0.8102
    assert example_provenance()["simulation"]["seed"] == 1001
    check_refused(DataConfig(box_size=(500.0,)), "the example's box is 250.0")


def test_field_and_halos_of_the_example_are_aligned() -> None:
    """Counts follow the field; shifted by a cell or with swapped axes they would not."""
    read = load_data(DataConfig())
    counts = np.zeros(read.delta.shape)
    np.add.at(counts, tuple(read.halos.voxel.T), 1)
    log_density = np.log1p(read.delta)

    def correlation(field: np.ndarray) -> float:
        return float(np.corrcoef(counts.ravel(), field.ravel())[0, 1])

    # 0.49, 0.34 and 0.02 as documented for the simulation.
    assert correlation(log_density) == pytest.approx(0.49, abs=0.01)
    assert correlation(np.roll(log_density, 1, axis=0)) == pytest.approx(0.34, abs=0.02)
    assert abs(correlation(log_density.transpose(1, 0, 2))) < 0.05


@pytest.mark.skipif(not SOURCE.is_file(), reason="the simulation's own file is not at hand")
def test_the_example_is_exactly_the_simulation() -> None:
    with np.load(SOURCE) as source, np.load(example_path()) as example:
        np.testing.assert_array_equal(example["delta"], source["delta_lpt"])
        np.testing.assert_array_equal(example["position"], source["halo_pos"])
        np.testing.assert_array_equal(example["mass"], source["halo_mass"])

"""The exchange file: what is written comes back, and what is wrong is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from halo_mdn import InputError
from halo_mdn.io.formats.exchange import Exchange, read_exchange, write_exchange


@pytest.fixture
def content() -> Exchange:
    rng = np.random.default_rng(1)
    return Exchange(
        delta=rng.uniform(-0.9, 3, size=(4, 5, 6)),
        box_size=(10.0, 20.0, 30.0),
        position=rng.uniform(0, 10, size=(7, 3)),
        mass=np.geomspace(2e12, 1e15, 7),
        redshift=0.5,
        mass_definition="200m",
        mass_threshold=2e12,
        params=rng.normal(size=17),
        white_noise=rng.normal(size=(8, 8, 8)),
        settings={"seed": 3, "lpt": {"order": 2}},
        provenance={"command": "made by hand"},
    )


def test_everything_comes_back(content: Exchange, tmp_path: Path) -> None:
    write_exchange(tmp_path / "a.h5", content)
    back = read_exchange(tmp_path / "a.h5")
    for name, value in vars(content).items():
        np.testing.assert_array_equal(getattr(back, name), value, err_msg=name)
    assert back.grid.shape == (4, 5, 6)
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_observations_have_no_truth(content: Exchange, tmp_path: Path) -> None:
    bare = replace(content, params=None, white_noise=None, settings={}, mass_threshold=None)
    write_exchange(tmp_path / "a.h5", bare)
    back = read_exchange(tmp_path / "a.h5")
    assert back.params is None and back.white_noise is None and back.mass_threshold is None


def test_units_and_conventions_stand_in_the_file(content: Exchange, tmp_path: Path) -> None:
    write_exchange(tmp_path / "a.h5", content)
    with h5py.File(tmp_path / "a.h5") as file:
        density = file["density"].attrs
        assert list(density["box_size"]) == [10.0, 20.0, 30.0]
        assert (density["units"], density["mass_assignment"]) == ("overdensity", "CIC")
        assert density["origin"].startswith("cell centres")
        assert density["redshift"] == 0.5
        assert file["halos/mass"].attrs["definition"] == "200m"


def test_existing_file_is_kept(content: Exchange, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        write_exchange(path, content)
    assert path.read_text() == "precious"
    write_exchange(path, content, overwrite=True)
    assert read_exchange(path).redshift == 0.5


def test_failed_write_leaves_nothing(content: Exchange, tmp_path: Path) -> None:
    broken = replace(content, settings={"not for JSON": {1, 2}})
    with pytest.raises(TypeError):
        write_exchange(tmp_path / "a.h5", broken)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("place", "attribute", "value", "message"),
    [
        ("halos/mass", "units", "1e10 Msun/h", "units '1e10 Msun/h', expected 'Msun/h'"),
        ("density", "units", "density contrast", "expected 'overdensity'"),
        ("density", "origin", "cell corners", "has origin 'cell corners'"),
        ("/", "format_version", 9, "format version 9"),
        ("/", "format", "other", "not a halo_mdn exchange file"),
    ],
)
def test_other_conventions_are_refused(
    content: Exchange, tmp_path: Path, place: str, attribute: str, value: object, message: str
) -> None:
    path = tmp_path / "a.h5"
    write_exchange(path, content)
    with h5py.File(path, "r+") as file:
        file[place].attrs[attribute] = value
    with pytest.raises(InputError, match=message):
        read_exchange(path)


@pytest.mark.parametrize("part", ["density", "halos/position", "halos/mass"])
def test_missing_parts_are_named(content: Exchange, tmp_path: Path, part: str) -> None:
    path = tmp_path / "a.h5"
    write_exchange(path, content)
    with h5py.File(path, "r+") as file:
        del file[part]
    with pytest.raises(InputError, match="not complete"):
        read_exchange(path)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_exchange(tmp_path / "a.h5")
    (tmp_path / "b.h5").write_text("no HDF5")
    with pytest.raises(InputError, match="cannot read"):
        read_exchange(tmp_path / "b.h5")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"delta": np.full((4, 5, 6), np.nan)}, "density holds NaN"),
        ({"delta": np.zeros((4, 5))}, "expected three axes"),
        ({"mass": np.ones(3)}, "expected \\(halos, 3\\) and"),
        ({"mass": np.linspace(-1, 1, 7)}, "not positive"),
        ({"position": np.full((7, 3), 11.0)}, "outside the box"),
    ],
)
def test_bad_content_is_refused(
    content: Exchange, tmp_path: Path, changes: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write_exchange(tmp_path / "a.h5", replace(content, **changes))
    assert not list(tmp_path.iterdir())

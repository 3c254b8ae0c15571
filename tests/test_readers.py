"""Self-describing files: Rockstar lists and exchange files, through the settings of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from halo_mdn.config.schema import DataConfig
from halo_mdn.errors import InputError
from halo_mdn.io import load_data
from halo_mdn.io.exchange import Exchange, write_exchange
from halo_mdn.io.rockstar import read_rockstar

HEADER = (
    "#ID DescID Mvir Vmax X Y Z M200b\n"
    "#a = 1.000000\n"
    "#Units: Masses in Msun / h\n"
    "#Units: Positions in Mpc / h (comoving)\n"
)
ROWS = "0 -1 3.0e12 80 1.0 2.0 3.0 2.5e12\n1 -1 5.0e13 200 7.5 0.5 4.0 4.4e13\n"
SHARED = Path(__file__).parents[2] / "shared" / "data" / "s1001_rockstar_style_2000.list"


@pytest.fixture
def rockstar(tmp_path: Path) -> Path:
    path = tmp_path / "out_0.list"
    path.write_text(HEADER + ROWS)
    return path


@pytest.fixture
def exchange(tmp_path: Path) -> Path:
    path = tmp_path / "mock.h5"
    content = Exchange(
        delta=np.random.default_rng(0).uniform(-0.5, 0.5, (4, 4, 4)),
        box_size=(8.0, 8.0, 8.0),
        position=np.array([[1.0, 2.0, 3.0], [7.5, 0.5, 4.0]]),
        mass=np.array([3.0e12, 5.0e13]),
        redshift=0.0,
    )
    write_exchange(path, content)
    return path


def test_rockstar_columns(rockstar: Path) -> None:
    position, mass = read_rockstar(rockstar)
    np.testing.assert_array_equal(position, [[1, 2, 3], [7.5, 0.5, 4]])
    np.testing.assert_array_equal(mass, [3e12, 5e13])
    np.testing.assert_array_equal(read_rockstar(rockstar, "m200b")[1], [2.5e12, 4.4e13])


def test_hlist_names_carry_numbers(tmp_path: Path) -> None:
    path = tmp_path / "hlist_1.0.list"
    path.write_text("#scale(0) id(1) mvir(10) x(17) y(18) z(19)\n1.0 5 3e12 1 2 3\n")
    position, mass = read_rockstar(path)
    np.testing.assert_array_equal(position, [[1, 2, 3]])
    np.testing.assert_array_equal(mass, [3e12])


@pytest.mark.parametrize(
    "text, message",
    [
        (HEADER.replace("Msun / h", "Msun") + ROWS, "masses in Msun, expected Msun / h"),
        (HEADER.replace("in Mpc / h", "in kpc / h") + ROWS, "positions in kpc / h"),
        (HEADER.replace("Mvir", "Mass") + ROWS, "no column 'Mvir'"),
        (ROWS, "no header"),
        (HEADER + "0 -1 heavy 80 1 2 3 1\n", "cannot read"),
    ],
)
def test_unusable_lists(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "out_0.list"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_rockstar(path)


def test_real_list_agrees_with_the_catalogue_it_was_made_from() -> None:
    if not SHARED.exists():
        pytest.skip(f"{SHARED.name} is not here: the folder of real data is missing")
    position, mass = read_rockstar(SHARED)
    halos = np.load(SHARED.with_name("nbody_s1001.npz"))
    table = {tuple(np.round(p, 2)): m for p, m in zip(halos["halo_pos"], halos["halo_mass"])}  # noqa: B905
    found = [table.get(tuple(np.round(p.astype(np.float32), 2))) for p in position]
    known = np.array([m is not None for m in found])
    assert known.mean() > 0.9  # the others round to another hundredth
    expected = np.array([m for m in found if m is not None])
    np.testing.assert_allclose(mass[known], expected, rtol=1e-4)  # five digits in the file


def test_a_run_reads_an_exchange_file(exchange: Path) -> None:
    data = load_data(DataConfig(field=str(exchange), catalogue=(str(exchange),)))
    assert data.halos.grid.box_size == (8.0, 8.0, 8.0)
    np.testing.assert_allclose(data.halos.mass, [3e12, 5e13], rtol=1e-13)


def test_a_run_reads_a_rockstar_list(exchange: Path, rockstar: Path) -> None:
    config = DataConfig(field=str(exchange), catalogue=(str(rockstar),), mass_scatter=0.2)
    halos = load_data(config).halos
    np.testing.assert_array_equal(halos.voxel, [[0, 1, 1], [3, 0, 2]])
    assert halos.observation.scatter == 0.2


def test_contradictions_are_refused(exchange: Path) -> None:
    config = DataConfig(field=str(exchange), catalogue=(str(exchange),))
    for change, message in (
        ({"box_size": (9.0,)}, "data.box_size is"),
        ({"mass_is_log10": True}, "leave out"),
        ({"selected": "good"}, "give a .npy file"),
        ({"threshold_completeness": 1.5}, "threshold_completeness"),
    ):
        with pytest.raises(InputError, match=message):
            load_data(replace(config, **change))

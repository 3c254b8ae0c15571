"""Self-describing files: Rockstar lists and exchange files, through the settings of a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from halo_mdn.config.schema import DataConfig
from halo_mdn.errors import InputError
from halo_mdn.io import load_data
from halo_mdn.io.formats.exchange import Exchange, write_exchange
from halo_mdn.io.formats.rockstar import read_rockstar

HEADER = (
    "#ID DescID Mvir Vmax X Y Z M200b\n"
    "#a = 1.000000\n"
    "#Units: Masses in Msun / h\n"
    "#Units: Positions in Mpc / h (comoving)\n"
)
ROWS = "0 -1 3.0e12 80 1.0 2.0 3.0 2.5e12\n1 -1 5.0e13 200 7.5 0.5 4.0 4.4e13\n"
SHARED = Path(__file__).parents[3] / "shared" / "data" / "s1001_rockstar_style_2000.list"


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
    position, mass = read_rockstar(rockstar)[:2]
    np.testing.assert_array_equal(position, [[1, 2, 3], [7.5, 0.5, 4]])
    np.testing.assert_array_equal(mass, [3e12, 5e13])
    np.testing.assert_array_equal(read_rockstar(rockstar, "m200b").mass, [2.5e12, 4.4e13])


# Header lines as Consistent Trees writes them; fewer columns.
HLIST = (
    "#scale(0) id(1) pid(5) upid(6) sam_Mvir(9) Mvir(10) Rvir(11) x(17) y(18) z(19) M200b\n"
    "#Omega_M = 0.295038; Omega_L = 0.704962; h0 = 0.688062\n"
    "#Full box size = 8.000000 Mpc/h\n"
    "#Scale: Scale factor of halo.\n"
    "#SAM_Mvir: Halo mass, smoothed across accretion history (Msun/h).\n"
    "#Mvir: Halo mass (Msun/h).\n"
    "#Rvir: Halo radius (kpc/h comoving).\n"
    "#X/Y/Z: Halo position (Mpc/h comoving).\n"
    "#JX/JY/JZ: Halo angular momenta ((Msun/h) * (Mpc/h) * km/s (physical)).\n"
    "#Consistent Trees Version 1.0\n"
)
HLIST_ROWS = (
    "0.5000 7 -1 -1 3.1e12 3.0e12 300 1.0 2.0 3.0 2.5e12\n"
    "0.5000 9 7 7 2.1e12 2.2e12 250 1.1 2.0 3.0 2.0e12\n"
    "0.5000 8 -1 -1 5.1e13 5.0e13 700 7.5 0.5 4.0 4.4e13\n"
)


def test_hlist_states_units_box_redshift_and_subhalos(tmp_path: Path) -> None:
    path = tmp_path / "hlist_0.50000.list"
    path.write_text(HLIST + HLIST_ROWS)
    halos = read_rockstar(path)
    np.testing.assert_array_equal(halos.mass, [3e12, 2.2e12, 5e13])
    assert halos.box_size == (8.0, 8.0, 8.0) and halos.redshift == 1.0
    assert json.loads(halos.cosmology) == {"omega_m": 0.295038, "h": 0.688062}
    assert halos.selected is None and "1 of 3 halos are subhalos, used" in halos.notes[1]
    distinct = read_rockstar(path, "m200b", only_distinct=True)
    np.testing.assert_array_equal(distinct.mass, [2.5e12, 2e12, 4.4e13])
    np.testing.assert_array_equal(distinct.selected, [True, False, True])
    for wrong in ("(Mpc/h comoving)", "Mvir: Halo mass (Msun/h)"):
        path.write_text(HLIST.replace(wrong, wrong.replace("/h", "")) + HLIST_ROWS)
        with pytest.raises(InputError, match="expected M"):
            read_rockstar(path)


def test_a_run_on_an_hlist(exchange: Path, tmp_path: Path) -> None:
    path = tmp_path / "hlist_0.50000.list"
    path.write_text(HLIST + HLIST_ROWS)
    config = DataConfig(field=str(exchange), catalogue=(str(path),), selected="distinct")
    data = load_data(config)
    assert data.halos.num_halos == 2
    assert any("redshift 1, the field of 0" in note for note in data.notes)
    assert json.loads(data.settings.cosmology)["h"] == 0.688062
    path.write_text(HLIST.replace("size = 8", "size = 9") + HLIST_ROWS)
    with pytest.raises(InputError, match="is a box of .9.0, 9.0, 9.0. Mpc/h"):
        load_data(config)
    path.write_text(HLIST.replace(" pid(5)", " host(5)") + HLIST_ROWS)
    with pytest.raises(InputError, match="no column pid"):
        load_data(config)
    path.write_text(HLIST)
    with pytest.raises(InputError, match="no rows"):
        load_data(config)


def test_hlist_names_carry_numbers(tmp_path: Path) -> None:
    path = tmp_path / "hlist_1.0.list"
    path.write_text("#scale(0) id(1) mvir(10) x(17) y(18) z(19)\n1.0 5 3e12 1 2 3\n")
    position, mass = read_rockstar(path)[:2]
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
    position, mass = read_rockstar(SHARED)[:2]
    stated = read_rockstar(SHARED)
    assert stated.box_size == (250.0, 250.0, 250.0) and stated.redshift == 0
    assert json.loads(stated.cosmology) == {"omega_m": 0.3111, "h": 0.6766}
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


def test_datasets_of_other_hdf5_files(tmp_path: Path) -> None:
    path = tmp_path / "groups.hdf5"
    with h5py.File(path, "w") as file:
        file["grid/delta"] = np.random.default_rng(0).uniform(-0.5, 0.5, (4, 4, 4))
        file["Group/GroupPos"] = np.array([[1e3, 2e3, 3e3], [7.5e3, 500, 4e3]])
        file["Group/GroupMass"] = np.array([300.0, 5000.0])
        file["Group/GroupPos"].attrs["units"] = "ckpc/h"
    config = DataConfig(
        field=str(path),
        field_key="grid/delta",
        catalogue=(str(path),),
        position_key=("Group/GroupPos",),
        mass_key="Group/GroupMass",
        mass_unit=1e10,
        box_size=(8.0,),
    )
    data = load_data(config)
    np.testing.assert_allclose(data.halos.position, [[1, 2, 3], [7.5, 0.5, 4]], rtol=1e-15)
    np.testing.assert_allclose(data.halos.mass, [3e12, 5e13], rtol=1e-13)
    assert data.notes == ("groups.hdf5 states no units: masses taken as 1e+10 Msun/h",)
    for change, message in (
        ({"field_key": "delta"}, "no dataset of numbers 'delta'; it has: Group/GroupMass, Group"),
        ({"field_key": ""}, "not a halo_mdn exchange file: name its datasets"),
        ({"mass_key": "Group"}, "no dataset of numbers 'Group'"),
        ({"position_key": ("position",)}, "name its datasets"),
    ):
        with pytest.raises(InputError, match=message):
            load_data(replace(config, **change))


def test_distinct_halos_are_no_phantoms(tmp_path: Path) -> None:
    path = tmp_path / "hlist_0.50000.list"
    rows = HLIST_ROWS.splitlines()
    lines = [f"{row} {phantom}" for row, phantom in zip(rows, (1, 0, 0), strict=True)]
    path.write_text(HLIST.replace(" M200b\n", " M200b phantom\n", 1) + "\n".join(lines) + "\n")
    every, distinct = read_rockstar(path), read_rockstar(path, only_distinct=True)
    assert every.selected is None and "1 of 3 halos are phantoms" in every.notes[-1]
    assert "used; data.selected = distinct" in every.notes[-1]
    np.testing.assert_array_equal(distinct.selected, [False, False, True])
    assert distinct.notes[-1].endswith("left out")

"""What headers of simulation codes state, on files made on the spot as those codes write them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from halo_mdn.config import DataConfig
from halo_mdn.errors import InputError
from halo_mdn.io import read_halos
from halo_mdn.io.formats.simulation_header import (
    header_of,
    num_files,
    parts_of,
    stated_cosmology,
    stated_length,
    stated_mass,
    stated_redshift,
)

MPC, KPC = 3.085678e24, 3.085678e21  # in cm, as Gadget writes it
UNIT_MASS = 1.989e43  # 1e10 Msun in grams
POSITION = np.array([[1.0, 2.0, 3.0], [7.5, 0.5, 4.0], [6.0, 6.0, 1.0]])  # Mpc/h
MASS = np.array([3e12, 5e13, 7e12])  # Msun/h
GROUPS = DataConfig(
    position_key=("Group/GroupPos",), mass_key="Group/GroupMass", mass_unit=1e10, box_size=()
)
H = 0.6774


def write_tng(path: Path, rows: slice = slice(None), *, files: int = 1, total: int = 3) -> None:
    """A group catalogue of AREPO: kpc/h, units in its Parameters, the total in its Header."""
    with h5py.File(path, "w") as file:
        header = {"BoxSize": 8000.0, "Redshift": 0.5, "HubbleParam": H, "Omega0": 0.3089}
        header |= {"NumFiles": np.int32(files), "Ngroups_Total": np.int32(total)}
        file.create_group("Header").attrs.update(header)
        units = {"UnitLength_in_cm": KPC, "UnitMass_in_g": UNIT_MASS}
        file.create_group("Parameters").attrs.update(units)
        file.create_group("Group")
        if len(MASS[rows]):
            file["Group/GroupPos"] = (1e3 * POSITION[rows]).astype(np.float32)
            file["Group/GroupMass"] = (MASS[rows] / 1e10).astype(np.float32)


def write_gadget4(path: Path) -> None:
    """Gadget-4 writes its total as NumGroups_Total, and Mpc/h here."""
    with h5py.File(path, "w") as file:
        header = {"BoxSize": 8.0, "Redshift": 0.5, "NumFiles": 1, "NumGroups_Total": 3}
        file.create_group("Header").attrs.update(header)
        units = {"UnitLength_in_cm": MPC, "UnitMass_in_g": UNIT_MASS, "HubbleParam": H}
        file.create_group("Parameters").attrs.update(units)
        file["Group/GroupPos"], file["Group/GroupMass"] = POSITION, MASS / 1e10


def write_soap(path: Path) -> None:
    """SOAP: SWIFT's headers in a group of their own, arrays of one number, units without h."""
    with h5py.File(path, "w") as file:
        header = {"BoxSize": np.full(3, 8.0 / H), "Redshift": np.array([0.5])}
        file.create_group("SWIFT/Header").attrs.update(header)
        known = {"h": np.array([H]), "Omega_m": np.array([0.306])}
        file.create_group("SWIFT/Cosmology").attrs.update(known)
        units = {"Unit length in cgs (U_L)": [MPC], "Unit mass in cgs (U_M)": [UNIT_MASS]}
        file.create_group("SWIFT/Units").attrs.update({n: np.array(v) for n, v in units.items()})
        file["Group/GroupPos"], file["Group/GroupMass"] = POSITION / H, MASS / 1e10 / H


@pytest.mark.parametrize("write", [write_tng, write_gadget4, write_soap])
def test_halos_of_every_code_are_the_same(tmp_path: Path, write) -> None:
    path = tmp_path / "groups.hdf5"
    write(path)
    unit = 1e10 * H if write is write_soap else 1e10  # units of masses are for the user to say
    halos = read_halos(path, replace(GROUPS, mass_unit=unit))
    np.testing.assert_allclose(halos.position, POSITION, rtol=1e-6)
    np.testing.assert_allclose(halos.mass, MASS, rtol=1e-6)
    np.testing.assert_allclose(halos.box_size, (8.0, 8.0, 8.0), rtol=1e-6)
    assert halos.redshift == 0.5
    if write is not write_gadget4:
        known = json.loads(halos.cosmology)
        assert known["h"] == H and known["omega_m"] == pytest.approx(0.307, abs=0.002)
    with pytest.raises(
        InputError, match="data.mass_unit is 1 Msun/h: set it to|set data.mass_unit"
    ):
        read_halos(path, replace(GROUPS, mass_unit=1.0))
    with pytest.raises(InputError, match="data.box_size"):
        read_halos(path, replace(GROUPS, mass_unit=unit, box_size=(9.0,)))


def test_all_parts_are_read_in_their_order(tmp_path: Path) -> None:
    """The middle one has no halo, as happens where there are more files than halos."""
    for i, rows in enumerate((slice(0, 1), slice(0, 0), slice(1, 3))):
        write_tng(tmp_path / f"groups_099.{i}.hdf5", rows, files=3)
    for i in range(3):
        halos = read_halos(tmp_path / f"groups_099.{i}.hdf5", GROUPS)
        np.testing.assert_allclose(halos.mass, MASS, rtol=1e-6)
        assert halos.num_files == 3
    (tmp_path / "groups_099.2.hdf5").unlink()
    with pytest.raises(InputError, match="groups_099.2.hdf5: .* 1 of which are missing.* of 3"):
        read_halos(tmp_path / "groups_099.0.hdf5", GROUPS)


def test_fewer_halos_than_the_header_states(tmp_path: Path) -> None:
    for files in (1, 2):
        write_tng(tmp_path / "groups.0.hdf5", files=files, total=5)
        write_tng(tmp_path / "groups.1.hdf5", slice(0, 1), files=files, total=5)
        with pytest.raises(InputError, match="halos in . files, its header states 5"):
            read_halos(tmp_path / "groups.0.hdf5", GROUPS)
    (tmp_path / "groups.0.hdf5").rename(tmp_path / "mine.hdf5")
    with pytest.raises(InputError, match="one of 2 parts, expected a name such as"):
        read_halos(tmp_path / "mine.hdf5", GROUPS)


def test_statements_of_headers(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    for unit, length in ((MPC, 1.0), (KPC, 1e-3), (3.085678e25, 10.0), (3.08568e21, 1e-3)):
        assert stated_length({"UnitLength_in_cm": unit}, path) == pytest.approx(length, rel=1e-9)
    assert stated_mass({"UnitMass_in_g": UNIT_MASS}, path) == pytest.approx(1e10)
    swift = {"Unit length in cgs (U_L)": MPC, "Unit mass in cgs (U_M)": UNIT_MASS}
    assert stated_length({**swift, "h": 0.7}, path) == pytest.approx(0.7)
    assert stated_mass({**swift, "h": 0.7}, path) == pytest.approx(0.7e10)
    with pytest.raises(InputError, match="units without h, and not h: give data.length_unit"):
        stated_length(swift, path)
    for wrong in (0.0, -1.0, np.inf):
        with pytest.raises(InputError, match="UnitLength_in_cm"):
            stated_length({"UnitLength_in_cm": wrong}, path)
    assert stated_length({}, path) is None and stated_mass({}, path) is None
    assert stated_redshift({}) is None and stated_redshift({"Redshift": 2}) == 2.0
    assert stated_cosmology({}) == "" and "0.7" in stated_cosmology({"HubbleParam": 0.7})
    assert num_files({}) == 1
    assert num_files({"NumFilesPerSnapshot": 4, "NumFiles": 2}) == 4
    assert parts_of(path, 1) == [path]


def test_the_header_wins_over_parameters(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_group("Parameters").attrs.update({"BoxSize": 1.0, "Omega0": 0.3})
        file.create_group("Header").attrs.update({"BoxSize": np.array([2.0]), "Time": [1.0, 2.0]})
        file["Units"] = 3.0  # a dataset, not a group
        header = header_of(file, tmp_path / "a.hdf5")
    assert header["BoxSize"] == 2.0 and header["Omega0"] == 0.3 and len(header["Time"]) == 2

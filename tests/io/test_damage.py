"""Damaged and hostile files: one sentence each, at once, whatever reads them.

HALO_MDN_MUTATIONS=1000 makes that many mutants of each format instead of a few.
"""

from __future__ import annotations

import os
import time
import zipfile
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from specimens import DELTA, MASS, POSITION, SPECIMENS, Specimen, as_field, as_halos, mutants

from halo_mdn.errors import InputError
from halo_mdn.io.formats import hdf5
from halo_mdn.io.listing import listing

NUM = int(os.environ.get("HALO_MDN_MUTATIONS", "120"))
SEED = int(os.environ.get("HALO_MDN_SEED", "0"))
DAMAGED = Path(__file__).parents[3] / "shared" / "cases" / "damaged"


def outcome(read, path: Path) -> str:
    """``"accepted"`` or ``"refused"``; anything but a short sentence, and in time, fails."""
    began = time.monotonic()
    try:
        read(path)
        result = "accepted"
    except InputError as error:
        said = str(error)
        assert path.name in said and len(said) <= 300 and said.isprintable()
        assert "llocate" not in said and "emory" not in said.replace("memory allocation", "")
        result = "refused"
    assert time.monotonic() - began < 5, f"{path} took too long"
    return result


def check_refused(read, path: Path, complaint: str) -> None:
    began = time.monotonic()
    with pytest.raises(InputError, match=complaint):
        read(path)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("specimen", SPECIMENS, ids=lambda specimen: specimen.name)
def test_mutants_get_a_sentence(tmp_path: Path, specimen: Specimen) -> None:
    path = tmp_path / specimen.name
    specimen.write(path)
    content = path.read_bytes()
    assert outcome(specimen.read, path) == outcome(listing, path) == "accepted"
    counts: Counter[str] = Counter()
    for mutant in mutants(content, NUM, SEED):
        path.write_bytes(mutant)
        counts[outcome(specimen.read, path)] += 1
        outcome(listing, path)
    print(f"{specimen.name}: {NUM} tried, {dict(counts)}")
    assert counts["refused"] > NUM / 20


def test_an_array_larger_than_its_file(tmp_path: Path) -> None:
    path = tmp_path / "field.npy"
    np.save(path, DELTA)
    path.write_bytes(path.read_bytes().replace(b"(6, 6, 6)", b"(6,6**9,)"[:9]))
    check_refused(as_field, path, "cannot read")
    np.save(path, DELTA)
    path.write_bytes(path.read_bytes().replace(b"(6, 6, 6), }  ", b"(600,6,60000)}"))
    check_refused(as_field, path, "cut short or damaged")


def test_a_zip_bomb(tmp_path: Path) -> None:
    path = tmp_path / "field.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("delta.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_1_0(
                stream, {"descr": "<f8", "fortran_order": False, "shape": (64, 512, 512)}
            )
            for _ in range(128):
                stream.write(bytes(2**20))
    assert path.stat().st_size < 2**18
    for read in (as_field, listing):
        check_refused(read, path, "damaged, or must be stored without compression")


@pytest.mark.parametrize("name", ["halos.csv.gz", "halos.csv.bz2", "out_0.list.gz", "a.fits.gz"])
def test_a_text_bomb(tmp_path: Path, name: str) -> None:
    import bz2
    import gzip

    pack = bz2.compress if name.endswith("bz2") else gzip.compress
    path = tmp_path / name
    path.write_bytes(pack(b"1,2,3,4\n" * 2**17) * 128)
    check_refused(as_halos, path, "damaged, or must be stored without compression")


def hdf5_file(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["Group/GroupPos"] = POSITION
        file["Group/Mass"] = MASS
    return path


def test_hdf5_data_in_other_files(tmp_path: Path) -> None:
    """A received file must not bring a local one into results."""
    secret = tmp_path / "secret"
    secret.write_bytes(DELTA.tobytes())
    other = hdf5_file(tmp_path / "other.h5")
    path = tmp_path / "mcmc_1.h5"
    shape, layout = DELTA.shape, h5py.VirtualLayout((6, 3), "f8")
    layout[:] = h5py.VirtualSource(other, "Group/GroupPos", (20, 3))[:6]

    def external(file: h5py.File) -> None:
        file.create_dataset(hdf5.BORG_DENSITY, shape, "f8", external=[(str(secret), 0, 1728)])

    def virtual(file: h5py.File) -> None:
        file.create_virtual_dataset("x", layout)

    def link(file: h5py.File) -> None:
        file["x"] = h5py.ExternalLink(str(other), "/Group")

    for write, complaint in (
        (external, "lie in other files"),
        (virtual, "lie in other files"),
        (link, "leads to another file"),
    ):
        with h5py.File(path, "w") as file:
            write(file)
        for read in (as_field, as_halos, listing):
            check_refused(read, path, complaint)


def test_hdf5_groups_without_end(tmp_path: Path) -> None:
    path = hdf5_file(tmp_path / "loop.h5")
    with h5py.File(path, "a") as file:
        file["Group/again"] = file["Group"]
    check_refused(listing, path, "holds itself")
    path = hdf5_file(tmp_path / "soft.h5")
    with h5py.File(path, "a") as file:
        file["one"], file["two"] = h5py.SoftLink("/two"), h5py.SoftLink("/one")
    assert len(listing(path)) == 2
    path = tmp_path / "deep.h5"  # 2^40 ways through 40 groups
    with h5py.File(path, "w") as file:
        group = file
        for _ in range(40):
            below = group.create_group("a")
            group["b"] = below
            group = below
    assert listing(path) == []


def test_hdf5_datasets_larger_than_their_file(tmp_path: Path) -> None:
    path = tmp_path / "mcmc_1.h5"
    for options, complaint in (
        ({}, "cut short or damaged"),
        ({"chunks": (64, 64, 64)}, "cut short or damaged"),
        ({"chunks": (64, 64, 64), "compression": "gzip"}, "damaged, or must be stored"),
    ):
        with h5py.File(path, "w") as file:
            file.create_dataset(hdf5.BORG_DENSITY, (40_000,) * 3, "f8", **options)
        check_refused(as_field, path, complaint)
    with h5py.File(path, "w") as file:
        made = file.create_dataset(
            hdf5.BORG_DENSITY, (64, 64, 64), "f8", chunks=(32, 64, 64), compression="gzip"
        )
        made[:32] = np.random.default_rng(0).normal(size=(32, 64, 64))
    check_refused(as_field, path, "not written completely")


def test_a_fits_header_with_absurd_numbers(tmp_path: Path) -> None:
    path = tmp_path / "halos.fits"
    next(s for s in SPECIMENS if s.name == path.name).write(path)
    content = path.read_bytes()
    for old, new in (
        (b"TFIELDS =                    4", b"TFIELDS =            999999999"),
        (b"NAXIS   =                    2", b"NAXIS   =            999999999"),
        (b"NAXIS2  =                   20", b"NAXIS2  =        2000000000000"),
        (b"PCOUNT  =                    0", b"PCOUNT  =        2000000000000"),
    ):
        assert old in content
        path.write_bytes(content.replace(old, new))
        for read in (as_halos, listing):
            check_refused(read, path, "its header has|cut short or damaged")


@pytest.mark.skipif(not DAMAGED.is_dir(), reason="the damaged specimens are not at hand")
def test_damaged_specimens(capsys) -> None:
    from halo_mdn import launch

    for path in sorted(DAMAGED.glob("listing_*")):
        assert launch.main(["inspect", str(path)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1

"""A small file of every format that is read, its reader, and damage done to it from a seed."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from halo_mdn.config import DataConfig
from halo_mdn.io.field_file import read_field
from halo_mdn.io.formats.arrays import read_array
from halo_mdn.io.formats.exchange import Exchange, read_exchange, write_exchange
from halo_mdn.io.halo_file import read_halos
from halo_mdn.io.particles import chunks, open_particles

BOX = 40.0
_ABSURD = (
    0,
    1,
    0x7F,
    0xFF,
    0x7FFF,
    0xFFFF,
    2**31 - 1,
    2**32 - 1,
    2**40,
    2**62,
    2**63 - 1,
    2**64 - 1,
)
_DIGITS = b"0123456789"


class Specimen(NamedTuple):
    """A format: the file's name, how it is written, how it is read."""

    name: str
    write: Callable[[Path], object]
    read: Callable[[Path], object]


def field_and_halos() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(8)
    delta = np.expm1(rng.normal(0, 0.4, (6, 6, 6)))
    return delta - delta.mean(), rng.uniform(0, BOX, (20, 3)), 2e12 * (1 + rng.exponential(3, 20))


DELTA, POSITION, MASS = field_and_halos()
TABLE = np.column_stack([POSITION, MASS])


def as_field(path: Path) -> object:
    return read_field(DataConfig(field=str(path)))


def as_halos(path: Path) -> object:
    return read_halos(path, DataConfig())


def as_groups(path: Path) -> object:
    named = DataConfig(position_key=("Group/GroupPos",), mass_key="Group/Mass", mass_unit=1e10)
    return read_halos(path, named)


def as_particles(path: Path) -> object:
    source = open_particles(path, DataConfig(length_unit=0.001))
    return list(chunks(source, DataConfig()))


def write_csv(path: Path) -> None:
    np.savetxt(path, TABLE, delimiter=",", header="x,y,z,mass", comments="")


def write_list(path: Path) -> None:
    header = "ID Mvir X Y Z pid\na = 1.0\nOm = 0.3; h = 0.7\nBox size: 40.0 Mpc/h\n"
    header += "Units: Masses in Msun / h\nUnits: Positions in Mpc / h (comoving)"
    rows = np.column_stack([np.arange(20), MASS, POSITION, -np.ones(20)])
    np.savetxt(path, rows, header=header, comments="#")


def write_fits(path: Path) -> None:
    from astropy.table import Table

    columns = dict(zip(("x", "y", "z", "mass"), TABLE.T, strict=True))
    Table(columns, units={"x": "Mpc/h", "y": "Mpc/h", "z": "Mpc/h"}).write(path)


def write_parquet(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    columns = dict(zip(("x", "y", "z", "mass"), TABLE.T, strict=True))
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def write_own(path: Path) -> None:
    content = Exchange(
        DELTA, (BOX,) * 3, POSITION, MASS, 0.0, mass_threshold=2e12, params=np.zeros(17)
    )
    write_exchange(path, content)


def write_borg(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["scalars/BORG_final_density"] = DELTA
        for axis in range(3):
            file[f"scalars/L{axis}"] = [BOX]
            file[f"scalars/N{axis}"] = np.array([6])
            file[f"scalars/corner{axis}"] = [0.0]


def write_groups(path: Path) -> None:
    with h5py.File(path, "w") as file:
        header = {"BoxSize": BOX, "Redshift": 0.0, "HubbleParam": 0.7, "NumFiles": 1}
        file.create_group("Header").attrs.update(header)
        packed = {"chunks": True, "compression": "gzip"}
        file.create_dataset("Group/GroupPos", data=POSITION, **packed)
        file.create_dataset("Group/Mass", data=MASS / 1e10, **packed)
        file["Group/GroupPos"].attrs["units"] = "Mpc/h"


def write_snapshot(path: Path) -> None:
    lattice = (np.indices((4,) * 3).reshape(3, -1).T + 0.5) * BOX / 4
    with h5py.File(path, "w") as file:
        header = {"BoxSize": BOX * 1e3, "Redshift": 0.25, "NumFilesPerSnapshot": 1}
        file.create_group("Header").attrs.update({**header, "NumPart_Total": [0, 64, 0, 0, 0, 0]})
        file["PartType1/Coordinates"] = lattice * 1e3
        file["PartType1/Masses"] = np.ones(64)


def packed(
    write: Callable[[Path], object], pack: Callable[[bytes], bytes]
) -> Callable[[Path], None]:
    def write_packed(path: Path) -> None:
        plain = path.with_name("plain" + Path(path.stem).suffix)
        write(plain)
        path.write_bytes(pack(plain.read_bytes()))
        plain.unlink()

    return write_packed


SPECIMENS = (
    Specimen("field.npy", lambda path: np.save(path, DELTA), as_field),
    Specimen("mask.npy", lambda path: np.save(path, np.ones(20, dtype=bool)), read_array),
    Specimen("field.npz", lambda path: np.savez(path, delta=DELTA, other=MASS), as_field),
    Specimen("packed.npz", lambda path: np.savez_compressed(path, delta=DELTA), as_field),
    Specimen("halos.npy", lambda path: np.save(path, TABLE), as_halos),
    Specimen("halos.npz", lambda path: np.savez(path, position=POSITION, mass=MASS), as_halos),
    Specimen("halos.csv", write_csv, as_halos),
    Specimen("halos.csv.gz", packed(write_csv, gzip.compress), as_halos),
    Specimen("out_0.list", write_list, as_halos),
    Specimen("out_0.list.bz2", packed(write_list, bz2.compress), as_halos),
    Specimen("halos.fits", write_fits, as_halos),
    Specimen("halos.fits.gz", packed(write_fits, gzip.compress), as_halos),
    Specimen("halos.parquet", write_parquet, as_halos),
    Specimen("exchange.h5", write_own, read_exchange),
    Specimen("mcmc_1.h5", write_borg, as_field),
    Specimen("groups.hdf5", write_groups, as_groups),
    Specimen("snapshot.hdf5", write_snapshot, as_particles),
)


def mutants(content: bytes, num: int, seed: int) -> Iterator[bytes]:
    """Copies of a file with flipped bits, cut tails, absurd numbers and random slices."""
    rng = np.random.default_rng(seed)
    for _ in range(num):
        mutate = (flipped, cut, with_number, with_digits, with_slice)[rng.integers(5)]
        yield mutate(content, rng)


def place(content: bytes, rng: np.random.Generator) -> int:
    """A place in a file, in its beginning half of the time: headers are short."""
    end = len(content) if rng.random() < 0.5 else min(len(content), 1500)
    return int(rng.integers(end))


def flipped(content: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        damaged[place(content, rng)] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(len(content))]


def with_number(content: bytes, rng: np.random.Generator) -> bytes:
    at, size = place(content, rng), int(rng.choice([1, 2, 4, 8]))
    number = _ABSURD[rng.integers(len(_ABSURD))] % 256**size
    return content[:at] + number.to_bytes(size, "little") + content[at + size :]


def with_digits(content: bytes, rng: np.random.Generator) -> bytes:
    """Another number in text, as in the headers of FITS and NumPy."""
    places = [at for at in range(min(len(content), 9000)) if content[at] in _DIGITS]
    if not places:
        return flipped(content, rng)
    at, size = places[rng.integers(len(places))], int(rng.integers(1, 12))
    text = bytes(rng.choice(list(b"0123456789-+e. "), size).tolist())
    return content[:at] + text + content[at + size :]


def with_slice(content: bytes, rng: np.random.Generator) -> bytes:
    """A slice left out, doubled, or overwritten with random bytes."""
    start = place(content, rng)
    end = start + int(rng.integers(1, 64))
    kind = rng.integers(3)
    if kind == 0:
        return content[:start] + content[end:]
    if kind == 1:
        return content[:end] + content[start:]
    return content[:start] + rng.bytes(end - start) + content[end:]

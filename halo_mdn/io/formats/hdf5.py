"""Opens HDF5 files that hold all of their data themselves, and tells their layouts apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

import h5py
import numpy as np

from halo_mdn.errors import InputError
from halo_mdn.io.formats.guard import check_unpacked, check_whole, listed, one_line, reading
from halo_mdn.io.formats.heaps import check_heaps

FORMAT = "halo_mdn exchange"  # the attribute `format` of our own files
EXCHANGE, BORG, SNAPSHOT = "exchange file", "BORG sample", "snapshot"
BORG_DENSITY = "scalars/BORG_final_density"
SHARED_DENSITY = "density.h5"  # beside the catalogues that `predict` writes
_MOST_MEMBERS = 20_000


def is_hdf5(path: Path) -> bool:
    """Whether a file's name says HDF5; BORG's restart files end in `.h5_0`."""
    suffix = path.suffix.lower()
    return suffix in (".h5", ".hdf5", ".hdf") or suffix.startswith(".h5_")


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file for reading; what is wrong with its bytes gets a sentence.

    Raises
    ------
    InputError
        If it is missing, damaged or no HDF5 file, a group holds itself, or data lie in other files:
        a received file must not copy a local one into results.
    """
    with reading(path):
        check_heaps(path)
        try:
            file = h5py.File(path, "r")
        except OSError as error:
            if error.strerror:
                raise
            raise InputError(f"cannot read {path}: it is not an HDF5 file, or damaged") from None
        with file:
            _check_attributes(file, path)
            for _, part in members(file, path):
                _check_attributes(part, path)
                if isinstance(part, h5py.Dataset):
                    _check_inside(part, path)
            yield file


def members(file: h5py.File, path: Path) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """All groups and datasets with their names, each once.

    Raises
    ------
    InputError
        If a group holds itself, a link leads to another file, or there is no end of members.
    """
    waiting: list[tuple[h5py.Group, tuple[int, ...]]] = [(file, (_address(file),))]
    seen, num = {_address(file)}, 0
    while waiting:
        group, above = waiting.pop()
        for name in group:
            num += 1
            if num > _MOST_MEMBERS:
                raise InputError(f"{path} has more than {_MOST_MEMBERS:,} members: is it damaged?")
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                _check_link(link, path, name)
            if isinstance(link, h5py.SoftLink):
                continue  # leads to a member that comes by itself, or to nothing
            part = group[name]
            address = _address(part)
            if address in above:
                raise InputError(f"{path} is damaged: the group {part.name} holds itself")
            if address in seen:
                continue
            seen.add(address)
            yield part.name.lstrip("/"), part
            if isinstance(part, h5py.Group):
                waiting.append((part, (*above, address)))


def _check_link(link: h5py.ExternalLink, path: Path, name: str) -> None:
    """Refuse a link to another file, but for the density that mocks in one folder share."""
    if path.name == SHARED_DENSITY or link.filename != SHARED_DENSITY:
        raise InputError(
            f"{path}: {name} leads to another file ({link.filename}), expected all data in "
            "this one: copy them into it"
        )
    with opened(path.with_name(SHARED_DENSITY)):
        pass  # it is what it should be


def values_of(part: h5py.Dataset, path: Path) -> np.ndarray:
    """The values of a dataset, which the file must be large enough to hold.

    Raises
    ------
    InputError
        If it states more values than the file has bytes for.
    """
    check_size(part, path)
    return part[()]


def check_size(part: h5py.Dataset, path: Path) -> None:
    """Refuse a dataset with more values than the file has bytes for, before room is made.

    Raises
    ------
    InputError
        If it is no dataset, a part of it is missing, or it is absurdly large.
    """
    if not is_dataset(part) or part.shape is None:
        raise InputError(f"{path} is damaged: {part.name} holds no values")
    what, have = f"the dataset {part.name.lstrip('/')}", Path(part.file.filename).stat().st_size
    wanted = prod(part.shape) * part.dtype.itemsize
    stored = part.id.get_storage_size() if wanted else 0
    check_whole(path, what, stored, have)
    if not part.chunks or not part.id.get_create_plist().get_nfilters():
        check_whole(path, what, wanted, stored)
        return
    check_unpacked(path, what, wanted, stored)
    check_unpacked(path, f"a chunk of {what}", prod(part.chunks) * part.dtype.itemsize, have)
    num = prod(-(-n // size) for n, size in zip(part.shape, part.chunks, strict=True))
    if wanted and part.id.get_num_chunks() < num:
        raise InputError(f"cannot read {path}: {what} was not written completely")


def read_dataset(path: Path, name: str) -> tuple[np.ndarray, str]:
    """A dataset of numbers, and the unit in its attribute ``units`` or ``unit`` (else empty).

    Raises
    ------
    InputError
        If the file is missing or damaged, or has no such dataset of numbers.
    """
    with opened(path) as file:
        part = file.get(name)
        if not isinstance(part, h5py.Dataset) or part.dtype.kind not in "fiub":
            found = [key for key, item in members(file, path) if is_dataset(item)]
            raise InputError(
                f"{path} has no dataset of numbers {name!r}; it has: {listed(sorted(found))}"
            )
        return values_of(part, path), unit_of(part)


def unit_of(part: h5py.Dataset) -> str:
    """The unit in a dataset's attribute ``units`` or ``unit``; empty without."""
    unit = part.attrs.get("units", part.attrs.get("unit", ""))
    return one_line(unit.decode() if isinstance(unit, bytes) else str(unit))


def is_dataset(part: object) -> bool:
    """Whether a member of an HDF5 file holds data, rather than other members."""
    return isinstance(part, h5py.Dataset)


def layout(path: Path) -> str:
    """``EXCHANGE``, ``BORG`` or ``SNAPSHOT``; empty for any other.

    Raises
    ------
    InputError
        If it is missing or no HDF5 file.
    """
    with opened(path) as file:
        if str(file.attrs.get("format")) == FORMAT:
            return EXCHANGE
        if BORG_DENSITY in file:
            return BORG
        return SNAPSHOT if any(name.startswith("PartType") for name in file) else ""


def _address(part: h5py.Group | h5py.Dataset) -> int:
    return int(h5py.h5o.get_info(part.id).addr)


def _check_attributes(part: h5py.Group | h5py.Dataset, path: Path) -> None:
    """Refuse attributes for whose values the file has no room, before anything makes it."""
    have = path.stat().st_size
    for name in part.attrs:
        stated = part.attrs.get_id(name)
        wanted = prod(stated.shape or ()) * stated.dtype.itemsize
        check_whole(path, f"the attribute {name} of {part.name}", wanted, have)


def _check_inside(part: h5py.Dataset, path: Path) -> None:
    """Refuse datasets whose values lie in other files."""
    plan = part.id.get_create_plist()
    if plan.get_external_count() or plan.get_layout() == h5py.h5d.VIRTUAL:
        raise InputError(
            f"{path}: the values of {part.name.lstrip('/')} lie in other files, expected all data "
            "in this one: copy them into it"
        )

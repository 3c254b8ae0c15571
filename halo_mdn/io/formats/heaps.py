"""Checks the global heaps of an HDF5 file, in which the library searches texts without end.

An object of index 0 and size 0 makes HDF5 (at least up to 2.0.0) step by nothing for ever, and
nothing in Python can interrupt it, so the steps are taken here first.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from halo_mdn.errors import InputError

_MARK = b"GCOL\x01\0\0\0"  # of a heap of version 1, the only one
_HEADER = 16  # bytes of a heap and of an object in it
_SEARCHED = 2**28  # bytes at either end of a file


def check_heaps(path: Path) -> None:
    """Refuse a file with a heap that does not end.

    Raises
    ------
    InputError
        If it is damaged.
    OSError, ValueError
        If the file is missing or empty.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as file:
        size = len(file)
        for begin, end in _ranges(size):
            at = file.find(_MARK, begin, end)
            while at >= 0:
                if not _ends(file, at):
                    raise InputError(f"cannot read {path}: a heap of texts in it is damaged")
                at = file.find(_MARK, at + 1, end)


def _ranges(size: int) -> list[tuple[int, int]]:
    if size <= 2 * _SEARCHED:
        return [(0, size)]
    return [(0, _SEARCHED), (size - _SEARCHED, size)]


def _ends(file: mmap.mmap, start: int) -> bool:
    """Whether the objects of a heap lead to its end."""
    end = start + int.from_bytes(file[start + 8 : start + 16], "little")
    at = start + _HEADER
    if not at <= end <= len(file):
        return False
    while at + _HEADER <= end:
        index = int.from_bytes(file[at : at + 2], "little")
        size = int.from_bytes(file[at + 8 : at + 16], "little")
        step = size if index == 0 else _HEADER + -(-size // 8) * 8
        if step == 0 or at + step > end:
            return False
        at += step
    return True

"""Files that are complete or not there at all, and what is said where they cannot be written."""

from __future__ import annotations

import io
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from glob import escape
from pathlib import Path

import h5py

from halo_mdn.errors import InputError, WriteError


def replace_file(path: Path, write_part: Callable[[Path], object]) -> Path:
    """Let `write_part` write a file beside `path`, then put it in its place in one step.

    Raises
    ------
    WriteError
        If the file cannot be written; what was there is as it was.
    """
    with told_of(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_overs(path.parent.resolve())
        part = path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.part")
        try:
            write_part(part)
            os.replace(part, path)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
    return path


def refuse_existing(path: Path, *, overwrite: bool, instead: str = "") -> None:
    """Refuse to replace a file unless that is wanted; `instead` names what else could be done.

    Raises
    ------
    InputError
        If it exists.
    """
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already: give --overwrite to replace it{instead}")


def write_file(path: Path, content: str | bytes | memoryview) -> Path:
    """Write text (as UTF-8) or bytes, atomically and to the disk; raises as `replace_file`."""
    data = content.encode(errors="surrogateescape") if isinstance(content, str) else content

    def write(part: Path) -> None:
        with part.open("wb") as stream:
            stream.write(data)
            stream.flush()
            # Else a power cut may keep the new name and lose the content.
            os.fsync(stream.fileno())

    return replace_file(path, write)


def write_hdf5(path: Path, fill: Callable[[h5py.File], object]) -> Path:
    """Let `fill` fill an HDF5 file, then write it, atomically; raises as `replace_file`.

    The file is composed in memory: the HDF5 library crashes where a disk is full.
    """
    memory = io.BytesIO()
    with told_of(path), h5py.File(memory, "w") as file:
        fill(file)
    return write_file(path, memory.getbuffer())


@contextmanager
def told_of(path: Path) -> Iterator[None]:
    """Turn what the system says against writing to `path` into one sentence.

    Raises
    ------
    WriteError
        In the place of any other OSError.
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from None


@cache  # once for every folder that this process writes to
def _remove_left_overs(folder: Path) -> None:
    """Remove what processes of this machine left behind that were killed while they wrote."""
    for part in folder.glob(f".*.{escape(platform.node())}-*.part"):
        number = part.stem.rpartition("-")[2]
        if number.isdigit() and not _is_running(int(number)):
            part.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is there and belongs to somebody else
        return True
    return True

"""One process at a time in a folder."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from halo_mdn.errors import InputError
from halo_mdn.files import told_of

try:
    import fcntl
except ImportError:  # not on Windows, where runs are not kept apart
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other process out of a folder, which is made if need be.

    The system itself lets go of the lock when a process ends, however that happens; the file
    says who holds it. A folder that was made here and is still empty at the end is removed.

    Raises
    ------
    InputError
        If another process holds the lock.
    WriteError
        If the folder cannot be written to.
    """
    made = not folder.exists()
    with told_of(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = _acquired(folder)
    try:
        yield
    finally:
        # Removed before it is let go, so that nobody holds a file that has no name any more.
        with suppress(OSError):
            (folder / LOCK).unlink(missing_ok=True)
        os.close(handle)
        if made:
            with suppress(OSError):  # it is not empty any more
                folder.rmdir()


def check_unlocked(folder: Path) -> None:
    """Refuse a folder that another process works in; makes and changes nothing.

    Raises
    ------
    InputError
    """
    try:
        handle = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        return  # no lock, or `locked` says what is wrong
    try:
        _take(handle, folder)
    finally:
        os.close(handle)


def _acquired(folder: Path) -> int:
    while True:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _take(handle, folder)
            if _is_named(handle, folder / LOCK):
                os.ftruncate(handle, 0)
                os.write(handle, f"process {os.getpid()} on {platform.node()}".encode())
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its last holder has just removed it


def _take(handle: int, folder: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 300, 0).decode(errors="replace") or "another process"
        raise InputError(
            f"{folder} is in use by {holder}: wait until it has ended, or give another folder"
        ) from None
    except OSError as error:  # some network file systems have no locks
        logger.warning("%s cannot be locked: start no second run in it (%s)", folder, error)


def _is_named(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False

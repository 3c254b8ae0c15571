"""One guard for all readers: what damaged bytes do to them becomes one short sentence."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from halo_mdn.errors import InputError

_MOST_CHARACTERS = 300
_EXPANSION = 100  # a file may unpack to this many times its size,
_SMALL = 64 * 2**20  # or to this many bytes


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Reads a file inside: whatever is raised there leaves as an :class:`InputError` of one line.

    Readers of other projects raise anything on damaged bytes, from ``AttributeError`` to
    ``MemoryError``, and warn of what they are about to raise.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except InputError as error:
        said = str(error)
        raise InputError(one_line(said if path.name in said else f"{path}: {said}")) from None
    except Exception as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> InputError:
    """The error for a file that is missing, or that is not what its name says."""
    if isinstance(error, FileNotFoundError):
        return InputError(f"there is no file {path}")
    said = error.args[0] if isinstance(error, KeyError) and error.args else error
    reason = getattr(error, "strerror", None) or str(said).strip() or type(error).__name__
    return InputError(one_line(f"cannot read {path}: {reason.splitlines()[0]}"))


def one_line(text: str) -> str:
    """Text without line breaks and control characters, its middle left out where it is long."""
    line = "".join(letter if letter.isprintable() else " " for letter in text).strip()
    if len(line) <= _MOST_CHARACTERS:
        return line
    return f"{line[: _MOST_CHARACTERS - 115]} ... {line[-110:]}"


def check_unpacked(path: Path, what: str, unpacked: int, stored: int) -> None:
    """Refuse to make room for what the bytes of a file can hardly hold.

    Parameters
    ----------
    path : Path
    what : str
        The array or table, for the error.
    unpacked : int
        Bytes that its header states.
    stored : int
        Bytes that the file has for it, compressed or not.
    """
    if unpacked < 0 or unpacked > max(_SMALL, _EXPANSION * stored):
        raise InputError(
            f"cannot read {path}: {what} would be {_shown(unpacked)} bytes from {stored:,} in the "
            "file: it is damaged, or must be stored without compression"
        )


def check_whole(path: Path, what: str, wanted: int, stored: int) -> None:
    """Refuse an array, stored as it is, of which a part is missing."""
    if not 0 <= wanted <= stored:
        raise InputError(
            f"cannot read {path}: {what} would be {_shown(wanted)} bytes, and the file has "
            f"{stored:,} for it: it is cut short or damaged"
        )


def listed(names: list[str], most: int = 20) -> str:
    """Names for an error, as many and as long as a reader of it can bear."""
    shown = ", ".join(name if len(name) <= 40 else f"{name[:37]}..." for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "") or "none"


def _shown(number: int) -> str:
    return f"{number:,}" if abs(number) < 10**15 else f"{float(min(abs(number), 10**300)):.3g}"

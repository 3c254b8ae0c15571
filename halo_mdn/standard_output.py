"""Standard output that may be closed, full, of another encoding, or read no more."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from typing import TextIO

from halo_mdn.errors import BAD_INPUT

READER_GONE = 141  # what shells say of a program that a closed pipe ended


class StandardOutput(io.TextIOBase):
    """Passes text on; what cannot be written is dropped, so that hours of work are not.

    Parameters
    ----------
    stream : text stream or None
        None, Python's word for an output that was closed before the start, takes everything.

    Attributes
    ----------
    lost : OSError or None
        Why text was dropped.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.lost: OSError | None = None
        if stream is None:
            _fill_standard_places()
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # umlauts on an ASCII terminal

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """As that of the stream."""
        return getattr(self.stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether somebody looks on."""
        return self.stream is not None and self.stream.isatty()

    def write(self, text: str) -> int:
        """Write text, or drop it."""
        if self.stream is not None and self.lost is None:
            try:
                self.stream.write(text)
            except OSError as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Make what was written appear; a stream that is closed has done so."""
        if self.stream is not None and self.lost is None and not self.stream.closed:
            try:
                self.stream.flush()
            except OSError as error:
                self._give_up(error)

    def close(self) -> None:
        """Flush for the last time; the stream itself stays open."""
        self.flush()

    @property
    def complaint(self) -> str:
        """What is wrong, in a sentence; empty if nothing is or if nobody reads any more."""
        if self.lost is None or isinstance(self.lost, BrokenPipeError):
            return ""
        reason = self.lost.strerror or self.lost
        return f"cannot write to standard output: {reason}; everything else was done"

    @property
    def exit_code(self) -> int:
        """Of a command that did its work."""
        if self.lost is None:
            return 0
        return READER_GONE if isinstance(self.lost, BrokenPipeError) else BAD_INPUT

    def _give_up(self, error: OSError) -> None:
        self.lost = error
        # Else Python tries again when it ends, and complains.
        with suppress(OSError, ValueError):
            assert self.stream is not None
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)


def _fill_standard_places() -> None:
    """Keep files that are opened later from the numbers of standard input, output and error."""
    while (handle := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(handle)

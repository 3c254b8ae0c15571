"""What bad input raises, and what a density that is not finite does."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave is wrong: a file, an array, a setting.

    The message is one sentence that says what was got, what was expected and
    what to do about it.  The command line prints it without a traceback and
    ends with exit code 2.
    """


class NotFinite(ValueError):
    """A density or a derivative of it is infinite or no number where it must be finite."""


class WriteError(InputError, OSError):
    """A file cannot be written: no room, no permission, no such folder."""


BAD_INPUT = 2

INTERRUPTED = 130

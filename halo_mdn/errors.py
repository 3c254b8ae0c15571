"""The one exception that bad input raises."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave is wrong: a file, an array, a setting.

    The message is one sentence that says what was got, what was expected and
    what to do about it.  The command line prints it without a traceback and
    ends with exit code 2.
    """


BAD_INPUT = 2

INTERRUPTED = 130

"""The entry of `run_inference.py` and `halo-mdn`: runs a command and ends with an exit code.

Exit codes: 0 the command did its work (for a fit: the results are written, read the verdict);
1 an unexpected error, with a traceback; 2 bad input or a wrong setting, or output that has no room,
with one sentence; 130 stopped by Ctrl-C or SIGTERM; 141 the work was done, but who read standard
output went away.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout

from halo_mdn.errors import BAD_INPUT, INTERRUPTED, InputError
from halo_mdn.sampling import CheckpointError, Interrupted
from halo_mdn.standard_output import StandardOutput


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; errors of the user become one sentence."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it is fine without a home
    output = StandardOutput(sys.stdout)
    try:
        with redirect_stdout(output):
            code = _run(list(sys.argv[1:] if argv is None else argv))
    finally:
        output.close()
    if output.complaint:
        _tell(f"error: {output.complaint}")
    return code or output.exit_code


def _run(argv: list[str]) -> int:
    try:
        from halo_mdn import cli

        return cli.run(argv)
    except (InputError, CheckpointError) as error:
        _tell(f"error: {error}")
        return BAD_INPUT
    except Interrupted as stop:
        _tell(f"\n{stop}")
        return INTERRUPTED
    except KeyboardInterrupt as stop:
        _tell(f"\nInterrupted before results were written{f'; {stop}' if stop.args else ''}.")
        return INTERRUPTED


def _tell(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:  # nobody is there to be told
        pass

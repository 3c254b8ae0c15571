"""The entry of `run_inference.py` and `halo-mdn`: runs a command and ends with an exit code.

Exit codes: 0 the command did its work (for a fit: the results are written, read the verdict);
1 an unexpected error, with a traceback; 2 bad input or a wrong setting, with one sentence;
130 stopped by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from halo_mdn.errors import BAD_INPUT, INTERRUPTED, InputError
from halo_mdn.sampling import CheckpointError, Interrupted


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; errors of the user become one sentence."""
    from halo_mdn import cli

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        return cli.run(list(sys.argv[1:] if argv is None else argv))
    except (InputError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except Interrupted as stop:
        print(f"\n{stop}", file=sys.stderr)
        return INTERRUPTED
    except KeyboardInterrupt:
        print("\nInterrupted before results were written.", file=sys.stderr)
        return INTERRUPTED

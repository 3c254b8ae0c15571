"""Fit the bundled example, or a run file: `python run_inference.py [runs/NAME.toml] [--help]`."""

from __future__ import annotations

import signal
import sys

_DEFAULT = signal.getsignal(signal.SIGINT)
if _DEFAULT is signal.default_int_handler:  # it is another where Ctrl-C is to be ignored
    # Libraries turn a Ctrl-C during their import into errors of their own.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from halo_mdn.launch import main  # noqa: E402

signal.signal(signal.SIGINT, _DEFAULT)

if __name__ == "__main__":
    sys.exit(main())

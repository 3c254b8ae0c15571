"""Fit the bundled example, or a run file: `python run_inference.py [runs/NAME.toml] [--help]`."""

from __future__ import annotations

import sys

from halo_mdn.launch import main

if __name__ == "__main__":
    sys.exit(main())

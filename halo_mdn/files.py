"""Files that are complete or not there at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def replace_file(path: Path, write_part: Callable[[Path], object]) -> Path:
    """Let `write_part` write a file beside `path`, then put it in its place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write_part(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path

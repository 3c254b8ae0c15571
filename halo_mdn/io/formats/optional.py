"""Packages that only some formats need."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from halo_mdn.errors import InputError


def needed(module: str, path: Path) -> ModuleType:
    """The module, or a sentence that says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise InputError(
            f"{path} needs the package {package}: pip install {package}, or 'halo-mdn[tables]'"
        ) from None

"""ArviZ, imported late and made to be quiet."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import xarray as xr


def arviz_module() -> ModuleType:
    # Imported where it is used: it takes two seconds, and 0.23 announces 1.0 with a warning.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return import_module("arviz")
        except OSError:  # 0.23 notes in the user's cache folder when it last warned
            with _other_cache_folder():
                return import_module("arviz")


@contextmanager
def _other_cache_folder() -> Iterator[None]:
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def arviz_data(groups: dict[str, xr.Dataset]) -> Any:
    """Groups, such as ``"/posterior"``, in the container that this ArviZ works on."""
    arviz, tree = arviz_module(), xr.DataTree.from_dict(groups)
    return arviz.from_datatree(tree) if hasattr(arviz, "from_datatree") else tree  # 0.23, or 1


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings about degenerate chains: the table shows them as NaN."""
    loggers = _loggers()
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


def _loggers() -> list[logging.Logger]:
    """What ArviZ 1 warns with, and ArviZ 0.23: a logger of its own that `logging` does not know."""
    named = [logging.getLogger(name) for name in ("arviz", "arviz_stats.psense")]
    own = getattr(arviz_module(), "_log", None)
    return [*named, own] if isinstance(own, logging.Logger) else named

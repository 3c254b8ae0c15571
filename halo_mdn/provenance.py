"""Where a result comes from: versions, seed, hashes of the inputs, the resolved configuration."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

_PACKAGES = ("halo-mdn", "jax", "jaxlib", "numpyro", "numpy", "scipy", "xarray", "arviz")


def provenance(
    *, seed: int, configuration: str = "", inputs: Mapping[str, str | Path] | None = None
) -> dict[str, Any]:
    """Attributes for the root of a posterior container.

    Parameters
    ----------
    seed : int
        Of the run.
    configuration : str
        The resolved settings, as JSON.
    inputs : mapping of str to path, optional
        Files that were read; each adds ``input_NAME`` (its file name) and ``input_NAME_sha256``.

    Returns
    -------
    dict of str to str or int
    """
    attrs: dict[str, Any] = {
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "inference_library": "numpyro",
        "python_version": platform.python_version(),
        "platform": platform.platform(),
        "seed": int(seed),
        "configuration": configuration,
    }
    for name in _PACKAGES:
        attrs[f"{name.replace('-', '_')}_version"] = _version(name)
    for name, path in (inputs or {}).items():
        attrs[f"input_{name}"] = Path(path).name
        attrs[f"input_{name}_sha256"] = hash_of_file(path)
    return attrs


def hash_of_file(path: str | Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of(*arrays: ArrayLike) -> str:
    """SHA-256 of arrays, with their shapes and types."""
    digest = hashlib.sha256()
    for array in map(np.ascontiguousarray, arrays):
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _version(name: str) -> str:
    if name == "halo-mdn":
        from halo_mdn import __version__  # a checkout need not be installed

        return __version__
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"

"""Where a result comes from: versions of what made it, and hashes of what went in."""

from __future__ import annotations

import hashlib
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from jax.typing import ArrayLike

from halo_mdn.version import __version__

_PACKAGES = ("jax", "jaxlib", "numpyro", "numpy", "scipy", "xarray", "arviz")


def versions() -> dict[str, str]:
    """Time, platform and versions, named as ArviZ names them where it has a name."""

    return {
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "creation_library": "halo_mdn",
        "creation_library_version": __version__,
        "inference_library": "numpyro",
        "inference_library_version": _version("numpyro"),
        "python_version": platform.python_version(),
        "platform": platform.platform(),
        **{f"{name}_version": _version(name) for name in _PACKAGES},
    }


def sha256_of(*arrays: ArrayLike) -> str:
    """SHA-256 of arrays, with their shapes and types."""
    digest = hashlib.sha256()
    for array in map(np.ascontiguousarray, arrays):
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"

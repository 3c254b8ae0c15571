"""Prepares JAX for a run: platform, precision, compile cache. Called by the command line only."""

from __future__ import annotations

import os
from pathlib import Path

import jax

from halo_mdn.config.schema import RuntimeConfig
from halo_mdn.errors import InputError


def set_up_jax(runtime: RuntimeConfig) -> str:
    """Choose platform, precision and compile cache; must come before anything is computed.

    Returns
    -------
    str
        The device in words, such as ``"cpu, float64"``.

    Raises
    ------
    InputError
        If the platform is not there, or the cache folder cannot be made.
    """
    jax.config.update("jax_enable_x64", runtime.precision == "float64")
    # Graphics processors would round float32 products to 10 bits.
    jax.config.update("jax_default_matmul_precision", "highest")
    if runtime.platform != "auto":
        jax.config.update("jax_platforms", runtime.platform)
    if (cache := cache_folder(runtime.compile_cache)) is not None:
        _make_cache(cache)
    try:
        device = jax.devices()[0]
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"runtime.platform is {runtime.platform!r}: {reason}") from None
    return f"{device.platform}, {runtime.precision}"


def cache_folder(compile_cache: str) -> Path | None:
    """The folder of compiled programs that the setting means; None for no cache."""
    if compile_cache in ("none", ""):
        return None
    if compile_cache != "user":
        return Path(compile_cache)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "halo_mdn" / "jax"


def _make_cache(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make the compile cache {folder}: {error.strerror}; set "
            "runtime.compile_cache to another folder or to none"
        ) from None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)

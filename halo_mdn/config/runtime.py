"""Prepares JAX for a run: platform, precision, compile cache. Called by the command line only."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

import jax

from halo_mdn.config.schema import RuntimeConfig
from halo_mdn.errors import InputError

logger = logging.getLogger(__name__)


def set_up_jax(runtime: RuntimeConfig) -> str:
    """Choose platform, precision and compile cache; must come before anything is computed.

    Returns
    -------
    str
        The device in words, such as ``"cpu, float64"``.

    Raises
    ------
    InputError
        If the platform is not there, or the cache folder that was asked for cannot be written to.
    """
    jax.config.update("jax_enable_x64", runtime.precision == "float64")
    # Graphics processors would round float32 products to 10 bits.
    jax.config.update("jax_default_matmul_precision", "highest")
    _set_up_cache(runtime.compile_cache)
    return f"{_device(runtime.platform).platform}, {runtime.precision}"


def _device(platform: str) -> jax.Device:
    """The first device of a platform, which becomes the only one; gpu stands for any maker's."""
    if platform == "auto":
        return jax.devices()[0]
    for name in ("cuda", "rocm") if platform == "gpu" else (platform,):
        jax.config.update("jax_platforms", name)
        try:
            return jax.devices()[0]
        except RuntimeError as error:  # JAX has no such backend, or finds no device for it
            logger.info("platform %s: %s", name, str(error).splitlines()[0])
    jax.config.update("jax_platforms", None)
    there = ", ".join(dict.fromkeys(device.platform for device in jax.devices()))
    raise InputError(
        f"runtime.platform is {platform!r}, and this JAX finds no such device; it has: {there}"
    )


def cache_folder(compile_cache: str) -> Path | None:
    """The folder of compiled programs that the setting means; None for no cache."""
    if compile_cache in ("none", ""):
        return None
    if compile_cache != "user":
        return Path(compile_cache)
    if own := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return Path(own)
    if home := os.environ.get("XDG_CACHE_HOME"):
        return Path(home) / "halo_mdn" / "jax"
    try:
        return Path.home() / ".cache" / "halo_mdn" / "jax"
    except RuntimeError:  # a user without a home
        return None


def _set_up_cache(compile_cache: str) -> None:
    """Use the cache; one that nobody asked for is done without where it cannot be written."""
    folder = cache_folder(compile_cache)
    if folder is None:
        return
    try:
        _make(folder)
    except OSError as error:
        reason = f"cannot make the compile cache {folder}: {error.strerror or error}"
        if compile_cache != "user":
            raise InputError(
                f"{reason}; set runtime.compile_cache to another folder or to none"
            ) from None
        logger.warning("%s; programs are compiled anew in every run", reason)
        folder = None
    jax.config.update("jax_compilation_cache_dir", None if folder is None else str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _make(folder: Path) -> None:
    """Make the folder, for its owner alone because programs in it are run; try to write to it."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass

"""Platform, precision and compile cache: set in a process of their own, where nothing is set."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from halo_mdn.config import runtime
from halo_mdn.config.runtime import cache_folder
from halo_mdn.errors import InputError

PROGRAM = """
from halo_mdn.config import RuntimeConfig
from halo_mdn.errors import InputError
from halo_mdn.config.runtime import set_up_jax
try:
    print(set_up_jax(RuntimeConfig(platform={platform!r}, precision={precision!r},
                                   compile_cache={cache!r})))
except InputError as error:
    print("refused:", error)
else:
    import jax
    print(jax.numpy.ones(2).dtype, jax.config.jax_compilation_cache_dir)
"""


def run_with(
    platform: str = "cpu",
    precision: str = "float64",
    cache: str = "none",
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    program = PROGRAM.format(platform=platform, precision=precision, cache=cache)
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_precision_and_cache_take_effect(tmp_path: Path, precision: str) -> None:
    lines = run_with(precision=precision, cache=str(tmp_path / "deep" / "cache"))
    assert lines == [f"cpu, {precision}", f"{precision} {tmp_path / 'deep' / 'cache'}"]
    assert stat.S_IMODE((tmp_path / "deep" / "cache").stat().st_mode) == 0o700


def test_what_cannot_be_had_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert run_with(cache=str(tmp_path / "file"))[0].startswith("refused: cannot make the compile")


class Device(NamedTuple):
    platform: str


@pytest.mark.parametrize(
    ("asked", "there", "got"),
    [
        ("gpu", "cuda", "cuda"),
        ("gpu", "rocm", "rocm"),
        ("cuda", "cuda", "cuda"),
        ("rocm", "cuda", "refused"),
        ("tpu", "cuda", "refused"),
        ("cpu", "cuda", "cpu"),
        ("auto", "cuda", "cuda"),
        ("gpu", "cpu", "refused"),
    ],
)
def test_platforms_by_name(monkeypatch, asked: str, there: str, got: str) -> None:
    """With a JAX that has one kind of device beside the processor."""
    chosen = [None]
    monkeypatch.setattr(runtime.jax.config, "update", lambda _, value: chosen.append(value))

    def devices() -> list[Device]:
        if chosen[-1] not in (None, there, "cpu"):
            raise RuntimeError(f"Unable to initialize backend {chosen[-1]!r}\nand more")
        return [Device(chosen[-1] or there), Device("cpu")]

    monkeypatch.setattr(runtime.jax, "devices", devices)
    if got != "refused":
        assert runtime._device(asked).platform == got == (chosen[-1] or there)
        return
    has = there if there == "cpu" else f"{there}, cpu"
    with pytest.raises(InputError, match=f"platform is '{asked}', .* it has: {has}$"):
        runtime._device(asked)


def test_a_platform_that_is_not_there() -> None:
    (line,) = [text for text in run_with(platform="tpu") if text.startswith("refused")]
    assert "runtime.platform is 'tpu'" in line and line.endswith("it has: cpu")


def test_a_cache_that_nobody_asked_for_is_done_without(tmp_path: Path) -> None:
    """As on clusters whose home is not there or not writable; once is said, and not again."""
    (tmp_path / "file").write_text("")
    home = {"XDG_CACHE_HOME": str(tmp_path / "file")}
    warning, device, result = run_with(cache="user", environment=home)
    assert "cannot make the compile cache" in warning and "compiled anew" in warning
    assert (device, result) == ("cpu, float64", "float64 None")


def test_the_cache_of_jax_itself_is_respected(tmp_path: Path) -> None:
    own = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "own")}
    assert run_with(cache="user", environment=own)[1] == f"float64 {tmp_path / 'own'}"


def test_the_cache_folder_follows_the_setting(monkeypatch) -> None:
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_folder("user") == Path("/cache/halo_mdn/jax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder("user") == Path.home() / ".cache" / "halo_mdn" / "jax"
    assert cache_folder("none") is None
    assert cache_folder("elsewhere") == Path("elsewhere")

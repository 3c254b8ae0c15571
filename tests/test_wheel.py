"""A wheel holds all that the command needs, and works far from the checkout it was built from."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from halo_mdn import __version__
from halo_mdn.fitting.folder import RESULTS
from tests.run_for_tests import mock_fit

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
CARRIED = ("halo_mdn", "models/*.py", "runs/*.toml")
TINY = """
[data]
field = "delta.npy"
catalogue = "halos.npz"
box_size = 32.0
[start]
num_starts = 1
[sampler]
num_chains = 1
num_warmup = 10
num_samples = 10
max_tree_depth = 3
[runtime]
platform = "cpu"
compile_cache = "none"
"""
FOUND = """
import halo_mdn
from halo_mdn.io.example import example_path
from halo_mdn.config.model_files import find_model_file
from halo_mdn.config.shipped import shipped_folder
for path in (halo_mdn.__file__, example_path(), find_model_file("neural_bias"),
             shipped_folder("runs")):
    print(path)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    output([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT], folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory) -> Path:
    """The commands of an environment that has the wheel, and what it needs from this one."""
    folder = tmp_path_factory.mktemp("environment")
    output([sys.executable, "-m", "venv", "--without-pip", folder], folder)
    variables = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", variables))
    # Goes after the environment's own packages, and brings no editable halo_mdn: only a site
    # folder itself has its .pth files read.
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "dependencies.pth").write_text("\n".join(sorted(here)), encoding="utf-8")
    scripts = Path(sysconfig.get_path("scripts", "venv", variables))
    pip = [sys.executable, "-m", "pip", "--python", scripts / "python"]
    output([*pip, "install", "-q", "--no-deps", "--force-reinstall", wheel], folder)
    return scripts


def output(command: list, folder: Path) -> str:
    """What a command prints; it must succeed, with no path to the checkout in its environment."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_carries_what_git_tracks_and_nothing_else(wheel: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so it is unknown which files belong to the package")
    tracked = output(["git", "ls-files", *CARRIED], ROOT).split()
    expected = {p if p.startswith("halo_mdn/") else f"halo_mdn/{p}" for p in tracked}
    carried = {name for name in ZipFile(wheel).namelist() if name.startswith("halo_mdn/")}
    assert carried == expected


def test_the_command_finds_its_own_files(scripts: Path, tmp_path: Path) -> None:
    found = output([scripts / "python", "-c", FOUND], tmp_path).splitlines()
    assert len(found) == 4
    for path in found:
        assert Path(path).exists()
        assert Path(path).is_relative_to(scripts.parent)


def test_the_command_answers(scripts: Path, tmp_path: Path) -> None:
    command = scripts / "halo-mdn"
    assert __version__ in output([command, "--version"], tmp_path)
    assert "halo-mdn" in output([command, "--help"], tmp_path)
    assert "250" in output([command, "inspect", "example"], tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_fits(scripts: Path, tmp_path: Path) -> None:
    fit = mock_fit()
    np.save(tmp_path / "delta.npy", fit.delta)
    np.savez(tmp_path / "halos.npz", position=fit.halos.position, mass=fit.halos.mass)
    (tmp_path / "tiny.toml").write_text(TINY, encoding="utf-8")
    output([scripts / "halo-mdn", "tiny.toml"], tmp_path)
    assert all((tmp_path / "tiny" / name).stat().st_size > 0 for name in RESULTS)

"""Joint inference end to end: results, exact resume after a kill, and commands that read a run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import halo_mdn as hm
from halo_mdn.cli import run
from halo_mdn.posterior import container
from halo_mdn.posterior.container import read
from halo_mdn.sampling.nuts.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[2]
SMALL = """
[mock]
cells = 8
box_size = 31.25
[sampler]
num_warmup = 15
num_samples = 30
trajectory = 8
bias_updates = 2
max_tree_depth = 4
[runtime]
platform = "cpu"
compile_cache = "none"
"""


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("method", ["nuts", "blocks"])
def test_samplers_run_end_to_end(
    method: str, run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["joint", str(run_file), f"--sampler.method={method}"]) == 0
    assert "variance of z" in capsys.readouterr().out
    folder = run_file.with_suffix("")
    files = {"checkpoint.npz", "config.toml", "diagnostics.csv", "posterior.nc", "report.html"}
    assert {p.name for p in folder.iterdir() if not p.name.startswith(".")} == {
        *files, "summary.txt",
    }  # fmt: skip
    posterior = read(folder / "posterior.nc")
    field = posterior["posterior"]["white_noise"].values
    assert field.shape == (2, 30, 8, 8, 8) and np.isfinite(field).all()
    # A small box leaves most modes to the prior, of variance 1; 60 draws of 512 values.
    assert 0.7 < field.var() < 1.2
    with pytest.raises(hm.InputError, match="--overwrite"):
        run(["joint", str(run_file)])
    _check_readers(folder)


def _check_readers(folder: Path) -> None:
    """`report`, `predict` and `compare` read the run, or say in one sentence why not."""
    (folder / "report.html").unlink()
    assert run(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert "The initial conditions" in page and "variance of z" in page
    with pytest.raises(hm.InputError, match="is a joint inference, without a given field"):
        run(["predict", str(folder)])
    delta = folder.parent / "delta.npy"
    np.save(delta, 0.1 * np.random.default_rng(1).normal(size=(8, 8, 8)))
    given = ["--field", str(delta), "--box_size", "31.25", "--num", "2"]
    assert run(["predict", str(folder), *given]) == 0
    assert len(list((folder / "mocks").glob("mock_*.h5"))) == 2
    copy = folder.with_name("copy")
    copy.mkdir()
    container.write(read(folder / "posterior.nc"), copy / "posterior.nc")
    with pytest.raises(hm.InputError, match="joint inference: models can be compared on one given"):
        run(["compare", str(folder), str(copy)])


@pytest.mark.slow
def test_a_killed_run_is_resumed_exactly(run_file: Path) -> None:
    whole = run_file.parent / "whole"
    assert run(["joint", str(run_file), f"--output.folder={whole}"]) == 0
    folder = run_file.with_suffix("")
    command = [sys.executable, "run_inference.py", "joint", str(run_file)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        _wait_for_draws(process, folder / "checkpoint.npz", 5)  # in the warm-up
    finally:
        process.kill()
        process.wait()
    killed_at = int(load_checkpoint(folder / "checkpoint.npz")["done"])
    process = subprocess.Popen([*command, "--resume"], cwd=ROOT, stdout=subprocess.DEVNULL)
    _wait_for_draws(process, folder / "checkpoint.npz", max(20, killed_at + 1))  # of kept draws
    process.send_signal(signal.SIGINT)
    assert process.wait(600) in (0, 130)
    if not (folder / "posterior.nc").exists():
        assert run(["joint", str(run_file), "--resume"]) == 0
    one, other = (read(path / "posterior.nc")["posterior"] for path in (whole, folder))
    for name in ("white_noise", "kernel_weights", "field_power"):
        np.testing.assert_array_equal(one[name].values, other[name].values)


def _wait_for_draws(process: subprocess.Popen, checkpoint: Path, draws: int) -> None:
    for _ in range(1200):
        if checkpoint.exists() and int(load_checkpoint(checkpoint)["done"]) >= draws:
            return
        assert process.poll() in (None, 0), "the run has failed"
        if process.poll() == 0:
            return
        time.sleep(0.5)
    pytest.fail("no checkpoint")

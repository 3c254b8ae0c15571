"""The exported likelihood: the same numbers, in a process that knows nothing of this package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import halo_mdn as hm
from halo_mdn.likelihood.exported import write_adjoint

pytest.importorskip("flatbuffers", reason="JAX needs the package flatbuffers to export")

ROOT = Path(__file__).parents[2]

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "export.md").read_text(), re.DOTALL)
LOADER = f"""
import sys
import numpy as np
given = np.load("given.npz")
params, delta = given["params"], given["delta"]
{BLOCKS[0]}
assert not any(name.startswith("halo_mdn") for name in sys.modules)
np.savez("got.npz", value=value, delta_cot=delta_cot, params_cot=params_cot)
"""


@pytest.fixture
def grid() -> hm.Grid:
    return hm.Grid((8, 9, 10), (32.0, 36.0, 40.0), "interior")


def load_elsewhere(folder: Path, params, delta) -> dict[str, np.ndarray]:
    np.savez(folder / "given.npz", params=params, delta=delta)
    subprocess.run([sys.executable, "-c", LOADER], cwd=folder, check=True)
    with np.load(folder / "got.npz") as file:
        return dict(file)


def test_the_file_gives_the_adjoint_without_the_package(
    tmp_path: Path, bias, params, delta, halos
) -> None:
    write_adjoint(tmp_path / "adjoint.npz", bias, halos)
    got = load_elsewhere(tmp_path, params, delta)
    expected = hm.adjoint(bias, params, delta, halos)
    for name in ("value", "delta_cot", "params_cot"):
        scale = np.abs(getattr(expected, name)).max()
        np.testing.assert_allclose(
            got[name], getattr(expected, name), rtol=1e-12, atol=1e-12 * scale, err_msg=name
        )
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_another_platform_can_be_asked_for(tmp_path: Path, bias, halos) -> None:
    write_adjoint(tmp_path / "adjoint.npz", bias, halos, platforms=["cpu", "cuda"])
    assert (tmp_path / "adjoint.npz").stat().st_size > 10_000
    with pytest.raises(hm.InputError, match="cannot export"):
        write_adjoint(tmp_path / "other.npz", bias, halos, platforms=["abacus"])
    assert not (tmp_path / "other.npz").exists()


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path, bias, halos) -> None:
    (tmp_path / "adjoint.npz").mkdir()
    with pytest.raises(hm.InputError, match="cannot write"):
        write_adjoint(tmp_path / "adjoint.npz", bias, halos)
    assert [path.name for path in tmp_path.iterdir()] == ["adjoint.npz"]


def test_the_command_writes_the_file_of_a_run(tmp_path: Path, bias, params, delta, halos) -> None:
    np.savez(tmp_path / "field.npz", delta=delta)
    np.savez(tmp_path / "halos.npz", position=halos.position, mass=halos.mass)
    (tmp_path / "run.toml").write_text(
        '[data]\nfield = "field.npz"\ncatalogue = "halos.npz"\nbox_size = [32, 36, 40]\n'
        f'boundary = "{halos.grid.boundary}"\n[runtime]\ncompile_cache = "none"\n'
    )
    command = [sys.executable, str(ROOT / "run_inference.py"), "export", "run.toml", "--to"]

    def export(name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, name], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    first = export("adjoint.npz")
    assert first.returncode == 0, first.stderr
    again, wrong = export("adjoint.npz"), export("adjoint.onnx")
    assert again.returncode == 2 and "--overwrite" in again.stderr
    assert wrong.returncode == 2 and "ends in .npz" in wrong.stderr
    got = load_elsewhere(tmp_path, params, delta)
    expected = hm.log_likelihood(bias, params, delta, halos)
    assert float(got["value"]) == pytest.approx(float(expected), rel=1e-10)

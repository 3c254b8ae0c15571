"""Models and run files are found in a checkout, and in a package that carries them inside."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

import halo_mdn as hm
from halo_mdn.config import DataConfig, ModelConfig, RunConfig
from halo_mdn.config.model_files import bias_of, load_bias, load_model
from halo_mdn.config.shipped import find_run_file, is_installed, shipped_folder
from halo_mdn.errors import InputError

OWN_BIAS = """
from __future__ import annotations

from dataclasses import dataclass

import halo_mdn as hm


@dataclass(frozen=True)
class Bias(hm.NeuralBias):
    components: int = 1


def model(bias: Bias, log_likelihood: hm.FixedFieldLikelihood) -> None: ...
"""
OWN_MODEL = "def model(bias, log_likelihood):\n    return 'mine'\n"


def test_a_shipped_model_is_loaded_by_name() -> None:
    assert load_model("neural_bias").__name__ == "model"


def test_an_own_copy_is_loaded_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(OWN_MODEL)
    assert load_model(str(path))(None, None) == "mine"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("neural_bias", hm.NeuralBias),
        ("power_law", hm.TruncatedPowerLaw),
        ("overdispersed", hm.OverdispersedBias),
    ],
)
def test_a_model_file_says_which_bias_it_is_for(name: str, kind: type[hm.Bias]) -> None:
    model, data = ModelConfig(name=name), DataConfig(mass_threshold=3e12, density_floor=0.1)
    bias = bias_of(RunConfig(model=model, data=data))
    assert type(bias) is kind
    assert (bias.mass_threshold, bias.density_floor) == (3e12, 0.1)


def test_a_bias_of_ones_own_gets_the_settings_that_it_knows(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(OWN_BIAS)
    bias = bias_of(RunConfig(model=ModelConfig(name=str(path), kernel_size=(5,))))
    assert type(bias).__name__ == "Bias" and bias.kernel_size == (5, 5, 5)


def test_a_setting_that_the_model_does_not_have_is_refused() -> None:
    config = RunConfig(model=ModelConfig(name="power_law", components=3))
    with pytest.raises(InputError, match="model.components is 3, but the model power_law has no"):
        bias_of(config)


def test_a_bias_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(OWN_MODEL + "Bias = dict\n")
    with pytest.raises(InputError, match="expected a dataclass that inherits from"):
        load_bias(str(path))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("def model(:\n", "cannot be imported: SyntaxError"),
        ("import no_such_package\n", "cannot be imported: ModuleNotFoundError"),
        ("def modell(): ...\n", "defines no function 'model'"),
        ("model = 3\n", "defines no function 'model'"),
    ],
)
def test_a_broken_model_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(InputError, match=complaint):
        load_model(str(path))


def test_an_unknown_model_names_the_shipped_ones() -> None:
    with pytest.raises(InputError, match="neural_bias"):
        load_model("neural_bais")


@pytest.mark.parametrize("text", ["quickstart", "quickstart.toml", "runs/quickstart.toml"])
def test_shipped_run_files_are_found_from_anywhere(tmp_path: Path, monkeypatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_run_file(text) == shipped_folder("runs") / "quickstart.toml"


def test_an_own_run_file_goes_before_a_shipped_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart.toml").write_text("")
    assert find_run_file("quickstart.toml") == Path("quickstart.toml")


@pytest.mark.parametrize("text", ["elsewhere/quickstart.toml", "quickstrat", "runs/none.toml"])
def test_a_missing_run_file_names_the_shipped_ones(text: str) -> None:
    with pytest.raises(InputError, match="no run file .* paper, .*quickstart"):
        find_run_file(text)


def test_an_installed_package_carries_its_own(tmp_path: Path, monkeypatch) -> None:
    package = tmp_path / "halo_mdn"
    (package / "models").mkdir(parents=True)
    (package / "models" / "neural_bias.py").write_text(OWN_MODEL)
    monkeypatch.setattr("halo_mdn.config.shipped._PACKAGE", package)
    assert load_model("neural_bias")(None, None) == "mine"
    assert is_installed(package / "models" / "neural_bias.py")
    assert not is_installed(tmp_path / "mine.toml")


def test_a_wheel_carries_every_run_file() -> None:
    """The build lists them one by one, because results and your own run files lie beside them."""
    root = shipped_folder("runs").parent
    if not (root / ".git").exists():
        pytest.skip("not a git checkout, so it is unknown which run files belong to the package")
    build = tomllib.loads((root / "pyproject.toml").read_text())
    listed = build["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    tracked = subprocess.run(
        ["git", "ls-files", "runs/*.toml"], cwd=root, capture_output=True, text=True, check=True
    )
    for path in tracked.stdout.split():
        assert listed[path] == f"halo_mdn/{path}"

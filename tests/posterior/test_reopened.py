"""A received posterior runs no code that its reader has not named."""

from __future__ import annotations

from pathlib import Path

import pytest

import halo_mdn as hm
from halo_mdn.config import ModelConfig, RunConfig, to_json
from halo_mdn.config.model_files import find_model_file
from halo_mdn.io import file_hash
from halo_mdn.posterior.reopened import bias_of_run
from tests.run_for_tests import independent_draws, mock_fit, posterior_of

MODEL = """
from pathlib import Path
import halo_mdn as hm
Path(__file__).with_suffix(".ran").touch()
Bias = hm.NeuralBias
def model(bias, log_likelihood): ...
"""


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MODEL, encoding="utf-8")
    return path


def made_with(path: Path):
    config = to_json(RunConfig(model=ModelConfig(name=str(path))))
    attrs = {"config": config, "input_hashes": {"model": file_hash(path)}}
    return posterior_of(independent_draws(2, 8), attrs=attrs, predictive_draws=4)


def test_a_model_file_runs_only_where_it_is_named(model_file, tmp_path) -> None:
    posterior = made_with(model_file)
    with pytest.raises(hm.InputError, match="mine.py, which would be run: name it, with --model_f"):
        bias_of_run(posterior)
    assert not (tmp_path / "mine.ran").exists()
    assert bias_of_run(posterior, [model_file]) == mock_fit().bias
    assert (tmp_path / "mine.ran").exists()


def test_a_model_file_of_other_content_is_not_run(model_file, tmp_path) -> None:
    posterior = made_with(model_file)
    model_file.write_text(MODEL + "# changed", encoding="utf-8")
    with pytest.raises(hm.InputError, match="its content differs"):
        bias_of_run(posterior, [model_file])
    assert not (tmp_path / "mine.ran").exists()


def test_a_shipped_model_needs_no_flag_and_names_do_not_leave_their_folder(model_file) -> None:
    config = to_json(RunConfig())
    posterior = posterior_of(independent_draws(2, 8), attrs={"config": config}, predictive_draws=4)
    assert bias_of_run(posterior) == mock_fit().bias
    away = Path("../" * 20) / str(model_file.with_suffix(""))[1:]
    with pytest.raises(hm.InputError, match="there is no model"):
        find_model_file(str(away))

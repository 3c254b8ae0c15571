"""The command line: help, mistakes, exit codes, and a whole run on a small box."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from halo_mdn import launch
from halo_mdn.cli.parser import SentenceParser, add_setting_flags, given_settings
from halo_mdn.config import settings_of
from halo_mdn.errors import InputError
from halo_mdn.fitting.folder import POSTERIOR, RESULTS

ROOT = Path(__file__).parents[2]
CHEAP = """
seed = 4
[data]
field = "delta.npy"
catalogue = "halos.npz"
box_size = 40.0
[start]
num_starts = 2
[sampler]
num_chains = 2
num_warmup = 6
num_samples = 8
max_tree_depth = 3
[runtime]
platform = "cpu"
compile_cache = "none"
"""


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A folder with a small field, its halos and a run file."""
    rng = np.random.default_rng(11)
    np.save(tmp_path / "delta.npy", rng.lognormal(-0.18, 0.6, (8, 8, 8)) - 1)
    mass = 2e12 * (1 + rng.pareto(1.5, 60))
    np.savez(tmp_path / "halos.npz", position=rng.uniform(0, 40, (60, 3)), mass=mass)
    (tmp_path / "small.toml").write_text(CHEAP, encoding="utf-8")
    return tmp_path


@pytest.fixture(autouse=True)
def without_jax_settings(monkeypatch) -> None:
    """The tests' own JAX settings stay as they are: those of a command are tested in a process."""
    monkeypatch.setattr("halo_mdn.cli.fit.set_up_jax", lambda runtime: "cpu, float64")


def call(*arguments: object) -> int:
    return launch.main([str(argument) for argument in arguments])


def check_refused(capsys, complaint: str, *arguments: object) -> None:
    assert call(*arguments) == 2
    captured = capsys.readouterr()
    assert complaint in captured.err
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1  # one sentence, no traceback


def test_help_explains_every_setting(capsys) -> None:
    with pytest.raises(SystemExit) as end:
        call("--help")
    assert end.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name, _, spec in settings_of():
        assert f"--{name} VALUE {spec.metadata['help']}" in shown


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--sampler.num_sample", "3"], "did you mean --sampler.num_samples?"),
        (["--num_warmup=3"], "did you mean --sampler.num_warmup?"),
        (["--overwirte"], "did you mean --overwrite?"),
        (["--sampler.num_samples", "few"], "expected a whole number"),
        (["--sampler.num_samples"], "expected one argument"),
        (["--sampler.target_accept", "2"], "target_accept must lie between 0 and 1"),
        (["--model.kernel_size", "2"], "kernel"),
        (["--model.name", "neural_bais"], "the shipped ones are: "),
        (["--data.field", "nowhere.npy"], "there is no file"),
        (["--data.box_size", "30"], "outside the box"),
        (["--data.mass_threshold", "1e13"], "below the mass threshold"),
        (["one_more.toml"], "unexpected argument 'one_more.toml'"),
        (["--resume"], "nothing to resume"),
    ],
)
def test_mistakes_get_one_sentence(box: Path, capsys, arguments, complaint: str) -> None:
    before = sorted(box.rglob("*"))
    check_refused(capsys, complaint, box / "small.toml", *arguments)
    assert sorted(box.rglob("*")) == before


def test_a_missing_run_file_gets_one_sentence(capsys) -> None:
    check_refused(capsys, "there is no run file none.toml", "none.toml")


@pytest.mark.parametrize("arguments", [["inspct", "x"], ["inspct"], ["Inspect", "x"]])
def test_a_word_like_a_command_gets_its_name(capsys, arguments: list[str]) -> None:
    meant = f"there is no command {arguments[0]}; did you mean inspect?"
    check_refused(capsys, meant, *arguments)


def test_a_run_file_may_have_a_name_like_a_command(box: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(box)
    (box / "reports").write_text("", encoding="utf-8")
    check_refused(capsys, "unknown flag --nothing", "reports", "--nothing")


def test_values_that_begin_with_a_minus_belong_to_their_flag() -> None:
    parser = SentenceParser(prog="p", commands={"fit": ""})
    parser.add_argument("file", nargs="?")
    parser.add_argument("--overwrite", action="store_true")
    add_setting_flags(parser)
    for value in ("-16,-16,-16", "-1.5", "-.5", "-1e-3,2", "-0x"):
        given = parser.parse(["run.toml", "--data.box_corner", value, "--overwrite"])
        assert given_settings(given) == {"data.box_corner": value}
        assert given.file == "run.toml" and given.overwrite
        assert given_settings(parser.parse([f"--data.box_corner={value}"])) == {
            "data.box_corner": value
        }
    for wrong, complaint in {"--data.box_corner --overwrite": "expected one argument",
                             "--overwrite -5,5": "unknown flag -5,5"}.items():  # fmt: skip
        with pytest.raises(InputError, match=complaint):
            parser.parse(wrong.split())


@pytest.mark.slow
def test_a_whole_run(box: Path, capsys) -> None:
    assert call(box / "small.toml") == 0
    shown = capsys.readouterr().out
    for text in ("8 x 8 x 8 voxels", "60 above 2e+12", "17 parameters", "posterior", "8/8"):
        assert text in shown
    results = box / "small"
    assert all((results / name).stat().st_size > 0 for name in RESULTS)
    assert len(list(results.glob("*.png"))) >= 1
    written = (results / POSTERIOR).read_bytes()

    check_refused(capsys, "already holds results", box / "small.toml")
    assert (results / POSTERIOR).read_bytes() == written
    assert call(results / "config.toml", "--output.folder", box / "again") == 0
    assert call(box / "small.toml", "--overwrite", "--output.figures", "false") == 0

    again = ["--resume", "--overwrite", "--sampler.num_samples", "12"]
    assert call(box / "small.toml", *again) == 0
    assert "12/12" in capsys.readouterr().out
    check_refused(capsys, "seed", box / "small.toml", *again, "--seed", "5")


@pytest.mark.slow
def test_the_script_sets_platform_and_precision(box: Path) -> None:
    """In a process of its own, in float32: the posterior says so, and stdin is not needed."""
    done = subprocess.run(
        [sys.executable, ROOT / "run_inference.py", "small.toml", "--runtime.precision", "float32"],
        cwd=box,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    assert "cpu, float32" in done.stdout
    assert "\r" not in done.stdout
    assert (box / "small" / POSTERIOR).is_file()


def test_the_script_answers_a_mistake_without_a_traceback(box: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "run_inference.py", "small.toml", "--seeed", "3"],
        cwd=box,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == "error: unknown flag --seeed; did you mean --seed?\n"
    assert done.stdout == ""


def test_ctrl_c_before_sampling_ends_quietly(box: Path, capsys, monkeypatch) -> None:
    def interrupt(config: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("halo_mdn.cli.fit.prepare", interrupt)
    assert call(box / "small.toml") == 130
    assert capsys.readouterr().err.strip() == "Interrupted before results were written."


FEW = ("--sampler.num_warmup", 4, "--sampler.num_samples", 6, "--output.figures", "false")


COMPRESSED = ("--sampler.likelihood", "compressed")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["power_law", "overdispersed"])
def test_other_models_run_from_start_to_verdict(box: Path, capsys, model) -> None:
    """They cannot be compressed, and say so."""
    assert call(box / "small.toml", *FEW, "--model.name", model, *COMPRESSED) == 0
    out = capsys.readouterr().out
    assert "Sampling the exact likelihood" in out
    assert "Do not use this posterior" in out  # six draws
    assert (box / "small" / POSTERIOR).is_file()


@pytest.mark.slow
def test_a_compressed_run_is_checked_and_resumed(box: Path, capsys) -> None:
    rng = np.random.default_rng(12)  # smooth enough to be compressed
    smooth = gaussian_filter(rng.normal(size=(24, 24, 24)), 2.0, mode="wrap")
    np.save(box / "delta.npy", np.expm1(0.6 * smooth / smooth.std() - 0.18))
    mass = 2e12 * (1 + rng.pareto(1.5, 600))  # enough for a mode to climb to
    np.savez(box / "halos.npz", position=rng.uniform(0, 40, (600, 3)), mass=mass)
    assert call(box / "small.toml", *FEW, *COMPRESSED) == 0
    assert "voxels, ln L off by" in capsys.readouterr().out
    longer = ("--sampler.num_samples", 9, "--resume", "--overwrite")
    assert call(box / "small.toml", *FEW[:2], *FEW[4:], *COMPRESSED, *longer) == 0
    summary = (box / "small" / "summary.txt").read_text(encoding="utf-8")
    assert "nodes. At" in summary and "importance weights" in summary

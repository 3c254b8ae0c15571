"""The run folder: nothing of value is lost, and results appear whole or not at all."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from halo_mdn.config import RunConfig
from halo_mdn.config.shipped import shipped_folder
from halo_mdn.errors import InputError, WriteError
from halo_mdn.fitting.folder import POSTERIOR, RESULTS, RunFolder, claim_folder, output_folder


def config_for(folder: Path) -> RunConfig:
    return replace(RunConfig(), output=replace(RunConfig().output, folder=str(folder)))


def test_results_go_beside_the_run_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert output_folder(RunConfig(), Path("runs/mine.toml")) == Path("runs/mine")
    assert output_folder(config_for(tmp_path / "out"), Path("runs/mine.toml")) == Path("out")
    monkeypatch.chdir("/")
    there = tmp_path / "mine"
    assert output_folder(RunConfig(), there.with_suffix(".toml")).absolute() == there


def test_results_never_go_into_the_package(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("halo_mdn.config.shipped._PACKAGE", shipped_folder("runs").parent)
    run_file = shipped_folder("runs") / "quickstart.toml"
    assert output_folder(RunConfig(), run_file) == Path("runs/quickstart")


@pytest.mark.parametrize("name", RESULTS)
def test_results_are_kept_unless_told_otherwise(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    config = config_for(tmp_path)
    with pytest.raises(InputError, match=f"holds results .*{name}.*--overwrite"):
        claim_folder(config, tmp_path / "run.toml")
    assert claim_folder(config, tmp_path / "run.toml", overwrite=True).path == tmp_path
    assert (tmp_path / name).read_text() == "precious"


@pytest.mark.parametrize("name", [name for name in RESULTS if name != POSTERIOR])
def test_a_run_killed_while_results_moved_goes_on(tmp_path: Path, name: str) -> None:
    """The posterior moves last: without it there are no results, only some that belong to it."""
    (tmp_path / name).write_text("moved before the kill")
    config, run_file = config_for(tmp_path), tmp_path / "run.toml"
    with pytest.raises(InputError, match="holds results"):
        claim_folder(config, run_file, resume=True)  # there is nothing to go on from
    RunFolder(tmp_path).checkpoint.write_text("hours of work")
    assert claim_folder(config, run_file, resume=True).resume
    (tmp_path / POSTERIOR).write_text("of an earlier run")
    with pytest.raises(InputError, match="give --resume --overwrite to go on"):
        claim_folder(config, run_file, resume=True)


def test_an_unfinished_run_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    config, run_file = config_for(tmp_path), tmp_path / "run.toml"
    with pytest.raises(InputError, match="nothing to resume"):
        claim_folder(config, run_file, resume=True)
    RunFolder(tmp_path).checkpoint.write_text("hours of work")
    with pytest.raises(InputError, match="unfinished run: give --resume"):
        claim_folder(config, run_file)
    claim_folder(config, run_file, resume=True)
    claim_folder(config, run_file, overwrite=True)


def test_a_folder_that_cannot_be_is_refused_and_none_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is not a writable folder"):
        claim_folder(config_for(tmp_path / "file" / "deeper"), tmp_path / "run.toml")
    claim_folder(config_for(tmp_path / "new" / "deeper"), tmp_path / "run.toml")
    assert not (tmp_path / "new").exists()


def test_results_appear_together(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.staged() as stage:
        (stage / POSTERIOR).write_text("new")
        (stage / "summary.txt").write_text("new")
        assert not (folder.path / POSTERIOR).exists()
    assert sorted(path.name for path in folder.path.iterdir()) == [POSTERIOR, "summary.txt"]


def test_a_failure_leaves_old_results_alone(tmp_path: Path) -> None:
    (tmp_path / POSTERIOR).write_text("old")
    (tmp_path / ".unfinished-killed").mkdir()
    with pytest.raises(RuntimeError), RunFolder(tmp_path).staged() as stage:
        (stage / POSTERIOR).write_text("new")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == [POSTERIOR]
    assert (tmp_path / POSTERIOR).read_text() == "old"


def test_a_failed_write_says_what_is_kept_and_how_to_go_on(tmp_path: Path, monkeypatch) -> None:
    folder = RunFolder(tmp_path, resume=True)
    folder.checkpoint.write_text("hours of work")
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr("halo_mdn.fitting.folder.os.replace", raises(full))
    with pytest.raises(WriteError) as caught, folder.locked(), folder.staged() as stage:
        (stage / POSTERIOR).write_text("new")
    assert "No space left on device; the draws up to the last checkpoint are safe in" in str(
        caught.value
    )
    assert str(caught.value).endswith("run the same command with --resume")
    assert [path.name for path in tmp_path.iterdir()] == [folder.checkpoint.name]


def raises(error: Exception) -> Callable[..., None]:
    def function(*arguments: object) -> None:
        raise error

    return function


def test_what_killed_writers_left_behind_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint.npz.123.part").write_text("half")
    (tmp_path / "mine.part").write_text("not ours")
    with RunFolder(tmp_path).locked():
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["mine.part"]

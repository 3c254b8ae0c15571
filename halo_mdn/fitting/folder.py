"""The folder of a run: where it is, whether it may be written, and how results appear in it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from halo_mdn.config import RunConfig
from halo_mdn.config.shipped import is_installed
from halo_mdn.errors import InputError

POSTERIOR = "posterior.nc"
RESULTS = (POSTERIOR, "config.toml", "diagnostics.csv", "summary.txt")
_STAGE = ".unfinished-"


@dataclass(frozen=True)
class RunFolder:
    """A folder that a run may write to; made by `claim_folder`."""

    path: Path

    @property
    def checkpoint(self) -> Path:
        """State of the sampler, kept after the run so that it can be made longer."""
        return self.path / "checkpoint.npz"

    @contextmanager
    def staged(self) -> Iterator[Path]:
        """A folder to write results to, which move here together once all are complete.

        The posterior moves last and, if it replaces another, goes first: a folder that holds a
        posterior holds everything that belongs to it, whenever the process is killed.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        for left_over in self.path.glob(f"{_STAGE}*"):
            shutil.rmtree(left_over)
        stage = Path(tempfile.mkdtemp(prefix=_STAGE, dir=self.path))
        try:
            yield stage
            (self.path / POSTERIOR).unlink(missing_ok=True)
            for part in sorted(stage.iterdir(), key=lambda part: part.name == POSTERIOR):
                os.replace(part, self.path / part.name)
        finally:
            shutil.rmtree(stage)


def claim_folder(
    config: RunConfig, run_file: Path, *, resume: bool = False, overwrite: bool = False
) -> RunFolder:
    """The folder for the results, after making sure that nothing of value is lost in it.

    Nothing is made or changed yet.

    Raises
    ------
    InputError
        If it holds results and `overwrite` is not set; if it holds an unfinished run that is
        neither to be resumed nor to be overwritten; if it cannot be written to.
    """
    folder = RunFolder(output_folder(config, run_file))
    existing = [name for name in RESULTS if (folder.path / name).exists()]
    if existing and not overwrite:
        raise InputError(
            f"{folder.path} already holds results ({', '.join(existing)}): give --overwrite to "
            "replace them, or --output.folder for another folder"
        )
    if folder.checkpoint.exists() and not (resume or overwrite):
        raise InputError(
            f"{folder.path} holds an unfinished run: give --resume to go on with it, or "
            "--overwrite to start again"
        )
    if resume and not folder.checkpoint.exists():
        raise InputError(f"there is nothing to resume: {folder.checkpoint} does not exist")
    _check_writable(folder.path)
    return folder


def output_folder(config: RunConfig, run_file: Path) -> Path:
    """Where results go: the setting, or beside the run file, or under runs/ here.

    Results of a run file that is part of the installed package go to ``runs/NAME`` in the current
    folder. The path is relative to the current folder if it lies in it.
    """
    parent = Path("runs") if is_installed(run_file) else run_file.parent
    path = Path(config.output.folder or parent / run_file.stem).resolve()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _check_writable(path: Path) -> None:
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"cannot write results to {path}: {existing} is not a writable folder")

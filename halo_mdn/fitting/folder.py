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
from halo_mdn.config.joint_schema import JointConfig
from halo_mdn.config.shipped import is_installed
from halo_mdn.errors import InputError, WriteError
from halo_mdn.files import told_of
from halo_mdn.fitting.lock import check_unlocked, locked

POSTERIOR = "posterior.nc"
RESULTS = (POSTERIOR, "config.toml", "diagnostics.csv", "summary.txt")
_STAGE = ".unfinished-"

AnyRun = RunConfig | JointConfig  # configurations of runs that write to a folder


@dataclass(frozen=True)
class RunFolder:
    """A folder that a run may write to; made by `claim_folder`.

    Attributes
    ----------
    path : Path
    resume : bool
        Whether an unfinished run in it is to be gone on with.
    overwrite : bool
        Whether results in it may be replaced.
    """

    path: Path
    resume: bool = False
    overwrite: bool = False

    @property
    def checkpoint(self) -> Path:
        """State of the sampler, kept after the run so that it can be made longer."""
        return self.path / "checkpoint.npz"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out, and remove what killed ones left behind.

        Raises
        ------
        InputError
            If another process works here, or did since the folder was claimed.
        WriteError
            If a file cannot be written; the message says how to go on from the checkpoint.
        """
        with locked(self.path):
            self.check()
            for left_over in self.path.glob(".*.part"):
                left_over.unlink()
            try:
                yield
            except WriteError as error:
                raise WriteError(f"{error}; {self._how_to_go_on()}") from None
            except KeyboardInterrupt:  # while no checkpoint is written
                raise KeyboardInterrupt(self._how_to_go_on()) from None

    @contextmanager
    def staged(self) -> Iterator[Path]:
        """A folder to write results to, which move here together once all are complete.

        The posterior moves last and, if it replaces another, goes first: a folder that holds a
        posterior holds everything that belongs to it, whenever the process is killed.

        Raises
        ------
        WriteError
            If a file cannot be written.
        """
        with told_of(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            for left_over in self.path.glob(f"{_STAGE}*"):
                shutil.rmtree(left_over)
            stage = Path(tempfile.mkdtemp(prefix=_STAGE, dir=self.path))
            try:
                yield stage
                self._move_from(stage)
            finally:
                shutil.rmtree(stage, ignore_errors=True)

    def _move_from(self, stage: Path) -> None:
        (self.path / POSTERIOR).unlink(missing_ok=True)
        for part in sorted(stage.iterdir(), key=lambda part: part.name == POSTERIOR):
            os.replace(part, self.path / part.name)

    def _how_to_go_on(self) -> str:
        """What is safe when writing fails, and which flags bring the results."""
        if not self.checkpoint.exists():
            return "there are no draws yet: start again"
        flags = "--resume --overwrite" if (self.path / POSTERIOR).exists() else "--resume"
        return (
            f"the draws up to the last checkpoint are safe in {self.checkpoint}: run the same "
            f"command with {flags}"
        )

    def check(self) -> None:
        """Make sure that nothing of value is lost here; raises as `claim_folder`."""
        existing = [name for name in RESULTS if (self.path / name).exists()]
        unfinished = self.checkpoint.exists() and POSTERIOR not in existing
        # Results without a posterior are those of a run that was killed while they moved here.
        if existing and not self.overwrite and not (self.resume and unfinished):
            flags = "--resume --overwrite to go on and" if self.resume else "--overwrite to"
            raise InputError(
                f"{self.path} already holds results ({', '.join(existing)}): give {flags} "
                "replace them, or --output.folder for another folder"
            )
        if self.checkpoint.exists() and not (self.resume or self.overwrite):
            raise InputError(
                f"{self.path} holds an unfinished run: give --resume to go on with it, or "
                "--overwrite to start again"
            )
        if self.resume and not self.checkpoint.exists():
            raise InputError(f"there is nothing to resume: {self.checkpoint} does not exist")
        _check_writable(self.path)


def claim_folder(
    config: AnyRun, run_file: Path, *, resume: bool = False, overwrite: bool = False
) -> RunFolder:
    """The folder for the results, after making sure that nothing of value is lost in it.

    Nothing is made or changed yet.

    Raises
    ------
    InputError
        If it holds results and `overwrite` is not set; if it holds an unfinished run that is
        neither to be resumed nor to be overwritten; if it cannot be written to; if another
        process works in it.
    """
    folder = RunFolder(output_folder(config, run_file), resume, overwrite)
    check_unlocked(folder.path)
    folder.check()
    return folder


def output_folder(config: AnyRun, run_file: Path) -> Path:
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

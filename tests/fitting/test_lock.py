"""One process at a time in a folder, and none is kept out by one that is dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from halo_mdn.errors import InputError
from halo_mdn.fitting.lock import LOCK, check_unlocked, locked

HOLDER = """
import sys, time
from pathlib import Path
from halo_mdn.fitting.lock import locked
with locked(Path(sys.argv[1])):
    print("holds", flush=True)
    time.sleep(600)
"""


def test_a_second_process_is_told_of_the_first_until_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "holds\n"
        for enter in (lambda: locked(tmp_path).__enter__(), lambda: check_unlocked(tmp_path)):
            with pytest.raises(InputError, match=f"in use by process {holder.pid} on "):
                enter()
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    assert (tmp_path / LOCK).exists()
    check_unlocked(tmp_path)
    with locked(tmp_path):
        assert f"process {os.getpid()}" in (tmp_path / LOCK).read_text()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_a_run_that_wrote_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "deeper"
    with locked(folder), pytest.raises(InputError, match="in use by"):
        with locked(folder):
            raise AssertionError("admitted twice")
    assert not folder.exists()
    check_unlocked(folder)
    assert not folder.exists()


def test_a_folder_without_locks_is_used_with_a_warning(tmp_path: Path, monkeypatch, caplog) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError("No locks available")

    monkeypatch.setattr("halo_mdn.fitting.lock.fcntl.flock", refuse)
    with locked(tmp_path):
        pass
    assert "cannot be locked: start no second run in it" in caplog.text

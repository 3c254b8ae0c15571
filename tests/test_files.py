"""Files appear whole or not at all, and a disk that is full is one sentence."""

from __future__ import annotations

import errno
import platform
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from halo_mdn import files
from halo_mdn.errors import InputError, WriteError

# Like a full disk, but without one: no file may grow beyond so many bytes.
SMALL_FILES = """
import resource, signal, sys
import numpy as np
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
from pathlib import Path
from halo_mdn.errors import WriteError
from halo_mdn.files import replace_file, write_file, write_hdf5
path = Path(sys.argv[1])
numbers = np.arange(1e5)
for write in (
    lambda: write_file(path, numbers.tobytes()),
    lambda: write_hdf5(path, lambda file: file.create_dataset("x", data=numbers)),
    lambda: replace_file(path, lambda part: np.save(part.open("wb"), numbers)),
):
    try:
        write()
    except WriteError as error:
        print(error)
"""


def test_text_bytes_and_hdf5_are_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    assert files.write_file(path, "Größe\n").read_bytes() == "Größe\n".encode()
    assert files.write_file(path, b"12").read_bytes() == b"12"
    files.write_hdf5(path, lambda file: file.create_dataset("x", data=[1, 2]))
    with h5py.File(path) as file:
        assert file["x"][:].tolist() == [1, 2]
    assert [part.name for part in path.parent.iterdir()] == ["file"]


def test_a_full_disk_is_a_sentence_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    command = [sys.executable, "-c", SMALL_FILES, str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and all(line.startswith(f"cannot write {path}: ") for line in lines)
    assert "File too large" in lines[0]
    assert path.read_text() == "old"
    assert [part.name for part in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_whatever_the_system_says_is_passed_on_once(tmp_path: Path, number: int) -> None:
    def fail(part: Path) -> None:
        part.write_text("half")
        with files.told_of(part):
            raise OSError(number, "the reason")

    with pytest.raises(WriteError) as caught:
        files.replace_file(tmp_path / "file", fail)
    assert str(caught.value).count("the reason") == 1
    assert isinstance(caught.value, InputError) and isinstance(caught.value, OSError)
    assert list(tmp_path.iterdir()) == []


def test_parts_of_dead_processes_are_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    parts = [tmp_path / f".old.{platform.node()}-{number}.part" for number in (dead.pid, 1)]
    for part in [*parts, tmp_path / ".old.elsewhere-3.part"]:
        part.write_text("half")
    files.write_file(tmp_path / "new", "text")
    left = {part.name for part in tmp_path.iterdir()}
    assert left == {"new", parts[1].name, ".old.elsewhere-3.part"}

"""Output that is closed, full or read no more is no reason for a traceback."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from halo_mdn.standard_output import READER_GONE, StandardOutput

ROOT = Path(__file__).parents[1]
HELP = [sys.executable, str(ROOT / "run_inference.py"), "--help"]


class Broken(io.StringIO):
    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def flush(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("number", "code", "complaint"),
    [
        (errno.EPIPE, READER_GONE, ""),
        (errno.ENOSPC, 2, "cannot write to standard output: No space left on device"),
        (errno.EIO, 2, "cannot write to standard output: "),
    ],
)
def test_the_work_goes_on_and_the_code_says_what_was_lost(number, code, complaint) -> None:
    output = StandardOutput(Broken(OSError(number, os.strerror(number))))
    for _ in range(3):
        assert output.write("text\n") == 5
        output.flush()
    output.close()
    assert output.exit_code == code
    assert output.complaint.startswith(complaint) and bool(output.complaint) == bool(complaint)


def test_what_can_be_written_is() -> None:
    stream = io.StringIO()
    output = StandardOutput(stream)
    output.write("ü\n")
    output.close()
    assert (stream.getvalue(), output.exit_code, output.complaint) == ("ü\n", 0, "")


def test_an_output_of_few_letters_gets_the_others_as_numbers() -> None:
    raw = io.BytesIO()
    output = StandardOutput(io.TextIOWrapper(raw, encoding="ascii"))
    output.write("größe \udcc3\n")
    output.flush()
    assert raw.getvalue() == b"gr\\xf6\\xdfe \\udcc3\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    with subprocess.Popen(HELP, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as shown:
        assert shown.stdout is not None and shown.stderr is not None
        shown.stdout.close()
        assert shown.stderr.read() == b""
    assert shown.returncode in (0, READER_GONE)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_output_and_a_closed_one() -> None:
    inspect = [*HELP[:2], "inspect", str(ROOT / "halo_mdn/data/example_nbody.npz")]
    with open("/dev/full", "w") as full:
        done = subprocess.run(inspect, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        "error: cannot write to standard output: No space left on device; everything else was "
        "done\n"
    )
    closed = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *HELP], capture_output=True)
    assert (closed.returncode, closed.stderr) == (0, b"")


def test_a_stream_that_was_closed_meanwhile_is_not_flushed() -> None:
    stream = io.StringIO()
    output = StandardOutput(stream)
    stream.close()
    output.flush()  # as Python does when it drops the object
    assert output.lost is None

"""The terminal display, on a terminal and in a log."""

from __future__ import annotations

import io
import logging

import pytest

from halo_mdn.progress import Display, duration, progress_line
from halo_mdn.sampling import Progress


def report(phase: str = "sampling", done: int = 50, **changes) -> Progress:
    values = {
        "phase": phase,
        "done": done,
        "total": 200,
        "step_size": 0.0312,
        "divergences": 3,
        "num_gradients": 1000,
        "seconds_elapsed": float(done),
        "seconds_left": 185.0,
    }
    return Progress(**{**values, **changes})


def test_the_line_says_it_all() -> None:
    line = progress_line(report(worst_rhat=1.0234, min_ess=123.4), rate=2.5)
    assert line == (
        "sampling [#####---------------] 50/200  2.5 draws/s  3 min 05 s left  step 0.031  "
        "3 divergent  R-hat 1.023  ESS 123"
    )


def test_unknown_numbers_are_left_out() -> None:
    line = progress_line(report(done=0, seconds_left=None, step_size=float("nan")), rate=0.0)
    assert line == "sampling [--------------------] 0/200"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_terminal_gets_one_line_that_is_rewritten() -> None:
    stream = io.StringIO()
    display = Display(stream, live=True)
    for done in range(0, 200, 50):
        display.update(report(done=done))
    display.say("finished")
    assert stream.getvalue().count("\r") == 4
    assert stream.getvalue().count("\n") == 2
    assert stream.getvalue().endswith("\nfinished\n")


def test_a_log_gets_few_whole_lines() -> None:
    stream = io.StringIO()
    display = Display(stream)
    for phase in ("warmup", "sampling"):
        for done in range(0, 201, 2):
            display.update(report(phase, done=done))
    lines = stream.getvalue().splitlines()
    assert "\r" not in stream.getvalue()
    # First and last of each phase; the test takes far less than the pause between others.
    assert [line.split()[0] for line in lines] == ["warmup"] * 2 + ["sampling"] * 2
    assert "200/200" in lines[-1]


def test_the_rate_is_that_of_the_phase() -> None:
    stream = io.StringIO()
    display = Display(stream, live=True)
    display.update(report("warmup", done=0, seconds_elapsed=0.0))
    display.update(report("sampling", done=0, seconds_elapsed=1000.0))
    display.update(report("sampling", done=40, seconds_elapsed=1020.0))
    assert "  2 draws/s" in stream.getvalue()


def test_a_followed_logger_speaks_in_short_lines() -> None:
    stream = io.StringIO()
    display, logger = Display(stream, live=True), logging.getLogger("halo_mdn.test")
    with display.following(logger):
        display.update(report())
        logger.info("climbed %d hills", 3)
        logger.info("word " * 100)
    logger.info("not shown")
    lines = stream.getvalue().splitlines()
    assert lines[-2] == "  climbed 3 hills"
    assert lines[-1].endswith("word ...") and len(lines[-1]) <= 100
    assert not logger.handlers and logger.level == logging.NOTSET


def test_ci_means_no_rewriting(monkeypatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("CI", raising=False)
    assert Display(Terminal()).live
    monkeypatch.setenv("CI", "true")
    assert not Display(Terminal()).live

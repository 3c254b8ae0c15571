"""What a run shows on the terminal: sentences, and one progress line that keeps up to date."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

_BAR_WIDTH = 20
_LOG_WIDTH = 96
_QUIET_SECONDS = 15.0  # between two lines where a line cannot be rewritten


class Display:
    """Writes sentences, and a progress line: rewritten on a terminal, now and then in a log.

    Parameters
    ----------
    stream : text stream
        Standard output by default.
    live : bool or None
        Whether the progress line is rewritten in place; None: on a terminal, unless the
        environment variable CI is set.
    """

    def __init__(self, stream: TextIO | None = None, *, live: bool | None = None) -> None:
        self.stream = sys.stdout if stream is None else stream
        in_ci = bool(os.environ.get("CI"))
        self.live = (self.stream.isatty() and not in_ci) if live is None else live
        self._open_line = False
        self._last_line = -_QUIET_SECONDS
        self._phase = ""
        self._phase_start = (0, 0.0)

    def say(self, text: str = "") -> None:
        """Write a line, under the progress line if there is one."""
        self.end_line()
        self.stream.write(f"{text}\n")
        self.stream.flush()

    @contextmanager
    def following(self, logger: logging.Logger) -> Iterator[None]:
        """Show what a logger reports at level INFO and above, cut to one line each."""
        handler = _LogHandler(self)
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        propagates, logger.propagate = logger.propagate, False
        try:
            yield
        finally:
            logger.propagate = propagates
            logger.setLevel(level)
            logger.removeHandler(handler)

    def update(self, report: Progress) -> None:
        """Show where a run stands; cheap enough to be called after every few draws."""
        new_phase = report.phase != self._phase
        if new_phase:
            self._phase = report.phase
            self._phase_start = (report.done, report.seconds_elapsed)
        done, since = self._phase_start
        seconds = report.seconds_elapsed - since
        rate = (report.done - done) / seconds if seconds > 0 else 0.0
        self._write(progress_line(report, rate), urgent=new_phase or report.done >= report.total)

    def end_line(self) -> None:
        """Leave the progress line as it is and go on below it."""
        if self._open_line:
            self.stream.write("\n")
            self._open_line = False

    def _write(self, line: str, *, urgent: bool) -> None:
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            self.stream.write(f"\r{line[:width]}\x1b[K")
            self._open_line = True
        elif urgent or time.monotonic() - self._last_line >= _QUIET_SECONDS:
            self.stream.write(f"{line}\n")
            self._last_line = time.monotonic()
        self.stream.flush()


class _LogHandler(logging.Handler):
    def __init__(self, display: Display) -> None:
        super().__init__(logging.INFO)
        self.display = display

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        self.display.say(f"  {textwrap.shorten(text, _LOG_WIDTH, placeholder=' ...')}")


def progress_line(report: Progress, rate: float) -> str:
    """One line: phase, bar, draws, rate, step size, divergences, convergence, time left.

    `rate` is in draws per second and chain.
    """
    done = report.done / report.total if report.total else 0.0
    bar = ("#" * round(_BAR_WIDTH * done)).ljust(_BAR_WIDTH, "-")
    parts = [f"{report.phase:8} [{bar}] {report.done}/{report.total}"]
    if rate > 0:
        parts.append(f"{rate:.3g} draws/s")
    if report.seconds_left is not None:
        parts.append(f"{duration(report.seconds_left)} left")
    if report.step_size > 0:  # not while nothing is known about it
        parts += [f"step {report.step_size:.2g}", f"{report.divergences} divergent"]
    if report.worst_rhat is not None:
        parts.append(f"R-hat {report.worst_rhat:.3f}")
    if report.min_ess is not None:
        parts.append(f"ESS {report.min_ess:.0f}")
    return "  ".join(parts)


def counted(phase: str, done: int, total: int, seconds: float, made: int | None = None) -> Progress:
    """Where a series of things of about equal cost stands, of which ``made`` took ``seconds``.

    ``made`` is less than ``done`` where some were there before; by default they are the same.
    """
    made = done if made is None else made
    left = seconds / made * (total - done) if made else None
    return Progress(phase, done, total, seconds_elapsed=seconds, seconds_left=left)


def duration(seconds: float) -> str:
    """A time span that reads well: ``"8 s"``, ``"3 min 05 s"``, ``"2 h 10 min"``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Parameters
    ----------
    phase
        Such as ``"start"``, ``"warmup"`` or ``"sampling"``.
    done, total
        Draws per chain in this phase.
    seconds_elapsed, seconds_left
        In the whole run, earlier sessions of a resumed run included; the time left is an
        estimate, None while there is nothing to base it on.
    step_size
        Mean over the chains; 0 outside sampling.
    divergences
        Divergent trajectories in this phase, all chains.
    num_gradients
        Gradient evaluations in this phase, all chains.
    worst_rhat, min_ess
        Of the monitored functions; None before there are enough draws.
    """

    phase: str
    done: int
    total: int
    seconds_elapsed: float
    seconds_left: float | None
    step_size: float = 0.0
    divergences: int = 0
    num_gradients: int = 0
    worst_rhat: float | None = None
    min_ess: float | None = None

"""How any run goes on: in stretches of about a second, with looks at progress and Ctrl-C between.

Draws do not depend on the pace: a stretch ends a call of a compiled program, nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

from halo_mdn.progress import Progress
from halo_mdn.sampling.nuts.draws import Interrupted
from halo_mdn.sampling.nuts.interruption import Interruption

SECONDS_PER_REPORT = 1.0  # how long a stretch should take between two looks at progress and Ctrl-C


class Stretched(Protocol):
    """A run that can be made a few draws longer at a time."""

    @property
    def checkpoint(self) -> Path | None:
        """The file that `look` writes."""

    @property
    def done(self) -> int:
        """Draws per chain so far, warm-up included."""

    @property
    def total(self) -> int:
        """Draws per chain that are wanted."""

    def finished(self) -> bool:
        """Whether there are enough draws."""

    def to_chunk_end(self) -> int:
        """Most draws of the next stretch."""

    def at_chunk_end(self) -> bool:
        """Whether it is time to look."""

    def advance(self, count: int) -> None:
        """Make ``count`` more draws in every chain."""

    def look(self, *, leaving: bool) -> None:
        """Follow convergence and save the state, in any case if the run stops here."""

    def report(self, phase: Literal["start"] | None = None) -> Progress:
        """Where the run stands."""


def go(run: Stretched, progress: Callable[[Progress], None], interruption: Interruption) -> None:
    """Advance to the end, or to an interruption.

    Raises
    ------
    Interrupted
        After Ctrl-C or SIGTERM, once the checkpoint is written.
    """
    progress(run.report("start"))
    count = 1  # the first stretch compiles and tells how long a draw takes
    while not run.finished():
        began = time.monotonic()
        made = min(count, run.to_chunk_end())
        run.advance(made)
        per_draw = (time.monotonic() - began) / made
        count = max(1, min(int(SECONDS_PER_REPORT / per_draw), 2 * made))
        if run.at_chunk_end() or interruption.requested:
            run.look(leaving=interruption.requested)
        progress(run.report())
        if interruption.requested and run.done < run.total:
            raise Interrupted(run.checkpoint, run.done, run.total)

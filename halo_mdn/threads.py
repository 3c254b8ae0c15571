"""Work on several items side by side: XLA leaves Python free while it computes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def num_workers(num_tasks: int) -> int:
    """Threads worth having for so many tasks."""
    # Not os.cpu_count: batch systems give a job some of the cores only.
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return max(1, min(num_tasks, available or os.cpu_count() or 1))


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], *, compiles: bool = True
) -> list[Result]:
    """The function of every item, in order.

    Parameters
    ----------
    function : callable
    items : sequence
    compiles : bool
        Whether the first call compiles what the others use. It is then made alone: compiling
        in several threads does the work several times, and storing a program in JAX's
        compilation cache while another thread compiles it can crash.
    """
    first, rest = (items[:1], items[1:]) if compiles else (items[:0], items)
    done = [function(item) for item in first]
    if len(rest) == 0:
        return done
    with ThreadPoolExecutor(num_workers(len(rest))) as pool:
        return [*done, *pool.map(function, rest)]

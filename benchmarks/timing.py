"""Timing several functions side by side on a machine that does other things as well."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

COMPILED = "/jax/core/compile/backend_compile_duration"


@dataclass
class Timing:
    """What one function took: seconds to compile and per call, and its extra memory in bytes."""

    compile_s: float
    calls_s: list[float] = field(default_factory=list)
    memory: int = 0

    @property
    def milliseconds(self) -> float:
        """Least time of a call, which the rest of the machine disturbed least."""
        return 1e3 * min(self.calls_s)


def compare(
    functions: dict[str, tuple[Callable[..., Any], tuple]], rounds: int
) -> dict[str, Timing]:
    """Compile each function and call them in turn, so that a busy spell hits all of them."""
    compiled, timings = {}, {}
    for name, (function, args) in functions.items():
        start = time.perf_counter()
        compiled[name] = jax.jit(function).lower(*args).compile()
        timings[name] = Timing(time.perf_counter() - start)
        memory = compiled[name].memory_analysis()
        timings[name].memory = getattr(memory, "temp_size_in_bytes", 0)
        jax.block_until_ready(compiled[name](*args))
    for _ in range(rounds):
        for name, (_, args) in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(compiled[name](*args))
            timings[name].calls_s.append(time.perf_counter() - start)
    return timings


def ratio(timings: dict[str, Timing], slow: str, fast: str) -> float:
    """How many times faster, as the median over the rounds."""
    pairs = zip(timings[slow].calls_s, timings[fast].calls_s, strict=True)
    return float(np.median([a / b for a, b in pairs]))


@contextmanager
def counting_compilations() -> Iterator[list[float]]:
    """A list that gets the seconds of every program compiled inside the block."""
    seconds: list[float] = []
    active = [True]

    def listen(event: str, duration: float, **_: Any) -> None:
        if active[0] and event == COMPILED:
            seconds.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seconds
    finally:
        active[0] = False

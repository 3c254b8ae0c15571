"""Compiled functions that several threads can share.

NumPyro keeps its effect handlers on one global stack, so two threads must not trace a model at
the same time. Tracing happens here behind a lock; running the compiled program does not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import jax

TRACING = threading.RLock()


class Program:
    """A function compiled once per set of options and then run by any thread.

    Parameters
    ----------
    function : callable
        Of arrays and pytrees, and of hashable options by keyword. Shapes must not change between
        calls with the same options and the same structure of arguments.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._compiled: dict[Any, Any] = {}

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Run it, compiling first if need be."""
        leaves, structure = jax.tree.flatten(arguments)
        shapes = tuple((jax.numpy.shape(x), jax.numpy.result_type(x)) for x in leaves)
        case = (structure, shapes, tuple(sorted(options.items())))
        with TRACING:
            if case not in self._compiled:
                jitted = jax.jit(lambda *given: self._function(*given, **options))
                self._compiled[case] = jitted.lower(*arguments).compile()
        return self._compiled[case](*arguments)

"""What a NUTS run returns, and how it stops early."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np


class Draws(NamedTuple):
    """What a run returns; all arrays are NumPy arrays in host memory.

    Attributes
    ----------
    params
        Parameters, shape (chain, draw, P).
    stats
        ``energy``, ``num_steps``, ``accept_prob``, ``diverging``, ``potential_energy``,
        ``step_size`` and ``tree_depth``, each of shape (chain, draw). The potential energy is
        minus the log-posterior of the parameters; the energy is that of the sampler's own
        coordinates.
    warmup_params, warmup_stats
        The same for the warm-up.
    inverse_mass
        Adapted inverse mass matrix of each chain in the sampler's coordinates.
    wall_time_s
        Seconds spent, earlier sessions of a resumed run included.
    num_gradients, num_warmup_gradients
        Gradient evaluations of the kept draws and of the warm-up, all chains.
    stopped_early
        Whether the target effective sample size ended the run.
    """

    params: np.ndarray
    stats: dict[str, np.ndarray]
    warmup_params: np.ndarray
    warmup_stats: dict[str, np.ndarray]
    inverse_mass: np.ndarray
    wall_time_s: float
    num_gradients: int
    num_warmup_gradients: int
    stopped_early: bool


class Interrupted(RuntimeError):
    """A run was stopped by Ctrl-C or SIGTERM after its state was saved.

    Attributes
    ----------
    checkpoint
        The file to resume from, or None where the run kept none.
    done, total
        Draws per chain, warm-up included.
    """

    def __init__(self, checkpoint: Path | None, done: int, total: int) -> None:
        self.checkpoint, self.done, self.total = checkpoint, done, total
        where = (
            f"The state is in {checkpoint}: run the same command with --resume to go on."
            if checkpoint is not None
            else "No checkpoint was asked for, so the draws are lost."
        )
        super().__init__(f"Interrupted after {done} of {total} draws per chain. {where}")

    def __reduce__(self) -> tuple[type[Interrupted], tuple[Path | None, int, int]]:
        """How it travels between processes: by its own arguments, not by its text."""
        return type(self), (self.checkpoint, self.done, self.total)

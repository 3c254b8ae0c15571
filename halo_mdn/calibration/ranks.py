"""Are ranks uniform? Simultaneous bands for their empirical distribution, exactly.

The rank of a truth among L independent posterior draws is uniform on 0 .. L if truths are drawn
from the prior, data from the model, and the posterior is right (Talts et al. 2018,
arXiv:1804.06788). The number of N ranks below i is then Binomial(N, i / (L + 1)) for each i. A band
that holds for all i at once (Säilynoja, Bürkner & Vehtari 2022, arXiv:2103.10522) is made of the
central intervals of these binomials, of the one pointwise probability that gives the wanted
simultaneous one. That probability is computed without simulation: ranks are independent Poisson
numbers in L + 1 cells, conditioned on their sum N, and one convolution per cell carries the
distribution of the running sum along the band.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.stats import binom, poisson

_TIES = 1 + 1e-9  # tail probabilities that differ by rounding are the same


class Band(NamedTuple):
    """Where the number of ranks below 1 .. L should lie, all at once.

    Attributes
    ----------
    lower, upper : array (L,) of int
        Smallest and largest number inside.
    probability : float
        That uniform ranks stay inside: at least what was asked for, as numbers are whole.
    """

    lower: np.ndarray
    upper: np.ndarray
    probability: float


def rank_of(truth: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Number of draws (L, Q) below the truth (Q,), each from 0 to L."""
    return np.sum(draws < truth, axis=0)


def band(num_ranks: int, num_draws: int, level: float = 0.95) -> Band:
    """The simultaneous band for ``num_ranks`` ranks among ``num_draws`` draws."""
    tails = _tails(num_ranks, num_draws)
    low, high = 0.0, 1.0  # of the pointwise probability to be outside
    for _ in range(40):
        middle = 0.5 * (low + high)
        inside = _stays(tails > middle) >= level
        low, high = (middle, high) if inside else (low, middle)
    within = tails > low
    first, last = within.argmax(axis=1), num_ranks - within[:, ::-1].argmax(axis=1)
    return Band(first, last, _stays(within))


def below(ranks: np.ndarray, num_draws: int) -> np.ndarray:
    """How many ranks are below 1 .. ``num_draws``, shape (L, ...), for ranks (N, ...)."""
    return np.stack([np.sum(ranks < i, axis=0) for i in range(1, num_draws + 1)])


def p_value(ranks: np.ndarray, num_draws: int) -> float:
    """Probability that uniform ranks leave a band at least as wide as the one these just leave.

    Parameters
    ----------
    ranks : array (N,) of int
        From 0 to ``num_draws``.
    num_draws : int
    """
    tails = _tails(len(ranks), num_draws)
    worst = tails[np.arange(num_draws), below(ranks, num_draws)].min()
    return float(np.clip(1 - _stays(tails > worst * _TIES), 0.0, 1.0))


@lru_cache(maxsize=4)
def _tails(num_ranks: int, num_draws: int) -> np.ndarray:
    """Twice the smaller tail probability of each number below each i, shape (L, N + 1)."""
    chance = np.arange(1, num_draws + 1)[:, None] / (num_draws + 1)
    count = np.arange(num_ranks + 1)
    lower, upper = binom.cdf(count, num_ranks, chance), binom.sf(count - 1, num_ranks, chance)
    return 2 * np.minimum(lower, upper)


def _stays(within: np.ndarray) -> float:
    """Probability of allowed numbers of uniform ranks below every i; ``within`` is (L, N + 1)."""
    num_draws, num_ranks = len(within), within.shape[1] - 1
    cell = poisson.pmf(np.arange(num_ranks + 1), num_ranks / (num_draws + 1))
    running = np.zeros(num_ranks + 1)
    running[0] = 1.0
    for allowed in (*within, np.ones(num_ranks + 1, dtype=bool)):
        running = np.convolve(running, cell)[: num_ranks + 1] * allowed
    return float(running[-1] / poisson.pmf(num_ranks, num_ranks))

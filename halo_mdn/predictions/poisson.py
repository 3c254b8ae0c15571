"""Poisson numbers of halos, whatever the parameters expect."""

from __future__ import annotations

import numpy as np

MOST = 1e15  # beyond what any box holds, and still a number that sums of 64 bits can count


def poisson_numbers(random: np.random.Generator, expected: np.ndarray) -> np.ndarray:
    """Poisson numbers with the expected means, as integers.

    Parameters of a vague prior may expect more halos than can be counted. Means above 1e15,
    infinite ones and those that are no number count as 1e15.
    """
    known = np.nan_to_num(expected, nan=MOST, posinf=MOST)
    return random.poisson(np.minimum(known, MOST))

"""R-hat and effective sample size of functions of the parameters while a run goes on.

Rank-normalised split R-hat, bulk and tail effective sample size after Vehtari, Gelman, Simpson,
Carpenter & Bürkner 2021 (Bayesian Analysis 16, 667).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpyro.diagnostics import effective_sample_size
from scipy.special import ndtri
from scipy.stats import rankdata

MIN_DRAWS = 8  # per chain; with fewer, halves of chains say nothing


class Convergence(NamedTuple):
    """The worst of all monitored functions: largest R-hat, smallest bulk or tail ESS."""

    worst_rhat: float
    min_ess: float


def convergence(values: np.ndarray) -> Convergence | None:
    """Worst R-hat and smallest effective sample size over functions.

    Parameters
    ----------
    values
        Function values, shape (chain, draw, Q).

    Returns
    -------
    Convergence or None
        None with fewer than 8 draws per chain. Functions that never change are left out; a
        function that is not finite somewhere has an infinite R-hat and no effective draws.
    """
    if values.shape[1] < MIN_DRAWS or values.shape[2] == 0:
        return None
    if not np.all(np.isfinite(values)):
        return Convergence(worst_rhat=np.inf, min_ess=0.0)
    moving = np.ptp(values, axis=(0, 1)) > 0
    if not np.any(moving):
        return Convergence(worst_rhat=np.inf, min_ess=0.0)
    halves = _split(values[:, :, moving])
    bulk = _normal_scores(halves)
    spread = _normal_scores(np.abs(halves - np.median(halves, axis=(0, 1))))
    rhat = max(_worst_rhat(bulk), _worst_rhat(spread))
    low, high = np.quantile(halves, [0.05, 0.95], axis=(0, 1))
    ess = min(_least_ess(bulk), _least_ess(halves <= low), _least_ess(halves >= high))
    return Convergence(worst_rhat=rhat, min_ess=ess)


def _split(values: np.ndarray) -> np.ndarray:
    half = values.shape[1] // 2
    return np.concatenate([values[:, :half], values[:, -half:]], axis=0)


def _normal_scores(values: np.ndarray) -> np.ndarray:
    flat = values.reshape(-1, values.shape[-1])
    ranks = rankdata(flat, axis=0)
    return ndtri((ranks - 0.375) / (flat.shape[0] + 0.25)).reshape(values.shape)


def _worst_rhat(values: np.ndarray) -> float:
    # The chains are halves already: joining pairs of them would hide a drift.
    within = values.var(axis=1, ddof=1).mean(axis=0)
    between = values.mean(axis=1).var(axis=0, ddof=1)
    draws = values.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        rhat = np.sqrt((draws - 1) / draws + between / within)
    return float(np.max(np.nan_to_num(rhat, nan=np.inf, posinf=np.inf)))


def _least_ess(values: np.ndarray) -> float:
    values = values.astype(float)
    moving = np.ptp(values, axis=(0, 1)) > 0
    if not np.any(moving):
        return 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        ess = effective_sample_size(values[..., moving])
    return float(np.min(np.nan_to_num(ess, nan=0.0)))

"""Pareto-smoothed importance weights.

A few huge importance weights spoil every average. Their tail follows a generalised Pareto
distribution, so the largest weights are replaced by quantiles of one that is fitted to them
(Vehtari, Simpson, Gelman, Yao & Gabry 2024, JMLR 25, 72). Its shape k tells whether to believe the
result: above 0.7 the draws are too far from the target.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

RELIABLE = 0.7  # largest shape of a tail that averages survive
_LEAST_TAIL = 5  # weights, to fit two numbers to


def smoothed_log_weights(log_ratio: np.ndarray) -> tuple[np.ndarray, float]:
    """Normalised log weights with a smoothed tail, and the shape k of that tail.

    Parameters
    ----------
    log_ratio : array (S,)
        Log of target over proposal density, up to a constant.

    Returns
    -------
    array (S,), float
        Where the tail has too few values of its own to be fitted, the weights are as given; k is
        then infinite, or minus infinity if all weights are the same.
    """
    log_weight = np.array(log_ratio, dtype=float) - np.max(log_ratio)
    order, size = np.argsort(log_weight), len(log_weight)
    tail = order[size - int(np.ceil(min(0.2 * size, 3 * np.sqrt(size)))) :]
    below = order[size - len(tail) - 1] if len(tail) < size else order[0]
    cutoff = np.exp(max(log_weight[below], np.log(np.finfo(float).tiny)))
    excess = np.exp(log_weight[tail]) - cutoff
    if np.ptp(log_weight) == 0:
        return log_weight - logsumexp(log_weight), -np.inf
    tail, excess = tail[excess > 0], excess[excess > 0]
    if len(tail) < _LEAST_TAIL:
        return log_weight - logsumexp(log_weight), np.inf
    shape, scale = pareto_fit(excess)
    levels = (np.arange(len(tail)) + 0.5) / len(tail)
    smooth = np.log(cutoff + pareto_quantile(levels, shape, scale))
    log_weight[tail] = np.minimum(smooth, 0.0)  # no larger than the largest one that was drawn
    return log_weight - logsumexp(log_weight), shape


def pareto_fit(values: np.ndarray) -> tuple[float, float]:
    """Shape and scale of a generalised Pareto distribution.

    The estimator of Zhang & Stephens 2009 (Technometrics 51, 316): a posterior mean over a grid
    of b = -shape / scale, with the weak prior of Vehtari et al. that pulls the shape to 1/2 as ten
    more values would.

    Parameters
    ----------
    values : array (T,)
        Positive and in increasing order.
    """
    size = len(values)
    num = 30 + int(np.sqrt(size))
    quartile = values[int(size / 4 + 0.5) - 1]
    grid = 1 / values[-1] + (1 - np.sqrt(num / (np.arange(num) + 0.5))) / (3 * quartile)
    shapes = np.log1p(-grid[:, None] * values).mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_likelihood = size * (np.log(-grid / shapes) - shapes - 1)
    usable = np.isfinite(log_likelihood)
    weight = np.exp(log_likelihood[usable] - logsumexp(log_likelihood[usable]))
    b = float(weight @ grid[usable])
    shape = float(np.log1p(-b * values).mean())
    return (size * shape + 5) / (size + 10), -shape / b


def pareto_quantile(levels: np.ndarray, shape: float, scale: float) -> np.ndarray:
    """Quantiles of the generalised Pareto distribution of values above zero."""
    exponent = -np.log1p(-levels)
    return scale * (exponent if abs(shape) < 1e-12 else np.expm1(shape * exponent) / shape)

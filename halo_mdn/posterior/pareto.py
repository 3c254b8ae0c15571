"""Pareto-smoothed importance weights, by ArviZ.

A few huge importance weights spoil every average. Their tail follows a generalised Pareto
distribution, so the largest weights are replaced by quantiles of one that is fitted to them
(Vehtari, Simpson, Gelman, Yao & Gabry 2024, JMLR 25, 72). Its shape k tells whether to believe the
result: above 0.7 the draws are too far from the target.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.special import logsumexp

from halo_mdn.quiet_arviz import arviz_module, quiet

RELIABLE = 0.7  # largest shape of a tail that averages survive


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
    as_given = np.asarray(log_ratio, dtype=float) - logsumexp(log_ratio)
    if np.ptp(as_given) == 0:
        return as_given, -np.inf
    log_weight, shape = _by_arviz(as_given)
    return (log_weight, shape) if np.isfinite(shape) else (as_given, np.inf)


def _by_arviz(log_ratio: np.ndarray) -> tuple[np.ndarray, float]:
    arviz = arviz_module()
    with quiet():
        if hasattr(arviz, "psislw"):
            log_weight, shape = arviz.psislw(log_ratio)
            return log_weight, float(shape)
        minus = xr.DataArray(-log_ratio, dims="draw")  # ArviZ 1 takes what is left out of ln L
        try:
            weights, shape = minus.azstats.psislw(dim="draw")
        except ValueError:  # its word for a tail that cannot be fitted
            return log_ratio, np.inf
        return weights.values, float(shape)

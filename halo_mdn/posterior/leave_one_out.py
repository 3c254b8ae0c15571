"""Leave-one-out scores by importance sampling."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy.special import logsumexp

from halo_mdn.quiet_arviz import arviz_data, arviz_module, quiet


class LeaveOneOut(NamedTuple):
    """What leaving out each sub-box says about a model.

    Attributes
    ----------
    elpd : array (B,)
        Expected log predictive density of each sub-box given all others.
    effective_params : float
        By how much the sub-boxes are predicted worse, left out, than fitted.
    pareto_k : array (B,)
        Above 0.7 the number of that sub-box cannot be relied on.
    """

    elpd: np.ndarray
    effective_params: float
    pareto_k: np.ndarray


def leave_one_out(log_likelihood: xr.DataArray) -> LeaveOneOut:
    """Leave out one sub-box after another by Pareto-smoothed importance sampling.

    Vehtari, Gelman & Gabry 2017 (Statistics and Computing 27, 1413); Vehtari et al. 2024 (JMLR 25,
    72).

    Parameters
    ----------
    log_likelihood : DataArray (chain, draw, block)
        Such as that of the group ``log_likelihood`` of a container.
    """
    arviz = arviz_module()
    data = arviz_data({"/log_likelihood": log_likelihood.to_dataset(name="blocks")})
    draws = log_likelihood.sizes["chain"] * log_likelihood.sizes["draw"]
    with quiet():
        ess = np.nan_to_num(
            np.asarray(
                arviz.ess(log_likelihood.to_dataset(name="blocks"), method="mean")["blocks"]
            ),
            nan=1.0,
        )
        result = arviz.loo(data, pointwise=True, reff=float(np.clip(ess.mean() / draws, 1e-3, 1)))
    elpd = result.loo_i if hasattr(result, "loo_i") else result.elpd_i
    in_sample = logsumexp(log_likelihood.values, axis=(0, 1)) - np.log(draws)
    return LeaveOneOut(
        elpd=np.asarray(elpd, dtype=float),
        effective_params=float(np.sum(in_sample - np.asarray(elpd))),
        pareto_k=np.asarray(result.pareto_k, dtype=float),
    )

"""R-hat and effective sample size of functions of the parameters while a run goes on.

Rank-normalised split R-hat, bulk and tail effective sample size after Vehtari, Gelman, Simpson,
Carpenter & Bürkner 2021 (Bayesian Analysis 16, 667), by ArviZ.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from halo_mdn.quiet_arviz import arviz_module, quiet

TAIL = (0.05, 0.95)  # quantiles of the tail ESS; ArviZ 1.x has another default
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
    moving = np.isfinite(values).all() & (np.ptp(values, axis=(0, 1)) > 0)
    if not np.any(moving):
        return Convergence(worst_rhat=np.inf, min_ess=0.0)
    found = mixing(xr.Dataset({"values": (("chain", "draw", "function"), values[..., moving])}))
    rhat, *ess = (np.asarray(dataset["values"]) for dataset in found.values())
    return Convergence(
        worst_rhat=float(np.max(np.nan_to_num(rhat, nan=np.inf, posinf=np.inf))),
        min_ess=float(np.nan_to_num(ess, nan=0.0).min()),
    )


def mixing(dataset: xr.Dataset) -> dict[str, xr.Dataset]:
    """R-hat, bulk and tail effective sample size of all variables with dims chain and draw."""
    arviz = arviz_module()
    with quiet():
        return {
            "rhat": arviz.rhat(dataset, method="rank"),
            "ess_bulk": arviz.ess(dataset, method="bulk"),
            "ess_tail": arviz.ess(dataset, method="tail", prob=TAIL),
        }

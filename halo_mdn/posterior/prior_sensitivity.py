"""Does the answer depend on the prior? Power-scaling sensitivity, from the container alone.

The prior (or the likelihood) is raised to a power close to one by importance weights on the draws,
and the marginal of each quantity is compared with the unweighted one by the cumulative
Jensen-Shannon distance (Kallioinen, Paananen, Buerkner & Vehtari 2024, Stat. Comput. 34, 57). The
distance per doubling of the power is the sensitivity. A quantity that reacts to the prior is
informed by it; if it hardly reacts to the likelihood as well, the prior is what it shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from halo_mdn.posterior.compression import compression_findings
from halo_mdn.posterior.container import FUNCTION_NAMES
from halo_mdn.posterior.verdict import ESS_CARE, Row
from halo_mdn.quiet_arviz import arviz_data, arviz_module, quiet

POWER = 1.01
SENSITIVE = 0.05  # the threshold of Kallioinen et al.: a normal mean that moves by 0.3 deviations
_NAMED = 6  # quantities that a sentence lists


def sensitivity(draws: np.ndarray, log_component: np.ndarray) -> np.ndarray:
    """Sensitivity of marginals to the power of a component of the posterior density, by ArviZ.

    Parameters
    ----------
    draws : array (S, Q)
        Posterior draws of Q quantities.
    log_component : array (S,)
        Log prior or log-likelihood of each draw, up to a constant.

    Returns
    -------
    array (Q,)
        Mean distance between the marginals at powers 1.01 and 1/1.01 and those at power 1, per
        doubling of the power. NaN where the draws are too few, or too few of them differ.
    """
    if np.ptp(log_component) == 0:
        return np.zeros(draws.shape[1])
    arviz = arviz_module()
    posterior = xr.Dataset({"draws": (("chain", "draw", "quantity"), draws[None])})
    component = xr.Dataset({"component": (("chain", "draw"), log_component[None])})
    data = arviz_data({"/posterior": posterior, "/log_prior": component})
    try:
        with quiet():
            if hasattr(arviz, "psense"):
                found = arviz.psense(data, group="prior", alphas=(1 / POWER, POWER))
            else:
                found = arviz.psens(data, component="prior", delta=POWER - 1)
    except ValueError:  # of ArviZ 1: no tail of weights to smooth
        return np.full(draws.shape[1], np.nan)
    return np.asarray(found["draws"], dtype=float)


def log_components(posterior: xr.DataTree) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Log prior and log-likelihood (C, D) of draws, and which draws of a chain they are.

    Parameters
    ----------
    posterior : xarray.DataTree
        From :func:`halo_mdn.posterior.container.build`. Without assuming anything about the prior,
        the log prior is the log-posterior minus the log-likelihood, which is stored for some draws;
        where that is Normal(0, prior_scale), up to a constant, it is known for all of them.

    Returns
    -------
    log_prior, log_likelihood, draw, or None
        None where a number is missing or not finite.
    """
    if "log_likelihood" not in posterior.children or "lp" not in posterior["sample_stats"]:
        return None
    log_posterior = posterior["sample_stats"].to_dataset()["lp"].values
    stored = posterior["log_likelihood"].to_dataset()["poisson_process"]
    draw, log_likelihood = stored["draw"].values, stored.sum("block").values
    log_prior = log_posterior[:, draw] - log_likelihood
    if not (np.isfinite(log_posterior).all() and np.isfinite(log_prior).all()):
        return None
    if "prior_scale" in posterior.attrs:
        normal = _log_normal(posterior, float(posterior.attrs["prior_scale"]))
        rounding = 20 * np.finfo(posterior.attrs["precision"]).eps * np.abs(log_posterior).max()
        # What was sampled, a compressed likelihood perhaps, differs from what is stored by blocks.
        compression = compression_findings(posterior)
        error = compression.spread if compression is not None else 0.0
        if np.std(normal[:, draw] - log_prior) < 0.05 + 2 * error + rounding:
            return normal, log_posterior - normal, np.arange(log_posterior.shape[1])
    return log_prior, log_likelihood, draw


def _log_normal(posterior: xr.DataTree, scale: float) -> np.ndarray:
    dataset = posterior["posterior"].to_dataset()
    blocks = [values for name, values in dataset.items() if name not in FUNCTION_NAMES]
    sums = [(block.values**2).reshape(*block.shape[:2], -1).sum(axis=-1) for block in blocks]
    return -0.5 * np.sum(sums, axis=0) / scale**2


def with_sensitivity(rows: Sequence[Row], posterior: xr.DataTree) -> tuple[Row, ...]:
    """The rows with their sensitivities to prior and likelihood; NaN where they cannot be had."""
    with np.errstate(all="ignore"):  # of absurd draws, which the verdict speaks about
        known = log_components(posterior)
    if known is None or not rows:
        return tuple(rows)
    *components, draw = known
    dataset = posterior["posterior"].to_dataset().isel(draw=draw)
    values: list[Any] = [dataset[row.label.partition("[")[0]].values for row in rows]
    columns = [x[(slice(None), slice(None), *r.index)] for x, r in zip(values, rows, strict=True)]
    draws = np.stack([column.ravel() for column in columns], axis=1)
    usable = np.isfinite(draws).all(axis=0)
    sizes = np.full((2, len(rows)), np.nan)
    for size, component in zip(sizes, components, strict=True):
        size[usable] = sensitivity(draws[:, usable], component.ravel())
    return tuple(
        replace(row, prior_sensitivity=float(prior), likelihood_sensitivity=float(likelihood))
        for row, prior, likelihood in zip(rows, *sizes, strict=True)
    )


def sentences(rows: Sequence[Row]) -> list[str]:
    """Which quantities the prior informs, in plain words: functions first, then parameters."""
    functions = [row for row in rows if row.kind == "function" and row.decides]
    parameters = [row for row in rows if row.kind == "parameter"]
    groups = (("identified functions", functions), ("parameters", parameters))
    known = [(name, [r for r in g if np.isfinite(r.prior_sensitivity)]) for name, g in groups]
    return [_sentence(name, group) for name, group in known if group]


def _sentence(name: str, rows: list[Row]) -> str:
    least = min(row.ess for row in rows)
    if least < ESS_CARE:
        return (
            f"Whether the {len(rows)} {name} depend on the prior cannot be told from {least:.0f} "
            f"effective draws: it takes {ESS_CARE:.0f}."
        )
    informed = [row for row in rows if row.prior_sensitivity >= SENSITIVE]
    if not informed:
        largest = max(row.prior_sensitivity for row in rows)
        return (
            f"The prior does not matter for the {len(rows)} {name}: their largest sensitivity to "
            f"it is {largest:.3f}, below {SENSITIVE}."
        )
    dominated = [row for row in informed if row.likelihood_sensitivity < SENSITIVE]
    pulled = [row for row in informed if row.likelihood_sensitivity >= SENSITIVE]
    parts = []
    if dominated:
        parts.append(f"{len(dominated)} show the prior more than the data ({_listed(dominated)})")
    if pulled:
        parts.append(f"{len(pulled)} depend on both prior and data ({_listed(pulled)})")
    return f"Of the {len(rows)} {name}, {' and '.join(parts)}."


def _listed(rows: list[Row]) -> str:
    worst = sorted(rows, key=lambda row: -row.prior_sensitivity)
    named = ", ".join(f"{row.label} {row.prior_sensitivity:.2f}" for row in worst[:_NAMED])
    return named + (f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else "")

"""Does the model describe the data: numbers of halos, observed against posterior predictive.

A posterior can be sampled perfectly and still belong to a model that is wrong. That is no matter of
convergence, so it does not change the verdict, but it is said beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from halo_mdn.text_table import aligned

_FAR = 4.0  # standard deviations of the prediction; among some 60 comparisons 3 happens by chance


@dataclass(frozen=True)
class CountCheck:
    """An observed number of halos beside its prediction.

    Attributes
    ----------
    label : str
        Mass bin (Msun/h), environment, or ``total``.
    observed : int
    expected : float
        Mean of the posterior predictive counts.
    low, high : float
        Their central 95 %.
    deviation : float
        Observed minus expected, in standard deviations of the predictive counts.
    """

    label: str
    observed: int
    expected: float
    low: float
    high: float
    deviation: float


def count_checks(posterior: xr.DataTree, name: str = "halos_by_mass") -> tuple[CountCheck, ...]:
    """Compare one of the observed counts of a container with its prediction.

    Parameters
    ----------
    posterior : xarray.DataTree
    name : {"halos_total", "halos_by_mass", "halos_by_environment", "halos_by_block"}

    Returns
    -------
    tuple of CountCheck
        Empty if the container holds no predictions.
    """
    if "posterior_predictive" not in posterior.children:
        return ()
    observed = posterior["observed_data"].to_dataset()[name]
    predicted = posterior["posterior_predictive"].to_dataset()[name]
    draws = predicted.values.reshape(-1, *observed.shape)
    checks = []
    for index in np.ndindex(*observed.shape):
        counts, seen = draws[(slice(None), *index)], int(observed.values[index])
        low, high = np.quantile(counts, [0.025, 0.975])
        spread = max(float(counts.std()), 1.0)  # below one halo, a prediction is not that sharp
        names = [str(observed[d].values[i]) for d, i in zip(observed.dims, index, strict=True)]
        mean = float(counts.mean())
        checks.append(
            CountCheck(
                label=", ".join(names) or "total",
                observed=seen,
                expected=mean,
                low=float(low),
                high=float(high),
                deviation=(seen - mean) / spread,
            )
        )
    return tuple(checks)


def misfit(posterior: xr.DataTree) -> str | None:
    """One sentence about the worst disagreement of counts by environment and mass, if any."""
    checks = count_checks(posterior, "halos_by_environment")
    far = [check for check in checks if abs(check.deviation) > _FAR]
    if not far:
        return None
    worst = max(far, key=lambda check: abs(check.deviation))
    return (
        f"Model check: {len(far)} of {len(checks)} numbers of halos by environment and mass are "
        f"more than {_FAR:g} sigma from the prediction (worst at {worst.label}: {worst.observed} "
        f"observed, {worst.expected:.3g} expected). The posterior is that of a model that does not "
        "describe these halos in full."
    )


def lines(posterior: xr.DataTree) -> list[str]:
    """The total and the mass bins as an aligned table."""
    checks = count_checks(posterior, "halos_total") + count_checks(posterior, "halos_by_mass")
    if not checks:
        return []
    table = [("mass in Msun/h", "observed", "expected", "95 % of predictions")]
    for check in checks:
        interval = f"{check.low:.0f} to {check.high:.0f}"
        table.append((check.label, f"{check.observed}", f"{check.expected:.1f}", interval))
    return aligned(table)

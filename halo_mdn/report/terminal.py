"""What a run ends with on the terminal: halos by mass against the data, and the worst numbers."""

from __future__ import annotations

import numpy as np
import xarray as xr

from halo_mdn.posterior.summary import Summary
from halo_mdn.posterior.verdict import Row


def closing_table(posterior: xr.DataTree, summary: Summary) -> str:
    """Observed and expected numbers of halos with their convergence, and that of everything else.

    Parameters
    ----------
    posterior : xarray.DataTree
        From :func:`halo_mdn.posterior.summary.build`.
    summary : Summary
        Of the same posterior.
    """
    observed = np.asarray(posterior["observed_data"].to_dataset()["halos_by_mass"])
    by_label = {row.label: row for row in summary.rows}
    bins = [str(label) for label in posterior["posterior"].to_dataset()["mass_bin"].values]
    lines = [f"{'Halos by mass in Msun/h':24} {'observed':>9}  {'expected':>16}  R-hat    ESS"]
    for label, count in zip(bins, observed, strict=True):
        lines.append(_count_line(label, int(count), by_label[f"expected_by_mass[{label}]"]))
    lines.append(_count_line("total", int(np.sum(observed)), by_label["expected_total"]))
    groups = {
        "identified functions": [r for r in summary.rows if r.kind == "function" and r.decides],
        "parameters": [row for row in summary.rows if row.kind == "parameter"],
    }
    lines += ["", f"{'Worst of':51}  R-hat    ESS"]
    lines += [_worst_line(f"{len(rows)} {name}", rows) for name, rows in groups.items() if rows]
    return "\n".join(lines)


def _count_line(label: str, observed: int, row: Row) -> str:
    digits = 0 if row.sd >= 10 else 1
    expected = f"{row.mean:,.{digits}f} +- {row.sd:.{digits}f}"
    return f"{label:24} {observed:9,}  {expected:>16}  {row.rhat:5.3f}  {row.ess:5.0f}"


def _worst_line(name: str, rows: list[Row]) -> str:
    rhat, ess = max(row.rhat for row in rows), min(row.ess for row in rows)
    return f"{name:51}  {rhat:5.3f}  {ess:5.0f}"

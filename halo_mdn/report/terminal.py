"""What a run ends with on the terminal: halos by mass against the data, and the worst numbers."""

from __future__ import annotations

import numpy as np
import xarray as xr

from halo_mdn.posterior.summary import Summary
from halo_mdn.posterior.verdict import Row
from halo_mdn.text_table import aligned

Cells = tuple[str, str, str, str, str]


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
    table = [("Halos by mass in Msun/h", "observed", "expected", "R-hat", "ESS")]
    for label, count in zip(bins, observed, strict=True):
        table.append(_count_cells(label, int(count), by_label[f"expected_by_mass[{label}]"]))
    table.append(_count_cells("total", int(np.sum(observed)), by_label["expected_total"]))
    groups = {
        "identified functions": [r for r in summary.rows if r.kind == "function" and r.decides],
        "parameters": [row for row in summary.rows if row.kind == "parameter"],
    }
    worst = [("Worst of", "", "", "R-hat", "ESS")]
    worst += [_worst_cells(f"{len(rows)} {name}", rows) for name, rows in groups.items() if rows]
    lines = aligned([*table, *worst])
    return "\n".join([*lines[: len(table)], "", *lines[len(table) :]])


def _count_cells(label: str, observed: int, row: Row) -> Cells:
    digits = 0 if row.sd >= 10 else 1
    expected = f"{row.mean:,.{digits}f} +- {row.sd:.{digits}f}"
    return label, f"{observed:,}", expected, f"{row.rhat:.3f}", f"{row.ess:.0f}"


def _worst_cells(name: str, rows: list[Row]) -> Cells:
    rhat, ess = max(row.rhat for row in rows), min(row.ess for row in rows)
    return name, "", "", f"{rhat:.3f}", f"{ess:.0f}"

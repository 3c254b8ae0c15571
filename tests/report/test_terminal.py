"""The table at the end of a run shows the counts beside the data and the worst of the rest."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import xarray as xr

from halo_mdn.posterior.verdict import Row
from halo_mdn.report.terminal import closing_table

BINS = ["2.00e+12 to 1.00e+13", "1.00e+13 to inf"]


def row(label: str, kind: str = "function", *, decides: bool = True, **numbers: float) -> Row:
    values = {
        "mean": 1234.6,
        "sd": 35.2,
        "mcse": 1,
        "rhat": 1.004,
        "ess_bulk": 900,
        "ess_tail": 800,
    }
    return Row(label, kind, decides, **{**values, **numbers})


def test_it_shows_counts_and_the_worst() -> None:
    posterior = xr.DataTree.from_dict(
        {
            "/posterior": xr.Dataset(coords={"mass_bin": BINS}),
            "/observed_data": xr.Dataset({"halos_by_mass": ("mass_bin", np.array([1200, 7]))}),
        }
    )
    rows = (
        row("kernel", "parameter", rhat=1.7, ess_bulk=3),
        row(f"expected_by_mass[{BINS[0]}]"),
        row(f"expected_by_mass[{BINS[1]}]", mean=6.61, sd=0.52),
        row("expected_total", mean=1241.2, rhat=1.011),
        row("log_intensity[void]", decides=False, rhat=9.0),
    )
    shown = closing_table(posterior, SimpleNamespace(rows=rows)).splitlines()
    assert [line.split() for line in shown[1:4]] == [
        ["2.00e+12", "to", "1.00e+13", "1,200", "1,235", "+-", "35", "1.004", "800"],
        ["1.00e+13", "to", "inf", "7", "6.6", "+-", "0.5", "1.004", "800"],
        ["total", "1,207", "1,241", "+-", "35", "1.011", "800"],
    ]
    # Functions beyond the data do not count.
    assert [line.split() for line in shown[-2:]] == [
        ["3", "identified", "functions", "1.011", "800"],
        ["1", "parameters", "1.700", "3"],
    ]
    assert len({len(line) for line in shown[:4]}) == 1

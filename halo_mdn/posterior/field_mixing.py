"""How well the chains of a joint inference move the field, by shells of wavenumbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from halo_mdn.posterior.verdict import Row


class FieldMixing(NamedTuple):
    """Convergence of the field; arrays of shape (S,).

    Attributes
    ----------
    wavenumber
        Middle of the shell in h/Mpc.
    ess
        Median bulk effective sample size of the modes that are followed.
    worst_rhat
        Largest R-hat of those.
    power_rhat
        R-hat of the power of single draws.
    """

    wavenumber: np.ndarray
    ess: np.ndarray
    worst_rhat: np.ndarray
    power_rhat: np.ndarray

    def lines(self, num_gradients: int) -> list[str]:
        """A table, and the cost of an effective draw of a mode."""
        typical, worst = num_gradients / np.median(self.ess), num_gradients / self.ess.min()
        head = [
            f"gradients of the forward model per effective draw of a mode: {typical:.0f} in the "
            f"median shell, {worst:.0f} in the worst",
            "k [h/Mpc]   ESS  R-hat: worst mode, power",
        ]
        rows = zip(*self, strict=True)
        return head + [
            f"{k:9.3f}  {ess:4.0f}  {rhat:17.3f}  {power:5.3f}" for k, ess, rhat, power in rows
        ]


def field_mixing(rows: Sequence[Row], posterior: xr.DataTree) -> FieldMixing | None:
    """What the rows of a table say about the field; None for a run with a given field."""
    if "field_power" not in posterior["posterior"]:
        return None
    wavenumber = posterior["posterior"].to_dataset()["wavenumber"].values
    modes = [row for row in rows if row.label.startswith("field_mode[")]
    power = [row for row in rows if row.label.startswith("field_power[")]
    shells = [[row for row in modes if row.index[0] == s] for s in range(len(wavenumber))]
    return FieldMixing(
        wavenumber=wavenumber,
        ess=np.array([np.median([_or(row.ess_bulk, 1.0) for row in some]) for some in shells]),
        worst_rhat=np.array([max(_or(row.rhat, np.inf) for row in some) for some in shells]),
        power_rhat=np.array([row.rhat for row in power]),
    )


def _or(value: float, default: float) -> float:
    return default if np.isnan(value) else value

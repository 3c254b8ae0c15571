"""How well a run sampled its posterior: one table, computed from the container alone.

It uses only functions that ArviZ 0.23 and 1.x both have.
Everything is read from the posterior container of :mod:`halo_mdn.posterior.container`, so that a
report can be made again from the netCDF file. The definitions are those of Vehtari, Gelman,
Simpson, Carpenter & Buerkner 2021 (Bayesian Analysis 16, 667); E-BFMI is that of Betancourt 2016
(arXiv:1604.00695).

What a pipeline calls, in this order::

    posterior = diagnostics.build(
        bias, draws, delta, halos,
        max_tree_depth=settings.max_tree_depth,
        attrs={"seed": ..., "config": ..., "input_hashes": {...}},
    )
    diagnostics.write(posterior, "runs/NAME/posterior.nc")
    summary = diagnostics.summarise(posterior)       # or of diagnostics.read(path)
    summary.verdict.to_text(), summary.to_text()
    summary.write_text("runs/NAME/summary.txt")
    summary.write_csv("runs/NAME/diagnostics.csv")
    figures.write_figures(posterior, "runs/NAME")    # halo_mdn.report.figures
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from halo_mdn.files import write_file
from halo_mdn.posterior import counts as count_checks
from halo_mdn.posterior import prior_sensitivity as power_scaling
from halo_mdn.posterior.compression import compression_findings
from halo_mdn.posterior.container import FIELD_NAMES, FUNCTION_NAMES, build, read, write
from halo_mdn.posterior.field_mixing import field_mixing
from halo_mdn.posterior.mode_report import mode_findings
from halo_mdn.posterior.verdict import Row, RunStatistics, Verdict, verdict
from halo_mdn.quiet_arviz import arviz_module, quiet
from halo_mdn.sampling.nuts.convergence import mixing
from halo_mdn.text_table import aligned

__all__ = [
    "Row",
    "RunStatistics",
    "Summary",
    "Verdict",
    "build",
    "read",
    "run_statistics",
    "summarise",
    "table",
    "verdict",
    "write",
]

_HEAD = ("", "mean", "sd", "mcse", "rhat", "bulk", "tail")
_COLUMNS = ("mean", "sd", "mcse", "rhat", "ess_bulk", "ess_tail")
_SENSITIVITIES = ("prior_sensitivity", "likelihood_sensitivity")


@dataclass(frozen=True)
class Summary:
    """Diagnostics of a run.

    Attributes
    ----------
    rows : tuple of Row
        One per parameter and per function, parameters first.
    statistics : RunStatistics
        What belongs to the run as a whole.
    verdict : Verdict
        Whether the posterior can be trusted, and what to do next.
    counts : tuple of str
        Observed and expected numbers of halos, as lines of text.
    modes : tuple of str
        Which modes there are and where the chains were, as lines of text.
    compression : str
        How far a compressed likelihood was from the exact one; empty where that was sampled.
    field : tuple of str
        How well the chains of a joint inference move the field, as lines of text.
    """

    rows: tuple[Row, ...]
    statistics: RunStatistics
    verdict: Verdict
    counts: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    compression: str = ""
    field: tuple[str, ...] = ()

    def to_text(self) -> str:
        """The aligned table, with the statistics of the run above it."""
        head, *table = aligned([_HEAD, *map(_cells, self._listed)])
        lines = [*self.statistics.lines(), self._cost(), "", head]
        for kind, title in (("parameter", "Parameters"), ("function", "Identified functions")):
            lines += ["", title]
            pairs = zip(self._listed, table, strict=True)
            lines += [f"{line}{'' if r.decides else ' *'}" for r, line in pairs if r.kind == kind]
        if any(not row.decides for row in self.rows if row.kind == "function"):
            lines += ["", "* beyond the data: few or no halos there, so it does not decide"]
        if self.field:
            lines += ["", "Field", *self.field]
        if self.compression:
            lines += ["", "Compressed likelihood", self.compression]
        if self.modes:
            lines += ["", "Modes", *self.modes]
        prior = power_scaling.sentences(self.rows)
        if prior:
            lines += ["", "Prior or data (power-scaling sensitivity)", *prior]
        if self.counts:
            lines += ["", "Numbers of halos", *self.counts]
        return "\n".join(lines)

    @property
    def _listed(self) -> tuple[Row, ...]:
        """Rows that are shown one by one: not the hundreds of modes of a field."""
        return tuple(row for row in self.rows if not row.label.startswith("field_mode["))

    @property
    def least_ess(self) -> float:
        """Smallest effective sample size of the functions that decide; NaN without any."""
        ess = [row.ess for row in self.rows if row.kind == "function" and row.decides]
        return min(ess, default=np.nan)

    def _cost(self) -> str:
        run = self.statistics
        rate = self.least_ess / run.wall_time_s if run.wall_time_s > 0 else np.nan
        each = run.num_gradients / self.least_ess if self.least_ess > 0 else np.nan
        return (
            f"{run.num_gradients} gradients in {run.wall_time_s:.1f} s: the slowest function has "
            f"{rate:.3g} effective draws per second, one per {each:.0f} gradients"
        )

    def to_csv(self) -> str:
        """The table as comma-separated values, full precision, one row per quantity."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        columns = (*_COLUMNS, *_SENSITIVITIES)
        writer.writerow(["name", "kind", "decides", *columns])
        for row in self.rows:
            values = [repr(float(getattr(row, column))) for column in columns]
            writer.writerow([row.label, row.kind, int(row.decides), *values])
        return stream.getvalue()

    def write_csv(self, path: str | Path) -> Path:
        """Write :meth:`to_csv` to a file, atomically."""
        return write_file(Path(path), self.to_csv())

    def write_text(self, path: str | Path) -> Path:
        """Write the verdict and :meth:`to_text` to a file, atomically."""
        return write_file(Path(path), f"{self.verdict.to_text()}\n\n{self.to_text()}\n")


def summarise(posterior: xr.DataTree) -> Summary:
    """Table, run statistics and verdict of a posterior container.

    Parameters
    ----------
    posterior : xarray.DataTree
        From :func:`build` or :func:`read`. One chain, few draws, chains that never moved and
        values that are not finite are allowed, and are never called converged.

    Returns
    -------
    Summary
    """
    rows = power_scaling.with_sensitivity(table(posterior), posterior)
    statistics = run_statistics(posterior)
    modes = mode_findings(posterior)
    field = field_mixing(rows, posterior)
    compression = compression_findings(posterior)
    judged = verdict(
        rows,
        statistics,
        modes=modes,
        compression=compression,
        remark=count_checks.misfit(posterior),
    )
    return Summary(
        rows,
        statistics,
        judged,
        counts=tuple(count_checks.lines(posterior)),
        modes=tuple(modes.lines() if modes else ()),
        compression=compression.line() if compression else "",
        field=tuple(field.lines(int(posterior.attrs["num_sampling_gradients"])) if field else ()),
    )


def table(posterior: xr.DataTree) -> tuple[Row, ...]:
    """One row of diagnostics per parameter and per identified function."""
    dataset = posterior["posterior"].to_dataset()
    names = [str(name) for name in dataset.data_vars if name not in FIELD_NAMES]
    parameters = [name for name in names if name not in FUNCTION_NAMES]
    functions = [name for name in names if name in FUNCTION_NAMES]
    rows = list(_rows(dataset[parameters], "parameter")) if parameters else []
    return tuple(rows + (list(_rows(dataset[functions], "function")) if functions else []))


def run_statistics(posterior: xr.DataTree) -> RunStatistics:
    """Divergences, E-BFMI, tree-depth saturation, acceptance and cost of the run."""
    stats = posterior["sample_stats"].to_dataset()
    attrs = posterior.attrs
    shape = (int(stats.sizes["chain"]), int(stats.sizes["draw"]))

    def mean_of(name: str) -> float:
        return float(stats[name].mean()) if name in stats else np.nan

    return RunStatistics(
        num_chains=shape[0],
        num_draws=shape[1],
        num_divergences=int(stats["diverging"].sum()) if "diverging" in stats else 0,
        ebfmi=_ebfmi(stats["energy"].values) if "energy" in stats else (np.nan,) * shape[0],
        saturation=mean_of("reached_max_treedepth"),
        acceptance=mean_of("acceptance_rate"),
        mean_steps=mean_of("n_steps"),
        log_posterior=_chain_means(stats, "lp"),
        num_gradients=int(attrs.get("num_gradients", 0)),
        wall_time_s=float(attrs.get("wall_time_s", np.nan)),
        stopped_early=bool(attrs.get("stopped_early", False)),
    )


def _chain_means(stats: xr.Dataset, name: str) -> tuple[float, ...]:
    if name not in stats:
        return ()
    return tuple(float(value) for value in stats[name].mean("draw").values)


def _ebfmi(energy: np.ndarray) -> tuple[float, ...]:
    if energy.shape[1] < 3:
        return (np.nan,) * energy.shape[0]
    with quiet():
        return tuple(float(value) for value in np.ravel(arviz_module().bfmi(energy)))


def _rows(dataset: xr.Dataset, kind: str) -> Iterator[Row]:
    with quiet():
        columns = {
            "mean": dataset.mean(("chain", "draw"), skipna=False),
            "sd": dataset.std(("chain", "draw"), ddof=1, skipna=False),
            "mcse": arviz_module().mcse(dataset, method="mean"),
            **mixing(dataset),
        }
    for name, values in dataset.data_vars.items():
        supported = _supported(values)
        moving = _moving(values.values)
        for index in np.ndindex(*values.shape[2:]):
            numbers = {key: float(column[name].values[index]) for key, column in columns.items()}
            if not moving[index]:  # ArviZ gives a constant chain as many effective draws as draws
                numbers.update(rhat=np.nan, ess_bulk=np.nan, ess_tail=np.nan, mcse=np.nan)
            label = _label(values, index)
            yield Row(
                label=label,
                kind=kind,
                decides=bool(supported[index]),
                moved=bool(moving[index]),
                index=index,
                **numbers,
            )


def _moving(values: np.ndarray) -> np.ndarray:
    """Where every chain took more than one value and all values are finite."""
    finite = np.isfinite(values).all(axis=(0, 1))
    if values.shape[1] < 2:
        return np.zeros_like(finite)
    safe = np.where(np.isfinite(values), values, 0)
    return finite & (np.ptp(safe, axis=1) > 0).all(axis=0)


def _supported(values: xr.DataArray) -> np.ndarray:
    shape = values.shape[2:]
    if "supported" not in values.coords:
        return np.ones(shape, dtype=bool)
    return np.broadcast_to(np.asarray(values.coords["supported"].values, dtype=bool), shape)


def _label(values: xr.DataArray, index: tuple[int, ...]) -> str:
    parts = []
    for dim, i in zip(values.dims[2:], index, strict=True):
        label = values.coords[dim].values[i] if dim in values.coords else i
        parts.append(f"{label:.2e}" if isinstance(label, np.floating) else str(label))
    return f"{values.name}[{', '.join(parts)}]" if parts else str(values.name)


def _cells(row: Row) -> tuple[str, ...]:
    numbers = (f"{row.mean:.5g}", f"{row.sd:.3g}", f"{row.mcse:.2g}", f"{row.rhat:.3f}")
    return (row.label, *numbers, f"{row.ess_bulk:.0f}", f"{row.ess_tail:.0f}")

"""Figures of the sampling: effective sample sizes as a run goes on, and all parameters in pairs."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from halo_mdn.posterior.container import FIELD_NAMES, FUNCTION_NAMES
from halo_mdn.posterior.summary import table
from halo_mdn.posterior.verdict import ESS
from halo_mdn.report.style import CHAIN_COLOURS

MOST_PARAMETERS = 20  # in the corner plot: more would not be readable
_SYMBOLS = {
    "kernel_weights": "w", "kernel_biases": "b", "amplitude_kernels": "A",
    "amplitude_biases": "a", "mean_kernels": "B", "mean_biases": r"\beta",
    "width_kernels": "C", "width_biases": "c",
}  # fmt: skip


def ess_figure(posterior: xr.DataTree, num_points: int = 6) -> Figure:
    """Effective sample size of the functions that decide, from the first draws to all."""
    functions = posterior["posterior"].to_dataset()[["log_intensity"]]
    total = functions.sizes["draw"]
    lengths = np.unique(np.linspace(max(4, total // num_points), total, num_points).astype(int))
    ess = []
    for length in lengths:
        part = functions.isel(draw=slice(int(length)))
        rows = table(xr.DataTree.from_dict({"/posterior": part}))
        ess.append([row.ess for row in rows if row.decides] or [0.0])
    least, middle = np.min(ess, axis=1), np.median(ess, axis=1)
    figure = Figure(figsize=(7.2, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.plot(lengths, middle, "o-", color=CHAIN_COLOURS[0], markersize=4, label="median")
    axes.plot(lengths, least, "s-", color=CHAIN_COLOURS[1], markersize=4, label="slowest")
    axes.axhline(ESS, color="0.4", linewidth=0.8, linestyle="--", label=f"asked for: {ESS:g}")
    axes.set(
        xlabel="draws per chain",
        ylabel="effective sample size  (draws)",
        ylim=(0, None),
    )
    axes.legend(frameon=False, fontsize=9)
    return figure


def corner_figure(posterior: xr.DataTree) -> Figure:
    """Marginals of the parameters, each chain by itself, and densities of all pairs."""
    names, draws = parameter_columns(posterior)
    names, draws = names[:MOST_PARAMETERS], draws[..., :MOST_PARAMETERS]
    num = len(names)
    inches = max(4.0, 0.82 * num)
    figure = Figure(figsize=(inches, inches))
    edge = 0.85 / inches
    grid = figure.subplots(
        num, num, squeeze=False,
        gridspec_kw={"left": edge, "bottom": edge, "right": 0.99, "top": 0.99,
                     "wspace": 0.08, "hspace": 0.08},
    )  # fmt: skip
    flat = draws.reshape(-1, num)
    spans = [_span(flat[:, i]) for i in range(num)]
    for i in range(num):
        for j in range(num):
            axes = grid[i, j]
            if j > i:
                axes.set_axis_off()
                continue
            if i == j:
                _marginal(axes, draws[..., i], spans[i])
            else:
                _pair(axes, flat[:, j], flat[:, i], spans[j], spans[i])
            _label(axes, names, i, j, num)
    return figure


def parameter_columns(posterior: xr.DataTree) -> tuple[list[str], np.ndarray]:
    """Symbols of all scalar parameters, and their draws (C, D, P)."""
    dataset = posterior["posterior"].to_dataset()
    names, columns = [], []
    for name, values in dataset.data_vars.items():
        if name in (*FUNCTION_NAMES, *FIELD_NAMES):
            continue
        symbol = _SYMBOLS.get(str(name), r"\mathrm{" + str(name).replace("_", r"\ ") + "}")
        for index in np.ndindex(*values.shape[2:]):
            # An axis of length one needs no index.
            digits = [str(i) for i, n in zip(index, values.shape[2:], strict=True) if n > 1]
            names.append(f"${symbol}_{{{','.join(digits)}}}$" if digits else f"${symbol}$")
            columns.append(values.values[(slice(None), slice(None), *index)])
    return names, np.stack(columns, axis=-1)


def _span(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    low, high = np.quantile(finite, [0.002, 0.998]) if finite.size else (0.0, 1.0)
    margin = 0.08 * (high - low) or max(abs(low), 1.0) * 1e-3
    return float(low - margin), float(high + margin)


def _marginal(axes: Axes, values: np.ndarray, span: tuple[float, float]) -> None:
    bins = np.linspace(*span, 26)
    for chain, draws in enumerate(values):
        counts = np.histogram(draws, bins)[0]
        axes.stairs(counts, bins, color=CHAIN_COLOURS[chain % len(CHAIN_COLOURS)], linewidth=0.7)
    axes.set(xlim=span, ylim=(0, None), yticks=[])


def _pair(
    axes: Axes, x: np.ndarray, y: np.ndarray, across: tuple[float, float], up: tuple[float, float]
) -> None:
    counts, _, _ = np.histogram2d(x, y, bins=24, range=(across, up))
    shown = np.where(counts > 0, np.sqrt(counts), np.nan).T
    look = {"origin": "lower", "aspect": "auto", "cmap": "Blues", "vmin": 0}
    axes.imshow(shown, extent=(*across, *up), **look)  # type: ignore[arg-type]


def _label(axes: Axes, names: list[str], i: int, j: int, num: int) -> None:
    axes.tick_params(labelsize=7, length=2, pad=1.5)
    axes.xaxis.set_major_locator(MaxNLocator(2, prune="both"))
    if i != j:
        axes.yaxis.set_major_locator(MaxNLocator(2, prune="both"))
    if i == num - 1:
        axes.set_xlabel(names[j], fontsize=12)
        axes.tick_params(axis="x", rotation=60)
        axes.xaxis.set_label_coords(0.5, -0.75)
    else:
        axes.set_xticklabels([])
    if j == 0 and i > 0:
        axes.set_ylabel(names[i], fontsize=12)
        axes.yaxis.set_label_coords(-0.75, 0.5)
    elif i != j:
        axes.set_yticklabels([])

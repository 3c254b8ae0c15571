"""Pictures of a posterior, drawn from the container alone.

Chains have the colours of Okabe & Ito; environments are ordered from void to cluster, and so are
their colours (viridis) and marks. Both can be told apart with any colour vision. Figures are made
without pyplot, so that no global state or display is involved.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from scipy.stats import rankdata

from halo_mdn.files import replace_file
from halo_mdn.posterior.summary import run_statistics, table
from halo_mdn.posterior.verdict import Row
from halo_mdn.report.style import arrays_of, chain_colour, draw_bands, draw_points, mass_edges_of

_MARKS = "osD^vP"
_NUM_TRACES = 4  # functions in the trace figure: those with the fewest effective draws
_RATIO = (0.2, 5.0)  # range of observed / expected; what lies beyond is marked at its edge


def write_figures(posterior: xr.DataTree, folder: str | Path) -> list[Path]:
    """Write all figures as PNG.

    Parameters
    ----------
    posterior : xarray.DataTree
        From :func:`halo_mdn.posterior.summary.build` or :func:`halo_mdn.posterior.summary.read`.
    folder : path
        Where they go; made if missing.

    Returns
    -------
    list of Path
        ``mass_function.png``, ``slice.png``, ``traces.png`` and ``energy.png``.
    """
    makers: dict[str, Callable[[xr.DataTree], Figure]] = {
        "mass_function": mass_function_figure,
        "slice": slice_figure,
        "traces": trace_figure,
        "energy": energy_figure,
    }
    return [_save(make(posterior), Path(folder) / f"{name}.png") for name, make in makers.items()]


def mass_function_figure(posterior: xr.DataTree) -> Figure:
    """Halo mass function in environments: posterior bands over the data, and their ratio.

    Points are observed numbers per volume and ln M with 68 % Poisson intervals; bands are the
    central 68 % and 95 % of the expected number under the posterior. In the ratio, triangles at
    the edge point to values outside of it, and bins where hardly a halo is expected are left out.
    """
    constant = arrays_of(posterior, "constant_data")
    observed = arrays_of(posterior, "observed_data")["halos_by_environment"]
    expected = arrays_of(posterior, "posterior_predictive")["expected_by_environment"]
    expected = expected.reshape(-1, *expected.shape[2:])
    edges, width = mass_edges_of(constant["mass_bin_lower"])
    volume, quantiles = constant["environment_volume"], constant["environment_quantile"]
    figure = Figure(figsize=(7.2, 7.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 1))
    for e in reversed(range(len(volume))):
        style = _environment_style(e, len(volume))
        scale = 1 / (max(volume[e], 1e-300) * width)
        draw_bands(upper, edges, expected[:, e] * scale, style["color"])
        share = f"{100 * quantiles[e]:.3g} to {100 * quantiles[e + 1]:.3g} %"
        label = f"{share}, around {constant['environment_density'][e]:.2g}"
        place = np.sqrt(edges[1:] * edges[:-1])
        draw_points(upper, place, observed[e], scale, label=label, **style)
        place = place * np.exp(0.08 * (e - 0.5 * (len(volume) - 1)))
        _ratios(lower, place, observed[e], expected[:, e].mean(axis=0), style)
    _finish_mass_function(upper, lower, observed / (volume[:, None] * width))
    return figure


def slice_figure(posterior: xr.DataTree) -> Figure:
    """Density, expected and observed numbers of halos in a slab through the middle of the box."""
    constant = arrays_of(posterior, "constant_data")
    expected, observed = constant["slab_expected"], constant["slab_observed"]
    depth = float(constant["slab_depth"])
    side = [float(length) for length in constant["box_size"][:2]]
    finite = expected[np.isfinite(expected)]
    top = max(float(finite.max(initial=0)), float(observed.max()), 1e-3)
    counts: dict[str, Any] = {"cmap": "cividis", "norm": LogNorm(top / 100, top)}
    grey: dict[str, Any] = {"cmap": "gray_r", "norm": LogNorm(0.1, 10)}
    panels = (
        (constant["slab_density"], r"mean $1+\delta$" + f" over {depth:.3g} Mpc/h", grey),
        (expected, "expected halos per column", counts),
        (observed, "observed halos per column", counts),
    )
    figure = Figure(figsize=(11.5, 4.6), layout="constrained")
    for axes, (values, title, style) in zip(figure.subplots(1, 3), panels, strict=True):
        axes.set_facecolor(matplotlib.colormaps["cividis"](0.0))  # where there are none
        shown = np.where(values > 0, values, np.nan).T
        image = axes.imshow(shown, origin="lower", extent=(0.0, side[0], 0.0, side[1]), **style)
        figure.colorbar(image, ax=axes, orientation="horizontal", pad=0.02, extend="both")
        axes.set(title=title, xlabel=r"$x$  [$\mathrm{Mpc}/h$]")
    figure.axes[0].set_ylabel(r"$y$  [$\mathrm{Mpc}/h$]")
    return figure


def trace_figure(posterior: xr.DataTree) -> Figure:
    """Traces and rank histograms of the identified functions that mix worst.

    Where chains agree, their ranks are uniform: all bars near the dashed line.
    """
    variables = arrays_of(posterior, "posterior")
    rows = [row for row in table(posterior) if row.kind == "function" and row.decides]
    rows = sorted(rows, key=lambda row: row.ess)[:_NUM_TRACES]
    num = max(len(rows), 1)
    figure = Figure(figsize=(10, 1.2 + 1.9 * num), layout="constrained")
    grid = figure.subplots(num, 2, squeeze=False, sharex="col", width_ratios=(1.7, 1))
    for (left, right), row in zip(grid, rows, strict=False):
        values = _values_of(variables, row)
        for chain, trace in enumerate(values):
            style = {"color": chain_colour(chain), "label": f"chain {chain}"}
            left.plot(trace, linewidth=0.6, alpha=0.8, **style)
        numbers = f"R-hat {row.rhat:.3f}, ESS {row.ess:.0f}"
        left.set_title(f"{row.label}:  {numbers}", fontsize=9, loc="left")
        _rank_histogram(right, values)
    grid[-1][0].set_xlabel("draw")
    grid[-1][1].set_xlabel("rank among the draws of all chains")
    grid[0][1].set_title("draws of each chain per range of ranks", fontsize=9, loc="left")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=8, fontsize=8, frameon=False, loc="outside upper center")
    return figure


def energy_figure(posterior: xr.DataTree) -> Figure:
    """Energies of each chain beside their changes from draw to draw.

    Where the changes are much narrower than the energies (E-BFMI below 0.3), the sampler explores
    the tails too slowly.
    """
    energy = np.asarray(arrays_of(posterior, "sample_stats")["energy"], dtype=float)
    ebfmi = run_statistics(posterior).ebfmi
    columns = min(len(energy), 4)
    lines = -(-len(energy) // columns)
    figure = Figure(figsize=(2.2 + 2.2 * columns, 1 + 2.2 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    centred = _centred(energy)
    bins = _bins(np.concatenate([centred.ravel(), np.diff(centred).ravel()]), energy.shape)
    for chain, axes in enumerate(grid.ravel()[: len(energy)]):
        colour = chain_colour(chain)
        _histogram(axes, centred[chain], bins, colour=colour, label="energy minus mean", fill=True)
        _histogram(axes, np.diff(centred[chain]), bins, colour=colour, label="change per draw")
        axes.set_title(f"chain {chain}: E-BFMI {ebfmi[chain]:.2f}", fontsize=9)
        axes.set_yticks([])
    for axes in grid.ravel()[len(energy) :]:
        axes.set_axis_off()
    figure.supxlabel("energy of the sampler (dimensionless, like ln posterior)", fontsize=9)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=2, fontsize=8, frameon=False, loc="outside upper center")
    return figure


def _save(figure: Figure, path: Path) -> Path:
    return replace_file(path, lambda part: figure.savefig(part, format="png", dpi=130))


def _environment_style(e: int, num: int) -> dict[str, Any]:
    shade = 0.05 + 0.85 * e / max(num - 1, 1)
    return {"color": matplotlib.colormaps["viridis"](shade), "marker": _MARKS[e % len(_MARKS)]}


def _ratios(
    axes: Axes, place: np.ndarray, counts: np.ndarray, mean: np.ndarray, style: dict[str, Any]
) -> None:
    worth = mean > 1
    place, counts, mean = place[worth], counts[worth], mean[worth]
    ratio = counts / mean
    inside = (ratio >= _RATIO[0]) & (ratio <= _RATIO[1])
    draw_points(axes, place[inside], counts[inside], 1 / mean[inside], **style)
    for outside, edge, mark in ((ratio < _RATIO[0], 1.1, "v"), (ratio > _RATIO[1], 1 / 1.1, "^")):
        at = np.full(outside.sum(), _RATIO[mark == "^"] * edge)
        axes.plot(place[outside], at, mark, color=style["color"], markersize=6, fillstyle="none")


def _finish_mass_function(upper: Axes, lower: Axes, density: np.ndarray) -> None:
    least = density[density > 0].min(initial=1.0)
    upper.set(
        yscale="log",
        ylabel=r"$\mathrm{d}n/\mathrm{d}\ln M$  [$(\mathrm{Mpc}/h)^{-3}$]",
        ylim=(0.2 * least, 4 * density.max(initial=least)),
        title="Halo mass function by environment: data (points) and posterior (bands)",
    )
    title = r"voxels by density, $1+\delta$ of the surroundings"
    upper.legend(title=title, fontsize=8, title_fontsize=8, frameon=False)
    lower.axhline(1, color="0.5", linewidth=0.8, zorder=0)
    lower.set(
        xscale="log",
        yscale="log",
        ylim=_RATIO,
        xlabel=r"halo mass $M$  [$M_\odot/h$]",
        ylabel="observed / expected",
    )
    lower.set_yticks([0.2, 0.5, 1, 2, 5], labels=["0.2", "0.5", "1", "2", "5"])
    lower.minorticks_off()


def _values_of(variables: dict[str, np.ndarray], row: Row) -> np.ndarray:
    values = variables[row.label.partition("[")[0]]
    return values[(slice(None), slice(None), *row.index)]  # type: ignore[arg-type]


def _rank_histogram(axes: Axes, values: np.ndarray) -> None:
    ranks = rankdata(values).reshape(values.shape)
    bins = np.linspace(0.5, values.size + 0.5, min(20, max(2, values.shape[1] // 10)) + 1)
    for chain, rank in enumerate(ranks):
        axes.stairs(np.histogram(rank, bins)[0], bins, color=chain_colour(chain), linewidth=1.1)
    axes.axhline(values.shape[1] / (len(bins) - 1), color="0.3", linestyle="--", linewidth=0.8)
    axes.set_ylim(0, None)


def _histogram(
    axes: Axes, values: np.ndarray, bins: np.ndarray, *, colour: str, label: str, fill: bool = False
) -> None:
    """Densities of the finite values, as an area or a line."""
    counts = np.histogram(values[np.isfinite(values)], bins)[0]
    density = counts / (max(counts.sum(), 1) * np.diff(bins))
    alpha = 0.3 if fill else 1.0
    axes.stairs(density, bins, fill=fill, color=colour, alpha=alpha, label=label)


def _centred(energy: np.ndarray) -> np.ndarray:
    known = np.where(np.isfinite(energy), energy, np.nan)
    count = np.maximum(np.isfinite(energy).sum(axis=1, keepdims=True), 1)
    return known - np.nansum(known, axis=1, keepdims=True) / count


def _bins(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    num = int(np.clip(2 * shape[1] ** (1 / 3), 5, 40))  # Rice's rule
    return np.linspace(low, high if high > low else low + 1, num + 1)

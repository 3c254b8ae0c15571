"""Pictures of a posterior, drawn from the container alone.

Colours are those of Okabe & Ito, told apart with any colour vision; lines of chains and environments
also differ in lightness. Figures are made without pyplot, so that no global state or display is
involved.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from scipy.stats import chi2, rankdata

from halo_mdn.diagnostics import run_statistics, table
from halo_mdn.posterior import FUNCTION_NAMES, replace_file
from halo_mdn.verdict import Row

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
_SHOWN = 4  # functions in the trace figure: the worst of them


def write_figures(posterior: xr.DataTree, folder: str | Path) -> list[Path]:
    """Write all figures as PNG.

    Parameters
    ----------
    posterior : xarray.DataTree
        From :func:`halo_mdn.diagnostics.build` or :func:`halo_mdn.diagnostics.read`.
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
    central 95 % and 68 % of the expected number under the posterior.
    """
    constant = posterior["constant_data"]
    observed = posterior["observed_data"]["halos_by_environment"].values
    expected = posterior["posterior_predictive"]["expected_by_environment"].values
    expected = expected.reshape(-1, *expected.shape[2:])
    edges, width = _mass_edges(constant["mass_bin_lower"].values)
    volume = constant["environment_volume"].values
    figure = Figure(figsize=(7.2, 7.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 1))
    quantiles = constant["environment_quantile"].values
    for e in reversed(range(len(volume))):
        colour = COLOURS[e % len(COLOURS)]
        scale = max(volume[e], 1e-300) * width
        label = (
            f"{100 * quantiles[e]:.3g} to {100 * quantiles[e + 1]:.3g} %"
            f"  ({constant['environment'].values[e]})"
        )
        _bands(upper, edges, expected[:, e] / scale, colour)
        _counts(upper, edges, observed[e], 1 / scale, colour, label)
        mean = expected[:, e].mean(axis=0)
        # Where hardly a halo is expected, a ratio says nothing.
        shown = mean > 0.5
        ratio_scale = np.where(shown, 1 / np.maximum(mean, 1e-300), np.nan)
        _counts(lower, edges, np.where(shown, observed[e], 0), ratio_scale, colour, shift=e)
    upper.set(yscale="log", ylabel=r"$\mathrm{d}n/\mathrm{d}\ln M$  [$(\mathrm{Mpc}/h)^{-3}$]")
    positive = observed / (volume[:, None] * width)
    floor = positive[positive > 0].min(initial=1.0)
    upper.set_ylim(0.2 * floor, 4 * positive.max(initial=floor))
    upper.legend(title="Voxels, from void to cluster", fontsize=8, title_fontsize=8, frameon=False)
    lower.axhline(1, color="0.5", linewidth=0.8)
    lower.set(
        xscale="log",
        yscale="log",
        ylim=(0.2, 5),
        xlabel=r"halo mass $M$  [$M_\odot/h$]",
        ylabel="observed / expected",
        yticks=(0.2, 0.5, 1, 2, 5),
        yticklabels=("0.2", "0.5", "1", "2", "5"),
    )
    lower.minorticks_off()
    upper.set_title("Halo mass function by environment: data (points) and posterior (bands)")
    return figure


def slice_figure(posterior: xr.DataTree) -> Figure:
    """Density, expected and observed numbers of halos in a slab through the middle of the box."""
    constant = posterior["constant_data"]
    sides = constant["box_size"].values
    extent = (0.0, float(sides[0]), 0.0, float(sides[1]))
    expected, observed = constant["slab_expected"].values, constant["slab_observed"].values
    top = max(float(np.nanquantile(expected, 0.999)), float(observed.max()), 1e-3)
    counts = {"cmap": "cividis", "norm": LogNorm(top / 100, top)}
    density = np.clip(constant["slab_density"].values, 1e-3, None)
    panels = (
        (density, r"density $1+\delta$", {"cmap": "gray_r", "norm": LogNorm(0.1, 10)}),
        (expected, "expected halos per column", counts),
        (np.where(observed > 0, observed, np.nan), "observed halos per column", counts),
    )
    figure = Figure(figsize=(11.5, 4.4), layout="constrained")
    for axes, (values, title, style) in zip(
        figure.subplots(1, 3, sharey=True), panels, strict=True
    ):
        axes.set_facecolor("#00224E" if title.startswith("observed") else "white")
        image = axes.imshow(values.T, origin="lower", extent=extent, **style)
        figure.colorbar(image, ax=axes, orientation="horizontal", shrink=0.9, label=title)
        axes.set_xlabel(r"$x$  [$\mathrm{Mpc}/h$]")
    figure.axes[0].set_ylabel(r"$y$  [$\mathrm{Mpc}/h$]")
    depth = float(posterior.attrs.get("slab_depth", np.nan))
    figure.suptitle(f"A slab of {depth:.3g} Mpc/h through the middle of the box")
    return figure


def trace_figure(posterior: xr.DataTree) -> Figure:
    """Traces and rank histograms of the identified functions that mix worst.

    Where chains agree, their ranks are uniform: all bars at the dashed line.
    """
    dataset = posterior["posterior"].to_dataset()
    rows = [row for row in table(posterior) if row.kind == "function" and row.decides]
    rows = sorted(rows, key=lambda row: row.ess)[:_SHOWN]
    figure = Figure(figsize=(10, 1.2 + 1.9 * max(len(rows), 1)), layout="constrained")
    grid = figure.subplots(max(len(rows), 1), 2, squeeze=False, width_ratios=(1.7, 1))
    for (left, right), row in zip(grid, rows, strict=False):
        values = _values_of(dataset, row)
        for chain, trace in enumerate(values):
            colour = COLOURS[chain % len(COLOURS)]
            left.plot(trace, color=colour, linewidth=0.6, alpha=0.8, label=f"chain {chain}")
        left.set_title(
            f"{row.label}:  R-hat {row.rhat:.3f}, ESS {row.ess:.0f}", fontsize=9, loc="left"
        )
        _rank_histogram(right, values)
    left, right = grid[-1]
    left.set_xlabel("draw")
    right.set_xlabel("rank among the draws of all chains")
    grid[0][1].set_title("ranks per chain", fontsize=9, loc="left")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=8, fontsize=8, frameon=False, loc="outside upper center")
    return figure


def energy_figure(posterior: xr.DataTree) -> Figure:
    """Energies of the chains beside their changes from draw to draw.

    Where the changes are much narrower than the energies (E-BFMI below 0.3), the sampler explores
    the tails too slowly.
    """
    energy = np.asarray(posterior["sample_stats"]["energy"].values, dtype=float)
    ebfmi = run_statistics(posterior).ebfmi
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    for chain, values in enumerate(energy):
        colour = COLOURS[chain % len(COLOURS)]
        centred, change = values - values.mean(), np.diff(values)
        bins = _bins(np.concatenate([centred, change]))
        label = f"chain {chain}: E-BFMI {ebfmi[chain]:.2f}"
        axes.hist(centred, bins, density=True, color=colour, alpha=0.25)
        axes.hist(change, bins, density=True, color=colour, histtype="step", label=label)
    axes.set(xlabel="energy minus its mean (filled), change per draw (lines)", ylabel="density")
    axes.legend(frameon=False, fontsize=8)
    axes.set_title("Energy of the sampler")
    return figure


def _save(figure: Figure, path: Path) -> Path:
    return replace_file(path, lambda part: figure.savefig(part, format="png", dpi=130))


def _mass_edges(lower: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges for drawing, the open last bin as wide as the others, and widths in ln M."""
    step = np.log(lower[1] / lower[0]) if len(lower) > 1 else np.log(10)
    return np.append(lower, lower[-1] * np.exp(step)), np.full(len(lower), step)


def _bands(axes: Axes, edges: np.ndarray, draws: np.ndarray, colour: str) -> None:
    for tail, alpha in ((0.025, 0.25), (0.16, 0.45)):
        low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
        low, high = (np.append(side, side[-1]) for side in (low, high))
        axes.fill_between(edges, low, high, step="post", color=colour, alpha=alpha, linewidth=0)
    middle = np.median(draws, axis=0)
    axes.stairs(middle, edges, color=colour, linewidth=0.8, baseline=None)


def _counts(
    axes: Axes,
    edges: np.ndarray,
    counts: np.ndarray,
    scale: np.ndarray,
    colour: str,
    label: str | None = None,
    shift: int = 0,
) -> None:
    """Points with 68 % Poisson intervals (Garwood), shifted sideways so that they do not overlap."""
    low = np.where(counts > 0, chi2.ppf(0.16, 2 * np.maximum(counts, 0.5)) / 2, 0)
    high = chi2.ppf(0.84, 2 * (counts + 1)) / 2
    place = np.sqrt(edges[1:] * edges[:-1]) * np.exp(0.07 * (shift - 2.5) if shift else 0)
    seen = counts > 0
    errors = np.stack([counts - low, high - counts])[:, seen] * scale[seen]
    axes.errorbar(
        place[seen],
        (counts * scale)[seen],
        errors,
        fmt="o",
        color=colour,
        markersize=4,
        elinewidth=1,
        label=label,
    )


def _values_of(dataset: xr.Dataset, row: Row) -> np.ndarray:
    name = row.label.partition("[")[0]
    assert name in FUNCTION_NAMES
    values = dataset[name].values
    return values[(slice(None), slice(None), *row.index)]


def _rank_histogram(axes: Axes, values: np.ndarray) -> None:
    ranks = rankdata(values).reshape(values.shape)
    bins = np.linspace(0.5, values.size + 0.5, min(20, max(2, values.shape[1] // 10)) + 1)
    for chain, rank in enumerate(ranks):
        height = np.histogram(rank, bins)[0]
        axes.stairs(height, bins, color=COLOURS[chain % len(COLOURS)], linewidth=1.1)
    axes.axhline(values.shape[1] / (len(bins) - 1), color="0.3", linestyle="--", linewidth=0.8)
    axes.set(ylim=(0, None), yticks=())


def _bins(values: np.ndarray) -> np.ndarray:
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    return np.linspace(low, high if high > low else low + 1, 41)

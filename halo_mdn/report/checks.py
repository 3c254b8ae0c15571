"""Figures that hold the data against the predictions of the posterior."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halo_mdn.report.style import CHAIN_COLOURS, arrays_of, draw_points, mass_edges_of

BAND = CHAIN_COLOURS[0]
DATA = "#000000"


def box_figure(posterior: xr.DataTree, reference: np.ndarray | None = None) -> Figure:
    """Mass function of the whole box; `reference` is another one, (2, M): masses, dn/dlnM."""
    constant = arrays_of(posterior, "constant_data")
    observed = arrays_of(posterior, "observed_data")["halos_by_mass"]
    expected = _flat(arrays_of(posterior, "posterior")["expected_by_mass"])
    edges, width = mass_edges_of(constant["mass_bin_lower"])
    scale = 1 / (constant["environment_volume"].sum() * width)
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    low, high = quantiles(expected, 0.025, 0.975) * scale
    low, high = (np.append(side, side[-1]) for side in (low, high))
    axes.fill_between(edges, low, high, step="post", color=BAND, alpha=0.45, linewidth=0)
    axes.stairs(
        quantiles(expected, 0.5)[0] * scale, edges, color=BAND, baseline=None, label="posterior"
    )
    place = np.sqrt(edges[1:] * edges[:-1])
    draw_points(axes, place, observed, scale, color=DATA, marker="o", label="data")
    if reference is not None:
        axes.plot(*reference, color="0.45", linestyle="--", linewidth=1, label="Tinker et al. 2008")
    seen = (observed * scale)[observed > 0]
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(edges[0] / 1.15, edges[-1] * 1.15),
        ylim=(0.2 * seen.min(initial=1.0), 4 * seen.max(initial=1e-9)),
        xlabel=r"halo mass $M$  [$M_\odot/h$]",
        ylabel=r"$\mathrm{d}n/\mathrm{d}\ln M$  [$(\mathrm{Mpc}/h)^{-3}$]",
    )
    axes.legend(frameon=False, fontsize=9)
    return figure


def block_figure(posterior: xr.DataTree) -> Figure:
    """Counts in sub-boxes against predictions, and how much they scatter."""
    observed = arrays_of(posterior, "observed_data")
    predicted = arrays_of(posterior, "posterior_predictive")
    constant = arrays_of(posterior, "constant_data")
    counts, draws = observed["halos_by_block"], _flat(predicted["halos_by_block"])
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    mean = draws.mean(axis=0)
    low, high = quantiles(draws, 0.025, 0.975)
    errors = np.stack([mean - low, high - mean])
    look = {"linestyle": "none", "elinewidth": 0.8, "markersize": 3}
    left.errorbar(counts, mean, errors, marker="o", color=BAND, **look)  # type: ignore[arg-type]
    span = [min(counts.min(), low.min()) * 0.95, max(counts.max(), high.max()) * 1.05 + 1]
    left.plot(span, span, color="0.4", linewidth=0.8, linestyle="--")
    left.set(
        xlabel="observed halos in a sub-box", ylabel="predicted halos (mean, 95 %)",
        title="each sub-box",
    )  # fmt: skip
    ratio = draws.var(axis=1) / np.maximum(mean.mean(), 1e-300)
    middle.hist(ratio, bins=25, color=BAND, alpha=0.5, label="predictions")
    seen = counts.var() / max(counts.mean(), 1e-300)
    middle.axvline(seen, color=DATA, linewidth=1.5, label="data")
    middle.set(
        xlabel="variance / mean of halos per sub-box", ylabel="posterior draws",
        title="scatter among sub-boxes",
    )  # fmt: skip
    middle.legend(frameon=False, fontsize=9)
    side = constant["cell_side"]
    band(right, side, predicted["cell_ratio"])
    right.plot(side, observed["cell_ratio"], "o", color=DATA, markersize=4, label="data")
    right.axhline(1, color="0.4", linewidth=0.8, linestyle="--")
    right.set(
        xscale="log", yscale="log", xlabel=r"side of a cubic cell  [$\mathrm{Mpc}/h$]",
        ylabel="variance / mean of halos per cell", title="scatter among cells",
    )  # fmt: skip
    _plain_ticks(right, side)
    right.legend(frameon=False, fontsize=9)
    return figure


def power_figure(posterior: xr.DataTree) -> Figure:
    """Power spectrum of the counts and their correlation with the density."""
    observed = arrays_of(posterior, "observed_data")
    predicted = arrays_of(posterior, "posterior_predictive")
    constant = arrays_of(posterior, "constant_data")
    k = constant["wave_number"]
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    for axes, name in ((left, "counts_power"), (right, "counts_correlation")):
        band(axes, k, predicted[name])
        axes.plot(k, observed[name], "o", color=DATA, markersize=4, label="data")
        axes.set(xscale="log", xlabel=r"wave number $k$  [$h/\mathrm{Mpc}$]")
        _plain_ticks(axes, _round_numbers(k))
    left.axhline(float(constant["shot_noise"]), color="0.4", linewidth=0.8, linestyle="--",
                 label="shot noise")  # fmt: skip
    left.set(
        yscale="log",
        ylabel=r"power of counts $P(k)$  [$(\mathrm{Mpc}/h)^3$]",
        title="power spectrum, shot noise included",
    )
    right.set(ylabel=r"correlation $r(k)$ of counts and density", title="halos against density")
    right.set_ylim(min(0.0, float(observed["counts_correlation"].min()) - 0.05), 1.0)
    left.legend(frameon=False, fontsize=9)
    return figure


def bias_figure(posterior: xr.DataTree) -> Figure:
    """Linear bias of each mass bin, with posterior intervals."""
    lower = arrays_of(posterior, "constant_data")["mass_bin_lower"]
    draws = _flat(arrays_of(posterior, "posterior_predictive")["linear_bias"])
    edges, _ = mass_edges_of(lower)
    place = np.sqrt(edges[1:] * edges[:-1])
    low, middle, high = quantiles(draws, 0.025, 0.5, 0.975)
    figure = Figure(figsize=(5.2, 3.8), layout="constrained")
    axes = figure.subplots()
    errors = np.stack([middle - low, high - middle])
    across = np.stack([place - edges[:-1], edges[1:] - place])
    axes.errorbar(place, middle, errors, across, color=BAND, marker="o", markersize=4, ls="none")
    axes.set(
        xscale="log",
        xlabel=r"halo mass $M$  [$M_\odot/h$]",
        ylabel=r"linear bias $b_1$  (dimensionless)",
    )
    axes.set_ylim(min(0.0, float(low.min())), None)
    return figure


def kernel_figure(posterior: xr.DataTree) -> Figure:
    """Weights of the kernel against distance."""
    constant = arrays_of(posterior, "constant_data")
    weights = arrays_of(posterior, "posterior")["kernel_weights"]
    radius, cells = constant["kernel_radius"], constant["kernel_cells"]
    figure = Figure(figsize=(5.2, 3.8), layout="constrained")
    axes = figure.subplots()
    for f in range(weights.shape[2]):
        draws = _flat(weights)[:, f]
        # A kernel and its mirror image with mirrored heads are the same model.
        sign = np.sign(draws[np.arange(len(draws)), np.abs(draws).mean(axis=0).argmax()])[:, None]
        share = sign * draws * cells / np.maximum(np.abs(draws * cells).sum(1, keepdims=True), 1e-9)
        low, middle, high = quantiles(share, 0.025, 0.5, 0.975)
        colour = CHAIN_COLOURS[f % len(CHAIN_COLOURS)]
        name = f"filter {f}" if weights.shape[2] > 1 else None
        errors = np.stack([middle - low, high - middle])
        axes.errorbar(radius, middle, errors, color=colour, marker="o", markersize=4, ls="none",
                      label=name)  # fmt: skip
    axes.axhline(0, color="0.4", linewidth=0.8, linestyle="--")
    axes.set(
        xlabel=r"distance of the cells  [$\mathrm{Mpc}/h$]",
        ylabel="share of the response  (dimensionless)",
    )
    if weights.shape[2] > 1:
        axes.legend(frameon=False, fontsize=9)
    return figure


def band(axes: Axes, place: np.ndarray, draws: np.ndarray) -> None:
    """The central 68 % and 95 % of predictions, (R, N), and their median."""
    for tail, alpha in ((0.025, 0.25), (0.16, 0.45)):
        low, high = quantiles(draws, tail, 1 - tail)
        axes.fill_between(place, low, high, color=BAND, alpha=alpha, linewidth=0)
    axes.plot(place, quantiles(draws, 0.5)[0], color=BAND, linewidth=0.9, label="predictions")


def quantiles(draws: np.ndarray, *levels: float) -> np.ndarray:
    """Quantiles over draws (S, ...) that are numbers, shape (levels, ...); 0 without any."""
    known = np.where(np.isfinite(draws), draws, np.nan)
    none = np.isnan(known).all(axis=0)
    return np.nanquantile(np.where(none, 0, known), levels, axis=0)


def _round_numbers(values: np.ndarray) -> np.ndarray:
    """1, 2 and 5 times powers of ten within a range."""
    powers = 10.0 ** np.arange(-4, 5)
    candidates = np.sort(np.outer(powers, [1, 2, 5]).ravel())
    inside = (candidates >= 0.9 * values.min()) & (candidates <= 1.1 * values.max())
    return candidates[inside] if inside.any() else values[:1]


def _plain_ticks(axes: Axes, places: np.ndarray) -> None:
    axes.set_xticks(places, labels=[f"{place:.3g}" for place in places])
    axes.minorticks_off()


def _flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, *values.shape[2:])

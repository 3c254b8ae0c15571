"""What the figures share: arrays of a container, points with Poisson intervals, bands, colours."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from scipy.stats import chi2

BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"  # of Okabe & Ito
CHAIN_COLOURS = (BLUE, VERMILION, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def arrays_of(posterior: xr.DataTree, group: str) -> dict[str, np.ndarray]:
    dataset = posterior[group].to_dataset()
    return {str(name): np.asarray(values) for name, values in dataset.data_vars.items()}


def mass_edges_of(lower: np.ndarray) -> tuple[np.ndarray, float]:
    """Edges for drawing, the open last bin as wide as the others, and the width in ln M."""
    step = float(np.log(lower[1] / lower[0])) if len(lower) > 1 else float(np.log(10))
    return np.append(lower, lower[-1] * np.exp(step)), step


def draw_points(
    axes: Axes, place: np.ndarray, counts: np.ndarray, scale: float | np.ndarray, **style: Any
) -> None:
    """Counts with central 68 % Poisson intervals (Garwood 1936), times a scale."""
    seen, scale = counts > 0, np.broadcast_to(scale, counts.shape)
    low = chi2.ppf(0.16, 2 * np.maximum(counts, 1)) / 2
    high = chi2.ppf(0.84, 2 * (counts + 1)) / 2
    errors = np.stack([counts - low, high - counts])[:, seen] * scale[seen]
    look: dict[str, Any] = {"linestyle": "none", "markersize": 4, "elinewidth": 1}
    axes.errorbar(place[seen], (counts * scale)[seen], errors, **look, **style)


def chain_colour(chain: int) -> str:
    return CHAIN_COLOURS[chain % len(CHAIN_COLOURS)]


def draw_bands(axes: Axes, edges: np.ndarray, draws: np.ndarray, colour: Any) -> None:
    for tail, alpha in ((0.025, 0.25), (0.16, 0.45)):
        low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
        low, high = (np.append(side, side[-1]) for side in (low, high))
        axes.fill_between(edges, low, high, step="post", color=colour, alpha=alpha, linewidth=0)
    axes.stairs(np.median(draws, axis=0), edges, color=colour, linewidth=0.8, baseline=None)

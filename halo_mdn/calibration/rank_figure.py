"""The picture of a calibration: how far the distribution of ranks is from uniform."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from halo_mdn.calibration.mock_problem import RANKED
from halo_mdn.calibration.ranks import band, below
from halo_mdn.report.style import BLUE, VERMILION

if TYPE_CHECKING:
    from halo_mdn.calibration.rank_results import Results

COLUMNS = 7


def rank_figure(results: Results) -> Figure:
    """One panel per quantity: the empirical distribution of its ranks minus the uniform one.

    The grey band holds the whole of a curve of uniform ranks with 95 % probability. A hill then a
    valley means posteriors that are too wide, a valley then a hill too narrow ones; a curve on one
    side of zero means a bias.
    """
    num = len(results.ranks)
    inside = band(num, RANKED)
    uniform = np.arange(1, RANKED + 1) / (RANKED + 1)
    curves = below(results.ranks, RANKED) / num
    lines = -(-len(results.quantities) // COLUMNS)
    figure = Figure(figsize=(1.75 * COLUMNS, 0.8 + 1.3 * lines), layout="constrained", dpi=100)
    panels = figure.subplots(lines, COLUMNS, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, quantity, curve in zip(panels, results.quantities, curves.T, strict=False):
        low, high = inside.lower / num - uniform, inside.upper / num - uniform
        axes.fill_between(uniform, low, high, color="0.85", linewidth=0)
        colour = VERMILION if quantity.outside else BLUE
        axes.plot(uniform, curve - uniform, color=colour, linewidth=1)
        axes.axhline(0, color="0.5", linewidth=0.5)
        axes.set_title(quantity.name, fontsize=7, pad=2)
        axes.tick_params(labelsize=6)
        axes.set_xticks([0, 0.5, 1], labels=["0", "0.5", "1"])
    for axes in panels[len(results.quantities) :]:
        axes.set_axis_off()
    figure.supxlabel(f"rank of the truth among {RANKED} posterior draws, scaled to 1", fontsize=8)
    figure.supylabel("share of ranks below minus uniform", fontsize=8)
    return figure

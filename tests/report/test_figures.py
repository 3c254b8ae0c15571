"""Figures: they are written, they show the numbers of the container, and nothing overlaps."""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from halo_mdn.report import figures
from tests.run_for_tests import good_posterior, independent_draws, mock_fit, posterior_of

MAKERS = [
    figures.mass_function_figure,
    figures.slice_figure,
    figures.trace_figure,
    figures.energy_figure,
]


def visible_texts(figure: Figure) -> list[Text]:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    # Ticks that matplotlib keeps outside of the axes' limits are not drawn.
    return [t for t in texts if t.get_window_extent().width > 0 and _is_drawn(t, figure)]


def _is_drawn(text: Text, figure: Figure) -> bool:
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            labels = [tick.label1 for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())]
            if text in labels:
                low, high = sorted(axis.get_view_interval())
                place = text.get_position()[0 if axis is axes.xaxis else 1]
                return axes.axison and low <= place <= high
        if text in axes.findobj(Text):
            return axes.axison
    return True


@pytest.mark.parametrize("make", MAKERS)
def test_no_two_texts_overlap_and_none_leaves_the_page(
    make: Callable[[xr.DataTree], Figure],
) -> None:
    figure = make(good_posterior())
    texts = visible_texts(figure)
    assert len(texts) > 5
    for text in texts:
        box = text.get_window_extent()
        assert box.x0 >= -1 and box.y0 >= -1, text.get_text()
        assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1, text.get_text()
    for one, other in combinations(texts, 2):
        shared = one.get_window_extent().overlaps(other.get_window_extent())
        assert not shared, f"{one.get_text()!r} overlaps {other.get_text()!r}"


@pytest.mark.parametrize("make", MAKERS)
def test_every_axis_has_a_label(make: Callable[[xr.DataTree], Figure]) -> None:
    figure = make(good_posterior())
    common = figure.get_supxlabel()
    data_axes = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    bottom = [axes for axes in data_axes if axes.get_subplotspec().is_last_row()]
    assert all(axes.get_xlabel() or common for axes in bottom)


def test_all_files_are_png_of_readable_size(tmp_path: Path) -> None:
    paths = figures.write_figures(good_posterior(), tmp_path / "new")
    names = ["mass_function.png", "slice.png", "traces.png", "energy.png"]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(names)
    for path in paths:
        head = path.read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", head[16:24])
        assert width >= 500 and height >= 300


def errorbar_points(axes: Axes) -> list[np.ndarray]:
    return [container.lines[0].get_ydata() for container in axes.containers]


def test_points_of_the_mass_function_are_counts_per_volume_and_log_mass() -> None:
    upper = figures.mass_function_figure(good_posterior()).axes[0]
    fit, constant = mock_fit(), good_posterior()["constant_data"].to_dataset()
    observed = good_posterior()["observed_data"]["halos_by_environment"].values
    lower = constant["mass_bin_lower"].values
    width = np.log(lower[1] / lower[0])
    total = 0.0
    # The emptiest environment is drawn last; every voxel is in one, so volumes add up to the box.
    volume = constant["environment_volume"].values[::-1]
    for points, size in zip(errorbar_points(upper), volume, strict=True):
        total += points.sum() * size * width
    np.testing.assert_allclose(volume.sum(), np.prod(fit.grid.box_size))
    np.testing.assert_allclose(total, observed.sum())


def test_ratios_outside_of_the_panel_are_marked_at_its_edge() -> None:
    draws = independent_draws(4, 60)
    params = draws.params.copy()
    params[..., [7, 8]] += 3.0  # many more halos than observed
    posterior = posterior_of(draws._replace(params=params))
    lower = figures.mass_function_figure(posterior).axes[1]
    marked = [line for line in lower.lines if line.get_marker() == "v"]
    assert sum(len(line.get_xdata()) for line in marked) > 0
    low, high = lower.get_ylim()
    assert all(low < y < high for line in marked for y in line.get_ydata())


@pytest.mark.parametrize("shape", [(1, 1), (1, 60), (4, 3), (9, 60)])
def test_unusual_runs_are_drawn(shape: tuple[int, int], tmp_path: Path) -> None:
    assert len(figures.write_figures(posterior_of(independent_draws(*shape)), tmp_path)) == 4


@pytest.mark.parametrize("spoil", [np.nan, 1e200])
def test_values_that_are_not_finite_are_drawn(spoil: float, tmp_path: Path) -> None:
    draws = independent_draws(4, 60)
    draws.params[1, 7, 15] = spoil
    draws.stats["energy"][1, 7] = np.nan
    assert len(figures.write_figures(posterior_of(draws), tmp_path)) == 4


def test_ranks_of_agreeing_chains_are_uniform() -> None:
    figure = Figure()
    axes = figure.subplots()
    values = np.random.default_rng(0).normal(size=(4, 2000))
    figures._rank_histogram(axes, values)
    heights = np.array([patch.get_data().values for patch in axes.patches])
    assert heights.shape == (4, 20) and (heights.sum(axis=1) == 2000).all()
    np.testing.assert_allclose(heights, 100, atol=4.5 * 10)  # multinomial scatter of about 10

"""The report: one offline file whose every number comes from the container."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from halo_mdn import launch
from halo_mdn.field.cosmology import Cosmology
from halo_mdn.field.tinker import tinker_mass_function
from halo_mdn.posterior import summary as diagnostics
from halo_mdn.report import checks, report_html, sampling
from halo_mdn.report.reference import cosmology_of
from tests.mocks.test_universe import TINKER_ABOVE
from tests.report.test_figures import visible_texts
from tests.run_for_tests import TRUTH, good_posterior, independent_draws, posterior_of

COSMOLOGY = '{"Om0": 0.3111, "Ob0": 0.049, "h": 0.6766, "ns": 0.9665, "sigma8": 0.8102}'
MAKERS = [
    checks.box_figure,
    checks.block_figure,
    checks.power_figure,
    checks.bias_figure,
    checks.kernel_figure,
    sampling.ess_figure,
]


class Page(HTMLParser):
    """Collects what a page loads, and whether its tags are closed in order."""

    EMPTY = ("meta", "img", "br", "hr", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.images = 0
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.images += tag == "img"
        if tag == "img":
            assert values["alt"]
        self.loaded += [str(values[name]) for name in ("src", "href") if name in values]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def report() -> str:
    attrs = {"redshift": 0.0, "cosmology": COSMOLOGY, "config": '{"seed": 3, "data": {"a": [1]}}'}
    posterior = posterior_of(independent_draws(num_draws=60), attrs=attrs, predictive_draws=50)
    return report_html(posterior, name="<small> & quick")


def test_it_is_one_file_that_loads_nothing(report) -> None:
    page = Page(report)
    assert page.images == 11
    assert all(link.startswith(("data:image/png;base64,", "#s")) for link in page.loaded)
    assert "@import" not in report and "url(" not in report and "<script" not in report
    assert "$" not in re.sub(r"base64,[^\"]*", "", report)  # nothing of the template is left


def test_names_are_escaped_and_settings_are_listed(report) -> None:
    assert "&lt;small&gt; &amp; quick" in report
    assert "<td>data.a</td><td>1</td>" in report
    assert "Tinker et al. (2008), 200" in report


def test_the_verdict_comes_first_and_has_the_numbers_of_the_summary(report) -> None:
    summary = diagnostics.summarise(
        posterior_of(independent_draws(num_draws=60), predictive_draws=50)
    )
    assert summary.verdict.sentence.replace(">", "&gt;").replace("<", "&lt;") in report
    assert report.index("Verdict" if "Verdict" in report else "verdict") < report.index("<section")
    row = next(row for row in summary.rows if row.label == "expected_total")
    assert f"<td>{row.mean:.5g}</td><td>{row.sd:.3g}</td>" in report


@pytest.mark.parametrize("make", MAKERS)
def test_no_two_texts_overlap(make: Callable[[xr.DataTree], Figure]) -> None:
    figure = make(good_posterior())
    texts = visible_texts(figure)
    for i, text in enumerate(texts):
        box = text.get_window_extent()
        assert box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1, text.get_text()
        assert box.y0 >= -1 and box.y1 <= figure.bbox.y1 + 1, text.get_text()
        for other in texts[:i]:
            assert not box.overlaps(other.get_window_extent()), (text, other)
    for axes in figure.axes:
        assert axes.get_xlabel() and axes.get_ylabel()


def test_the_corner_plot_shows_all_parameters_and_caps_their_number() -> None:
    names, draws = sampling.parameter_columns(good_posterior())
    assert len(names) == len(set(names)) == 17
    np.testing.assert_allclose(draws.mean(axis=(0, 1)), TRUTH, atol=0.01)
    figure = sampling.corner_figure(good_posterior())
    shown = [axes for axes in figure.axes if axes.axison]
    assert len(shown) == 17 * 18 // 2


def test_the_kernel_profile_ignores_scale_and_mirror_image() -> None:
    posterior = good_posterior().copy()
    weights = posterior["posterior"]["kernel_weights"]
    mirrored = weights.copy(data=np.where(np.arange(len(weights))[:, None, None, None] % 2,
                                          -3 * weights.values, weights.values))  # fmt: skip
    posterior["posterior"]["kernel_weights"] = mirrored

    def heights(tree: xr.DataTree) -> np.ndarray:
        [axes] = checks.kernel_figure(tree).axes
        return axes.lines[0].get_ydata()

    np.testing.assert_allclose(heights(posterior), heights(good_posterior()), rtol=1e-12)


def test_tinker_agrees_with_another_code() -> None:
    """Numbers above 2e12 times powers of two, made with colossus; its halos are those of 200m."""
    for i, number in enumerate(TINKER_ABOVE):
        u = np.linspace(np.log(2e12 * 2.0**i), np.log(1e16), 1000)
        density = tinker_mass_function(Cosmology(), np.exp(u), 0.0)
        found = 250.0**3 * np.trapezoid(density, u)
        assert found == pytest.approx(number, rel=0.015)  # rounding and tables there


def test_cosmologies_are_read_by_their_usual_names_or_left_out() -> None:
    known = cosmology_of(COSMOLOGY)
    assert known == Cosmology()
    for text in (None, "", "Planck 2018", "{}", "[1]", COSMOLOGY.replace("0.3111", "31.11")):
        assert cosmology_of(text) is None


def test_the_command_remakes_it_even_from_a_broken_run(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("halo_mdn.cli.report.set_up_jax", lambda runtime: "cpu, float64")
    draws = independent_draws(1, 4)
    draws.params[0, 2] = 1e3  # an absurd draw: predictions overflow
    diagnostics.write(posterior_of(draws), tmp_path / "run" / "posterior.nc")
    assert launch.main(["report", str(tmp_path / "run")]) == 0
    text = (tmp_path / "run" / "report.html").read_text()
    assert "Halo bias: run" in text and Page(text).images == 11
    assert launch.main(["report", str(tmp_path)]) == 2
    assert f"{tmp_path} holds no posterior.nc" in capsys.readouterr().err
    assert launch.main(["report", str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert f"there is no folder {tmp_path / 'none'}" in error and "rrno" not in error

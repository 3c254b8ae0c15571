"""Comparing models: left-out scores against exact ones, paired errors, refusals, the command."""

from __future__ import annotations

import csv
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr
from scipy import stats

import halo_mdn as hm
from halo_mdn import launch
from halo_mdn.config import DataConfig, RunConfig, to_json
from halo_mdn.io.formats.exchange import Exchange, write_exchange
from halo_mdn.posterior import comparison
from halo_mdn.posterior import summary as diagnostics
from halo_mdn.posterior.comparison import Elpd, Score
from halo_mdn.posterior.leave_one_out import leave_one_out
from halo_mdn.posterior.second_realisation import second_realisation
from halo_mdn.report.comparison_page import comparison_csv, comparison_html, comparison_text
from tests.run_for_tests import TRUTH, Fit, independent_draws, mock_fit, posterior_of


def test_left_out_scores_are_the_exact_ones() -> None:
    """Poisson counts with a gamma prior on their rate: all posteriors are known."""
    random = np.random.default_rng(0)
    volume = random.uniform(5, 15, 20)
    counts, shape, rate = random.poisson(2.0 * volume), 2.0, 1.0
    draws = random.gamma(shape + counts.sum(), 1 / (rate + volume.sum()), (4, 1000, 1))
    log_l = xr.DataArray(
        stats.poisson.logpmf(counts, draws * volume), dims=("chain", "draw", "block")
    )
    found = leave_one_out(log_l)
    others, rest = shape + counts.sum() - counts, rate + volume.sum() - volume
    exact = stats.nbinom.logpmf(counts, others, rest / (rest + volume))
    # 4000 independent draws; the scores of the sub-boxes themselves spread by 0.5.
    np.testing.assert_allclose(found.elpd, exact, atol=0.01)
    assert (found.pareto_k < 0.5).all()
    fitted = stats.nbinom.logpmf(
        counts, shape + counts.sum(), 1 / (1 + volume / (rate + volume.sum()))
    )
    np.testing.assert_allclose(found.effective_params, (fitted - exact).sum(), atol=0.05)


def test_a_sub_box_that_decides_the_fit_is_called_unreliable() -> None:
    random = np.random.default_rng(1)
    theta = random.normal(size=(4, 250, 1))
    log_l = xr.DataArray(-0.5 * (theta * [0.1, 0.1, 9.0]) ** 2, dims=("chain", "draw", "block"))
    k = leave_one_out(log_l).pareto_k
    assert k[2] > 0.7 > k[:2].max()


def scored(name: str, loo: list[float], second: list[float] | None = None, **more) -> Score:
    known = {"num_params": 3, "grade": "trust", "effective_params": 2.0, "pareto_k": np.zeros(4)}
    other = None if second is None else Elpd(np.array(second))
    return Score(name=name, loo=Elpd(np.array(loo)), second=other, **{**known, **more})


def test_differences_are_paired() -> None:
    blocks = np.array([-10.0, -200.0, -3.0, -77.0])
    good, bad = Elpd(blocks), Elpd(blocks - [1.0, 2.0, 3.0, 2.0])
    difference, error = bad.below(good)
    assert difference == -8.0
    np.testing.assert_allclose(error, 2 * np.std([1, 2, 3, 2], ddof=1))  # blocks drop out
    assert good.below(good) == (0.0, 0.0)


def test_the_second_realisation_ranks_where_there_is_one() -> None:
    one, two = scored("one", [-1.0] * 4, [-9.0] * 4), scored("two", [-2.0] * 4, [-8.0] * 4)
    assert [s.name for s in comparison.ranking([one, two])] == ["two", "one"]
    rows = list(csv.DictReader(comparison_csv([one, two]).splitlines()))
    assert rows[0]["model"] == "two" and float(rows[0]["elpd_loo_difference"]) == -4
    assert float(rows[1]["elpd_second_difference"]) == -4
    one, two = scored("one", [-1.0] * 4), scored("two", [-2.0] * 4)
    assert [s.name for s in comparison.ranking([one, two])] == ["one", "two"]


def test_what_cannot_be_relied_on_is_said() -> None:
    random = np.random.default_rng(2)
    noise = random.normal(size=4)
    scores = [
        scored("best", [0.0] * 4),
        scored("tied", list(noise - noise.mean() - 0.01)),
        scored("spiky", [-50.0] * 4, pareto_k=np.array([0.1, 0.9, np.nan, 0.2])),
        scored("stuck", [-50.0] * 4, grade="do not use"),
    ]
    text = "\n".join(comparison.remarks(scores))
    assert "tied within 2 standard errors of best: a tie" in text
    assert "spiky: 2 of 4 sub-boxes have Pareto k > 0.7" in text
    assert "stuck: its sampling did not converge" in text
    for shown in (comparison_text(scores), comparison_html(scores)):
        assert "stuck: its sampling did not converge" in shown and "2 of 4" in shown


# From files


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Two fits of one mock, the better one with draws near the truth, and other mocks."""
    folder = tmp_path_factory.mktemp("runs")
    fit = mock_fit()
    config = to_json(RunConfig(data=DataConfig(field="gone.h5", box_size=(32.0,))))
    for name, scale in (("near", 0.01), ("far", 0.3)):
        posterior = posterior_of(
            independent_draws(2, 60, scale=scale), fit, attrs={"config": config},
            blocks_per_side=2,
        )  # fmt: skip
        diagnostics.write(posterior, folder / name / "posterior.nc")
    write_mock(folder / "fitted.h5", fit.halos, fit)
    other = hm.simulate(jax.random.key(8), fit.bias, TRUTH, fit.delta, fit.grid)
    write_mock(folder / "second.h5", other, fit)
    write_mock(folder / "coarse.h5", other, fit, stretch=1.2)
    return folder


def write_mock(path: Path, halos: hm.HaloCatalogue, fit: Fit, stretch: float = 1.0) -> None:
    sides = tuple(stretch * side for side in fit.grid.box_size)
    position = stretch * np.asarray(halos.position)
    write_exchange(path, Exchange(fit.delta, sides, position, halos.mass, redshift=0.0))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def without_jax_settings(monkeypatch) -> None:
    monkeypatch.setattr("halo_mdn.cli.compare.set_up_jax", lambda runtime: "cpu, float64")


def call(*arguments: object) -> int:
    return launch.main(["compare", *map(str, arguments)])


def test_the_command_ranks_and_writes(runs: Path, tmp_path: Path, capsys) -> None:
    code = call(runs / "far", runs / "near", "--second", runs / "second.h5", "--output", tmp_path)
    shown = capsys.readouterr()
    assert code == 0, shown.err
    assert "wrote" in shown.out and shown.out.index("near") < shown.out.index("far")
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == [f"comparison.{form}" for form in ("csv", "html", "png", "txt")]
    rows = list(csv.DictReader((tmp_path / "comparison.csv").read_text().splitlines()))
    assert [row["model"] for row in rows] == ["near", "far"]
    again = (runs / "far", runs / "near", "--output", tmp_path)
    assert call(*again) == 2 and "give --overwrite" in capsys.readouterr().err
    assert call(*again, "--overwrite") == 0
    # The score on the second realisation, written out with the public likelihood.
    fit = mock_fit()
    second = hm.simulate(jax.random.key(8), fit.bias, TRUTH, fit.delta, fit.grid)
    log_l = hm.fixed_field_likelihood(fit.bias, fit.delta, second)
    draws = independent_draws(2, 60, scale=0.01).params.reshape(-1, 17)
    blocks = np.stack([np.asarray(log_l.by_block(draw, 4)) for draw in draws])
    highest = blocks.max(axis=0)
    exact = np.sum(highest + np.log(np.mean(np.exp(blocks - highest), axis=0)))
    np.testing.assert_allclose(float(rows[0]["elpd_second"]), exact, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["near"], "expected at least two"),
        (["near", "near"], "given twice"),
        (["near", "nowhere"], "there is no folder nowhere: expected the folder of a finished run"),
        (["near/posterior.nc", "near"], "near/posterior.nc is a file, expected the folder"),
        (["near", "far", "--second", "fitted.h5"], "holds the halos that were fitted"),
        (["near", "far", "--second", "coarse.h5"], "has voxels of 4.8 Mpc/h, the fit had 4"),
        (["near", "far", "--second", "mock.npz"], "expected an exchange file"),
        (["near", "far", "--second", "none.toml"], "cannot read the run file"),
    ],
)
def test_mistakes_get_one_sentence(runs: Path, capsys, monkeypatch, arguments, complaint) -> None:
    monkeypatch.chdir(runs)
    assert call(*arguments) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1 and "rrno" not in error
    assert not (runs / "comparison").exists()


def test_other_data_are_refused(runs: Path) -> None:
    trees = {name: diagnostics.read(runs / name / "posterior.nc") for name in ("near", "far")}
    trees["far"].attrs["delta_sha256"] = "0"
    with pytest.raises(hm.InputError, match="near and far differ in delta_sha256"):
        comparison.check_same_data(trees)


def test_a_kernel_that_leaves_out_more_is_refused() -> None:
    fit = mock_fit("interior")
    params = {"near": np.zeros((1, 1, 17)), "wide": np.zeros((1, 1, 23))}
    biases = {"near": hm.NeuralBias(), "wide": hm.NeuralBias(kernel_size=5)}
    data = type("Data", (), {"delta": fit.delta, "halos": fit.halos})()
    blocks = {
        name: second_realisation(bias, params[name], data, wanted=2)[1]
        for name, bias in biases.items()
    }
    with pytest.raises(hm.InputError, match="mask the border"):
        comparison.check_same_blocks("near", blocks["near"], "wide", blocks["wide"])
    mask = np.zeros(fit.grid.shape)
    mask[2:-2, 2:-2, 2:-2] = 1  # as the message says
    data.halos = hm.HaloCatalogue.from_voxels(
        fit.halos.voxel, fit.halos.log_mass, fit.grid, completeness=mask
    )
    blocks = {
        name: second_realisation(bias, params[name], data, wanted=2)[1]
        for name, bias in biases.items()
    }
    comparison.check_same_blocks("near", blocks["near"], "wide", blocks["wide"])

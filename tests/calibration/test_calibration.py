"""Calibration: bands hold what they promise, wrong posteriors are caught, the series is safe."""

from __future__ import annotations

import csv
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import norm

import halo_mdn as hm
from halo_mdn import launch
from halo_mdn.bias.normal_prior import draw_params
from halo_mdn.calibration import series
from halo_mdn.calibration.fits import Fit, read_fits, run_fit, write_fit
from halo_mdn.calibration.mock_problem import RANKED
from halo_mdn.calibration.outputs import write_results
from halo_mdn.calibration.rank_results import results_of
from halo_mdn.calibration.ranks import _stays, band, below, p_value, rank_of
from halo_mdn.errors import InputError
from halo_mdn.sampling import Draws

ROOT = Path(__file__).parents[2]


def toy_ranks(num: int, num_draws: int, rng: np.random.Generator, width: float = 1.0) -> np.ndarray:
    """Ranks of a unit Gaussian truth seen with unit noise; the posterior is ``width`` too wide."""
    truth = rng.normal(size=num)
    data = truth + rng.normal(size=num)
    draws = 0.5 * data + width * np.sqrt(0.5) * rng.normal(size=(num_draws, num))
    return rank_of(truth, draws)


def leaves(ranks: np.ndarray, num_draws: int) -> np.ndarray:
    """Which columns of ranks leave the band."""
    inside, counts = band(len(ranks), num_draws), below(ranks, num_draws)
    return ((counts < inside.lower[:, None]) | (counts > inside.upper[:, None])).any(axis=0)


@pytest.mark.parametrize(("num", "num_draws"), [(200, 99), (40, 19)])
def test_right_posteriors_stay_in_the_band_at_the_stated_rate(num: int, num_draws: int) -> None:
    rng = np.random.default_rng(1)
    repeats = 2000
    ranks = np.stack([toy_ranks(num, num_draws, rng) for _ in range(repeats)], axis=1)
    promised = 1 - band(num, num_draws).probability
    assert 0.03 < promised <= 0.05  # whole numbers do not reach 5 % exactly
    # Four standard deviations of the binomial: a false alarm in 16,000 seeds.
    assert abs(leaves(ranks, num_draws).mean() - promised) < 4 * np.sqrt(0.05 * 0.95 / repeats)


@pytest.mark.parametrize(("width", "p_expected"), [(1 / 1.5, 1e-3), (1.5, 0.05)])
def test_a_posterior_of_the_wrong_width_is_caught(width: float, p_expected: float) -> None:
    rng = np.random.default_rng(2)
    p = [p_value(toy_ranks(200, RANKED, rng, width), RANKED) for _ in range(20)]
    # In all of 20 series; 0.001 is what 50 quantities need for 5 % together. The largest of 60
    # was 0.0004 for posteriors too narrow and 0.02 for those too wide, whose ranks pile up less.
    assert max(p) < p_expected


def test_p_value_is_the_level_at_which_the_band_is_just_left() -> None:
    rng = np.random.default_rng(3)
    ranks = rng.integers(0, 20, (40, 300))
    p = np.array([p_value(column, 19) for column in ranks.T])
    promised = 1 - band(40, 19).probability
    np.testing.assert_array_equal(leaves(ranks, 19), p <= promised * (1 + 1e-9))


def test_band_of_one_cut_is_the_central_interval_of_the_binomial() -> None:
    # With one draw there is one cut, at one half: no simultaneity.
    inside = band(100, 1)
    assert (inside.lower[0], inside.upper[0]) == (40, 60)
    # Sum of the binomial, by hand: P(40 <= X <= 60), X of 100 tosses of a coin.
    assert inside.probability == pytest.approx(0.9647998, abs=1e-7)


def test_probability_inside_by_counting_all_ranks() -> None:
    """A band that is not symmetric, around 5 ranks among 2 draws: 3^5 equally likely cases."""
    within = np.array([[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 1]], dtype=bool)
    first, second = below(np.array(list(product(range(3), repeat=5))).T, 2)
    inside = np.mean(within[0][first] & within[1][second])
    assert 0.1 < inside < 0.9 and _stays(within) == pytest.approx(inside, rel=1e-12)


def test_a_rank_is_the_number_of_draws_below() -> None:
    draws = np.array([[0.1, 3.0], [0.5, 2.0], [0.9, 1.0]])
    np.testing.assert_array_equal(rank_of(np.array([0.5, 9.0]), draws), [1, 3])


def fit_of(index: int, rng: np.random.Generator, width: float = 1.0) -> Fit:
    truth = rng.normal(size=3)
    centre = 0.5 * (truth + rng.normal(size=3))
    draws = centre + width * np.sqrt(0.5) * rng.normal(size=(RANKED, 3))
    return Fit(index, truth, rank_of(truth, draws), draws.mean(0), draws.std(0), 600, 1.01, 99.0,
               0, 1000, 2.0)  # fmt: skip


def test_results_tell_right_from_narrow_and_lose_no_fit(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    fits = [fit_of(i, rng) for i in range(150)]
    fits[3] = Fit(**{**vars(fits[3]), "worst_rhat": 1.2})
    fits[5] = Fit(**{**vars(fits[5]), "failure": "no start", "rank": np.full(3, -1)})
    right = results_of(("a", "b", "c"), fits)
    assert (
        right.verdict.startswith("No sign of miscalibration") and "2 fits did not" in right.verdict
    )
    assert len(right.ranks) == 149  # a fit without draws has no rank; one that mixed badly has
    assert "fit 3: worst R-hat 1.200" in right.to_text() and "fit 5: no start" in right.to_text()
    # Of a Gaussian truth with variance 1 the posterior here has variance 1/2.
    assert right.quantities[0].width == pytest.approx(np.sqrt(0.5), rel=0.15)
    narrow = results_of(("a", "b", "c"), [fit_of(i, rng, 1 / 1.5) for i in range(150)])
    assert narrow.verdict.startswith("Miscalibrated")
    # A central interval that claims 50 % holds what 50 % / 1.5 in width holds of a Gaussian.
    expected = 2 * norm.cdf(norm.ppf(0.75) / 1.5) - 1
    shares = [q.within_50 for q in narrow.quantities]
    np.testing.assert_allclose(np.mean(shares), expected, atol=0.07)  # 3 sigma of 450 truths

    written = write_results(right, tmp_path)
    assert {path.name for path in written} == {path.name for path in tmp_path.iterdir()}
    with (tmp_path / "fits.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["index"] for row in rows if row["converged"] == "False"] == ["3", "5"]
    with np.load(tmp_path / "calibration.npz") as stored:
        np.testing.assert_array_equal(stored["rank"], right.ranks)


def test_a_fit_survives_its_file_and_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    fits = [fit_of(i, rng) for i in range(3)]
    for fit in fits:
        write_fit(fit, tmp_path)
    again = read_fits(tmp_path, 3)
    for old, new in zip(fits, again, strict=True):
        for name, value in vars(old).items():
            np.testing.assert_array_equal(getattr(new, name), value)
    path = sorted(tmp_path.iterdir())[1]
    path.write_bytes(path.read_bytes()[:200])
    assert [fit.index for fit in read_fits(tmp_path, 3)] == [0, 2]


def test_a_truth_with_more_halos_than_can_be_drawn_is_a_failed_fit(tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise InputError("these parameters predict 1e+30 halos")

    bias = hm.NeuralBias()
    problem = SimpleNamespace(seed=1, bias=bias, catalogue=refuse, names=[""] * 19)
    fit = run_fit(problem, 4, None)  # type: ignore[arg-type]
    assert not fit.converged and "1e+30" in fit.complaint
    assert np.isfinite(fit.truth[:17]).all() and (fit.rank == -1).all()
    write_fit(fit, tmp_path)
    assert read_fits(tmp_path, 5)[0].failure == fit.failure


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The command on a small field, in this process, with the tests' own JAX settings."""
    monkeypatch.setattr("halo_mdn.cli.calibrate.set_up_jax", lambda runtime: "cpu, float64")

    def call(*arguments: object, fits: int = 3) -> int:
        small = ("--cells", 6, "--workers", 1, "--fits", fits, "--output.folder", tmp_path / "out")
        short = ("--sampler.num_warmup", 15, "--sampler.num_samples", 50, "--start.num_starts", 1)
        return launch.main(list(map(str, ("calibrate", *small, *short, *arguments))))

    return call


def draws_of_the_prior(model, args, *, key, settings, **_) -> Draws:
    """Stands in for the sampler; a posterior that ignores the data is calibrated in most ways."""
    num = settings.num_chains * settings.num_samples
    params = draw_params(args[0], key, num).reshape(settings.num_chains, -1, 17)
    stats = {"diverging": np.zeros(params.shape[:2], dtype=bool)}
    return Draws(params, stats, params[:, :0], {}, np.eye(17), 0.0, 7 * num, 0, False)


def test_a_series_stops_resumes_and_repeats(quick, tmp_path, monkeypatch, capsys) -> None:
    start = SimpleNamespace(position=None, location=None, inverse_mass=None)
    monkeypatch.setattr("halo_mdn.calibration.fits.find_start", lambda *_, **__: start)
    monkeypatch.setattr("halo_mdn.calibration.fits.coordinates_for", lambda *_: None)
    monkeypatch.setattr("halo_mdn.calibration.fits.run_nuts", draws_of_the_prior)
    make = series._make

    def interrupted(which: series.Series, index: int) -> None:
        if index == 1:
            raise KeyboardInterrupt
        make(which, index)

    monkeypatch.setattr(series, "_make", interrupted)
    assert quick() == 130
    assert "give --resume" in capsys.readouterr().out
    kept = tmp_path / "out" / "fits"
    first = np.load(kept / "fit_00000.npz")
    assert not (kept / "fit_00001.npz").exists()

    monkeypatch.setattr(series, "_make", make)
    assert quick() == 2 and "--resume" in capsys.readouterr().err
    assert quick("--resume", "--seed", 8) == 2
    assert "other settings" in capsys.readouterr().err
    assert quick("--resume") == 0
    shown = capsys.readouterr().out
    assert "over 3 fits" in shown and "mean_biases[1]" in shown and "3/3" in shown
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "fits",
        "fits.csv",
        *(f"calibration.{x}" for x in ("png", "txt", "csv", "npz")),
    }

    (kept / "fit_00000.npz").unlink()  # made again, it is the same
    series._prepared.cache_clear()
    assert quick("--resume") == 0
    again = np.load(kept / "fit_00000.npz")
    for name in set(first.files) - {"seconds"}:
        np.testing.assert_array_equal(again[name], first[name])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--fits", 1), "--fits is 1"),
        (("--workers", 0), "--workers is 0"),
        (("--resume",), "nothing to resume"),
        (("--sampler.num_samples", 20), "at least 99 draws"),
        (("--sampler.target_ess", 50), "no target_ess"),
        (("--model.prior_scale", "1,2"), "prior_scale has 2 values"),
        (("--cells", 2), "kernel"),
    ],
)
def test_mistakes_get_one_sentence(quick, capsys, tmp_path, arguments, complaint) -> None:
    assert quick(*arguments) == 2
    shown = capsys.readouterr().err
    assert complaint in shown and shown.count("\n") == 1
    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.slow
def test_the_whole_machine_in_processes_of_its_own(tmp_path: Path) -> None:
    """Real fits on two processes, and the same ones again on one."""
    script = [sys.executable, ROOT / "run_inference.py", "calibrate", "--cells", "6", "--fits", "4"]
    short = ["--sampler.num_warmup", "15", "--sampler.num_samples", "50"]
    for workers in (1, 2):
        done = subprocess.run(
            [
                *script,
                *short,
                "--workers",
                str(workers),
                "--output.folder",
                tmp_path / str(workers),
            ],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "over 4 fits" in done.stdout
    one, two = (read_fits(tmp_path / workers / "fits", 4) for workers in "12")
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first.rank, second.rank)
        assert first.num_gradients == second.num_gradients

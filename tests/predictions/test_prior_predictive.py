"""The prior as a setting, and what it predicts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

import halo_mdn as hm
from halo_mdn import launch
from halo_mdn.bias.mock_params import MOCK_PARAMS
from halo_mdn.bias.normal_prior import draw_params
from halo_mdn.config import RunConfig, load_config
from halo_mdn.config.model_files import bias_of, load_model
from halo_mdn.config.shipped import find_run_file
from halo_mdn.predictions.prior_predictive import prior_predictive

MEAN, SCALE = tuple(np.linspace(-1, 1, 17)), tuple(np.linspace(0.1, 2, 17))


def test_log_prior_is_that_of_the_normals_and_the_model_uses_it(params) -> None:
    from numpyro.infer.util import log_density

    bias = hm.NeuralBias(prior_mean=MEAN, prior_scale=SCALE)
    expected = norm.logpdf(params, MEAN, SCALE).sum()
    np.testing.assert_allclose(hm.log_prior(bias, params), expected, rtol=1e-13)
    model = load_model("neural_bias")
    total, _ = log_density(model, (bias, lambda params: 3.0), {}, {"params": params})
    np.testing.assert_allclose(total, expected + 3.0, rtol=1e-13)


def test_one_number_serves_all_parameters(params) -> None:
    one, many = hm.NeuralBias(prior_scale=3.0), hm.NeuralBias(prior_scale=(3.0,) * 17)
    np.testing.assert_allclose(hm.log_prior(one, params), hm.log_prior(many, params), rtol=1e-14)
    assert hm.NeuralBias(prior_mean=(0.0,), prior_scale=(10.0,)) == hm.NeuralBias()
    batch = jnp.stack([params, 2 * params])
    assert hm.log_prior(many, batch).shape == (2,)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"prior_mean": (0.0, 1.0)}, "prior_mean has 2 values"),
        ({"prior_scale": (1.0,) * 16 + (0.0,)}, "positive"),
        ({"prior_mean": float("nan")}, "finite"),
    ],
)
def test_wrong_priors_are_refused(settings, complaint) -> None:
    with pytest.raises(hm.InputError, match=complaint):
        hm.NeuralBias(**settings)


def test_a_run_file_sets_the_prior() -> None:
    bias = bias_of(load_config(find_run_file("calibrate"), {"model.prior_scale": "0.5"}))
    assert bias.prior[0][4] == 2.0993 and set(bias.prior[1]) == {0.5}
    assert bias_of(RunConfig()) == hm.NeuralBias()


def test_draws_have_the_moments_of_the_prior() -> None:
    bias = hm.NeuralBias(prior_mean=MEAN, prior_scale=SCALE)
    draws = draw_params(bias, jax.random.key(0), 4000)
    # Standard errors: scale / 63 of the mean, 1.1 % of the width; five of each.
    assert np.abs((draws.mean(axis=0) - MEAN) / SCALE).max() < 5 / 63
    np.testing.assert_allclose(draws.std(axis=0), SCALE, rtol=0.056)


@pytest.fixture
def grid() -> hm.Grid:
    return hm.Grid((8, 9, 10), (32.0, 36.0, 40.0))


def test_prior_predictive_counts_are_those_of_simulated_catalogues(params, delta, halos) -> None:
    bias = hm.NeuralBias(prior_mean=tuple(map(float, params)), prior_scale=0.05)
    log_l = hm.fixed_field_likelihood(bias, delta, halos)
    table = prior_predictive(log_l, seed=1, num_draws=400, num_masses=3)
    counts = []
    for i, draw in enumerate(draw_params(bias, jax.random.key(7), 400)):
        drawn = hm.simulate(jax.random.key(i), bias, draw, delta, halos.grid)
        counts.append([np.sum(drawn.mass >= mass * (1 - 1e-9)) for mass in table.mass])
    median, spread = np.median(counts, axis=0), np.std(counts, axis=0)
    # Medians of two sets of 400: a standard error of 1.25 sqrt(2 / 400) = 0.09 spreads; four.
    assert (np.abs(table.quantiles[:, 2] - median) < 0.36 * spread).all()
    assert table.observed[0] == np.sum(halos.log_mass >= np.log(2e12) - 1e-9)


def test_a_vague_prior_gives_numbers_not_errors(delta, halos) -> None:
    log_l = hm.fixed_field_likelihood(hm.NeuralBias(), delta, halos)
    table = prior_predictive(log_l, seed=1, num_draws=100, num_masses=2)
    assert not np.isnan(table.quantiles).any() and table.quantiles[0, 4] > 1e10
    assert len(table.to_text().splitlines()) == 3


def test_command_shows_the_table_and_refuses_in_one_sentence(
    tmp_path, monkeypatch, capsys, delta, halos
) -> None:
    monkeypatch.setattr("halo_mdn.cli.prior.set_up_jax", lambda runtime: "cpu, float64")
    np.save(tmp_path / "delta.npy", delta)
    np.savez(tmp_path / "halos.npz", position=halos.position, mass=halos.mass)
    text = (
        '[data]\nfield = "delta.npy"\ncatalogue = "halos.npz"\nbox_size = [32.0, 36.0, 40.0]\n'
        f"[model]\nprior_mean = {MOCK_PARAMS!r}\nprior_scale = 0.1\n"
    )
    (tmp_path / "run.toml").write_text(text.replace("(", "[").replace(")", "]"), encoding="utf-8")
    command = ["prior", str(tmp_path / "run.toml"), "--num"]
    assert launch.main([*command, "50"]) == 0
    first = next(line for line in capsys.readouterr().out.splitlines() if "2e+12" in line)
    assert first.split()[-1] == f"{halos.num_halos:,}"
    assert launch.main([*command, "0"]) == 2
    assert capsys.readouterr().err == "error: --num is 0, expected at least 1\n"

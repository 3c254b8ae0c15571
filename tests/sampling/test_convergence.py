from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr

from halo_mdn.sampling import convergence
from halo_mdn.sampling.nuts.convergence import mixing


def autoregressive(correlation, chains=4, draws=1000, seed=0):
    rng = np.random.default_rng(seed)
    x = np.zeros((chains, draws, 1))
    x[:, 0, 0] = rng.normal(size=chains)
    for i in range(1, draws):
        noise = rng.normal(size=chains) * np.sqrt(1 - correlation**2)
        x[:, i, 0] = correlation * x[:, i - 1, 0] + noise
    return x


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.95])
def test_agrees_with_arviz(correlation):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ announces its own future
        import arviz as az
    x = autoregressive(correlation)
    ours = convergence(x)
    data = az.convert_to_dataset({"x": x[..., 0]}) if hasattr(az, "convert_to_dataset") else None
    if data is None:
        pytest.skip("this ArviZ has no convert_to_dataset")
    rhat = float(az.rhat(data, method="rank")["x"])
    ess = min(float(az.ess(data, method=method)["x"]) for method in ("bulk", "tail"))
    assert ours.worst_rhat == pytest.approx(rhat, rel=1e-3)
    # Estimators differ in how they cut the autocorrelation off and define the tails.
    assert ours.min_ess == pytest.approx(ess, rel=0.05)


def test_finds_the_chain_that_is_elsewhere_and_the_one_that_is_wider():
    shifted, wide = autoregressive(0.0), autoregressive(0.0)
    shifted[0] += 3.0
    wide[0] *= 5.0
    good = autoregressive(0.0, seed=1)
    assert convergence(good).worst_rhat < 1.01
    assert convergence(np.concatenate([good, shifted], axis=2)).worst_rhat > 1.2
    assert convergence(np.concatenate([good, wide], axis=2)).worst_rhat > 1.1


def test_constant_functions_are_left_out_and_bad_ones_are_not():
    good = autoregressive(0.0)
    constant = np.ones_like(good)
    assert convergence(np.concatenate([good, constant], axis=2)) == convergence(good)
    assert convergence(constant).min_ess == 0.0
    small = convergence(1e-9 * good)
    assert small.min_ess == pytest.approx(convergence(good).min_ess, rel=1e-9)
    bad = good.copy()
    bad[0, 3] = np.nan
    assert convergence(bad).worst_rhat == np.inf
    stuck = good.copy()
    stuck[:] = np.arange(4)[:, None, None]
    assert convergence(stuck).worst_rhat == np.inf


def test_says_nothing_about_few_draws():
    assert convergence(autoregressive(0.0, draws=7)) is None


@pytest.mark.parametrize("side", [1, -1], ids=["upper", "lower"])
def test_one_slow_tail_is_enough(side):
    """Values beyond a quantile come in long series on one side, and never on the other."""
    slow = autoregressive(0.995, chains=1, draws=8000)
    quick = np.random.default_rng(3).uniform(-1, 1, slow.shape)
    far = slow > np.quantile(slow, 0.95)
    values = side * np.where(far, 1.5 + np.abs(quick), quick).reshape(4, 2000, 1)
    found = mixing(xr.Dataset({"x": (("chain", "draw"), values[..., 0])}))
    assert float(found["ess_tail"]["x"]) < 0.1 * values.size
    quick = quick.reshape(values.shape)
    assert convergence(quick).min_ess > 0.5 * values.size


def test_slow_tails_count_as_well():
    """Noise whose size changes slowly: the middle mixes, the tails do not."""
    size = autoregressive(0.97)
    values = np.random.default_rng(1).normal(size=size.shape) * np.exp(size)
    found = mixing(xr.Dataset({"x": (("chain", "draw"), values[..., 0])}))
    bulk, tail = (float(found[name]["x"]) for name in ("ess_bulk", "ess_tail"))
    assert tail < 0.5 * bulk
    assert convergence(values).min_ess == pytest.approx(tail, rel=1e-12)

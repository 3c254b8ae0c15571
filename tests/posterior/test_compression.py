"""The check of a compressed likelihood against the exact one, and what it does to the verdict."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import halo_mdn as hm
from halo_mdn.likelihood.compressed import Compressed
from halo_mdn.posterior.compression import GROUP, compression_findings, record_compression
from halo_mdn.posterior.verdict import Row, RunStatistics, verdict

GOOD = Row("ln n", "function", True, 0.0, 1.0, 0.01, 1.001, 900.0, 800.0)
RUN = RunStatistics(4, 1000, 0, (1.0,) * 4, 0.0, 0.9, 15.0, (0.0,) * 4, 10000, 60.0)


def container(log_ratio):
    exact = -1e6 + np.asarray(log_ratio)
    dims = ("chain", "draw")
    dataset = xr.Dataset(
        {"exact": (dims, exact), "compressed": (dims, np.full(exact.shape, -1e6))},
        attrs={"num_nodes": 4096},
    )
    return xr.DataTree.from_dict({f"/{GROUP}": dataset})


def test_nothing_to_say_of_an_exact_run():
    assert compression_findings(xr.DataTree()) is None


@pytest.mark.parametrize(
    ("spread", "grade"), [(0.05, "trust"), (0.6, "use with care"), (6.0, "do not use")]
)
def test_spread_of_the_error_decides(spread, grade):
    log_ratio = 5.0 + spread * np.random.default_rng(1).normal(size=(4, 100))  # a constant is free
    findings = compression_findings(container(log_ratio))
    assert findings.spread == pytest.approx(spread, rel=0.1)
    # Of lognormal weights: 1 / (1 + variance of w) = exp(-spread^2).
    if spread < 1:
        assert findings.ess_fraction == pytest.approx(np.exp(-(spread**2)), rel=0.1)
    judged = verdict((GOOD,), RUN, compression=findings)
    assert judged.grade == grade
    assert (grade == "trust") == ("compressed" not in judged.sentence)
    assert "4,096 nodes" in findings.line()


def test_draws_that_are_impossible_exactly_are_not_to_be_used():
    log_ratio = np.zeros((4, 100))
    log_ratio[1, 3] = -np.inf
    findings = compression_findings(container(log_ratio))
    assert findings.hopeless and findings.ess_fraction == 0.0
    assert verdict((GOOD,), RUN, compression=findings).grade == "do not use"
    assert "inf nats" in findings.line()


def test_both_likelihoods_are_recorded(bias, params, delta, halos):
    exact = hm.fixed_field_likelihood(bias, delta, halos)
    twice = replace(exact, multiplicity=jnp.full(exact.features.shape[1], 2.0))
    draws = np.asarray(params) + 0.01 * np.random.default_rng(2).normal(size=(2, 300, 17))
    posterior = record_compression(xr.DataTree(), exact, Compressed(twice, 99, 0.0, 0.0), draws)
    dataset = posterior[GROUP].to_dataset()
    assert dataset.sizes == {"chain": 2, "draw": 100}
    chain, place = 1, 7
    vector = draws[chain, int(dataset["draw"][place])]
    assert float(dataset["exact"][chain, place]) == pytest.approx(float(exact(vector)), rel=1e-12)
    expected = float(exact.with_halos(np.arange(0))(vector))  # minus the expected number
    difference = float((dataset["compressed"] - dataset["exact"])[chain, place])
    assert difference == pytest.approx(expected, rel=1e-9)

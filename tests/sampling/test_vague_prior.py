"""What the prior says decides how chains start, however its mean is written down."""

from __future__ import annotations

import numpy as np
import pytest

import halo_mdn as hm
from halo_mdn.fitting.inputs import _prior_text
from halo_mdn.sampling.start.tournament import _random_params

SIZE = 17


@pytest.mark.parametrize(
    ("settings", "vague"),
    [
        ({}, [True] * SIZE),
        ({"prior_mean": (0.0,) * SIZE, "prior_scale": (10.0,) * SIZE}, [True] * SIZE),
        ({"prior_mean": (9.0,) * SIZE}, [True] * SIZE),
        ({"prior_mean": 100.0}, [False] * SIZE),
        ({"prior_scale": 0.5}, [False] * SIZE),
        ({"prior_scale": (0.1,) * 4 + (10.0,) * 13}, [False] * 4 + [True] * 13),
    ],
)
def test_vague_is_what_is_wide(settings, vague):
    np.testing.assert_array_equal(hm.NeuralBias(**settings).prior_is_vague, vague)


def test_starts_follow_the_prior_where_it_says_something(delta, halos):
    mean = np.linspace(-1, 1, SIZE)
    scale = np.array([0.01] * 4 + [10.0] * 13)
    informative, mixed, vague = (
        hm.NeuralBias(prior_mean=tuple(mean), prior_scale=tuple(width))
        for width in (np.full(SIZE, 0.01), scale, np.full(SIZE, 10.0))
    )

    def start(bias):
        log_l = hm.fixed_field_likelihood(bias, delta, halos)
        return _random_params(log_l, bias, np.random.default_rng(5))

    np.testing.assert_array_equal(start(informative), np.random.default_rng(5).normal(mean, 0.01))
    np.testing.assert_allclose(start(mixed)[:4], mean[:4], atol=0.05)
    np.testing.assert_array_equal(start(mixed)[4:], start(vague)[4:])
    np.testing.assert_array_equal(start(vague), start(hm.NeuralBias()))


def test_an_unchanged_prior_reads_the_same():
    assert _prior_text(hm.NeuralBias(prior_mean=(0.0,) * SIZE)) == "Normal(0, 10)"
    assert _prior_text(hm.NeuralBias(prior_mean=tuple(range(SIZE)))) == "Normal"
    assert _prior_text(hm.TruncatedPowerLaw()) == "Normal(0, 1)"

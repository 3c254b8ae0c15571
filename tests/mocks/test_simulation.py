"""Simulated catalogues follow the intensity: counts, masses and positions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import halo_mdn as hm


@pytest.fixture
def many(bias, params, delta, grid) -> hm.HaloCatalogue:
    """A draw of about a hundred times as many halos."""
    return hm.simulate(jax.random.key(9), bias, scaled(bias, params), delta, grid)


def scaled(bias: hm.NeuralBias, params: jax.Array) -> jax.Array:
    blocks = bias.unpack(params)
    return bias.pack({**blocks, "amplitude_biases": blocks["amplitude_biases"] + np.log(100)})


def test_counts_per_voxel(bias, params, delta, grid, many) -> None:
    log_lambda = hm.log_expected(bias, scaled(bias, params), delta, grid)
    expected = grid.voxel_volume * np.exp(np.asarray(log_lambda))
    margin = 0 if grid.boundary == "periodic" else 1
    counts = np.zeros(grid.shape)
    np.add.at(counts, tuple(many.voxel.T), 1)
    inner = tuple(slice(margin, n - margin) for n in grid.shape)
    assert counts.sum() == counts[inner].sum()
    enough = expected > 5
    chi2 = ((counts[inner] - expected) ** 2 / expected)[enough]
    assert 1e-3 < stats.chi2.sf(chi2.sum(), len(chi2)) < 1 - 1e-3  # seeded
    assert stats.poisson.sf(counts.sum(), expected.sum()) > 1e-3


def test_masses(bias, params, delta, grid, many) -> None:
    """The expected fraction below each mass, from the integral of the intensity over the box."""
    u = np.linspace(np.log(2e12), np.log(2e16), 400)
    log_n = hm.log_intensity(bias, scaled(bias, params), delta, grid, u)
    density = np.asarray(jnp.sum(jnp.exp(log_n), axis=(1, 2, 3))) * np.exp(u)
    cumulative = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    cumulative /= cumulative[-1]

    def cdf(v: np.ndarray) -> np.ndarray:
        return np.interp(v, u, cumulative)

    assert stats.kstest(many.log_mass, cdf).pvalue > 1e-3  # seeded


def test_positions_are_uniform_in_the_voxels(grid, many) -> None:
    np.testing.assert_array_equal(grid.voxel_of(many.position), many.voxel)
    inside = many.position / np.array(grid.voxel_size) % 1
    for axis in range(3):
        assert stats.kstest(inside[:, axis], "uniform").pvalue > 1e-3


def test_completeness_thins(bias, params, delta, grid, key) -> None:
    coverage = np.zeros(grid.shape)
    coverage[:4] = 0.5
    halos = hm.simulate(key, bias, scaled(bias, params), delta, grid, completeness=coverage)
    full = hm.log_expected(bias, scaled(bias, params), delta, grid)
    margin = 0 if grid.boundary == "periodic" else 1
    expected = 0.5 * grid.voxel_volume * float(jnp.sum(jnp.exp(full[: 4 - margin])))
    assert halos.voxel[:, 0].max() < 4
    assert abs(halos.num_halos - expected) < 4 * np.sqrt(expected)


def test_the_same_key_gives_the_same_catalogue(bias, params, delta, grid, halos, key) -> None:
    again = hm.simulate(key, bias, params, delta, grid)
    np.testing.assert_array_equal(again.position, halos.position)
    np.testing.assert_array_equal(again.log_mass, halos.log_mass)


def test_absurd_parameters_are_refused(bias, delta, grid, key) -> None:
    with pytest.raises(hm.InputError, match=r"predict .* halos"):
        hm.simulate(key, bias, jnp.full(17, 30.0), delta, grid)
    with pytest.raises(hm.InputError, match="predict"):
        hm.simulate(key, bias, jnp.zeros(17), delta, grid)


def test_an_empty_draw_is_a_catalogue(bias, params, delta, grid, key) -> None:
    blocks = bias.unpack(params)
    blocks["amplitude_biases"] = blocks["amplitude_biases"] - 50
    empty = bias.pack(blocks)
    halos = hm.simulate(key, bias, empty, delta, grid)
    assert halos.num_halos == 0
    assert hm.log_likelihood(bias, empty, delta, halos) < 0

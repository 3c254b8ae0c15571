"""A frozen first layer of the neural physical engine before the one that is fitted."""

from __future__ import annotations

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import convolve

import halo_mdn as hm
from halo_mdn.bias.base import features_of_density
from halo_mdn.errors import InputError
from halo_mdn.likelihood.compressed import compress
from halo_mdn.likelihood.devices.likelihood import sharded_adjoint
from halo_mdn.likelihood.devices.slabs import shard_catalogue, shard_field
from halo_mdn.predictions.clustering import response_of_features

FIRST = (0.5, 0.05, 0.02, -0.01, 0.3, -0.4, 0.1, 0.03, 0.02, -0.2)  # two filters
WEIGHTS = (0, 1, 2, 3)  # shells: number of coordinates in which a cell differs from the centre


@pytest.fixture
def layered() -> hm.NeuralBias:
    return hm.NeuralBias(first_layer=FIRST, filters=2)


def params_of(bias: hm.NeuralBias) -> jax.Array:
    blocks = bias.blocks_of(0.1 * np.random.default_rng(3).normal(size=bias.num_params))
    blocks["mean_biases"] += np.array([-2.0, 1.5])
    blocks["width_biases"] -= 6.5
    return jnp.asarray(np.concatenate([block.ravel() for block in blocks.values()]))


def cube(values) -> np.ndarray:
    """A 3x3x3 kernel with one value per shell."""
    kernel = np.zeros((3, 3, 3))
    for cell in product((-1, 0, 1), repeat=3):
        kernel[tuple(i + 1 for i in cell)] = values[sum(map(abs, cell))]
    return kernel


def by_convolution(delta: np.ndarray) -> np.ndarray:
    """The features of a periodic box with plain convolutions, (F, N0, N1, N2)."""
    x = np.log1p(delta)
    fields = [x]
    for *weights, shift in np.reshape(FIRST, (2, 5)):
        convolved = convolve(x, cube(weights), mode="wrap")
        fields += [np.log1p(np.exp(convolved + shift)), np.exp(convolved)]
    shells = [cube(np.eye(4)[shell]) for shell in WEIGHTS]
    return np.stack([convolve(field, shell, mode="wrap") for field in fields for shell in shells])


def test_features_are_those_of_plain_convolutions(layered, delta, grid):
    expected = by_convolution(delta)
    if grid.boundary == "interior":
        expected = expected[:, 2:-2, 2:-2, 2:-2]  # both kernels reach one voxel
    got = features_of_density(layered, jnp.asarray(delta), grid)
    assert layered.basis.num_features == len(got) == len(layered.coords["kernel_weight"]) == 20
    assert layered.domain(grid).shape == expected.shape[1:]
    assert np.allclose(got, expected.reshape(20, -1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("moved", ["shifted", "turned", "mirrored"])
def test_symmetries_of_the_grid(layered, delta, moved):
    change = {
        "shifted": lambda field: np.roll(field, (1, 3, -2), (-3, -2, -1)),
        "turned": lambda field: np.moveaxis(field, -1, -3),
        "mirrored": lambda field: field[..., ::-1, :],
    }[moved]

    def intensity(field):
        grid = hm.Grid(field.shape, tuple(4.0 * n for n in field.shape))
        return np.asarray(hm.log_expected(layered, params_of(layered), field, grid))

    assert np.allclose(intensity(change(delta)), change(intensity(delta)), rtol=1e-12)


def test_adjoint_against_differences(layered, delta, halos):
    params = params_of(layered)
    out = hm.adjoint(layered, params, delta, halos)
    direction = np.random.default_rng(1).normal(size=delta.shape) * (1 + delta)
    step = 1e-5
    high, low = (
        float(hm.log_likelihood(layered, params, delta + sign * step * direction, halos))
        for sign in (1, -1)
    )
    along = float(np.vdot(out.delta_cot, direction))
    assert along == pytest.approx((high - low) / (2 * step), rel=1e-6)


def test_halos_and_voxels_see_the_same(layered, delta, halos):
    log_l = hm.fixed_field_likelihood(layered, delta, halos)
    assert log_l.halo_voxel.max() < log_l.features.shape[1]
    assert np.array_equal(log_l.halo_features, log_l.features[:, log_l.halo_voxel])
    blocks = log_l.by_block(params_of(layered), 2)
    assert float(jnp.sum(blocks)) == pytest.approx(float(log_l(params_of(layered))), rel=1e-12)


def test_on_several_devices(layered, delta, key, params):
    grid = hm.Grid((10, 8, 8), (40.0, 32.0, 32.0))
    field = np.exp(np.random.default_rng(3).normal(size=grid.shape) - 0.5) - 1
    halos = hm.simulate(key, hm.NeuralBias(), params, field, grid)
    mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    one = hm.adjoint(layered, params_of(layered), field, halos)
    several = sharded_adjoint(
        layered, params_of(layered), shard_field(field, mesh), shard_catalogue(halos, mesh)
    )
    for got, expected in zip(several, one, strict=True):
        assert np.allclose(got, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())


def test_it_is_compressed_within_the_measured_error(layered, params):
    grid = hm.Grid((24,) * 3, (96.0,) * 3)
    field = np.exp(0.5 * np.random.default_rng(3).normal(size=grid.shape) - 0.1) - 1
    halos = hm.simulate(jax.random.key(0), hm.NeuralBias(), params, field, grid)
    log_l = hm.fixed_field_likelihood(layered, field, halos)
    centre = np.asarray(params_of(layered))
    trials = centre + 0.01 * np.random.default_rng(0).normal(size=(4, len(centre)))
    small = compress(log_l, centre, trials, tolerance=1.0)
    error = [float(small.log_likelihood(p) - log_l(p)) for p in trials]
    assert np.std(error) == pytest.approx(small.error_sd, abs=1e-6)
    assert small.num_nodes < log_l.features.shape[1] / 2


def test_response_to_a_denser_universe(layered, delta, grid):
    """Against differences of the features of fields multiplied by e^eps."""
    step = 1e-5
    high, low = (
        features_of_density(layered, jnp.asarray((1 + delta) * np.exp(sign * step) - 1), grid)
        for sign in (1, -1)
    )
    got = response_of_features(layered, delta, grid)
    assert np.allclose(got, (high - low) / (2 * step), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("values", [(1.0, 2.0), (np.nan,) * 5])
def test_what_is_no_filter_is_refused(values):
    with pytest.raises(InputError, match="first_layer has"):
        hm.NeuralBias(first_layer=values)


def test_multipoles_are_refused():
    with pytest.raises(InputError, match="first_layer"):
        hm.NeuralBias(first_layer=FIRST, multipoles=(0, 2))

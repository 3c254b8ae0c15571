"""Parameter counts, blocks and settings of the network."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import halo_mdn as hm

SETTINGS = [
    {},
    {"kernel_size": (3, 5, 1), "grouping": "orbit"},
    {"multipoles": (0, 1, 2), "filters": 2},
    {"hidden_layers": (4, 3), "components": 3, "filters": 2},
    {"components": 1, "ordering": "softplus"},
]


def test_the_default_has_17_parameters_in_the_order_of_the_notebook() -> None:
    blocks = hm.NeuralBias().unpack(jnp.arange(17.0))
    expected = {
        "kernel_weights": [[0, 1, 2, 3]],
        "kernel_biases": [4],
        "amplitude_kernels": [[5, 6]],
        "amplitude_biases": [7, 8],
        "mean_kernels": [[9, 10]],
        "mean_biases": [11, 12],
        "width_kernels": [[13, 14]],
        "width_biases": [15, 16],
    }
    assert list(blocks) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(blocks[name], values)


@pytest.mark.parametrize("hidden, filters", [((), 1), ((10, 16), 3)])
def test_parameter_count_formula(hidden: tuple[int, ...], filters: int) -> None:
    components = 3
    layers = (filters, *hidden)
    connected = sum(a * b + b for a, b in zip(layers[:-1], layers[1:], strict=True))
    expected = 4 * filters + filters + connected + (layers[-1] * components + components) * 3
    bias = hm.NeuralBias(hidden_layers=hidden, filters=filters, components=components)
    assert bias.num_params == expected


@pytest.mark.parametrize("settings", SETTINGS)
def test_blocks_round_trip_and_are_described(settings: dict) -> None:
    bias = hm.NeuralBias(**settings)
    params = jax.random.normal(jax.random.key(0), (2, 5, bias.num_params))
    blocks = bias.unpack(params)
    np.testing.assert_array_equal(bias.pack(blocks), params)
    assert list(blocks) == list(bias.block_shapes) == list(bias.block_dims)
    for name, dims in bias.block_dims.items():
        assert bias.block_shapes[name] == tuple(len(bias.coords[dim]) for dim in dims)


@pytest.mark.parametrize("settings", SETTINGS)
def test_mixture_is_ordered_and_positive(settings: dict) -> None:
    bias = hm.NeuralBias(**settings)
    params = jax.random.normal(jax.random.key(1), (bias.num_params,))
    features = jax.random.normal(jax.random.key(2), (bias.basis.num_features, 50))
    mixture = bias.mass_function(params, features)
    assert mixture.mean.shape == (bias.components, 50)
    assert (jnp.diff(mixture.mean, axis=0) >= 0).all()
    assert (mixture.width > 0).all() and jnp.isfinite(mixture.log_amplitude).all()


def test_errors_name_the_sizes() -> None:
    bias = hm.NeuralBias()
    with pytest.raises(
        hm.InputError, match=r"shape \(16,\), expected \(..., 17\): kernel_weights 4"
    ):
        bias.unpack(jnp.zeros(16))
    with pytest.raises(hm.InputError, match="expected"):
        bias.pack({"kernel_weights": jnp.zeros((1, 4))})
    blocks = bias.unpack(jnp.zeros(17))
    with pytest.raises(hm.InputError, match="block mean_biases has shape"):
        bias.pack({**blocks, "mean_biases": jnp.zeros(3)})


@pytest.mark.parametrize(
    "setting",
    [
        {"kernel_size": 4},
        {"kernel_size": (3, 3)},
        {"multipoles": ()},
        {"multipoles": (0, 0)},
        {"multipoles": (-1,)},
        {"kernel_size": 1, "multipoles": (1,)},
        {"grouping": "shell"},
        {"filters": 0},
        {"hidden_layers": (0,)},
        {"components": 0},
        {"ordering": "sorted"},
        {"mass_threshold": 0.0},
        {"density_floor": -1.0},
        {"prior_scale": 0.0},
    ],
)
def test_bad_settings(setting: dict) -> None:
    with pytest.raises(hm.InputError, match=f"{list(setting)[-1]}|kernel_size|multipoles"):
        hm.NeuralBias(**setting)

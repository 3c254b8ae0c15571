"""Networks that see several channels: the fast value and gradient against the definition."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import halo_mdn as hm
from halo_mdn.likelihood.definition import definition
from halo_mdn.likelihood.table import evaluate, many_channels

NETWORKS = {
    "two filters": hm.NeuralBias(filters=2),
    "three filters, three components": hm.NeuralBias(filters=3, components=3, ordering="softplus"),
    "multipoles": hm.NeuralBias(multipoles=(0, 2), filters=2, components=1),
    "hidden layer": hm.NeuralBias(kernel_size=5, filters=2, hidden_layers=(4,)),
}
ROUNDING = 1e-12  # relative, of sums over a thousand voxels


@pytest.fixture(params=NETWORKS, ids=str)
def network(request) -> hm.NeuralBias:
    return NETWORKS[request.param]


def typical(bias: hm.NeuralBias, seed: int = 1) -> jax.Array:
    """Parameters with a mass function like that of halos, in every channel."""
    blocks = bias.blocks_of(0.3 * np.random.default_rng(seed).normal(size=bias.num_params))
    blocks["mean_biases"] += np.array([-2.0, 1.5, 1.0])[: bias.components]
    blocks["width_biases"] += -6.5
    blocks["amplitude_biases"] += 2.0
    return jnp.asarray(np.concatenate([block.ravel() for block in blocks.values()]))


def check(log_l, params) -> None:
    """Value and gradient agree, and are not those of the fallback."""
    expected, slopes = jax.value_and_grad(definition, argnums=1)(log_l, params)
    got, grad, trusted = jax.jit(many_channels.value_and_grad)(log_l, params)
    assert trusted and evaluate.applies(log_l)
    assert float(got) == pytest.approx(float(expected), rel=ROUNDING)
    assert np.allclose(grad, slopes, rtol=1e-9, atol=ROUNDING * np.abs(slopes).max())
    through, public = jax.value_and_grad(lambda p: log_l(p))(params)
    assert float(through) == float(got)
    assert np.allclose(public, grad, rtol=1e-12, atol=0)


def test_networks_agree_with_the_definition(network, delta, halos):
    check(hm.fixed_field_likelihood(network, delta, halos), typical(network))


def test_the_last_piece_repeats_nothing(monkeypatch, delta, halos):
    bias = NETWORKS["two filters"]
    log_l = hm.fixed_field_likelihood(bias, delta, halos)
    monkeypatch.setattr(many_channels, "CHUNK", 100)
    assert log_l.features.shape[1] % 100 and log_l.halos.log_mass.shape[0] % 100
    check(log_l, typical(bias))


def test_completeness_and_several_catalogues(delta, grid, params):
    bias = NETWORKS["two filters"]
    coverage = np.random.default_rng(5).random(grid.shape)
    coverage[:2] = 0.0
    halos = hm.simulate(jax.random.key(3), hm.NeuralBias(), params, delta, grid)
    both = [
        hm.HaloCatalogue.from_voxels(
            np.roll(halos.voxel, shift, axis=0), halos.log_mass, grid, completeness=coverage
        )
        for shift in (0, 3)
    ]
    check(hm.fixed_field_likelihood(bias, delta, hm.HaloCatalogue.stack(both)), typical(bias))


def test_nodes_that_stand_for_voxels(delta, halos):
    bias = NETWORKS["three filters, three components"]
    log_l = hm.fixed_field_likelihood(bias, delta, halos)
    some = np.arange(0, log_l.features.shape[1], 3)
    weight = jnp.asarray(np.random.default_rng(2).random(len(some)) * 5)
    nodes = replace(log_l, features=log_l.features[:, some], multiplicity=weight)
    check(nodes, typical(bias))


def test_without_halos(delta, halos):
    bias = NETWORKS["two filters"]
    log_l = hm.fixed_field_likelihood(bias, delta, halos).with_halos(np.arange(0))
    check(log_l, typical(bias))


@pytest.mark.parametrize(
    "block, value",
    [
        ("width_biases", 60.0),
        ("width_biases", -200.0),
        ("amplitude_biases", -900.0),
        ("mean_biases", 900.0),
    ],
)
def test_extreme_parameters_get_the_definition(block, value, delta, halos):
    """Widths that overflow, or none; amplitudes that underflow; halos beyond number."""
    bias = NETWORKS["two filters"]
    log_l = hm.fixed_field_likelihood(bias, delta, halos)
    blocks = bias.blocks_of(np.array(typical(bias)))
    blocks[block] = np.full_like(blocks[block], value)
    params = jnp.asarray(np.concatenate([part.ravel() for part in blocks.values()]))
    expected, slopes = jax.value_and_grad(definition, argnums=1)(log_l, params)
    got, grad = jax.value_and_grad(lambda p: log_l(p))(params)
    assert float(got) == pytest.approx(float(expected), rel=1e-9) or got == expected
    assert np.allclose(grad, slopes, rtol=1e-8, atol=1e-9 * np.abs(slopes).max())


def test_second_derivatives_and_batches(delta, halos):
    bias = NETWORKS["two filters"]
    log_l = hm.fixed_field_likelihood(bias, delta, halos)
    params = typical(bias)
    expected = jax.hessian(definition, argnums=1)(log_l, params)
    got = jax.hessian(lambda p: log_l(p))(params)
    assert np.allclose(got, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())
    several = jnp.stack([params, typical(bias, seed=2)])
    values = jax.vmap(lambda p: log_l(p))(several)
    assert np.allclose(values, [log_l(p) for p in several], rtol=ROUNDING)


def test_what_it_is_not_for(delta, halos, grid):
    bias = NETWORKS["two filters"]
    in_float32 = hm.fixed_field_likelihood(bias, delta.astype(np.float32), halos)
    assert not evaluate.applies(in_float32)
    scattered = replace(halos, observation=hm.MassObservation(scatter=0.1))
    assert not evaluate.applies(hm.fixed_field_likelihood(bias, delta, scattered))

"""The fast adjoint against automatic differentiation of the definition."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import halo_mdn as hm
from halo_mdn.likelihood.adjoint import with_adjoint
from halo_mdn.likelihood.definition import definition
from halo_mdn.likelihood.table import evaluate as fast
from halo_mdn.likelihood.table import field_adjoint as fast_adjoint

REALISTIC = np.array(
    [0.3, 0.05, 0.02, 0.01, 0.2, 2.6, 2.2, -4.4, -5.1, 0.05, 0.35, -0.4, 0.5, 0.08, 0.05]
    + [-6.5, -7.1]
)
SHARP = 10 * np.random.default_rng(1).normal(size=17)  # the table cannot follow these


@pytest.mark.parametrize("boundary", ["periodic", "interior"])
@pytest.mark.parametrize("params", [REALISTIC, SHARP], ids=["table", "definition"])
def test_agrees_with_automatic_differentiation(params, boundary):
    rng = np.random.default_rng(4)
    shape = (6, 8, 10)
    delta = jnp.asarray(np.exp(0.8 * rng.normal(size=shape)) - 1)
    halos = hm.HaloCatalogue.from_voxels(
        rng.integers(0, shape, size=(2, 60, 3)),
        np.log(2e12) + rng.exponential(0.8, size=(2, 60)),
        hm.Grid(shape, (24.0, 32.0, 40.0), boundary),
        completeness=rng.uniform(0.2, 1, size=shape),
    )
    bias = hm.NeuralBias()
    log_l = hm.fixed_field_likelihood(bias, delta, halos)
    params = jnp.asarray(params)
    t = [bias.activation(params, f)[0] for f in (log_l.features, log_l.halo_features)]
    assert fast.from_table(log_l, params, *t)[1] == (params[0] == REALISTIC[0])
    got = jax.jit(fast_adjoint.value_and_cotangents)(log_l, params, delta)
    # Each piece of the chain rule from the definition, features and field by autodiff.
    value, params_cot = jax.jit(jax.value_and_grad(definition, argnums=1))(log_l, params)
    delta_cot = jax.jit(
        jax.grad(lambda d: definition(hm.fixed_field_likelihood(bias, d, halos), params))
    )(delta)
    # Rounding: gradients are sums of a few hundred terms of either sign.
    for a, b in zip(got, (value, delta_cot, params_cot), strict=True):
        assert np.max(np.abs(a - b)) < 1e-11 * np.max(np.abs(b))


@pytest.mark.parametrize("boundary", ["periodic", "interior"])
def test_the_size_of_chunks_does_not_matter(boundary):
    rng = np.random.default_rng(6)
    shape = (12, 6, 5)
    delta = np.exp(0.8 * rng.normal(size=shape)) - 1
    grid = hm.Grid(shape, (48.0, 24.0, 20.0), boundary)
    voxel = rng.integers(0, shape, size=(80, 3))
    halos = hm.HaloCatalogue.from_voxels(voxel, np.log(2e12) + rng.exponential(size=80), grid)
    whole = hm.adjoint(hm.NeuralBias(), REALISTIC, delta, halos, chunk_size=10**6)
    for chunk_size in (1, 61, 100):  # one plane, two planes, three planes of 30 voxels
        part = hm.adjoint(hm.NeuralBias(), REALISTIC, delta, halos, chunk_size=chunk_size)
        for a, b in zip(part, whole, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12 * np.max(np.abs(b)))
    with pytest.raises(hm.InputError, match="chunk_size"):
        hm.adjoint(hm.NeuralBias(), REALISTIC, delta, halos, chunk_size=0)


def test_an_empty_cell_shows():
    """Traced, nothing can be refused; the result must not look like a number."""
    delta = jnp.full((4, 4, 4), 0.1).at[1, 2, 3].set(-1.0)
    grid = hm.Grid((4, 4, 4), (16.0, 16.0, 16.0))
    halos = hm.HaloCatalogue.from_voxels(np.array([[0, 0, 0]]), np.array([29.0]), grid)
    traced = jax.jit(lambda d: hm.adjoint(hm.NeuralBias(), REALISTIC, d, halos))
    assert not np.isfinite(traced(delta).value)
    floored = jax.jit(lambda d: hm.adjoint(hm.NeuralBias(density_floor=0.1), REALISTIC, d, halos))
    got = floored(delta)
    assert np.isfinite(got.value) and got.delta_cot[1, 2, 3] == 0


def test_a_log_likelihood_with_the_adjoint_as_gradient():
    rng = np.random.default_rng(8)
    delta = jnp.asarray(np.exp(0.5 * rng.normal(size=(6, 6, 6))) - 1)
    grid = hm.Grid((6, 6, 6), (24.0,) * 3)
    voxel = rng.integers(0, 6, size=(40, 3))
    halos = hm.HaloCatalogue.from_voxels(voxel, np.log(2e12) + rng.exponential(size=40), grid)
    bias, params = hm.NeuralBias(), jnp.asarray(REALISTIC)

    def twice(log_l):
        return jax.jit(jax.value_and_grad(lambda p, d: 2 * log_l(bias, p, d, halos), (0, 1)))

    got, expected = (
        twice(with_adjoint)(params, delta),
        twice(hm.log_likelihood)(params, delta),
    )
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert np.max(np.abs(a - b)) < 1e-11 * np.max(np.abs(b))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jacfwd(lambda p: with_adjoint(bias, p, delta, halos))(params)

"""The fast path of the fixed-field likelihood against the readable definition."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import halo_mdn as hm
from halo_mdn.likelihood.definition import definition
from halo_mdn.likelihood.table import evaluate as fast
from halo_mdn.likelihood.table.elementary import log_positive, softplus_and_slope

# Parameters that give a real mass function (two components).
REALISTIC = np.array(
    [0.3, 0.05, 0.02, 0.01, 0.2, 2.6, 2.2, -4.4, -5.1, 0.05, 0.35, -0.4, 0.5, 0.08, 0.05]
    + [-6.5, -7.1]
)
SMOOTH = 1e-9  # the fast path switches itself off above this error


@jax.jit
def trusts(log_l, params):
    """Whether the fast path trusts its table here."""
    see = partial(log_l.bias.activation, params)
    t = [see(f)[0] for f in (log_l.features, log_l.halo_features)]
    return fast.from_table(log_l, params, *t)[1]


value_and_grad = jax.jit(partial(fast.value_and_grad, definition))
expected_value_and_grad = jax.jit(jax.value_and_grad(definition, argnums=1))


def problem(
    *, boundary="periodic", catalogues=1, completeness=None, shape=(12, 10, 14), halos=300, **bias
):
    """A fixed-field likelihood on a log-normal field with halos of random places and masses."""
    rng = np.random.default_rng(3)
    delta = np.exp(0.8 * rng.normal(size=shape)) - 1
    grid = hm.Grid(shape, tuple(4.0 * n for n in shape), boundary)
    voxel = rng.integers(0, shape, size=(catalogues, halos, 3))
    log_mass = np.log(2e12) + rng.exponential(0.8, size=(catalogues, halos))
    if completeness is not None:
        completeness = rng.uniform(0.2, 1, size=shape)
    catalogue = hm.HaloCatalogue.from_voxels(voxel, log_mass, grid, completeness=completeness)
    return hm.fixed_field_likelihood(hm.NeuralBias(**bias), delta, catalogue)


def realistic(components, ordering):
    """Parameters of a real mass function for any number of components, all steps on."""
    heads = {
        "amplitude_kernels": 2.4,
        "amplitude_biases": -4.6 - np.arange(components),
        "mean_kernels": 0.2,
        "mean_biases": np.where(np.arange(components) == 0, -0.4, 0.5),
        "width_kernels": 0.06,
        "width_biases": -6.5 - 0.3 * np.arange(components),
    }
    heads = [np.broadcast_to(value, components) for value in heads.values()]
    return np.concatenate([REALISTIC[:5], *heads])


def values_of(log_l, params):
    """Value and gradient of the fast path (and its own trust in them), and of the definition."""
    params = jnp.asarray(params)
    got = (*value_and_grad(log_l, params), trusts(log_l, params))
    return got, expected_value_and_grad(log_l, params)


def check_agrees(log_l, params, tolerance):
    (value, grad, trusted), (expected_value, expected_grad) = values_of(log_l, params)
    assert trusted
    assert float(value) == pytest.approx(float(expected_value), rel=tolerance)
    scale = np.linalg.norm(expected_grad)
    assert np.linalg.norm(grad - expected_grad) < tolerance * scale


@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"boundary": "interior"},
        {"catalogues": 3},
        {"completeness": True},
        {"completeness": True, "boundary": "interior", "catalogues": 2},
        {"kernel_size": 1},
    ],
    ids=lambda setting: "-".join(setting) or "default",
)
def test_agrees_with_the_definition(setting):
    params = REALISTIC
    if "kernel_size" in setting:
        params = np.concatenate([REALISTIC[:1], REALISTIC[4:]])
    # Smooth parameters: what is left is rounding.
    check_agrees(problem(**setting), params, 1e-12)


@pytest.mark.parametrize("ordering", ["relu", "softplus"])
@pytest.mark.parametrize("components", [1, 2, 3])
def test_agrees_for_any_mixture(components, ordering):
    log_l = problem(components=components, ordering=ordering)
    check_agrees(log_l, realistic(components, ordering), 1e-12)


@pytest.mark.parametrize("components", [2, 3])
def test_kinks_of_the_means_inside_the_range(components):
    params = realistic(components, "relu")
    start = 5 + 2 * components
    params[start : start + components] = [0.2, 1.5, -1.2][:components]
    biases = slice(start + components, start + 2 * components)
    params[biases] = [-0.4, -1.2, 1.1][:components]
    log_l = problem(components=components)
    t = log_l.bias.activation(jnp.asarray(params), log_l.features)
    kinks = np.asarray(log_l.bias.kinks(jnp.asarray(params), t.min(), t.max()))
    assert np.all((kinks > t.min()) & (kinks < t.max()))
    check_agrees(log_l, params, 1e-11)


def test_whenever_trusted_it_is_right():
    log_l = problem()
    rng = np.random.default_rng(5)
    trusted = 0
    for scale in np.repeat([0.1, 0.3, 1.0, 10.0], 10):
        params = (scale < 10) * REALISTIC + scale * rng.normal(size=17)
        (value, grad, ok), (expected_value, expected_grad) = values_of(log_l, params)
        if ok:
            trusted += 1
            assert float(value) == pytest.approx(float(expected_value), rel=SMOOTH)
            assert np.linalg.norm(grad - expected_grad) < SMOOTH * np.linalg.norm(expected_grad)
    assert 10 < trusted < 40  # the test must see both outcomes


def test_falls_back_to_the_definition():
    log_l = problem()
    params = jnp.asarray(10 * np.random.default_rng(1).normal(size=17))
    assert not trusts(log_l, params)
    value, grad = value_and_grad(log_l, params)
    expected_value, expected_grad = expected_value_and_grad(log_l, params)
    np.testing.assert_allclose(value, expected_value, rtol=1e-13)
    assert np.linalg.norm(grad - expected_grad) < 1e-12 * np.linalg.norm(expected_grad)


@pytest.mark.parametrize("value", [0.0, 1e3, -1e3])
def test_never_nan(value):
    got, grad = value_and_grad(problem(), jnp.full(17, value))
    assert not np.isnan(got)
    assert np.all(np.isfinite(grad))


def test_batches_equal_single_evaluations():
    log_l = problem()
    rng = np.random.default_rng(2)
    params = jnp.asarray(np.stack([REALISTIC, REALISTIC + 0.1, 10 * rng.normal(size=17)]))
    each = [value_and_grad(log_l, p) for p in params]
    both = jax.value_and_grad(partial(fast.evaluate, definition), argnums=1)
    together = jax.jit(jax.vmap(both, (None, 0)))(log_l, params)
    for got, expected in zip(together, zip(*each, strict=True), strict=True):
        np.testing.assert_allclose(got, np.stack(expected), rtol=1e-13)


def test_derivatives_of_higher_order_and_in_other_arguments():
    log_l, params = problem(), jnp.asarray(REALISTIC)
    expected = jax.jit(jax.hessian(definition, argnums=1))(log_l, params)
    # The curvature of a cubic fit: one order less than the gradient.
    got = jax.jit(jax.hessian(partial(fast.evaluate, definition), argnums=1))(log_l, params)
    scale = np.sqrt(np.abs(np.diag(expected)))
    assert np.max(np.abs(got - expected) / np.outer(scale, scale)) < 1e-6
    tangent = jnp.arange(17.0)
    function = jax.jit(partial(fast.evaluate, definition))
    _, along = jax.jvp(lambda p: function(log_l, p), (params,), (tangent,))
    expected = expected_value_and_grad(log_l, params)[1] @ tangent
    assert float(along) == pytest.approx(float(expected), rel=1e-10)

    def gradient(function):
        of_features = lambda f: function(replace(log_l, features=f), params)  # noqa: E731
        return jax.jit(jax.grad(of_features))(log_l.features)

    got = gradient(partial(fast.evaluate, definition))
    np.testing.assert_allclose(got, gradient(definition), rtol=1e-12)


def test_elementary_functions():
    x = jnp.linspace(-700, 700, 5001)
    value, slope = softplus_and_slope(x)
    # numpy's logaddexp is exact to rounding; 4 ulp for the rational approximation.
    np.testing.assert_allclose(value, np.logaddexp(0, x), rtol=1e-15)
    np.testing.assert_allclose(slope, np.exp(-np.logaddexp(0, -np.asarray(x))), rtol=1e-12)
    y = jnp.exp(x)
    np.testing.assert_allclose(log_positive(y), np.log(y), rtol=4e-16, atol=4e-16)
    for function in (lambda x: softplus_and_slope(x)[0], lambda x: softplus_and_slope(x)[1]):
        step = 1e-6
        numeric = (function(0.3 + step) - function(0.3 - step)) / (2 * step)
        assert jax.grad(function)(0.3) == pytest.approx(float(numeric), rel=1e-8)
    assert jax.grad(log_positive)(2.0) == 0.5

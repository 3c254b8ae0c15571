"""The likelihood: gradients, symmetries, selection, robustness."""

from __future__ import annotations

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import halo_mdn as hm
from halo_mdn.likelihood.definition import definition, log_density_of, log_integral_of


def select(halos: hm.HaloCatalogue, grid: hm.Grid, **changes: object) -> hm.HaloCatalogue:
    arguments = {"voxel": halos.voxel, "log_mass": halos.log_mass, **changes}
    return hm.HaloCatalogue.from_voxels(**arguments, grid=grid)  # type: ignore[arg-type]


def test_is_the_sum_over_halos_minus_the_integral(bias, params, delta, grid, halos) -> None:
    """The definition, written out with the public fields."""
    log_lambda = hm.log_expected(bias, params, delta, grid)
    expected = grid.voxel_volume * jnp.sum(jnp.exp(log_lambda))
    margin = 0 if grid.boundary == "periodic" else 1
    total = 0.0
    for voxel, log_mass in zip(halos.voxel, halos.log_mass, strict=True):
        log_n = hm.log_intensity(bias, params, delta, grid, log_mass)
        total += log_n[tuple(voxel - margin)]
    actual = hm.log_likelihood(bias, params, delta, halos)
    np.testing.assert_allclose(actual, total - expected, rtol=1e-13)


def test_gradients_against_differences(bias, params, delta, halos) -> None:
    out = hm.adjoint(bias, params, delta, halos)
    np.testing.assert_allclose(out.value, hm.log_likelihood(bias, params, delta, halos), rtol=1e-14)
    rng = np.random.default_rng(4)
    to_params, to_delta = rng.normal(size=17), rng.normal(size=delta.shape) * (1 + delta)
    weights = np.array([1, -8, 8, -1]) / 12  # fourth order

    def difference(step: float) -> float:
        values = [
            hm.log_likelihood(
                bias, params + n * step * to_params, delta + n * step * to_delta, halos
            )
            for n in (-2, -1, 1, 2)
        ]
        return float(sum(w * v for w, v in zip(weights, values, strict=True)) / step)

    analytic = out.params_cot @ to_params + jnp.sum(out.delta_cot * to_delta)
    # truncation (1e-4)^4 and rounding 1e-16 * 1e4 / 1e-4 both stay below 1e-7
    np.testing.assert_allclose(difference(1e-4), analytic, rtol=1e-7)


def test_fixed_field_is_the_same_function(bias, params, delta, halos) -> None:
    log_l = hm.fixed_field_likelihood(bias, delta, halos)
    expected = hm.adjoint(bias, params, delta, halos)
    value, gradient = jax.jit(jax.value_and_grad(lambda p, f: f(p)))(params, log_l)
    np.testing.assert_allclose(value, expected.value, rtol=1e-13)
    np.testing.assert_allclose(gradient, expected.params_cot, rtol=1e-10)
    np.testing.assert_allclose(log_l.by_block(params, 2).sum(), expected.value, rtol=1e-12)


def test_halo_order_and_padding_do_not_matter(bias, params, delta, grid, halos) -> None:
    value = hm.log_likelihood(bias, params, delta, halos)
    order = np.random.default_rng(5).permutation(len(halos.log_mass))
    shuffled = select(halos, grid, voxel=halos.voxel[order], log_mass=halos.log_mass[order])
    padded = select(
        halos,
        grid,
        voxel=np.pad(halos.voxel, [(0, 7), (0, 0)], constant_values=-99),
        log_mass=np.pad(halos.log_mass, (0, 7), constant_values=np.nan),
        selected=np.pad(np.ones(len(order), dtype=bool), (0, 7)),
    )
    for same in (shuffled, padded):
        np.testing.assert_allclose(hm.log_likelihood(bias, params, delta, same), value, rtol=1e-13)


def test_translation_wraps(bias, params, delta) -> None:
    grid = hm.Grid(delta.shape, (32.0, 36.0, 40.0))
    halos = hm.simulate(jax.random.key(1), bias, params, delta, grid)
    value = hm.log_likelihood(bias, params, delta, halos)
    shift = np.array([3, 5, 7])
    moved = select(halos, grid, voxel=(halos.voxel + shift) % np.array(grid.shape))
    rolled = np.roll(delta, shift, axis=(0, 1, 2))
    np.testing.assert_allclose(hm.log_likelihood(bias, params, rolled, moved), value, rtol=1e-13)
    stale = hm.log_likelihood(bias, params, rolled, halos)
    assert abs(stale - value) > 1  # the halos did not move along: another likelihood


@pytest.mark.parametrize("multipoles", [(0,), (0, 1, 2)])
def test_rotation(multipoles: tuple[int, ...]) -> None:
    bias = hm.NeuralBias(multipoles=multipoles)
    grid = hm.Grid((7, 7, 7), (28.0, 28.0, 28.0))
    rng = np.random.default_rng(6)
    delta = rng.gamma(2.0, 0.5, grid.shape) - 0.99
    voxel, log_mass = rng.integers(0, 7, (50, 3)), np.log(2e12) + rng.exponential(1.0, 50)
    params = 0.3 * rng.normal(size=bias.num_params) - 1
    halos = hm.HaloCatalogue.from_voxels(voxel, log_mass, grid)
    turned = np.stack([6 - voxel[:, 1], voxel[:, 0], voxel[:, 2]], axis=-1)
    rotated = hm.HaloCatalogue.from_voxels(turned, log_mass, grid)
    expected = hm.log_likelihood(bias, params, delta, halos)
    actual = hm.log_likelihood(bias, params, np.rot90(delta), rotated)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_completeness_enters_sum_and_integral(bias, params, delta, grid, halos) -> None:
    coverage = np.random.default_rng(7).uniform(0.2, 1, grid.shape)
    coverage[: grid.shape[0] // 2] = 0
    observed = select(halos, grid, completeness=coverage)
    assert 0 < observed.num_halos < halos.num_halos
    margin = 0 if grid.boundary == "periodic" else 1
    inner = tuple(slice(margin, n - margin) for n in grid.shape)
    log_lambda = hm.log_expected(bias, params, delta, grid)
    expected = -grid.voxel_volume * jnp.sum(coverage[inner] * jnp.exp(log_lambda))
    for voxel, log_mass in zip(halos.voxel, halos.log_mass, strict=True):
        if coverage[tuple(voxel)] > 0:
            log_n = hm.log_intensity(bias, params, delta, grid, log_mass)
            expected += log_n[tuple(voxel - margin)] + np.log(coverage[tuple(voxel)])
    out = hm.adjoint(bias, params, delta, observed)
    np.testing.assert_allclose(out.value, expected, rtol=1e-12)
    log_l = hm.fixed_field_likelihood(bias, delta, observed)
    np.testing.assert_allclose(log_l(params), expected, rtol=1e-12)
    np.testing.assert_allclose(log_l.by_block(params, 3).sum(), expected, rtol=1e-12)
    assert np.isfinite(out.delta_cot).all() and np.isfinite(out.params_cot).all()


def test_interior_leaves_out_halos_of_the_border(bias, params, delta) -> None:
    grid = hm.Grid(delta.shape, (32.0, 36.0, 40.0), "interior")
    inside = hm.simulate(jax.random.key(2), bias, params, delta, grid)
    border = np.array([[0, 4, 4], [7, 4, 4], [3, 8, 0]])
    both = hm.HaloCatalogue.from_voxels(
        np.concatenate([inside.voxel, border]),
        np.concatenate([inside.log_mass, np.full(3, 30.0)]),
        grid,
    )
    for likelihood in (hm.log_likelihood, jax.jit(hm.log_likelihood, static_argnums=0)):
        expected = likelihood(bias, params, delta, inside)
        np.testing.assert_allclose(likelihood(bias, params, delta, both), expected, rtol=1e-13)


@pytest.mark.parametrize("scale", [1.0, 10.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("settings", [{}, {"ordering": "softplus", "hidden_layers": (4,)}])
def test_never_nan_under_the_prior(scale, dtype, settings, delta, halos) -> None:
    bias = hm.NeuralBias(**settings)
    log_l = hm.fixed_field_likelihood(bias, delta.astype(dtype), halos)
    draws = scale * jax.random.normal(jax.random.key(8), (300, bias.num_params), dtype)
    evaluate = jax.vmap(jax.value_and_grad(lambda p, f: f(p)), in_axes=(0, None))
    value, gradient = jax.jit(evaluate)(draws, log_l)
    assert value.dtype == np.float64 and gradient.dtype == dtype
    assert (np.isfinite(value) | (value == -np.inf)).all()
    assert np.isfinite(gradient).all()
    assert np.isfinite(value).sum() > 20


def test_float32_agrees(bias, params, delta, halos) -> None:
    exact = hm.adjoint(bias, params, delta, halos)
    halved = hm.fixed_field_likelihood(bias, delta.astype(np.float32), halos)
    value, gradient = jax.value_and_grad(halved)(params.astype(np.float32))
    # some 300 terms of 30 each, rounded at 1e-7 and summed in float64
    np.testing.assert_allclose(value, exact.value, rtol=1e-6)
    scale = np.abs(exact.params_cot).max()
    np.testing.assert_allclose(gradient, exact.params_cot, atol=2e-5 * scale)


def test_float32_terms_are_summed_in_float64(bias, params, delta, grid, halos) -> None:
    many = np.resize(np.arange(len(halos.log_mass)), 50_000)
    halos = select(halos, grid, voxel=halos.voxel[many], log_mass=halos.log_mass[many])
    log_l = hm.fixed_field_likelihood(bias, delta.astype(np.float32), halos)
    params = params.astype(np.float32)
    log_n = log_density_of(log_l, bias.mass_function(params, log_l.halo_features))
    log_lambda = log_integral_of(log_l, bias.mass_function(params, log_l.features))
    assert log_n.dtype == log_lambda.dtype == np.float32
    total = np.sum(np.asarray(log_n, dtype=float))
    expected = grid.voxel_volume * np.sum(np.exp(np.asarray(log_lambda, dtype=float)))
    value = log_l(params)
    assert value.dtype == np.float64
    # Float32 numbers near ln L, 1.7e6, are 0.125 apart. Compiled terms are fused: each of some 250
    # different halos is rounded differently by 1e-6, 200 times, so 3e-3 together.
    np.testing.assert_allclose(value, total - expected, rtol=0, atol=0.02)


@pytest.mark.parametrize("settings", [{}, {"multipoles": (0, 1), "hidden_layers": (4,)}])
def test_products_are_never_rounded_by_accelerators(settings, delta, halos) -> None:
    bias = hm.NeuralBias(**settings)
    log_l = hm.fixed_field_likelihood(bias, delta.astype(np.float32), halos)
    params = jnp.zeros(bias.num_params, np.float32)
    traced = jax.make_jaxpr(jax.value_and_grad(definition, 1))(log_l, params)
    products = re.findall(r"dot_general\[(.*?)\n *\]", str(traced), flags=re.DOTALL)
    assert len(products) > 8 and "conv_general" not in str(traced)
    assert all(product.count("HIGHEST") == 2 for product in products)


def test_density_floor(bias, params, delta, halos) -> None:
    empty = delta.copy()
    empty[4, 4, 4] = -1
    with pytest.raises(hm.InputError, match=r"1 of 720 density cells .* density_floor"):
        hm.log_likelihood(bias, params, empty, halos)
    floored = replace(bias, density_floor=0.01)
    out = hm.adjoint(floored, params, empty, halos)
    raised = empty.copy()
    raised[4, 4, 4] = 0.01 - 1
    expected = hm.log_likelihood(bias, params, raised, halos)
    np.testing.assert_allclose(out.value, expected, rtol=1e-12)
    assert out.delta_cot[4, 4, 4] == 0 and np.isfinite(out.delta_cot).all()


@pytest.mark.parametrize(
    "value, message", [(np.nan, "NaN or infinite"), (np.inf, "NaN"), (-1.5, "delta <= -1")]
)
def test_bad_density(value, message, bias, params, delta, halos) -> None:
    bad = delta.copy()
    bad[0, 0, 0] = value
    for function in (hm.log_likelihood, hm.adjoint):
        with pytest.raises(hm.InputError, match=message):
            function(bias, params, bad, halos)
    with pytest.raises(hm.InputError, match="expected the grid's"):
        hm.log_likelihood(bias, params, delta[1:], halos)


def test_thresholds_must_agree(params, delta, halos) -> None:
    with pytest.raises(hm.InputError, match="same mass_threshold"):
        hm.log_likelihood(hm.NeuralBias(mass_threshold=1e12), params, delta, halos)


def test_the_definition_counts_the_expected_halos_once_for_each_catalogue(
    bias, params, delta, halos
) -> None:
    both = hm.HaloCatalogue.stack([halos, halos])
    one, two = (hm.fixed_field_likelihood(bias, delta, h) for h in (halos, both))
    np.testing.assert_allclose(definition(two, params), 2 * definition(one, params), rtol=1e-13)

"""Natural coordinates of the mixture: a bijection, its determinant, and what they mean."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import halo_mdn as hm
from halo_mdn.bias.neural import mixture_parameters
from halo_mdn.halos.mass_function import Mixture, log_density
from halo_mdn.sampling.coordinates.natural import (
    REFERENCES,
    NaturalMixture,
    natural_coordinates,
)


@pytest.fixture
def log_l(bias, delta, halos):
    return hm.fixed_field_likelihood(bias, delta, halos)


def vectors(params, count=6, width=0.3):
    rng = np.random.default_rng(4)
    return [jnp.asarray(params + width * rng.normal(size=len(params))) for _ in range(count)]


def test_round_trip_and_determinant(log_l, params):
    coordinates = natural_coordinates(log_l, np.asarray(params)[None])
    assert isinstance(coordinates, NaturalMixture)
    for vector in vectors(params):
        latent = coordinates.to_latent(vector)
        np.testing.assert_allclose(coordinates.to_params(latent), vector, rtol=1e-9, atol=1e-10)
        jacobian = jax.jacfwd(coordinates.to_params)(latent)
        expected = np.linalg.slogdet(np.asarray(jacobian))[1]
        assert float(coordinates.log_det(latent)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "network",
    [
        hm.NeuralBias(filters=2),
        hm.NeuralBias(filters=3, components=1),
        hm.NeuralBias(multipoles=(0, 2)),
        hm.NeuralBias(first_layer=(0.5, 0.05, 0.02, 0.01, 0.3), filters=2),
    ],
)
def test_several_channels(network, delta, halos):
    rng = np.random.default_rng(7)
    blocks = network.blocks_of(0.2 * rng.normal(size=network.num_params))
    blocks["width_biases"] -= 6.5
    vector = jnp.asarray(np.concatenate([block.ravel() for block in blocks.values()]))
    log_l = hm.fixed_field_likelihood(network, delta, halos)
    coordinates = natural_coordinates(log_l, np.asarray(vector)[None])
    assert isinstance(coordinates, NaturalMixture)
    latent = coordinates.to_latent(vector)
    np.testing.assert_allclose(coordinates.to_params(latent), vector, rtol=1e-9, atol=1e-9)
    jacobian = np.asarray(jax.jacfwd(coordinates.to_params)(latent))
    expected = np.linalg.slogdet(jacobian)[1]
    assert float(coordinates.log_det(latent)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("ordering", ["relu", "softplus"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-5)])
def test_any_ordering_and_precision(params, delta, halos, ordering, dtype, tolerance):
    """To a hundred roundings of float32; some ten are measured."""
    bias = hm.NeuralBias(ordering=ordering)
    log_l = hm.fixed_field_likelihood(bias, np.asarray(delta, dtype), halos)
    vector = jnp.asarray(params, dtype)
    coordinates = natural_coordinates(log_l, np.asarray(vector)[None])
    assert isinstance(coordinates, NaturalMixture)
    latent = coordinates.to_latent(vector)
    assert latent.dtype == dtype
    np.testing.assert_allclose(
        coordinates.to_params(latent), vector, rtol=tolerance, atol=tolerance
    )


def test_closed_gaps_and_faint_components_have_coordinates(log_l, params):
    """A gap that the relu closes, and an amplitude of e^-60: still a bijection."""
    vector = np.array(params)
    vector[[10, 12]] = [-0.5, -2.0]  # gap of the second mean
    vector[7] = -55.0  # amplitude of the first component
    coordinates = natural_coordinates(log_l, vector[None])
    assert isinstance(coordinates, NaturalMixture)
    latent = coordinates.to_latent(jnp.asarray(vector))
    np.testing.assert_allclose(coordinates.to_params(latent), vector, rtol=1e-9, atol=1e-9)
    jacobian = np.asarray(jax.jacfwd(coordinates.to_params)(latent))
    assert float(coordinates.log_det(latent)) == pytest.approx(np.linalg.slogdet(jacobian)[1])


def test_they_are_level_slope_and_width(log_l, params):
    """Against the mass function itself, evaluated and differentiated at the pivot."""
    coordinates = natural_coordinates(log_l, np.asarray(params)[None])
    latent = coordinates.to_latent(params)
    bias, kernel = log_l.bias, params[:5]
    t = kernel[:4] @ coordinates.features + kernel[4]
    z = jax.nn.softplus(t)
    spread = jnp.sqrt(jnp.var(z) + 1e-6)
    pivot = float(coordinates.pivot) + np.log(bias.mass_threshold)
    for place, step in enumerate(REFERENCES):
        npe = (jnp.mean(z) + step * spread)[None, None]
        mixture = mixture_parameters(bias, bias.unpack(params), npe)
        for k in range(2):
            one = Mixture(*(field[k : k + 1, 0] for field in mixture))
            level, slope = jax.value_and_grad(lambda u, one=one: log_density(one, u))(pivot)
            got = latent[5:].reshape(2, 3, 2)[place, :, k]
            constant = 0.5 * np.log(2 * np.pi) + pivot  # left out of the coordinates
            assert float(level) == pytest.approx(float(got[0]) - constant, rel=1e-9)
            assert float(slope) == pytest.approx(float(got[1]), rel=1e-9)
            assert float(jnp.log(one.width[0])) == pytest.approx(float(got[2]), rel=1e-9)


def test_they_apply_where_they_can_be_computed(delta, grid, params):
    halos = hm.HaloCatalogue.from_voxels(np.array([[3, 3, 3]]), np.array([29.0]), grid)
    deep = hm.NeuralBias(hidden_layers=(3,))
    log_l = hm.fixed_field_likelihood(deep, delta, halos)
    assert natural_coordinates(log_l, np.zeros((1, deep.num_params))) is None
    log_l = hm.fixed_field_likelihood(hm.NeuralBias(), delta, halos)
    broken = np.array(params)
    broken[15:] = -1000.0  # widths of e^-993: no natural coordinates there
    assert natural_coordinates(log_l, broken[None]) is None


def test_they_do_not_apply_with_an_informative_prior(params, delta, halos):
    bias = hm.NeuralBias(prior_mean=tuple(map(float, params)), prior_scale=0.1)
    log_l = hm.fixed_field_likelihood(bias, delta, halos)
    assert natural_coordinates(log_l, np.asarray(params)[None]) is None

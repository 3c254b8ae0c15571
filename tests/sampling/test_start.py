from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import halo_mdn as hm
from halo_mdn.errors import NotFinite
from halo_mdn.likelihood.definition import log_density_of, log_integral_of
from halo_mdn.sampling import LogPosterior, StandardisedField, Whitened, find_start
from halo_mdn.sampling.coordinates.bijections import whitened_in
from halo_mdn.sampling.start.newton import Summit, climb, positive_inverse, positive_root
from halo_mdn.sampling.start.summits import climb_all, has_spike
from halo_mdn.sampling.start.tournament import _others, _part, _sizes


@pytest.fixture
def log_l(bias, delta, halos):
    return hm.fixed_field_likelihood(bias, delta, halos)


def quadratic(precision, mean, x):
    return -0.5 * (x - mean) @ precision @ (x - mean)


def test_climb_solves_a_badly_scaled_quadratic():
    scale = np.array([1e-4, 1.0, 1e5])
    correlation = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.3], [0.0, 0.3, 1.0]])
    precision, mean = correlation / np.outer(scale, scale), np.array([1.0, -2.0, 3.0]) * scale
    summit = climb(Partial(quadratic, precision, mean), mean + 30.0 * scale, tolerance=1e-9)
    assert summit.converged
    np.testing.assert_allclose((summit.params - mean) / scale, 0.0, atol=1e-3)
    # Differences of a linear gradient: exact but for rounding.
    np.testing.assert_allclose(summit.hessian * np.outer(scale, scale), -correlation, atol=1e-6)


def valley(x):
    """Rosenbrock's banana, -inf beyond a wall, with its maximum 0 at (1, 1)."""
    value = -((1.0 - x[0]) ** 2) - 100.0 * (x[1] - x[0] ** 2) ** 2
    return jnp.where(x[0] < 1.5, value, -jnp.inf)


def test_climb_follows_a_curved_ridge_next_to_a_wall():
    summit = climb(Partial(valley), np.array([-1.2, 1.0]), tolerance=1e-8)
    assert summit.converged
    np.testing.assert_allclose(summit.params, 1.0, atol=1e-3)


def test_climb_leaves_a_saddle():
    def two_hills(x):
        return -((x[0] ** 2 - 1.0) ** 2) - x[1] ** 2

    summit = climb(Partial(two_hills), np.array([1e-3, 0.5]))
    assert summit.converged
    np.testing.assert_allclose(np.abs(summit.params), [1.0, 0.0], atol=1e-2)


def test_climb_refuses_an_impossible_beginning():
    with pytest.raises(ValueError, match="not finite"):
        climb(Partial(valley), np.array([2.0, 1.0]))


def test_positive_root_has_independent_directions_of_unit_deviation():
    """Also where widths lie 1e9 apart, beyond what eigenvalues of the covariance resolve."""
    rng = np.random.default_rng(2)
    turned = np.linalg.qr(rng.normal(size=(18, 18)))[0]
    scale = np.geomspace(1e-6, 1e3, 18)
    precision = (np.eye(18) + 0.3 * turned + 0.3 * turned.T) / np.outer(scale, scale)
    root = positive_root(precision)
    np.testing.assert_allclose(root.T @ precision @ root, np.eye(18), atol=1e-9)


def test_positive_inverse_inverts_and_mends():
    good = np.array([[4.0, 1e-3], [1e-3, 1e-6]])
    np.testing.assert_allclose(positive_inverse(good), np.linalg.inv(good), rtol=1e-9)
    for bad in (np.diag([1.0, -2.0]), np.diag([1.0, 0.0]), np.ones((2, 2))):
        mended = positive_inverse(bad)
        assert np.all(np.isfinite(mended))
        assert np.all(np.linalg.eigvalsh(mended) > 0)


NETWORKS = [
    hm.NeuralBias(),
    hm.NeuralBias(filters=2, hidden_layers=(3,), components=3),
    hm.NeuralBias(multipoles=(0, 2), ordering="softplus"),
]


@pytest.mark.parametrize("network", NETWORKS, ids=["default", "deep", "quadrupole"])
def test_standardised_field_is_a_bijection_with_the_stated_jacobian(network, delta, grid, key):
    halos = hm.HaloCatalogue.from_voxels(np.array([[2, 3, 4]] * 9), np.full(9, 30.0), grid)
    coordinates = StandardisedField.at_halos(hm.fixed_field_likelihood(network, delta, halos), 1)
    features = jax.random.normal(key, (len(coordinates.features), 40))
    coordinates = StandardisedField(features, network)
    latent = jax.random.normal(key, (network.num_params,))
    np.testing.assert_allclose(
        coordinates.to_latent(coordinates.to_params(latent)), latent, rtol=1e-9, atol=1e-9
    )
    jacobian = np.asarray(jax.jacfwd(coordinates.to_params)(latent))
    np.testing.assert_allclose(
        coordinates.log_det(latent), np.linalg.slogdet(jacobian)[1], rtol=1e-9, atol=1e-9
    )


def test_whitening_on_top_standardises_to_first_order(log_l, bias, params, key):
    factor = 1e-4 * jax.random.normal(key, (bias.num_params, bias.num_params))
    covariance = np.asarray(factor @ factor.T)
    coordinates = whitened_in(StandardisedField.at_halos(log_l), np.asarray(params), covariance)
    origin = jnp.zeros(bias.num_params)
    np.testing.assert_allclose(coordinates.to_params(origin), params, rtol=1e-9, atol=1e-12)
    jacobian = np.asarray(jax.jacfwd(coordinates.to_params)(origin))
    np.testing.assert_allclose(jacobian @ jacobian.T, covariance, rtol=1e-4, atol=1e-16)


def test_whitening_keeps_variances_of_twenty_decades():
    """As those of data that say nothing of some weights; a product of matrices would round them."""
    spread = np.sqrt([1e-5, 1.0, 1e5])
    mix = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    outer = Whitened(jnp.zeros(3), jnp.asarray(np.linalg.inv(mix * spread)))
    covariance = np.diag(spread**2)
    inner = whitened_in(outer, np.zeros(3), covariance).inner
    half = np.asarray(inner.scale_tril)
    expected = mix * spread * spread  # L of covariance = L L^T, through the inverse of outer
    assert np.array_equal(half, np.tril(half)) and np.all(np.diagonal(half) > 0)
    rotation = np.linalg.solve(half, expected)
    # Rounding, times a condition number of 1e10.
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-5)


def test_whitened_refuses_a_covariance_that_is_none():
    with pytest.raises(ValueError, match="not usable"):
        Whitened.at(np.zeros(2), np.array([[1.0, 2.0], [2.0, 1.0]]))


def test_a_part_of_the_box_has_the_likelihood_of_its_voxels(log_l, bias, params):
    """Voxels chosen by hand: halo terms in them, and their share of the integral."""
    rng = np.random.default_rng(0)
    size = log_l.features.shape[1] // 3
    part = _part(log_l, bias, size, np.random.default_rng(0))
    chosen = np.sort(rng.choice(log_l.features.shape[1], size, replace=False))
    log_n = log_density_of(log_l, bias.mass_function(params, log_l.halo_features))
    log_lambda = log_integral_of(log_l, bias.mass_function(params, log_l.features))
    inside = np.isin(np.asarray(log_l.halo_voxel), chosen)
    expected = log_l.grid.voxel_volume * np.exp(np.asarray(log_lambda))[chosen].sum()
    np.testing.assert_allclose(
        part.log_likelihood(params), np.asarray(log_n)[inside].sum() - expected, rtol=1e-9
    )
    assert part.weight == pytest.approx(log_l.features.shape[1] / size)
    assert _sizes(log_l) == [log_l.features.shape[1]]


def test_spike_on_one_mass_is_recognised(log_l, bias, params):
    posterior = LogPosterior(log_l, 1.0, bias)

    def summit(params):
        return Summit(np.asarray(params), 0.0, np.eye(17), 0.0, 0, True)

    assert not has_spike(posterior, summit(params))
    blocks = {name: np.array(block) for name, block in bias.unpack(params).items()}
    blocks["mean_kernels"][:] = 0.0
    blocks["mean_biases"][1] = log_l.log_mass[7] - np.log(bias.mass_threshold)
    blocks["mean_biases"][0] = 0.0
    blocks["width_kernels"][0, 1] = 0.0
    blocks["width_biases"][1] = -25.0
    assert has_spike(posterior, summit(bias.pack(blocks)))


@pytest.mark.slow
def test_start_is_as_high_as_the_truth_and_reproducible(log_l, bias, params):
    start = find_start(log_l, bias, jax.random.key(0), num_starts=6, num_chains=3)
    posterior = LogPosterior(log_l, 1.0, bias)
    reached = float(posterior(start.location))
    # The mode is above any other point, the truth included.
    assert reached >= float(posterior(params))
    assert reached == pytest.approx(start.log_posterior[0], abs=1e-6)
    assert np.all(np.diff(start.log_posterior) <= 0)
    assert np.all(np.linalg.eigvalsh(start.inverse_mass) > 0)
    values = np.array([float(posterior(p)) for p in start.position])
    assert start.position.shape == (3, 17)
    assert np.all(values >= reached - 4 * 17)  # what twice the posterior's width loses on average
    assert len(np.unique(start.position, axis=0)) == 3
    assert f"{reached:.1f}" in start.description
    again = find_start(log_l, bias, jax.random.key(0), num_starts=6, num_chains=3)
    for name, array in start.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], array, err_msg=name)


def test_climbs_that_cannot_begin_are_left_out_but_mistakes_are_not(log_l, bias, params):
    posterior = LogPosterior(log_l, 1.0, bias)
    impossible = np.full(bias.num_params, 1e200)
    (summit,) = climb_all(posterior, [impossible, np.asarray(params)], 1)
    assert np.isfinite(summit.value)
    with pytest.raises(NotFinite, match="no starting point has a finite posterior"):
        climb_all(posterior, [impossible], 1)
    with pytest.raises(Exception, match="shape") as mistake:
        climb_all(posterior, [np.asarray(params)[:-1]], 1)
    assert not isinstance(mistake.value, NotFinite)


def test_steps_that_overflow_are_refused_without_a_warning():
    """Far from any halos derivatives reach 1e200, and squares of steps overflow."""

    def cliff(x):
        return -jnp.sum(jnp.exp(jnp.minimum(x, 500.0))) - 1e-3 * jnp.sum(x**2)

    summit = climb(Partial(cliff), np.array([460.0, -3.0]), max_steps=20)
    assert np.isfinite(summit.value)


def test_heights_that_lead_nowhere_are_counted_alone():
    def summit(value):
        return Summit(np.zeros(1), value, -np.eye(1), 0.0, 1, True)

    text = _others([summit(-100.0), summit(-101.5), summit(-3e45), summit(-2e4)])
    assert text == "-101.5, 2 far below"
    assert _others([summit(-100.0)]) == ""

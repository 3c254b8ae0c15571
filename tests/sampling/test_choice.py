"""The choice of coordinates by the curvature that they leave."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import halo_mdn as hm
from halo_mdn.sampling import LogPosterior, Whitened, coordinates_for
from halo_mdn.sampling.coordinates import choice
from halo_mdn.sampling.coordinates.bijections import StandardisedField, whitened_in
from halo_mdn.sampling.coordinates.choice import stiffness
from halo_mdn.sampling.coordinates.natural import NaturalMixture

BEND, MODE, COVARIANCE = 0.8, np.zeros(2), np.diag([1.0, 0.25])
DIFFERENCES = 1e-3  # central differences with steps of 0.01 are good to four digits or so


class Banana(NamedTuple):
    """A Gaussian that is bent along a parabola; a pytree."""

    bend: jax.Array

    def __call__(self, params: jax.Array) -> jax.Array:
        x, y = params
        return -0.5 * (x**2 + ((y - self.bend * x**2) / 0.5) ** 2)


class Unbent(NamedTuple):
    """Coordinates in which it is a Gaussian."""

    bend: jax.Array

    def to_params(self, latent: jax.Array) -> jax.Array:
        return latent.at[1].add(self.bend * latent[0] ** 2)

    def to_latent(self, params: jax.Array) -> jax.Array:
        return params.at[1].add(-self.bend * params[0] ** 2)

    def log_det(self, latent: jax.Array) -> jax.Array:
        return jnp.zeros(())


def test_a_gaussian_has_stiffness_one():
    density = Banana(jnp.asarray(BEND))
    got = stiffness(Unbent(jnp.asarray(BEND)), density, MODE, COVARIANCE)
    assert got == pytest.approx(1, abs=DIFFERENCES)


@pytest.mark.parametrize("bend", [0.0, 0.3])
def test_stiffness_is_that_of_the_density_in_the_coordinates(bend):
    density, coordinates = Banana(jnp.asarray(BEND)), Unbent(jnp.asarray(bend))
    chart = whitened_in(coordinates, MODE, COVARIANCE)

    def composed(latent):
        return density(chart.to_params(latent)) + chart.log_det(latent)

    draws = np.random.default_rng(0).standard_normal((choice.NUM_DRAWS, 2))
    largest = [np.abs(np.linalg.eigvalsh(jax.hessian(composed)(draw))).max() for draw in draws]
    expected = np.exp(0.5 * np.mean(np.log(largest)))
    assert expected > 1.5
    got = stiffness(coordinates, density, MODE, COVARIANCE)
    assert got == pytest.approx(expected, rel=DIFFERENCES)


def test_a_volume_counts():
    """The determinant's own curvature is part of it: a scale in logarithms."""

    class Logarithm(NamedTuple):
        one: jax.Array

        def to_params(self, latent: jax.Array) -> jax.Array:
            return jnp.exp(latent) * self.one

        def to_latent(self, params: jax.Array) -> jax.Array:
            return jnp.log(params / self.one)

        def log_det(self, latent: jax.Array) -> jax.Array:
            return jnp.sum(latent) + jnp.log(self.one)

    class Gamma(NamedTuple):
        shape: jax.Array

        def __call__(self, params: jax.Array) -> jax.Array:
            return jnp.sum((self.shape - 1) * jnp.log(params) - params)

    mode, variance = np.array([4.0]), np.array([[4.0]])
    draws = np.random.default_rng(0).standard_normal((choice.NUM_DRAWS, 1))
    curvature = 4 * np.exp(draws / 2) * 0.25  # of 5 u - e^u at u = ln 4 + draw / 2, a unit of 1/2
    got = stiffness(Logarithm(jnp.ones(())), Gamma(jnp.asarray(5.0)), mode, variance)
    assert got == pytest.approx(np.exp(0.5 * np.mean(np.log(curvature))), rel=DIFFERENCES)


@pytest.mark.parametrize("stiff", ["natural", "usual"])
def test_the_less_stiff_coordinates_are_taken(monkeypatch, stiff, params, delta, halos, bias):
    posterior = LogPosterior(hm.fixed_field_likelihood(bias, delta, halos), 1.0, bias)
    kinds = {"natural": NaturalMixture, "usual": StandardisedField}

    def measured(coordinates, *_):
        return np.inf if isinstance(coordinates, kinds[stiff]) else 3.0

    monkeypatch.setattr(choice, "stiffness", measured)
    got = coordinates_for(posterior, np.asarray(params), np.eye(17), np.asarray(params)[None])
    assert not isinstance(got, kinds[stiff]) and isinstance(got, tuple(kinds.values()))


def test_one_system_is_not_measured(monkeypatch, params, delta, halos):
    monkeypatch.setattr(choice, "stiffness", None)
    deep = hm.NeuralBias(hidden_layers=(3,))
    posterior = LogPosterior(hm.fixed_field_likelihood(deep, delta, halos), 1.0, deep)
    size = deep.num_params
    got = coordinates_for(posterior, np.zeros(size), np.eye(size), np.zeros((1, size)))
    assert isinstance(got, StandardisedField)
    power_law = hm.TruncatedPowerLaw()
    posterior = LogPosterior(hm.fixed_field_likelihood(power_law, delta, halos), 1.0, power_law)
    size = power_law.num_params
    got = coordinates_for(posterior, np.zeros(size), np.eye(size), np.zeros((1, size)))
    assert isinstance(got, Whitened)

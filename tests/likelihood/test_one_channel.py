"""Every model that sees one channel is read from the table, whatever it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from math import log

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import halo_mdn as hm
from halo_mdn.bias.roots import sign_changes
from halo_mdn.halos.mass_function import Mixture
from halo_mdn.likelihood.compressed import compress
from halo_mdn.likelihood.definition import definition
from halo_mdn.likelihood.table import evaluate as fast
from halo_mdn.likelihood.table import field_adjoint

SHAPE = (12, 10, 14)
NETWORK = np.array(
    [0.3, 0.05, 0.02, 0.01, 0.2, 2.6, 2.2, -4.4, -5.1, 0.05, 0.35, -0.4, 0.5, 0.08, 0.05]
    + [-6.5, -7.1]
)
OBSERVED = hm.MassObservation(scatter=0.3, threshold_completeness=0.8)


@dataclass(frozen=True)
class Bump(hm.Bias):
    """A model of a user's own: one Gaussian in ln M whose amplitude follows the density."""

    mass_threshold: float = 2e12
    density_floor: float = 0.0
    prior_scale: float = 1.0

    @property
    def block_shapes(self):
        return {"amplitude": (), "slope": ()}

    @property
    def block_dims(self):
        return {"amplitude": (), "slope": ()}

    def mass_function_at(self, params, activation):
        log_amplitude = params[0] - 3 + params[1] * activation
        like = jnp.ones_like(log_amplitude)
        return Mixture(log_amplitude, (log(2e12) - 0.5) * like, 1.2 * like)


@dataclass(frozen=True)
class BumpOfFeatures(Bump):
    """The same written as a function of the features: what it sees is not known."""

    def mass_function(self, params, features):
        return Bump.mass_function_at(self, params, features)


def layered(ordering: str) -> tuple[hm.NeuralBias, np.ndarray]:
    """Heads behind one hidden layer; the gap between the means changes its sign at t = 0.5."""
    bias = hm.NeuralBias(hidden_layers=(3,), ordering=ordering)
    rng = np.random.default_rng(2)
    blocks = {name: rng.normal(size=shape) for name, shape in bias.block_shapes.items()}
    blocks |= {"kernel_weights": NETWORK[None, :4], "kernel_biases": NETWORK[4:5]}
    hidden = np.logaddexp(
        0, blocks["hidden_0_weights"][0] * np.logaddexp(0, 0.5) + blocks["hidden_0_biases"]
    )
    blocks["amplitude_biases"] = np.array([-4.4, -5.1])
    blocks["mean_kernels"] = np.array([[0.1, 0.5], [0.2, -0.8], [0.1, 0.2]])
    blocks["mean_biases"] = np.array([-0.6, -hidden @ blocks["mean_kernels"][:, 1]])
    blocks["width_kernels"] *= 0.05
    blocks["width_biases"] = np.array([-6.5, -7.1])
    return bias, np.asarray(bias.pack(blocks))


MODELS = {
    "power law": (hm.TruncatedPowerLaw(), np.array([0.1, -0.2, 0.3, 0.1, -0.1, 0.2])),
    "overdispersed": (hm.OverdispersedBias(), np.append(NETWORK, 7.5)),
    "hidden layer": layered("softplus"),
    "hidden layer, kinks": layered("relu"),
    "multipole 2": (hm.NeuralBias(multipoles=(2,)), np.concatenate([NETWORK[1:5], NETWORK[5:]])),
    "of a user": (Bump(), np.array([0.3, 0.8])),
}


@pytest.fixture
def halos() -> hm.HaloCatalogue:
    rng = np.random.default_rng(3)
    grid = hm.Grid(SHAPE, (48.0, 40.0, 56.0))
    voxel = rng.integers(0, SHAPE, size=(300, 3))
    return hm.HaloCatalogue.from_voxels(voxel, log(2e12) + rng.exponential(0.8, 300), grid)


@pytest.fixture
def delta() -> np.ndarray:
    return np.exp(0.8 * np.random.default_rng(3).normal(size=SHAPE)) - 1


@jax.jit
def trusts(log_l, params):
    see = partial(log_l.bias.activation, params)
    return fast.from_table(log_l, params, see(log_l.features)[0], see(log_l.halo_features)[0])[1]


def check(log_l, params, tolerance: float = 1e-11) -> None:
    """Value and gradient by the table, which is trusted, against those of the definition."""
    assert fast.applies(log_l) and trusts(log_l, params)
    value, grad = jax.jit(partial(fast.value_and_grad, definition))(log_l, params)
    wanted, slope = jax.jit(jax.value_and_grad(definition, argnums=1))(log_l, params)
    np.testing.assert_allclose(value, wanted, rtol=tolerance)
    assert np.linalg.norm(grad - slope) < tolerance * np.linalg.norm(slope)


@pytest.mark.parametrize("name", MODELS)
def test_the_table_agrees_with_the_definition(name, delta, halos) -> None:
    bias, params = MODELS[name]
    check(hm.fixed_field_likelihood(bias, delta, halos), jnp.asarray(params))


def test_a_kink_behind_a_hidden_layer_is_found() -> None:
    bias, params = MODELS["hidden layer, kinks"]
    found = np.asarray(bias.kinks(jnp.asarray(params), jnp.asarray(-2.0), jnp.asarray(3.0)))
    np.testing.assert_allclose(found[-1], 0.5, atol=1e-12)
    bias, params = MODELS["hidden layer"]
    assert bias.kinks(jnp.asarray(params), jnp.asarray(-2.0), jnp.asarray(3.0)) == []


def test_errors_of_the_masses_go_through_the_table(delta, halos) -> None:
    halos = replace(halos, observation=OBSERVED)
    check(hm.fixed_field_likelihood(hm.NeuralBias(), delta, halos), jnp.asarray(NETWORK))


@pytest.mark.parametrize("name", [name for name in MODELS if name != "multipole 2"])
def test_the_adjoint_agrees_with_automatic_differentiation(name, delta, halos) -> None:
    bias, params = MODELS[name]
    assert field_adjoint.applies(hm.fixed_field_likelihood(bias, delta, halos))
    out = hm.adjoint(bias, params, delta, halos)
    plain = lambda p, d: definition(hm.fixed_field_likelihood(bias, d, halos), p)  # noqa: E731
    wanted = jax.jit(jax.grad(plain, argnums=(0, 1)))(jnp.asarray(params), jnp.asarray(delta))
    for got, slope in zip((out.params_cot, out.delta_cot), wanted, strict=True):
        assert np.max(np.abs(got - slope)) < 1e-11 * np.max(np.abs(slope))


def test_halos_placed_once_give_the_same_adjoint(delta, halos) -> None:
    bias = hm.NeuralBias()
    placed = hm.place_halos(halos, bias.domain(halos.grid))
    assert np.all(np.diff(np.asarray(placed.voxel)) >= 0)
    for got, wanted in zip(
        hm.adjoint(bias, NETWORK, delta, placed), hm.adjoint(bias, NETWORK, delta, halos),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)
    with pytest.raises(hm.InputError, match="placed for"):
        hm.adjoint(hm.NeuralBias(kernel_size=5), np.zeros(23), delta, placed)


def test_dispersed_numbers_with_a_completeness_map_have_no_table(delta, halos) -> None:
    halos = replace(halos, completeness=np.full(SHAPE, 0.5))
    assert not fast.applies(hm.fixed_field_likelihood(hm.OverdispersedBias(), delta, halos))
    assert fast.applies(hm.fixed_field_likelihood(hm.NeuralBias(), delta, halos))


def test_a_model_that_does_not_say_what_it_sees_is_evaluated_as_it_is(delta, halos) -> None:
    known, unknown = (
        hm.fixed_field_likelihood(bias, delta, halos) for bias in (Bump(), BumpOfFeatures())
    )
    assert unknown.bias.num_channels == 0 and not fast.applies(unknown)
    params = jnp.array([0.3, 0.8])
    np.testing.assert_allclose(unknown(params), known(params), rtol=1e-12)


def test_a_model_without_a_mass_function_says_so(delta, halos) -> None:
    class Nothing(Bump):
        mass_function_at = hm.Bias.mass_function_at

    with pytest.raises(TypeError, match="Nothing needs a method mass_function_at"):
        hm.fixed_field_likelihood(Nothing(), delta, halos)(np.zeros(2))


@pytest.mark.parametrize("name", ["power law", "overdispersed", "of a user"])
def test_compressed_within_the_measured_error(name, delta, halos) -> None:
    bias, params = MODELS[name]
    log_l = hm.fixed_field_likelihood(bias, delta, halos)
    trials = params + 0.02 * np.random.default_rng(1).normal(size=(8, len(params)))
    small = compress(log_l, params, trials, tolerance=0.05)
    elsewhere = params + 0.02 * np.random.default_rng(2).normal(size=(8, len(params)))
    error = [float(small.log_likelihood(p) - log_l(p)) for p in elsewhere]
    assert small.num_nodes < log_l.features.shape[1] and np.std(error) < 0.1


def test_sign_changes_of_a_function_with_known_roots() -> None:
    found = sign_changes(jnp.sin, jnp.asarray(-0.5), jnp.asarray(7.0), count=4)
    np.testing.assert_allclose(found, [0, np.pi, 2 * np.pi, -np.inf], atol=1e-13)


def test_numbers_of_no_definite_type_are_float64(delta, halos) -> None:
    """``jnp.full`` leaves the type open: float32 beside a float32 constant."""
    open_type = jnp.where(jnp.asarray(delta) > 0, 0.5, -0.5)
    assert open_type.weak_type
    bias = hm.NeuralBias()
    wanted = hm.log_likelihood(bias, NETWORK, np.asarray(open_type), halos)
    np.testing.assert_array_equal(hm.log_likelihood(bias, NETWORK, open_type, halos), wanted)
    np.testing.assert_allclose(
        hm.adjoint(bias, NETWORK, open_type, halos).value, wanted, rtol=1e-13
    )
    log_l = hm.fixed_field_likelihood(bias, open_type, halos)
    assert log_l.features.dtype == log_l.log_mass.dtype == np.float64

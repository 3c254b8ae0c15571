"""The model file is the only place where the joint density is written: samplers follow it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import halo_mdn as hm
from halo_mdn.bias.mock_params import MOCK_PARAMS
from halo_mdn.config.joint_schema import JointSampler
from halo_mdn.config.model_files import find_model_file, load_bias, load_model
from halo_mdn.field.cosmology import Cosmology
from halo_mdn.field.lpt import Lpt
from halo_mdn.halos.placed import place_halos
from halo_mdn.joint.coordinates import BIAS, FIELD, JointCoordinates, ShellScaled
from halo_mdn.joint.joint_density import JointDensity, JointModel, check_sites
from halo_mdn.joint.joint_kernels import kernel_of
from halo_mdn.joint.problem import JointProblem
from halo_mdn.mocks.universe import make_mock
from halo_mdn.sampling.coordinates.bijections import Composed, Whitened

NUM = len(MOCK_PARAMS)


def heavy_tailed(problem: JointProblem) -> None:
    """Another prior than the shipped one: of the field, of the bias and of both together."""
    shape = problem.lpt.noise_shape
    white_noise = numpyro.sample("white_noise", dist.Normal(0, 2).expand(shape).to_event(3))
    prior = dist.StudentT(2, jnp.array(MOCK_PARAMS), 0.1)
    params = numpyro.sample("params", prior.to_event(1))
    cosmology = problem.cosmology
    for name, (mean, scale) in problem.free_cosmology:
        unit = numpyro.sample(f"{name}_unit", dist.Normal(0, 1))
        value = numpyro.deterministic(name, mean + scale * unit)
        cosmology = replace(cosmology, **{name: value})
    delta = numpyro.deterministic("delta", problem.density(white_noise, cosmology))
    numpyro.factor("coupled", -3 * params[0] * jnp.sum(delta**2))
    numpyro.factor("poisson_process", problem.log_likelihood(params, delta))


@cache
def problem() -> JointProblem:
    grid = hm.Grid((6,) * 3, (6 * 250 / 64,) * 3)
    bias = hm.NeuralBias(density_floor=0.01)
    mock = make_mock(2, Lpt(grid), cosmology=Cosmology(), bias=bias, params=MOCK_PARAMS)
    halos = place_halos(mock.halos, bias.domain(grid))
    return JointProblem(
        bias=bias, lpt=mock.lpt, halos=halos, cosmology=Cosmology(),
        free_cosmology=(("sigma8", (0.81, 0.05)),),
    )  # fmt: skip


def coordinates() -> JointCoordinates:
    rng = np.random.default_rng(1)
    inner = Whitened(jnp.array(MOCK_PARAMS), jnp.asarray(np.diag(rng.uniform(0.01, 0.02, NUM))))
    outer = Whitened(jnp.zeros(NUM), jnp.eye(NUM))
    return JointCoordinates(
        ShellScaled(jnp.array([0.5, 0.4, 0.7, 0.9, 0.9, 1.0])), Composed(outer, inner)
    )


def position(seed: int) -> dict[str, jax.Array]:
    rng = np.random.default_rng(seed)
    return {
        FIELD: jnp.asarray(rng.normal(size=(6, 6, 6))),
        BIAS: jnp.asarray(rng.normal(size=NUM)),
        "sigma8_unit": jnp.asarray(rng.normal()),
    }


@pytest.fixture(params=["shipped", "heavy_tailed"])
def model(request: pytest.FixtureRequest) -> JointModel:
    return load_model("joint_field", "joint") if request.param == "shipped" else heavy_tailed


def test_bias_given_the_field_follows_the_model(model: JointModel) -> None:
    """Its density is the joint one: nothing but the volume of the field's coordinates is left."""
    density, at = JointDensity(model, problem()), coordinates()
    here = position(3)
    given = density.given_field(at, here)
    for seed in (4, 5):
        latent = position(seed)[BIAS]
        alone = given(at.bias.to_params(latent)) + at.bias.log_det(latent)
        joint = jax.jit(density.__call__)(at, {**here, BIAS: latent})
        np.testing.assert_allclose(alone + at.field.log_det(here[FIELD]), joint, rtol=1e-11)


def test_the_two_models_differ() -> None:
    """Else the test above would hold for a sampler that ignores the file."""
    one, other = (
        JointDensity(m, problem()).given_field(coordinates(), position(3))
        for m in (load_model("joint_field", "joint"), heavy_tailed)
    )
    a, b = (coordinates().bias.to_params(position(seed)[BIAS]) for seed in (4, 5))
    assert abs((one(a) - one(b)) - (other(a) - other(b))) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["blocks", "nuts"])
def test_samplers_follow_the_model(method: str, model: JointModel) -> None:
    """The energy that a sampler keeps is that of the joint density where it is."""
    density, at = JointDensity(model, problem()), coordinates()
    settings = JointSampler(method=method, trajectory=3, bias_updates=2, max_tree_depth=2)  # type: ignore[arg-type]
    kernel = kernel_of(settings)
    state = kernel.init(jax.random.key(1), 10, position(3), (at, density), {})
    sample, log_density = jax.jit(kernel.sample), jax.jit(density.__call__)
    start = state.inner.z
    for _ in range(3):
        state = sample(state, (at, density), {})
        inner = state.inner
        np.testing.assert_allclose(
            -inner.potential_energy, log_density(at, inner.z), rtol=1e-10, err_msg=method
        )
    assert not np.array_equal(inner.z[BIAS], start[BIAS])


def test_a_model_file_that_names_other_sites_is_refused() -> None:
    def unnamed(problem: JointProblem) -> None:
        shape = problem.lpt.noise_shape
        noise = numpyro.sample("noise", dist.Normal(0, 1).expand(shape).to_event(3))
        numpyro.deterministic("delta", noise)

    with pytest.raises(hm.InputError, match="samples noise, expected params, sigma8_unit, white"):
        check_sites(JointDensity(unnamed, problem()))
    check_sites(JointDensity(heavy_tailed, problem()))


def test_models_of_fits_and_joint_models_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(hm.InputError, match=r"joint_field.py is one for `run_inference.py joint`"):
        load_bias("joint_field")
    with pytest.raises(hm.InputError, match=r"is one for a fit, its model takes \(bias, log_lik"):
        load_model("neural_bias", "joint")
    with pytest.raises(hm.InputError, match="shipped ones are: neural_bias, overdispersed, power"):
        find_model_file("nowhere")
    own = tmp_path / "mine.py"
    own.write_text("def model(problem):\n    return 'mine'\n")
    assert load_model(str(own), "joint")(None) == "mine"

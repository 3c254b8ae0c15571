"""Joint inference: its log-density, its measures of recovery, and its samplers end to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import halo_mdn as hm
from halo_mdn.bias.mock_params import MOCK_PARAMS
from halo_mdn.cli import run
from halo_mdn.config import load_settings, to_toml
from halo_mdn.config.joint_schema import JointConfig
from halo_mdn.config.model_files import load_model
from halo_mdn.field.cosmology import Cosmology
from halo_mdn.field.fourier import shell_power, shell_product, shells_of, weights_of
from halo_mdn.field.lpt import Lpt, density
from halo_mdn.halos.placed import place_halos
from halo_mdn.io.formats.exchange import Exchange, write_exchange
from halo_mdn.joint.coordinates import BIAS, FIELD, JointCoordinates, Position, ShellScaled
from halo_mdn.joint.followed import followed, wavenumbers
from halo_mdn.joint.hmc import StepSize, update
from halo_mdn.joint.joint_density import JointDensity
from halo_mdn.joint.problem import JointProblem
from halo_mdn.joint.recovery import measure_recovery
from halo_mdn.joint.run import differences, prepare, scattered_params
from halo_mdn.mocks.universe import as_exchange, make_mock
from halo_mdn.posterior.field_mixing import FieldMixing, field_mixing
from halo_mdn.posterior.summary import table
from halo_mdn.sampling.coordinates.bijections import Composed, Whitened

CELLS = 8
NUM_PARAMS = len(MOCK_PARAMS)
SHELLS = int(shells_of((CELLS,) * 3).max()) + 1


def coordinates_of(scale: np.ndarray, location: np.ndarray, tril: np.ndarray) -> JointCoordinates:
    same = Whitened(jnp.zeros(NUM_PARAMS), jnp.eye(NUM_PARAMS))
    inner = Whitened(jnp.array(location), jnp.array(tril))
    return JointCoordinates(ShellScaled(jnp.array(scale)), Composed(same, inner))


UNIT = coordinates_of(np.ones(SHELLS), np.array(MOCK_PARAMS), np.eye(NUM_PARAMS))


@cache
def small_problem() -> JointProblem:
    grid = hm.Grid((CELLS,) * 3, (CELLS * 250 / 64,) * 3)
    bias = hm.NeuralBias(density_floor=0.01)
    mock = make_mock(2, Lpt(grid), cosmology=Cosmology(), bias=bias, params=MOCK_PARAMS)
    free = (("sigma8", (0.81, 0.05)), ("omega_m", (0.31, 0.03)))
    return JointProblem(
        bias=bias,
        lpt=mock.lpt,
        halos=place_halos(mock.halos, bias.domain(grid)),
        cosmology=Cosmology(),
        free_cosmology=free,
    )


def random_position(seed: int, problem: JointProblem) -> Position:
    rng = np.random.default_rng(seed)
    position = {FIELD: jnp.array(rng.normal(size=problem.lpt.noise_shape))}
    position[BIAS] = jnp.array(0.01 * rng.normal(size=NUM_PARAMS))
    for name, _ in problem.free_cosmology:
        position[f"{name}_unit"] = jnp.array(rng.normal())
    return position


def log_joint(
    coordinates: JointCoordinates, problem: JointProblem, position: Position
) -> jax.Array:
    return JointDensity(load_model_once(), problem)(coordinates, position)


@cache
def load_model_once() -> Callable[..., None]:
    return load_model("joint_field", "joint")


@cache
def compiled() -> Callable[..., tuple[jax.Array, Position]]:
    return jax.jit(jax.value_and_grad(log_joint, argnums=2))


def log_density(
    coordinates: JointCoordinates, problem: JointProblem, position: Position
) -> jax.Array:
    return compiled()(coordinates, problem, position)[0]


def test_log_density_is_prior_plus_likelihood() -> None:
    problem = small_problem()

    def by_hand(position: Position) -> jax.Array:
        white_noise, params = position[FIELD], UNIT.bias.to_params(position[BIAS])
        units = position["sigma8_unit"], position["omega_m_unit"]
        cosmology = Cosmology(sigma8=0.81 + 0.05 * units[0], omega_m=0.31 + 0.03 * units[1])
        delta = density(white_noise, problem.lpt, cosmology)
        log_l = hm.log_likelihood(problem.bias, params, delta, problem.halos)
        squares = jnp.sum(white_noise**2) + units[0] ** 2 + units[1] ** 2
        return log_l + hm.log_prior(problem.bias, params) - 0.5 * squares

    one, two = random_position(1, problem), random_position(2, problem)
    difference = log_density(UNIT, problem, one) - log_density(UNIT, problem, two)
    np.testing.assert_allclose(difference, by_hand(one) - by_hand(two), rtol=1e-10)


def test_coordinates_do_not_change_the_posterior() -> None:
    problem = small_problem()
    rng = np.random.default_rng(3)
    tril = np.tril(0.1 * rng.normal(size=(NUM_PARAMS,) * 2)) + np.eye(NUM_PARAMS)
    other = coordinates_of(rng.uniform(0.1, 1, SHELLS), np.array(MOCK_PARAMS) + 0.1, tril)
    constants = []
    for seed in (4, 5):
        position = random_position(seed, problem)
        params = UNIT.bias.to_params(position[BIAS])
        same = {**position, **other.to_position(position[FIELD], params)}
        constants.append(log_density(other, problem, same) - log_density(UNIT, problem, position))
    np.testing.assert_allclose(constants[0], constants[1], rtol=1e-7)


def test_log_determinant_of_the_shells() -> None:
    scaled = ShellScaled(jnp.array([0.9, 0.2, 0.5, 0.8]))
    field = jnp.array(np.random.default_rng(1).normal(size=(4, 4, 4)))
    jacobian = jax.jacfwd(scaled.to_params)(field).reshape(64, 64)
    np.testing.assert_allclose(scaled.log_det(field), np.linalg.slogdet(jacobian)[1], rtol=1e-12)
    np.testing.assert_allclose(scaled.to_params(scaled.to_latent(field)), field, atol=1e-13)


def test_slopes_of_posterior_draws_tell_its_width() -> None:
    """Of a Gaussian posterior with precision 1 + S(k), from a few draws of it."""
    shape, rng = (16,) * 3, np.random.default_rng(2)
    shell = shells_of(shape)
    precision = 1 + 100 * np.exp(-0.5 * np.arange(shell.max() + 1.0))
    first = ShellScaled(jnp.full(len(precision), 0.5))  # whatever the coordinates are now
    power = []
    for _ in range(5):
        noise = np.fft.rfftn(rng.normal(size=shape))  # (draw - mean) = noise / sqrt(precision)
        slope = jnp.fft.irfftn(-np.sqrt(precision)[shell] * noise * 0.5, shape)
        power.append(np.asarray(shell_power(slope)))
    found = np.asarray(first.at_slopes(np.mean(power, axis=0)).scale)
    # Shell 1 has 18 modes, so 90 values of the square: 8 % of the width; take three times that.
    width = precision[1:9] ** -0.5
    np.testing.assert_allclose(found[1:9], width**0.75, rtol=0.25)
    np.testing.assert_allclose(found[4:9], width[3:] ** 0.75, rtol=0.05)


def test_width_of_a_curvature_is_at_most_the_priors() -> None:
    scale = ShellScaled.at_curvature(np.array([-3.0, 0.5, 1.0, 4.0, 1e9])).scale
    np.testing.assert_allclose(scale, np.array([1, 1, 1, 0.5, 0.01]) ** 0.75)


def test_product_by_shell_finds_the_gain_of_a_filter() -> None:
    gain = jnp.array([0.9, 0.2, 0.5, 0.8])
    field = jnp.array(np.random.default_rng(4).normal(size=(4, 4, 4)))
    product = shell_product(ShellScaled(gain).to_params(field), field)
    np.testing.assert_allclose(product, gain * shell_power(field), rtol=1e-12)
    # Parseval: all modes together hold the sum of squares.
    count = np.bincount(shells_of(field.shape).ravel(), weights_of(field.shape).ravel())
    np.testing.assert_allclose(count @ shell_power(field), jnp.sum(field**2), rtol=1e-12)


def test_adapted_coordinates_give_the_slopes_of_the_bias_unit_scale() -> None:
    """In them a posterior whose slopes have these mean products has unit curvature."""
    rng = np.random.default_rng(3)
    slopes = rng.normal(size=(4000, NUM_PARAMS)) @ rng.normal(size=(NUM_PARAMS, NUM_PARAMS))
    products = slopes[:, :, None] * slopes[:, None, :]
    old = coordinates_of(np.ones(SHELLS), np.zeros(NUM_PARAMS), 2 * np.eye(NUM_PARAMS))
    new = old.adapted(np.ones((4000, SHELLS)), products).bias
    change = jax.jacfwd(lambda x: old.bias.to_latent(new.to_params(x)))(jnp.zeros(NUM_PARAMS))
    curvature = change.T @ products.mean(axis=0) @ change
    # The weight of ten draws of the old coordinates, on a matrix with small eigenvalues.
    np.testing.assert_allclose(curvature, np.eye(NUM_PARAMS), atol=0.1)


def test_first_kernels_scatter_by_their_response_to_large_waves() -> None:
    """Else some respond with the opposite sign, and fields of opposite phases fit to them."""
    bias = hm.NeuralBias()
    params = np.asarray(scattered_params(jax.random.key(1), bias, 0.05, 400))
    response = params[:, :4] @ [1, 6, 12, 8]  # voxels per shell
    np.testing.assert_allclose(response.std(), 0.05 * np.sqrt(4), rtol=0.15)  # 3.5 % by chance
    np.testing.assert_allclose(params[:, 4:].std(axis=0), 0.05, rtol=0.15)


def test_gradient_is_that_of_finite_differences() -> None:
    problem = small_problem()
    position = random_position(6, problem)
    slope = compiled()(UNIT, problem, position)[1]
    step = 1e-5
    for name in position:
        direction = jnp.array(np.random.default_rng(7).normal(size=position[name].shape))
        if name == BIAS:
            direction = 0.01 * direction

        def moved(t: float, name: str = name, direction: jax.Array = direction) -> jax.Array:
            return log_density(UNIT, problem, {**position, name: position[name] + t * direction})

        numeric = (moved(step) - moved(-step)) / (2 * step)
        # A log-density of 3e3 in double precision: 1e-12 / step; and a kink of CIC here and there.
        measured = jnp.vdot(slope[name], direction)
        np.testing.assert_allclose(measured, numeric, rtol=1e-5, atol=1e-5, err_msg=name)


def test_single_precision_lpt_keeps_the_log_density() -> None:
    problem = small_problem()
    single = replace(problem, precision="float32")
    positions = [random_position(seed, problem) for seed in (1, 2)]
    exact = np.diff([log_density(UNIT, problem, p) for p in positions])
    rough = np.diff([log_density(UNIT, single, p) for p in positions])
    np.testing.assert_allclose(rough, exact, atol=0.02)


def test_trajectories_sample_the_density_and_tune_their_step() -> None:
    """Of one value: a skewed density, ln of a Gamma(3) variable, whose moments are known."""

    def log_density(x: jax.Array) -> jax.Array:
        return 3 * x[0] - jnp.exp(x[0])

    def step(carry: tuple, key: jax.Array) -> tuple[tuple, tuple]:
        position, size = carry
        new = update(key, log_density, position, size.value, 4)
        return (new.position, size.after(new.accept_prob, 0.7)), (new.position[0], new.accept_prob)

    start = (jnp.zeros(1), StepSize.first(0.01, until=500))
    _, (draws, accept_prob) = jax.lax.scan(step, start, jax.random.split(jax.random.key(1), 8500))
    draws, accept_prob = draws[500:], accept_prob[500:]
    # E ln g = digamma(3), var = trigamma(3); 8,000 draws of correlation below 0.5: 1 % and 3 %.
    np.testing.assert_allclose(draws.mean(), 0.9228, atol=0.03)
    np.testing.assert_allclose(draws.var(), 0.3949, rtol=0.1)
    assert 0.6 < accept_prob.mean() < 0.9


def test_an_impossible_trajectory_is_refused() -> None:
    def log_density(x: jax.Array) -> jax.Array:
        return jnp.where(jnp.abs(x[0]) < 1, 0.0, -jnp.inf)

    new = update(jax.random.key(1), log_density, jnp.zeros(1), jnp.asarray(50.0), 3)
    assert new.position[0] == 0 and new.accept_prob == 0 and new.diverging


def gaussian_posterior(width: float) -> tuple[np.ndarray, np.ndarray]:
    """Truth, and draws given data = truth + noise: noise of variance 1 leaves mean d/2, var 1/2."""
    rng = np.random.default_rng(11)
    truth = rng.normal(size=(16,) * 3)
    mean = (truth + rng.normal(size=truth.shape)) / 2
    draws = mean + width * np.sqrt(0.5) * rng.normal(size=(2, 200, *truth.shape))
    return truth, draws


def mixing_of(draws: np.ndarray) -> FieldMixing:
    """What a container with these fields alone says about them."""
    values = jax.vmap(jax.vmap(followed))(jnp.asarray(draws))
    dims = ("chain", "draw", "wavenumber")
    dataset = xr.Dataset(
        {
            "field_power": (dims, np.asarray(values["field_power"])),
            "field_mode": ((*dims, "part"), np.asarray(values["field_mode"])),
        },
        {"wavenumber": wavenumbers(draws.shape[2:], 100.0)},
    )
    tree = xr.DataTree.from_dict({"/posterior": dataset})
    found = field_mixing(table(tree), tree)
    assert found is not None
    return found


def test_what_is_followed_has_unit_scale() -> None:
    noise = np.random.default_rng(5).normal(size=(300, 8, 8, 8))
    values = jax.vmap(followed)(jnp.asarray(noise))
    # 20 parts of 300 fields, most of them independent: 2 % of the variance.
    np.testing.assert_allclose(np.var(values["field_mode"], axis=(0, 2)), 1, rtol=0.1)
    np.testing.assert_allclose(np.mean(values["field_power"], axis=0), 1, rtol=0.1)


def test_recovery_of_an_exact_posterior_is_calibrated() -> None:
    truth, draws = gaussian_posterior(width=1.0)
    recovery = measure_recovery(draws, truth, box_size=100.0)
    np.testing.assert_allclose(recovery.wavenumber, 2 * np.pi / 100 * np.arange(1, 8))
    # 3,000 modes: variance of z within 0.05; r = sqrt(1/2) for the mean, 1/2 for a draw.
    np.testing.assert_allclose(np.mean(recovery.z**2), 1, atol=0.1)
    np.testing.assert_allclose(recovery.correlation[3:], np.sqrt(0.5), atol=0.1)
    np.testing.assert_allclose(recovery.expected_correlation[3:], np.sqrt(0.5), atol=0.1)
    np.testing.assert_allclose(recovery.draw_correlation[3:], 0.5, atol=0.1)
    assert np.all(recovery.correlation_rhat < 1.05)
    one = measure_recovery(draws[:1], truth, box_size=100.0)  # its halves stand for two chains
    np.testing.assert_allclose(one.expected_correlation[3:], np.sqrt(0.5), atol=0.1)
    field = mixing_of(draws)
    assert np.all(field.ess > 250) and np.all(field.worst_rhat < 1.05)
    assert np.all(field.power_rhat < 1.05)


def test_power_shows_chains_that_differ() -> None:
    _, draws = gaussian_posterior(width=1.0)
    draws = draws * np.array([1.0, 1.1])[:, None, None, None, None]
    assert np.all(mixing_of(draws).power_rhat[1:] > 1.2)


def test_recovery_shows_overconfidence() -> None:
    truth, draws = gaussian_posterior(width=0.5)
    recovery = measure_recovery(draws, truth, box_size=100.0)
    np.testing.assert_allclose(np.mean(recovery.z**2), 4, atol=0.4)
    assert np.all(recovery.expected_correlation[3:] > recovery.correlation[3:] + 0.1)


def test_shipped_run_file_is_valid_and_flags_override_it(tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "runs" / "joint.toml"
    config = load_settings(JointConfig, path, {"sampler.num_chains": "1", "seed": "9"})
    assert config.sampler.num_chains == 1 and config.seed == 9 and config.mock.cells == 32
    again = tmp_path / "again.toml"
    again.write_text(to_toml(config))
    assert load_settings(JointConfig, again) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sampler]\nmehod = 'nuts'", "unknown setting sampler.mehod .* mean sampler.method"),
        ("[sampler]\nmethod = 'gibbs'", "expected one of: nuts, blocks"),
        ("[mock]\ncells = 2", "expected at least 4"),
        ("[mock\n", "not valid TOML"),
        ("[data]\nfile = 'nowhere.h5'", "nowhere.h5"),
        ("[model]\nname = 'neural_bias'", r"one for a fit, its model takes \(bias, log_likeli"),
        ("[model]\nname = 'mine'", "no model 'mine' .* shipped ones are: joint_field; give"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(hm.InputError, match=message):
        run(["joint", str(path)])
    assert [p.name for p in tmp_path.iterdir()] == ["bad.toml"]


def exchange_of_small_problem(**changes: object) -> Exchange:
    grid = hm.Grid((CELLS,) * 3, (CELLS * 250 / 64,) * 3)
    bias = hm.NeuralBias(density_floor=0.01)
    mock = make_mock(2, Lpt(grid), cosmology=Cosmology(), bias=bias, params=MOCK_PARAMS)
    return replace(as_exchange(mock), **changes)


def test_what_a_file_states_is_heeded(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    config = load_settings(JointConfig, None, {"data.file": str(path), "lpt.redshift": "0.5"})
    content = exchange_of_small_problem(redshift=np.nan)
    write_exchange(path, content)
    assert prepare(config).problem.lpt.redshift == 0.5
    assert differences(config, content) == []
    other = replace(config, cosmology=replace(config.cosmology, sigma8=0.7))
    assert differences(other, content) == ["cosmology.sigma8 is 0.7, the file was made with 0.8102"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mass_threshold": 1e13}, "complete above 1e.13 .* raise it to 1e.13"),
        ({"box_size": (31.25, 31.25, 62.5)}, "needs a cube"),
    ],
)
def test_unusable_files_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    path = tmp_path / "a.h5"
    if "mass_threshold" in changes:  # as if the file held heavier halos only
        changes = {**changes, "position": np.ones((1, 3)), "mass": np.array([2e13])}
    write_exchange(path, exchange_of_small_problem(**changes))
    with pytest.raises(hm.InputError, match=message):
        prepare(load_settings(JointConfig, None, {"data.file": str(path)}))

"""Three samplers of the joint posterior: NUTS, MCLMC, and alternating updates of field and bias.

Each is a pair of functions: ``start`` makes the state of a chain at a position, and ``advance``
makes ``chunk_size`` draws from it in one compiled program, which takes the data as arguments.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro
from jax import Array
from numpyro.infer import NUTS

from halo_mdn.errors import InputError
from halo_mdn.joint.coordinates import BIAS, FIELD, JointCoordinates, Position, shell_power
from halo_mdn.joint.problem import JointProblem, joint_model, log_joint
from halo_mdn.joint.settings import JointSampler
from halo_mdn.lpt import density
from halo_mdn.model_files import load_model
from halo_mdn.poisson_process import FixedFieldLikelihood, fixed_field_likelihood
from halo_mdn.sampling.coordinates import change_coordinates

# NumPyro keeps its effect handlers on one global stack: one thread at a time may run a model.
_TRACING = threading.Lock()
_BIAS_TREE_DEPTH = 5  # of the bias alone, where a step costs a thirtieth of a gradient

# The position has unit scale already; a variance estimated from so few steps would freeze the
# modes that have not moved yet. So only the step size is tuned, and L follows the dimension.
_TUNING = {
    "frac_tune1": 0.6,
    "frac_tune2": 0.4,
    "frac_tune3": 0.0,
    "diagonal_preconditioning": False,
}


class Draws(NamedTuple):
    """Some draws of one chain; all arrays begin with the draw.

    Attributes
    ----------
    white_noise : array (D, M0, M1, M2), single precision
    params : array (D, P)
    cosmology : dict of arrays (D,)
        Inferred cosmological parameters.
    latent : array (D, P)
        Bias parameters in the coordinates of the sampler.
    slope_power : array (D, S)
        Mean square, by shell, of the slope of the posterior in the latent field.
    num_gradients : array (D,) of int
        Of the whole forward model, the unit of cost.
    accept_prob : array (D,)
        NaN where the sampler accepts everything.
    diverging : array (D,) of bool
    """

    white_noise: Any
    params: Any
    cosmology: Any
    latent: Any
    slope_power: Any
    num_gradients: Any
    accept_prob: Any
    diverging: Any


class Sampler(NamedTuple):
    """``start(key, position, coordinates, problem, settings, num_warmup)`` makes a state,
    ``advance(state, coordinates, problem, settings)`` the next state and :class:`Draws`.
    """

    start: Callable[..., Any]
    advance: Callable[..., tuple[Any, Draws]]


def sampler_of(settings: JointSampler, problem: JointProblem) -> Sampler:
    """The sampler that the settings name.

    Raises
    ------
    InputError
        If it needs a package that is not installed, or cannot do what the problem asks for.
    """
    if settings.method == "mclmc":
        _blackjax()
        return Sampler(_start_mclmc, _advance_mclmc)
    if settings.method == "nuts":
        return Sampler(_start_nuts, _advance_nuts)
    if problem.free_cosmology:
        raise InputError("sampler.method = 'blocks' has no update of the cosmology: use nuts")
    return Sampler(_start_blocks, _advance_blocks)


def _as_draw(
    coordinates: JointCoordinates, problem: JointProblem, position: Position, slope: Array,
    *, num_gradients: Array | int, accept_prob: Array | float, diverging: Array | bool,
) -> Draws:  # fmt: skip
    return Draws(
        white_noise=coordinates.field.to_params(position[FIELD]).astype(jnp.float32),
        params=coordinates.bias.to_params(position[BIAS]),
        cosmology={
            name: mean + scale * position[f"{name}_unit"]
            for name, (mean, scale) in problem.free_cosmology
        },
        latent=position[BIAS],
        slope_power=shell_power(slope),
        num_gradients=jnp.asarray(num_gradients),
        accept_prob=jnp.asarray(accept_prob),
        diverging=jnp.asarray(diverging),
    )


def _nuts(model: Callable, settings: JointSampler, max_tree_depth: int) -> NUTS:
    return NUTS(
        model,
        step_size=0.1,
        max_tree_depth=max_tree_depth,
        target_accept_prob=settings.target_accept,
        adapt_mass_matrix=False,  # the coordinates take its place
    )


@cache
def _joint_kernel(settings: JointSampler) -> NUTS:
    return _nuts(joint_model, settings, settings.max_tree_depth)


def _start_nuts(
    key: Array, position: Position, coordinates: JointCoordinates, problem: JointProblem,
    settings: JointSampler, num_warmup: int,
) -> Any:  # fmt: skip
    with _TRACING:
        kernel = _joint_kernel(settings)
        return kernel.init(key, num_warmup, position, (coordinates, problem), {})


@partial(jax.jit, static_argnums=3)
def _advance_nuts(
    state: Any, coordinates: JointCoordinates, problem: JointProblem, settings: JointSampler
) -> tuple[Any, Draws]:
    """NUTS on field and bias together."""
    kernel = _joint_kernel(settings)

    def step(state: Any, _: None) -> tuple[Any, Draws]:
        state = kernel.sample(state, (coordinates, problem), {})
        return state, _as_draw(
            coordinates, problem, state.z, state.z_grad[FIELD], num_gradients=state.num_steps,
            accept_prob=state.accept_prob, diverging=state.diverging,
        )  # fmt: skip

    return jax.lax.scan(step, state, None, settings.chunk_size)


def _field_given_bias(latent: Array, coordinates: JointCoordinates, problem: JointProblem) -> None:
    numpyro.handlers.condition(joint_model, data={BIAS: latent})(coordinates, problem)


@cache
def _block_kernels(settings: JointSampler) -> tuple[NUTS, NUTS]:
    bias_model = change_coordinates(load_model("neural_bias"), "params")
    field = _nuts(_field_given_bias, settings, settings.max_tree_depth)
    return field, _nuts(bias_model, settings, _BIAS_TREE_DEPTH)


def _fixed_field(
    field: Array, coordinates: JointCoordinates, problem: JointProblem
) -> FixedFieldLikelihood:
    white_noise = coordinates.field.to_params(field).astype(problem.precision)
    delta = density(white_noise, problem.lpt, problem.cosmology)
    return fixed_field_likelihood(problem.bias, delta.astype(field.dtype), problem.halos)


def _start_blocks(
    key: Array, position: Position, coordinates: JointCoordinates, problem: JointProblem,
    settings: JointSampler, num_warmup: int,
) -> Any:  # fmt: skip
    field, bias = {FIELD: position[FIELD]}, {BIAS: position[BIAS]}
    field_arguments = (position[BIAS], coordinates, problem)
    log_l = _fixed_field(position[FIELD], coordinates, problem)
    bias_arguments = (coordinates.bias, problem.bias, log_l)
    field_key, bias_key = jax.random.split(key)
    with _TRACING:
        field_kernel, bias_kernel = _block_kernels(settings)
        field_state = field_kernel.init(field_key, num_warmup, field, field_arguments, {})
        num_warmup *= settings.bias_updates
        return field_state, bias_kernel.init(bias_key, num_warmup, bias, bias_arguments, {})


def _refreshed(kernel: NUTS, state: Any, arguments: tuple) -> Any:
    """The state with energy and gradient under other data; a fixed kernel needs nothing else."""
    potential = kernel._potential_fn_gen(*arguments)
    energy, slope = jax.value_and_grad(potential)(state.z)
    return state._replace(potential_energy=energy, z_grad=slope)


@partial(jax.jit, static_argnums=3)
def _advance_blocks(
    states: tuple, coordinates: JointCoordinates, problem: JointProblem, settings: JointSampler
) -> tuple[Any, Draws]:
    """Field given bias, then bias given field, each by NUTS, in turn, as BORG does it.

    The bias is updated ``bias_updates`` times per update of the field: with the field fixed the
    fast likelihood applies, and such an update costs no gradient of the forward model.
    """
    field_kernel, bias_kernel = _block_kernels(settings)

    def sweep(states: tuple, _: None) -> tuple[tuple, Draws]:
        field_state, bias_state = states
        arguments = (bias_state.z[BIAS], coordinates, problem)
        field_state = _refreshed(field_kernel, field_state, arguments)
        field_state = field_kernel.sample(field_state, arguments, {})
        log_l = _fixed_field(field_state.z[FIELD], coordinates, problem)
        bias_arguments = (coordinates.bias, problem.bias, log_l)
        bias_state = _refreshed(bias_kernel, bias_state, bias_arguments)

        def update(state: Any, _: None) -> tuple[Any, Array]:
            state = bias_kernel.sample(state, bias_arguments, {})
            return state, state.diverging

        bias_state, diverging = jax.lax.scan(update, bias_state, None, settings.bias_updates)
        draw = _as_draw(
            coordinates, problem, {**field_state.z, **bias_state.z}, field_state.z_grad[FIELD],
            num_gradients=field_state.num_steps + 1, accept_prob=field_state.accept_prob,
            diverging=field_state.diverging | jnp.any(diverging),
        )  # fmt: skip
        return (field_state, bias_state), draw

    return jax.lax.scan(sweep, states, None, settings.chunk_size)


def _blackjax() -> Any:
    try:
        return importlib.import_module("blackjax")
    except ImportError:
        raise InputError(
            "sampler.method = 'mclmc' needs blackjax: pip install blackjax, or use 'nuts'"
        ) from None


def _start_mclmc(
    key: Array, position: Position, coordinates: JointCoordinates, problem: JointProblem,
    settings: JointSampler, num_warmup: int,
) -> Any:  # fmt: skip
    key, tune_key = jax.random.split(key)
    num_steps = num_warmup * settings.thinning
    return key, *_tune_mclmc(tune_key, position, coordinates, problem, settings, num_steps)


@partial(jax.jit, static_argnums=(4, 5))
def _tune_mclmc(
    key: Array, position: Position, coordinates: JointCoordinates, problem: JointProblem,
    settings: JointSampler, num_steps: int,
) -> tuple:  # fmt: skip
    """The state after ``num_steps`` steps, the length between refreshments, and the step size."""
    blackjax = _blackjax()
    init_key, tune_key = jax.random.split(key)
    target = partial(log_joint, coordinates, problem)
    state = blackjax.mcmc.mclmc.init(position, target, init_key)
    state, tuned, *_ = blackjax.mclmc_find_L_and_step_size(
        mclmc_kernel=blackjax.mcmc.mclmc.build_kernel(),
        num_steps=num_steps,
        state=state,
        rng_key=tune_key,
        logdensity_fn=target,
        desired_energy_var=settings.energy_error,
        **_TUNING,
    )
    return state, tuned.L, tuned.step_size


@partial(jax.jit, static_argnums=3)
def _advance_mclmc(
    state: tuple, coordinates: JointCoordinates, problem: JointProblem, settings: JointSampler
) -> tuple[Any, Draws]:
    """Microcanonical Langevin Monte Carlo (Robnik et al. 2023), through blackjax.

    It has no Metropolis step: its bias is held down by the energy error per dimension to which
    the step size is tuned. One draw is kept every ``thinning`` steps of two gradients.
    """
    kernel = _blackjax().mcmc.mclmc.build_kernel()
    key, first, momentum_length, step_size = state
    keys = jax.random.split(key, settings.chunk_size * settings.thinning + 1)

    def step(state: Any, key: Array) -> tuple[Any, None]:
        state, _ = kernel(
            key, state, logdensity_fn=partial(log_joint, coordinates, problem),
            inverse_mass_matrix=1.0, L=momentum_length, step_size=step_size,
        )  # fmt: skip
        return state, None

    def draw(state: Any, keys: Array) -> tuple[Any, Draws]:
        state, _ = jax.lax.scan(step, state, keys)
        return state, _as_draw(
            coordinates, problem, state.position, state.logdensity_grad[FIELD],
            num_gradients=2 * settings.thinning, accept_prob=jnp.nan, diverging=False,
        )  # fmt: skip

    per_draw = keys[1:].reshape(settings.chunk_size, settings.thinning)
    last, draws = jax.lax.scan(draw, first, per_draw)
    return (keys[0], last, momentum_length, step_size), draws

"""Three samplers of the joint posterior: NUTS, MCLMC, and HMC in turn with updates of the bias.

Each says how to start a chain at a position, how to update its state, and where that state is;
`advance` makes ``chunk_size`` draws, of ``thinning`` updates each, in one compiled program that
takes the data as arguments.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from numpyro.infer import NUTS

from halo_mdn.bias.normal_prior import log_prior
from halo_mdn.config.joint_schema import JointSampler
from halo_mdn.errors import InputError
from halo_mdn.field.fourier import shell_power
from halo_mdn.field.lpt import density
from halo_mdn.joint.coordinates import BIAS, FIELD, JointCoordinates, Position
from halo_mdn.joint.hmc import StepSize, update
from halo_mdn.joint.problem import JointProblem, joint_model, log_joint
from halo_mdn.likelihood.fixed_field import fixed_field_likelihood

# NumPyro keeps its effect handlers on one global stack: one thread at a time may run a model.
_TRACING = threading.Lock()
_FIRST_STEP = 0.1  # before any is tuned; the coordinates have unit scale
_BIAS_STEPS = 16  # of a trajectory of the bias, where one costs a thirtieth of a gradient
_BIAS_ACCEPT = 0.9  # lower, and trajectories end where the bias is curved

# The position has unit scale already; a variance estimated from so few steps would freeze the
# modes that have not moved yet. So only the step size is tuned, and L follows the dimension.
_TUNING = {
    "frac_tune1": 0.6,
    "frac_tune2": 0.4,
    "frac_tune3": 0.0,
    "diagonal_preconditioning": False,
}


class Updates(NamedTuple):
    """Some draws of one chain; all arrays begin with the draw.

    Attributes
    ----------
    white_noise : array (D, M0, M1, M2), single precision
    params : array (D, P)
    cosmology : dict of arrays (D,)
        Inferred cosmological parameters.
    field_slopes : array (D, S)
        Mean square, by shell, of the slope of the posterior in the latent field.
    bias_slopes : array (D, P, P)
        Mean outer product of the slopes in the latent bias parameters.
    num_gradients : array (D,) of int
        Of the whole forward model, the unit of cost.
    accept_prob : array (D,)
        NaN where the sampler accepts everything.
    diverging : array (D,) of int
        Divergent updates.
    """

    white_noise: Any
    params: Any
    cosmology: Any
    field_slopes: Any
    bias_slopes: Any
    num_gradients: Any
    accept_prob: Any
    diverging: Any


class Cost(NamedTuple):
    """What one update took: see :class:`Updates`."""

    num_gradients: Any
    accept_prob: Any
    diverging: Any


class Sampler(NamedTuple):
    """Three functions.

    Attributes
    ----------
    start
        ``(key, position, coordinates, problem, settings, num_updates)`` to a state that adapts
        its step size over so many updates.
    update
        ``(state, coordinates, problem, settings)`` to a state and its :class:`Cost`.
    position_and_slopes
        State to position and slopes (up to their sign) of the posterior: in the latent field, one,
        and in the latent bias parameters, (U, P), of which there may be several.
    tuning_gradients
        Of the forward model that ``start`` takes for each of so many updates.
    """

    start: Callable[..., Any]
    update: Callable[..., tuple[Any, Cost]]
    position_and_slopes: Callable[[Any], tuple[Position, Array, Array]]
    tuning_gradients: int = 0


def sampler_of(method: str) -> Sampler:
    """The sampler of a name."""
    return {
        "nuts": Sampler(_start_nuts, _update_nuts, lambda s: (s.z, *_slopes_in(s.z_grad))),
        "blocks": Sampler(
            _start_blocks, _update_blocks, lambda s: (s.position, s.field_slope, s.bias_slopes)
        ),
        "mclmc": Sampler(
            _start_mclmc,
            _update_mclmc,
            lambda s: (s[1].position, *_slopes_in(s[1].logdensity_grad)),
            tuning_gradients=2,
        ),
    }[method]


def _slopes_in(slope: Position) -> tuple[Array, Array]:
    return slope[FIELD], slope[BIAS][None]


def check_sampler(settings: JointSampler) -> None:
    """Make sure that the sampler can do what is asked for.

    Raises
    ------
    InputError
        If it needs a package that is not installed.
    """
    if settings.method == "mclmc":
        _blackjax()


@partial(jax.jit, static_argnums=3)
def advance(
    state: Any, coordinates: JointCoordinates, problem: JointProblem, settings: JointSampler
) -> tuple[Any, Updates]:
    """The state of a chain after ``chunk_size`` more draws, and those draws."""
    sampler = sampler_of(settings.method)

    def one(state: Any, _: None) -> tuple[Any, Cost]:
        return sampler.update(state, coordinates, problem, settings)

    def draw(state: Any, _: None) -> tuple[Any, Updates]:
        state, cost = jax.lax.scan(one, state, None, settings.thinning)
        position, slope, bias_slopes = sampler.position_and_slopes(state)
        return state, Updates(
            white_noise=coordinates.field.to_params(position[FIELD]).astype(jnp.float32),
            params=coordinates.bias.to_params(position[BIAS]),
            cosmology={
                name: mean + scale * position[f"{name}_unit"]
                for name, (mean, scale) in problem.free_cosmology
            },
            field_slopes=shell_power(slope),
            bias_slopes=bias_slopes.T @ bias_slopes / len(bias_slopes),
            num_gradients=jnp.sum(cost.num_gradients),
            accept_prob=jnp.mean(cost.accept_prob),
            diverging=jnp.sum(cost.diverging),
        )

    return jax.lax.scan(draw, state, None, settings.chunk_size)


@cache
def _kernel(settings: JointSampler) -> NUTS:
    return NUTS(
        joint_model,
        step_size=_FIRST_STEP,
        max_tree_depth=settings.max_tree_depth,
        target_accept_prob=settings.target_accept,
        adapt_mass_matrix=False,  # the coordinates take its place
    )


def _start_nuts(
    key: Array, position: Position, coordinates: JointCoordinates, problem: JointProblem,
    settings: JointSampler, num_updates: int,
) -> Any:  # fmt: skip
    with _TRACING:
        kernel = _kernel(settings)
        return kernel.init(key, num_updates, position, (coordinates, problem), {})


def _update_nuts(
    state: Any, coordinates: JointCoordinates, problem: JointProblem, settings: JointSampler
) -> tuple[Any, Cost]:
    """Field and bias together."""
    state = _kernel(settings).sample(state, (coordinates, problem), {})
    return state, Cost(state.num_steps, state.accept_prob, state.diverging)


class BlockState(NamedTuple):
    """Position of a chain, slopes on the way there, and the step sizes of both updates."""

    key: Array
    position: Position
    field_slope: Array
    bias_slopes: Array
    joint_step: StepSize
    bias_step: StepSize


def _start_blocks(
    key: Array, position: Position, coordinates: JointCoordinates, problem: JointProblem,
    settings: JointSampler, num_updates: int,
) -> BlockState:  # fmt: skip
    joint_step = StepSize.first(_FIRST_STEP, num_updates)
    bias_step = StepSize.first(_FIRST_STEP, num_updates * settings.bias_updates)
    no_slopes = jnp.zeros((settings.bias_updates, *position[BIAS].shape))
    field_slope = jnp.zeros_like(position[FIELD])
    return BlockState(key, position, field_slope, no_slopes, joint_step, bias_step)


def _update_blocks(
    state: BlockState, coordinates: JointCoordinates, problem: JointProblem, settings: JointSampler
) -> tuple[BlockState, Cost]:
    """Field, bias and cosmology together, then bias given field, each by HMC.

    The strength of the large waves and the response of the bias to them change together. The bias
    is updated alone ``bias_updates`` times: with the field fixed the fast likelihood applies, and
    such an update costs no gradient of the forward model.
    """
    key, joint_key, bias_key = jax.random.split(state.key, 3)
    joint_step, num_steps = state.joint_step, settings.trajectory
    flat, as_position = ravel_pytree(state.position)
    log_density = partial(log_joint, coordinates, problem)
    moved = update(
        joint_key, lambda x: log_density(as_position(x)), flat, joint_step.value, num_steps
    )
    joint_step = joint_step.after(moved.accept_prob, settings.target_accept)
    position = as_position(moved.position)
    latent, cosmology = position[BIAS], problem.cosmology_at(position)
    white_noise = coordinates.field.to_params(position[FIELD]).astype(problem.precision)
    delta = density(white_noise, problem.lpt, cosmology).astype(latent.dtype)
    log_l = fixed_field_likelihood(problem.bias, delta, problem.halos)

    def of_bias(latent: Array) -> Array:
        params = coordinates.bias.to_params(latent)
        log_posterior = log_l(params) + log_prior(problem.bias, params)
        return log_posterior + coordinates.bias.log_det(latent)

    def update_bias(carry: tuple[Array, StepSize], key: Array) -> tuple[tuple, tuple]:
        latent, step = carry
        new = update(key, of_bias, latent, step.value, _BIAS_STEPS)
        step = step.after(new.accept_prob, _BIAS_ACCEPT)
        return (new.position, step), (new.slope, new.diverging)

    keys = jax.random.split(bias_key, settings.bias_updates)
    first = (latent, state.bias_step)
    (latent, bias_step), (bias_slopes, diverging) = jax.lax.scan(update_bias, first, keys)
    position[BIAS] = latent
    slope = as_position(moved.slope)[FIELD]
    cost = Cost(num_steps + 1, moved.accept_prob, moved.diverging | jnp.any(diverging))
    return BlockState(key, position, slope, bias_slopes, joint_step, bias_step), cost


def _blackjax() -> Any:
    try:
        return importlib.import_module("blackjax")
    except ImportError:
        raise InputError(
            "sampler.method = 'mclmc' needs blackjax: pip install 'halo-mdn[joint]', or use "
            "'blocks'"
        ) from None


def _start_mclmc(
    key: Array, position: Position, coordinates: JointCoordinates, problem: JointProblem,
    settings: JointSampler, num_updates: int,
) -> Any:  # fmt: skip
    key, tune_key = jax.random.split(key)
    return key, *_tune_mclmc(tune_key, position, coordinates, problem, settings, num_updates)


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


def _update_mclmc(
    state: tuple, coordinates: JointCoordinates, problem: JointProblem, settings: JointSampler
) -> tuple[Any, Cost]:
    """Microcanonical Langevin Monte Carlo (Robnik et al. 2023), through blackjax.

    It has no Metropolis step: its bias is held down by the energy error per dimension to which
    the step size is tuned. A step takes two gradients.
    """
    key, state, momentum_length, step_size = state
    key, step_key = jax.random.split(key)
    state, _ = _blackjax().mcmc.mclmc.build_kernel()(
        step_key, state, logdensity_fn=partial(log_joint, coordinates, problem),
        inverse_mass_matrix=1.0, L=momentum_length, step_size=step_size,
    )  # fmt: skip
    return (key, state, momentum_length, step_size), Cost(2, jnp.nan, False)

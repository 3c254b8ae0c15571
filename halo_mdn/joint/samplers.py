"""Three samplers of the joint posterior: NUTS, MCLMC, and alternating updates of field and bias.

Each draws in chunks from compiled functions that take the data as arguments, and counts gradients
of the whole forward model, the unit of cost.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array
from numpyro.infer import NUTS

from halo_mdn.errors import InputError
from halo_mdn.joint.beginning import Beginning, adapt_bias
from halo_mdn.joint.problem import (
    BIAS,
    FIELD,
    JointProblem,
    Position,
    joint_model,
    log_joint,
)
from halo_mdn.joint.program import TRACING, Program
from halo_mdn.joint.settings import JointSampler
from halo_mdn.lpt import density
from halo_mdn.model_files import load_model
from halo_mdn.poisson_process import fixed_field_likelihood
from halo_mdn.sampling.coordinates import Whitened, change_coordinates

# The position is preconditioned already, and a variance estimated from so few steps would freeze
# the modes that have not moved yet; so only the step size is tuned, and L follows the dimension.
_TUNING = {
    "frac_tune1": 0.6,
    "frac_tune2": 0.4,
    "frac_tune3": 0.0,
    "diagonal_preconditioning": False,
}


class Chunk(NamedTuple):
    """Some draws of one chain.

    Attributes
    ----------
    white_noise : array (D, M0, M1, M2), single precision
    params : array (D, num_params)
    cosmology : dict of arrays (D,)
        Inferred cosmological parameters.
    num_gradients : int
        Of the whole forward model.
    accept_prob : float
        Mean acceptance; NaN where the sampler has none.
    divergences : int
    warming_up : bool
    """

    white_noise: np.ndarray
    params: np.ndarray
    cosmology: dict[str, np.ndarray]
    num_gradients: int
    accept_prob: float
    divergences: int
    warming_up: bool


Sampler = Callable[[Array, JointProblem, Beginning, JointSampler], Iterator[Chunk]]


def sampler_of(settings: JointSampler) -> Sampler:
    """The sampler that the settings name.

    Raises
    ------
    InputError
        If it needs a package that is not installed.
    """
    if settings.method == "mclmc":
        _blackjax()
    return {"nuts": draw_nuts, "mclmc": draw_mclmc, "blocks": draw_blocks}[settings.method]


def draw_nuts(
    key: Array, problem: JointProblem, start: Beginning, settings: JointSampler
) -> Iterator[Chunk]:
    """NUTS on field and bias together: diagonal mass for the field, dense for the bias."""
    kernel = _joint_kernel(settings.max_tree_depth, settings.target_accept)
    advance = _nuts_chunk(kernel)
    position, coordinates = start.position, start.coordinates
    for stage, num_warmup in enumerate(_stages(settings)):
        if stage > 0:
            position, coordinates = adapt_bias(
                problem, position, coordinates, newton_steps=settings.newton_steps
            )
        with TRACING:
            state = kernel.init(key, num_warmup, position, (coordinates, problem), {})
        for length in _chunks(num_warmup, settings.chunk_size):
            state, out = advance(state, coordinates, problem, length=length)
            yield _as_chunk(problem, coordinates, out, warming_up=True)
        position = state.z
    for length in _chunks(settings.num_samples, settings.chunk_size):
        state, out = advance(state, coordinates, problem, length=length)
        yield _as_chunk(problem, coordinates, out, warming_up=False)


def draw_mclmc(
    key: Array, problem: JointProblem, start: Beginning, settings: JointSampler
) -> Iterator[Chunk]:
    """Microcanonical Langevin Monte Carlo (Robnik et al. 2023), through blackjax.

    It has no Metropolis step: its bias is held down by the energy error per dimension to which
    the step size is tuned. One draw is kept every ``thinning`` steps of two gradients.
    """
    position, coordinates = start.position, start.coordinates
    for stage, num_warmup in enumerate(_stages(settings)):
        if stage > 0:
            position, coordinates = adapt_bias(
                problem, position, coordinates, newton_steps=settings.newton_steps
            )
        key, tune_key = jax.random.split(key)
        tune_steps = num_warmup * settings.thinning
        state, length_scale, step_size = _tune_mclmc(
            tune_key, position, coordinates, problem,
            num_steps=tune_steps, energy_error=settings.energy_error,
        )  # fmt: skip
        position = state.position
        cost = np.array([2 * tune_steps])
        last = jax.tree.map(lambda x: x[None], _kept(position))
        out = (last, cost, np.array([np.nan]), np.zeros(1, dtype=bool))
        yield _as_chunk(problem, coordinates, out, warming_up=True)
    for num in _chunks(settings.num_samples, settings.chunk_size):
        key, chunk_key = jax.random.split(key)
        state, draws = _mclmc_chunk(
            chunk_key, state, coordinates, problem, (length_scale, step_size),
            length=num, thinning=settings.thinning,
        )  # fmt: skip
        cost = np.full(num, 2 * settings.thinning)
        out = (draws, cost, np.full(num, np.nan), np.zeros(num, dtype=bool))
        yield _as_chunk(problem, coordinates, out, warming_up=False)


def draw_blocks(
    key: Array, problem: JointProblem, start: Beginning, settings: JointSampler
) -> Iterator[Chunk]:
    """Field given bias, then bias given field, each by NUTS, in turn.

    The bias is updated ``bias_updates`` times per update of the field: with the field fixed, the
    likelihood is a hundred times cheaper, and does not count as a gradient of the forward model.
    """
    if problem.free_cosmology:
        raise InputError("sampler.method = 'blocks' has no update of the cosmology: use nuts")
    field_key, bias_key = jax.random.split(key)
    coordinates = start.coordinates
    field_kernel = _field_kernel(settings.max_tree_depth, settings.target_accept)
    bias_kernel = _bias_kernel(settings.target_accept)
    bias = start.position[BIAS]
    log_l = _fixed_field(problem, start.position[FIELD])
    num_warmup = settings.num_warmup
    field_arguments = (bias, coordinates, problem)
    bias_arguments = (coordinates, problem.bias, log_l)
    with TRACING:
        field_start = {FIELD: start.position[FIELD]}
        field_state = field_kernel.init(field_key, num_warmup, field_start, field_arguments, {})
        num_warmup *= settings.bias_updates
        bias_state = bias_kernel.init(bias_key, num_warmup, {BIAS: bias}, bias_arguments, {})
    advance = _block_chunk(field_kernel, bias_kernel)
    states = (field_state, bias_state)
    for warming_up, total in ((True, settings.num_warmup), (False, settings.num_samples)):
        for length in _chunks(total, settings.chunk_size):
            states, out = advance(
                states, coordinates, problem, length=length, updates=settings.bias_updates
            )
            yield _as_chunk(problem, coordinates, out, warming_up=warming_up)


def _stages(settings: JointSampler) -> tuple[int, int]:
    """Draws of the two stages of the warm-up; between them the bias is whitened again."""
    half = max(1, settings.num_warmup // 2)  # equal halves share one compiled program
    return half, half


def _chunks(total: int, size: int) -> list[int]:
    return [min(size, total - done) for done in range(0, total, size)]


def _as_chunk(problem: JointProblem, coordinates: Whitened, out: tuple, warming_up: bool) -> Chunk:
    positions, num_steps, accept, diverging = jax.device_get(out)
    params = jax.vmap(lambda latent: coordinates.to_params(latent))(jnp.asarray(positions[BIAS]))
    cosmology = {
        name: mean + scale * positions[f"{name}_unit"]
        for name, (mean, scale) in problem.free_cosmology
    }
    return Chunk(
        white_noise=positions[FIELD],
        params=np.asarray(params),
        cosmology=cosmology,
        num_gradients=int(np.sum(num_steps)),
        accept_prob=float(np.mean(accept)),
        divergences=int(np.sum(diverging)),
        warming_up=warming_up,
    )


def _kept(position: Position) -> Position:
    """What is stored of a draw: the field in single precision."""
    return {**position, FIELD: position[FIELD].astype(jnp.float32)}


@cache
def _joint_kernel(max_tree_depth: int, target_accept: float) -> NUTS:
    return NUTS(
        joint_model(),
        step_size=0.1,
        max_tree_depth=max_tree_depth,
        target_accept_prob=target_accept,
        dense_mass=[(BIAS,)],
    )


@cache
def _nuts_chunk(kernel: NUTS) -> Callable[..., Any]:
    @Program
    def advance(state: Any, coordinates: Whitened, problem: JointProblem, *, length: int) -> Any:
        def step(state: Any, _: None) -> tuple[Any, tuple]:
            state = kernel.sample(state, (coordinates, problem), {})
            return state, (_kept(state.z), state.num_steps, state.accept_prob, state.diverging)

        return jax.lax.scan(step, state, None, length)

    return advance


def _field_given_bias(latent: Array, coordinates: Whitened, problem: JointProblem) -> None:
    conditioned = numpyro.handlers.condition(joint_model(), data={BIAS: latent})
    conditioned(coordinates, problem)


@cache
def _field_kernel(max_tree_depth: int, target_accept: float) -> NUTS:
    return NUTS(
        _field_given_bias,
        step_size=0.1,
        max_tree_depth=max_tree_depth,
        target_accept_prob=target_accept,
    )


@cache
def _bias_kernel(target_accept: float) -> NUTS:
    model = change_coordinates(load_model("neural_bias"), "params")
    return NUTS(model, step_size=0.1, max_tree_depth=6, target_accept_prob=target_accept,
                dense_mass=True)  # fmt: skip


def _fixed_field(problem: JointProblem, field: Array) -> Any:
    delta = density(field.astype(problem.precision), problem.lpt, problem.cosmology)
    return fixed_field_likelihood(problem.bias, delta.astype(field.dtype), problem.halos)


def _refreshed(kernel: NUTS, state: Any, arguments: tuple) -> Any:
    """The state with energy and gradient under other data; a fixed kernel needs nothing else."""
    potential = kernel._potential_fn_gen(*arguments)
    energy, slope = jax.value_and_grad(potential)(state.z)
    return state._replace(potential_energy=energy, z_grad=slope)


@cache
def _block_chunk(field_kernel: NUTS, bias_kernel: NUTS) -> Callable[..., Any]:
    @Program
    def advance(
        states: tuple, coordinates: Whitened, problem: JointProblem, *, length: int, updates: int
    ) -> Any:
        def sweep(states: tuple, _: None) -> tuple[tuple, tuple]:
            field_state, bias_state = states
            arguments = (bias_state.z[BIAS], coordinates, problem)
            field_state = _refreshed(field_kernel, field_state, arguments)
            field_state = field_kernel.sample(field_state, arguments, {})
            log_l = _fixed_field(problem, field_state.z[FIELD])
            bias_arguments = (coordinates, problem.bias, log_l)
            bias_state = _refreshed(bias_kernel, bias_state, bias_arguments)
            bias_state, _ = jax.lax.scan(
                lambda state, _: (bias_kernel.sample(state, bias_arguments, {}), None),
                bias_state, None, updates,
            )  # fmt: skip
            kept = _kept({**field_state.z, **bias_state.z})
            diverging = field_state.diverging | bias_state.diverging
            out = (kept, field_state.num_steps + 1, field_state.accept_prob, diverging)
            return (field_state, bias_state), out

        return jax.lax.scan(sweep, states, None, length)

    return advance


def _blackjax() -> Any:
    try:
        return importlib.import_module("blackjax")
    except ImportError:
        raise InputError(
            "sampler.method = 'mclmc' needs blackjax: pip install blackjax, or use 'nuts'"
        ) from None


@Program
def _tune_mclmc(
    key: Array, position: Position, coordinates: Whitened, problem: JointProblem,
    *, num_steps: int, energy_error: float,
) -> tuple:  # fmt: skip
    """The state after ``num_steps`` steps, the length between refreshments, and the step size."""
    blackjax = _blackjax()
    init_key, tune_key = jax.random.split(key)
    target = partial(log_joint, joint_model(), coordinates, problem)
    state = blackjax.mcmc.mclmc.init(position, target, init_key)
    state, tuned, *_ = blackjax.mclmc_find_L_and_step_size(
        mclmc_kernel=blackjax.mcmc.mclmc.build_kernel(),
        num_steps=num_steps,
        state=state,
        rng_key=tune_key,
        logdensity_fn=target,
        desired_energy_var=energy_error,
        **_TUNING,
    )
    return state, tuned.L, tuned.step_size


@Program
def _mclmc_chunk(
    key: Array, state: Any, coordinates: Whitened, problem: JointProblem, tuned: tuple,
    *, length: int, thinning: int,
) -> tuple:  # fmt: skip
    kernel = _blackjax().mcmc.mclmc.build_kernel()
    target = partial(log_joint, joint_model(), coordinates, problem)
    momentum_length, step_size = tuned

    def step(state: Any, key: Array) -> tuple[Any, None]:
        state, _ = kernel(
            key, state, logdensity_fn=target, inverse_mass_matrix=1.0, L=momentum_length,
            step_size=step_size,
        )  # fmt: skip
        return state, None

    def draw(state: Any, key: Array) -> tuple[Any, Position]:
        state, _ = jax.lax.scan(step, state, jax.random.split(key, thinning))
        return state, _kept(state.position)

    return jax.lax.scan(draw, state, jax.random.split(key, length))

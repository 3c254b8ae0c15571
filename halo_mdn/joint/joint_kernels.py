"""The samplers of the joint density: NUTS, and HMC in turn with updates of the bias alone.

Both are kernels in NumPyro's sense, ``init`` and ``sample``, so that the machinery that runs fits
runs them too. Their model arguments are the coordinates and the :class:`JointDensity`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from numpyro.infer import NUTS

from halo_mdn.config.joint_schema import JointSampler
from halo_mdn.joint.coordinates import BIAS, FIELD, JointCoordinates, Position
from halo_mdn.joint.hmc import StepSize, update
from halo_mdn.joint.joint_density import JointDensity, joint_model
from halo_mdn.sampling.nuts.chains import Kernel

_FIRST_STEP = 0.1  # before any is tuned; the coordinates have unit scale
_BIAS_STEPS = 16  # of a trajectory of the bias, where one costs a thirtieth of a gradient
_BIAS_ACCEPT = 0.9  # lower, and trajectories end where the bias is curved

Arguments = tuple[JointCoordinates, JointDensity]


def kernel_of(settings: JointSampler) -> Thinned:
    """The sampler that the settings ask for."""
    kernels = {"nuts": _nuts, "blocks": Blocks}
    return Thinned(kernels[settings.method](settings), settings.thinning)


class Cost(NamedTuple):
    """What a draw took: gradients of the whole forward model, mean acceptance, divergences.

    Divergent trajectories of the bias alone, which is one of many, are counted by themselves.
    """

    num_steps: Array
    accept_prob: Array
    diverging: Array
    bias_diverging: Array


class DrawState(NamedTuple):
    """State of a kernel, and what the draw that led to it took."""

    inner: Any
    cost: Cost


class Thinned:
    """Several updates of a kernel for each draw."""

    def __init__(self, kernel: Kernel, thinning: int) -> None:
        self.kernel, self.thinning = kernel, thinning

    def init(
        self, key: Array, num_warmup: int, position: Position, args: Arguments, kwargs: dict
    ) -> DrawState:
        """A first state; the kernel tunes its step over ``num_warmup`` updates."""
        inner = self.kernel.init(key, num_warmup, position, args, kwargs)
        none = jnp.zeros((), int)
        return DrawState(inner, Cost(none, jnp.zeros(()), none, none))

    def sample(self, state: DrawState, args: Arguments, kwargs: dict) -> DrawState:
        """The state one draw later."""

        def one(inner: Any, _: None) -> tuple[Any, Cost]:
            inner = self.kernel.sample(inner, args, kwargs)
            alone = jnp.asarray(getattr(inner, "bias_diverging", 0))
            return inner, Cost(inner.num_steps, inner.accept_prob, inner.diverging, alone)

        inner, costs = jax.lax.scan(one, state.inner, None, self.thinning)
        return DrawState(
            inner,
            Cost(
                num_steps=jnp.sum(costs.num_steps),
                accept_prob=jnp.mean(costs.accept_prob),
                diverging=jnp.sum(costs.diverging),
                bias_diverging=jnp.sum(costs.bias_diverging),
            ),
        )


def slopes_of(inner: Any) -> tuple[Array, Array]:
    """Slopes of the density, up to their sign, that a kernel saw at a draw or on the way there.

    In the latent field, one, and in the latent bias parameters, (U, P), of which there may be
    several.
    """
    if isinstance(inner, BlockState):
        return inner.field_slope, inner.bias_slopes
    return inner.z_grad[FIELD], inner.z_grad[BIAS][None]


def step_of(inner: Any) -> Array:
    """Step size of the trajectories of all."""
    return inner.joint_step.value if isinstance(inner, BlockState) else inner.adapt_state.step_size


def _nuts(settings: JointSampler) -> Kernel:
    kernel: Kernel = NUTS(
        joint_model,
        step_size=_FIRST_STEP,
        max_tree_depth=settings.max_tree_depth,
        target_accept_prob=settings.target_accept,
        adapt_mass_matrix=False,  # the coordinates take its place
    )
    return kernel


class BlockState(NamedTuple):
    """State of a chain in :class:`Blocks`; names as in NumPyro's ``HMCState`` where it has them.

    Attributes
    ----------
    z
        Position.
    field_slope, bias_slopes
        In the latent field at the beginning of the trajectory of all, and in the latent bias at
        that of each of its own.
    joint_step, bias_step
        Of both kinds of trajectories.
    """

    key: Array
    z: Position
    potential_energy: Array
    energy: Array
    field_slope: Array
    bias_slopes: Array
    joint_step: StepSize
    bias_step: StepSize
    num_steps: Array
    accept_prob: Array
    diverging: Array
    bias_diverging: Array


class Blocks:
    """Field, bias and cosmology together, then bias given field, each by HMC.

    The strength of the large waves and the response of the bias to them change together. The bias
    is updated alone ``bias_updates`` times: with the field fixed the fast likelihood applies, and
    such an update costs no gradient of the forward model.
    """

    def __init__(self, settings: JointSampler) -> None:
        self.settings = settings

    def init(
        self, key: Array, num_warmup: int, position: Position, args: Arguments, kwargs: dict
    ) -> BlockState:
        """A first state; both steps are tuned over ``num_warmup`` updates."""
        zero, none, no = jnp.zeros(()), jnp.zeros((), int), jnp.zeros((), bool)
        alone = self.settings.bias_updates
        return BlockState(
            key=key,
            z=position,
            potential_energy=zero,
            energy=zero,
            field_slope=jnp.zeros_like(position[FIELD]),
            bias_slopes=jnp.zeros((alone, *position[BIAS].shape)),
            joint_step=StepSize.first(_FIRST_STEP, num_warmup),
            bias_step=StepSize.first(_FIRST_STEP, num_warmup * alone),
            num_steps=none,
            accept_prob=zero,
            diverging=no,
            bias_diverging=none,
        )

    def sample(self, state: BlockState, args: Arguments, kwargs: dict) -> BlockState:
        """One trajectory of all and several of the bias alone."""
        coordinates, density = args
        key, joint_key, bias_key = jax.random.split(state.key, 3)
        num_steps = self.settings.trajectory
        flat, as_position = ravel_pytree(state.z)
        moved = update(
            joint_key, lambda x: density(coordinates, as_position(x)), flat,
            state.joint_step.value, num_steps,
        )  # fmt: skip
        position = as_position(moved.position)
        latent, at_end, bias_step, bias_slopes, diverging = self._update_bias(
            bias_key, position, state.bias_step, coordinates, density
        )
        return BlockState(
            key=key,
            z={**position, BIAS: latent},
            potential_energy=-at_end - coordinates.field.log_det(position[FIELD]),
            energy=moved.energy,
            field_slope=as_position(moved.slope)[FIELD],
            bias_slopes=bias_slopes,
            joint_step=state.joint_step.after(moved.accept_prob, self.settings.target_accept),
            bias_step=bias_step,
            num_steps=jnp.asarray(num_steps + 1, int),
            accept_prob=moved.accept_prob,
            diverging=moved.diverging,
            bias_diverging=jnp.sum(diverging),
        )

    def _update_bias(
        self, key: Array, position: Position, step: StepSize, coordinates: JointCoordinates,
        density: JointDensity,
    ) -> tuple[Array, Array, StepSize, Array, Array]:  # fmt: skip
        given = density.given_field(coordinates, position)

        def of_bias(latent: Array) -> Array:
            return given(coordinates.bias.to_params(latent)) + coordinates.bias.log_det(latent)

        def one(carry: tuple[Array, StepSize], key: Array) -> tuple[tuple, tuple]:
            latent, step = carry
            new = update(key, of_bias, latent, step.value, _BIAS_STEPS)
            step = step.after(new.accept_prob, _BIAS_ACCEPT)
            return (new.position, step), (new.log_density, new.slope, new.diverging)

        keys = jax.random.split(key, self.settings.bias_updates)
        (latent, step), (values, slopes, diverging) = jax.lax.scan(
            one, (position[BIAS], step), keys
        )
        return latent, values[-1], step, slopes, diverging

"""Hamiltonian Monte Carlo with a fixed number of leapfrog steps, for blocks of a posterior.

In coordinates of unit scale a trajectory of about a quarter of a period, 1.5, is as good as an
independent draw; no tree has to find its length. The density may differ from call to call, as it
does where blocks take turns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.infer.hmc_util import dual_averaging

_JITTER = 0.2  # of the step size, so that no direction comes back to where it was each time
_begun, _averaged = dual_averaging()  # Hoffman & Gelman 2014, section 3.2


class StepSize(NamedTuple):
    """A step size that dual averaging tunes for a while; scalars.

    Attributes
    ----------
    averages
        State of NumPyro's dual averaging of the log step size: the step tried next, the average
        that stays, the running mean of (target - acceptance), updates so far, and the centre.
    until
        Updates after which the step stays.
    """

    averages: tuple[Array, Array, Array, Array, Array]
    until: Array

    @classmethod
    def first(cls, step_size: float, until: int) -> StepSize:
        """Begin at a step size, and adapt for so many updates."""
        centre = jnp.log(jnp.asarray(step_size, float))
        _, _, shortfall, updates, _ = _begun(centre)
        return cls((centre, centre, shortfall, updates, centre), jnp.asarray(until))

    @property
    def value(self) -> Array:
        """The step size to use."""
        log_step, log_mean, _, updates, _ = self.averages
        return jnp.exp(jnp.where(updates < self.until, log_step, log_mean))

    def after(self, accept_prob: Array, target: float) -> StepSize:
        """After an update with this acceptance."""
        adapting = self.averages[3] < self.until
        new = _averaged(target - accept_prob, self.averages)
        averages = jax.tree.map(lambda a, b: jnp.where(adapting, a, b), new, self.averages)
        return StepSize(averages, self.until)


class Update(NamedTuple):
    """Where an update ended.

    Attributes
    ----------
    position, log_density
        At the end.
    slope, energy
        At its beginning.
    accept_prob, diverging
        Of the Metropolis decision.
    """

    position: Array
    log_density: Array
    slope: Array
    energy: Array
    accept_prob: Array
    diverging: Array


def update(
    key: Array, log_density: Callable[[Array], Array], position: Array, step_size: Array,
    num_steps: int,
) -> Update:  # fmt: skip
    """One trajectory of ``num_steps`` leapfrog steps, and the Metropolis decision.

    It takes ``num_steps + 1`` gradients. The trajectory diverges where the energy changes by
    more than 1000.
    """
    momentum_key, jitter_key, accept_key = jax.random.split(key, 3)
    momentum = jax.random.normal(momentum_key, position.shape, position.dtype)
    step = step_size * jax.random.uniform(jitter_key, minval=1 - _JITTER, maxval=1 + _JITTER)

    def leap(carry: tuple, i: Array) -> tuple[tuple, Array]:
        x, p, first = carry
        value, slope = jax.value_and_grad(log_density)(x)
        # Half a kick at both ends: one loop over all gradients compiles the density once.
        p = p + jnp.where((i == 0) | (i == num_steps), 0.5, 1.0) * step * slope
        x = jnp.where(i < num_steps, x + step * p, x)
        return (x, p, jnp.where(i == 0, slope, first)), value

    start = (position, momentum, jnp.zeros_like(position))
    (end, last_momentum, slope), values = jax.lax.scan(leap, start, jnp.arange(num_steps + 1))
    kinetic = 0.5 * jnp.sum(momentum**2)
    gained = values[-1] - values[0] - (0.5 * jnp.sum(last_momentum**2) - kinetic)
    gained = jnp.where(jnp.isnan(gained), -jnp.inf, gained)
    accepted = jnp.log(jax.random.uniform(accept_key)) < gained
    return Update(
        position=jnp.where(accepted, end, position),
        log_density=jnp.where(accepted, values[-1], values[0]),
        slope=slope,
        energy=kinetic - values[0],
        accept_prob=jnp.exp(jnp.minimum(gained, 0.0)),
        diverging=gained < -1000,
    )

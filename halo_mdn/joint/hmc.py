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

_JITTER = 0.2  # of the step size, so that no direction comes back to where it was each time


class StepSize(NamedTuple):
    """Dual averaging of the log step size (Hoffman & Gelman 2014, section 3.2); scalars.

    Attributes
    ----------
    centre
        Log step size to which it is drawn in the beginning.
    log_step, log_mean
        The step tried next, and the average that stays.
    shortfall
        Running mean of (target - acceptance).
    updates, until
        Updates so far, and when to stop adapting.
    """

    centre: Array
    log_step: Array
    log_mean: Array
    shortfall: Array
    updates: Array
    until: Array

    @classmethod
    def first(cls, step_size: float, until: int) -> StepSize:
        """Begin at a step size, and adapt for so many updates."""
        log_step, zero = jnp.log(jnp.asarray(step_size, float)), jnp.zeros(())
        return cls(log_step, log_step, log_step, zero, zero, jnp.asarray(until, dtype=float))

    @property
    def value(self) -> Array:
        """The step size to use."""
        return jnp.exp(jnp.where(self.updates < self.until, self.log_step, self.log_mean))

    def after(self, accept_prob: Array, target: float) -> StepSize:
        """After an update with this acceptance."""
        count = self.updates + 1
        weight = 1 / (count + 10)
        shortfall = (1 - weight) * self.shortfall + weight * (target - accept_prob)
        log_step = self.centre - jnp.sqrt(count) / 0.05 * shortfall
        share = count**-0.75
        log_mean = share * log_step + (1 - share) * self.log_mean
        new = StepSize(self.centre, log_step, log_mean, shortfall, count, self.until)
        adapting = self.updates < self.until
        return StepSize(*(jnp.where(adapting, a, b) for a, b in zip(new, self, strict=True)))


class Update(NamedTuple):
    """Where an update ended: position, slope at its beginning, and its acceptance."""

    position: Array
    slope: Array
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
    kinetic = 0.5 * (jnp.sum(last_momentum**2) - jnp.sum(momentum**2))
    gained = values[-1] - values[0] - kinetic
    gained = jnp.where(jnp.isnan(gained), -jnp.inf, gained)
    accepted = jnp.log(jax.random.uniform(accept_key)) < gained
    accept_prob = jnp.exp(jnp.minimum(gained, 0.0))
    return Update(jnp.where(accepted, end, position), slope, accept_prob, gained < -1000)

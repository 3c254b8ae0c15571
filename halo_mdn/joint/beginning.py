"""Where a chain of joint inference starts: first the field, then the bias, then their scales."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from halo_mdn.joint.problem import BIAS, FIELD, JointProblem, Position, joint_model, log_joint
from halo_mdn.joint.program import Program
from halo_mdn.lpt import density
from halo_mdn.poisson_process import FixedFieldLikelihood, fixed_field_likelihood, log_prior
from halo_mdn.sampling.coordinates import Whitened
from halo_mdn.sampling.newton import climb, positive_inverse

_LEARNING_RATE = 0.1  # of Adam, in units of the prior's standard deviation


class Beginning(NamedTuple):
    """A first position, the coordinates it is given in, and the gradients it took."""

    position: Position
    coordinates: Whitened
    num_gradients: int


class _LogPosterior(NamedTuple):
    """ln L plus ln prior of the bias parameters, at a fixed field; what the climb climbs."""

    log_likelihood: FixedFieldLikelihood

    def __call__(self, params: Array) -> Array:
        return self.log_likelihood(params) + log_prior(self.log_likelihood.bias, params)


def begin(
    key: Array, problem: JointProblem, params: ArrayLike, *, num_steps: int, newton_steps: int
) -> Beginning:
    """Find a plausible field for given bias parameters, then the bias for that field.

    1. Adam climbs to the most probable field at fixed bias. It lacks the modes that the halos do
       not constrain, so
    2. white noise fills up the power of every shell of wavenumbers to that of the prior: what
       results is about as rough as a draw from the posterior.
    3. Newton steps adapt the bias to this field; its curvature there gives the coordinates in
       which the bias parameters have unit scale.

    Parameters
    ----------
    key : jax.random key
    params : array (num_params,)
        First bias parameters.
    num_steps, newton_steps : int
        Of the two climbs.
    """
    first_key, fill_key = jax.random.split(key)
    params = jnp.asarray(params, dtype=float)
    unit = Whitened(params, jnp.eye(problem.bias.num_params))
    position = {FIELD: 0.1 * jax.random.normal(first_key, problem.lpt.noise_shape)}
    position[BIAS] = jnp.zeros_like(params)
    position |= {f"{name}_unit": jnp.zeros(()) for name, _ in problem.free_cosmology}
    field = _climb_field(position, unit, problem, num_steps=num_steps)
    position[FIELD] = fill_up(fill_key, field)
    position, coordinates = adapt_bias(problem, position, unit, newton_steps=newton_steps)
    return Beginning(position, coordinates, num_steps)


def adapt_bias(
    problem: JointProblem, position: Position, coordinates: Whitened, *, newton_steps: int
) -> tuple[Position, Whitened]:
    """Climb in the bias parameters at the field of a position, and whiten them by the curvature.

    Samplers call it again in the middle of their warm-up, when the field is a better one. It needs
    no gradient of the forward model.
    """
    delta = density(position[FIELD], problem.lpt, problem.cosmology_at(position))
    log_posterior = _LogPosterior(fixed_field_likelihood(problem.bias, delta, problem.halos))
    params = np.asarray(coordinates.to_params(position[BIAS]))
    top = climb(log_posterior, params, max_steps=newton_steps)
    adapted = Whitened.at(top.params, positive_inverse(-top.hessian))
    return {**position, BIAS: jnp.zeros_like(position[BIAS])}, adapted


def fill_up(key: Array, field: Array) -> Array:
    """Add Gaussian noise to every shell of wavenumbers until its power is that of white noise."""
    modes = jnp.fft.rfftn(field)
    shell = shells_of(field.shape)
    num = int(shell.max()) + 1
    weight = np.broadcast_to(mode_weights(field.shape), shell.shape).ravel()
    count = np.bincount(shell.ravel(), weight, num)
    power = np.bincount(shell.ravel(), weight * np.abs(np.asarray(modes)).ravel() ** 2, num)
    missing = np.clip(1 - power / np.maximum(count, 1) / field.size, 0, 1)
    fill = jnp.fft.rfftn(jax.random.normal(key, field.shape, dtype=field.dtype))
    return jnp.fft.irfftn(modes + jnp.asarray(np.sqrt(missing)[shell]) * fill, field.shape)


def shells_of(shape: tuple[int, ...]) -> np.ndarray:
    """Which shell, ``round(|cycles per box|)``, each mode of ``rfftn`` belongs to."""
    n0, n1, n2 = shape
    axes = (np.fft.fftfreq(n0, 1 / n0), np.fft.fftfreq(n1, 1 / n1), np.fft.rfftfreq(n2, 1 / n2))
    return np.rint(np.sqrt(sum(x**2 for x in np.ix_(*axes)))).astype(int)


def mode_weights(shape: tuple[int, ...]) -> np.ndarray:
    """How many modes of the full transform each mode of ``rfftn`` stands for, 1 or 2."""
    last = shape[2]
    weights = np.full(last // 2 + 1, 2.0)
    weights[0] = 1.0
    if last % 2 == 0:
        weights[-1] = 1.0
    return weights[None, None]


@Program
def _climb_field(
    position: Position, coordinates: Whitened, problem: JointProblem, *, num_steps: int
) -> Array:
    """Adam on the white noise alone, with a step that falls to zero."""
    model = joint_model()

    def loss(field: Array) -> Array:
        return -log_joint(model, coordinates, problem, {**position, FIELD: field})

    def step(state: tuple[Array, Array, Array], i: Array) -> tuple[tuple, None]:
        field, mean, square = state
        slope = jax.grad(loss)(field)
        slope = jnp.where(jnp.isfinite(slope), slope, 0)
        mean, square = 0.9 * mean + 0.1 * slope, 0.99 * square + 0.01 * slope**2
        m, s = mean / (1 - 0.9 ** (i + 1)), square / (1 - 0.99 ** (i + 1))
        rate = _LEARNING_RATE * (1 - i / num_steps)
        return (field - rate * m / (jnp.sqrt(s) + 1e-8), mean, square), None

    zero = jnp.zeros_like(position[FIELD])
    start = (position[FIELD], zero, zero)
    (field, _, _), _ = jax.lax.scan(step, start, jnp.arange(num_steps, dtype=float))
    return field

"""Where a chain of joint inference starts: first the field, then the bias, then their scales."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from halo_mdn.bias.normal_prior import log_prior
from halo_mdn.field.fourier import shell_power, shell_product
from halo_mdn.field.lpt import density
from halo_mdn.joint.coordinates import FIELD, JointCoordinates, ShellScaled
from halo_mdn.joint.problem import JointProblem, log_joint
from halo_mdn.likelihood.fixed_field import FixedFieldLikelihood, fixed_field_likelihood
from halo_mdn.sampling.coordinates.bijections import Composed, Whitened, whitened_in
from halo_mdn.sampling.coordinates.natural import coordinates_for
from halo_mdn.sampling.start.newton import climb, positive_inverse

_PROBES, _PROBE_SIZE = 6, 0.1  # of the curvature; wide enough to average over the kinks of CIC
_LEARNING_RATE = 0.1  # of Adam, in units of the prior's standard deviation


class Beginning(NamedTuple):
    """A first field and bias, coordinates that suit them, and the gradients it took."""

    white_noise: Array
    params: Array
    coordinates: JointCoordinates
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
    2. noise of about the posterior's width is added, by the mean curvature of each shell of
       wavenumbers: what results is about as rough as a draw from the posterior. (Noise that fills
       up the power to that of the prior would drown the largest waves where the truth has little
       power by chance, and then the bias fits a field without phases.)
    3. Newton steps adapt the bias to this field; its curvature there gives the first coordinates
       of the bias parameters.

    Parameters
    ----------
    key : jax.random key
    params : array (num_params,)
        First bias parameters.
    num_steps, newton_steps : int
        Of the two climbs.
    """
    first_key, probe_key, fill_key = jax.random.split(key, 3)
    params = jnp.asarray(params, dtype=float)
    unit = Whitened(jnp.zeros_like(params), jnp.eye(problem.bias.num_params))
    plain = JointCoordinates(ShellScaled.unit(problem.lpt.noise_shape), Composed(unit, unit))
    field = 0.1 * jax.random.normal(first_key, problem.lpt.noise_shape)
    field = _climb_field(plain, problem, field, params, num_steps)
    curvature = _curvature(probe_key, plain, problem, field, params)
    scaled = ShellScaled.at_curvature(curvature)
    field = field + scaled.to_params(jax.random.normal(fill_key, field.shape))
    delta = density(field, problem.lpt, problem.cosmology)
    log_likelihood = fixed_field_likelihood(problem.bias, delta, problem.halos)
    top = climb(_LogPosterior(log_likelihood), np.asarray(params), max_steps=newton_steps)
    covariance = positive_inverse(-top.hessian)
    outer = coordinates_for(log_likelihood, top.params[None])
    bias = whitened_in(outer, top.params, covariance)
    num_gradients = num_steps + _PROBES + 1
    coordinates = JointCoordinates(scaled, bias)
    return Beginning(field, jnp.asarray(top.params), coordinates, num_gradients)


def _curvature(
    key: Array, plain: JointCoordinates, problem: JointProblem, field: Array, params: Array
) -> np.ndarray:
    """Mean of minus the second derivative in the modes of each shell, (S,), by random probes."""
    here = _slope(plain, problem, field, params)
    found = []
    for probe_key in jax.random.split(key, _PROBES):
        probe = jax.random.normal(probe_key, field.shape)
        there = _slope(plain, problem, field + _PROBE_SIZE * probe, params)
        found.append(shell_product(probe, here - there) / (_PROBE_SIZE * shell_power(probe)))
    return np.mean(found, axis=0)


@jax.jit
def _slope(
    coordinates: JointCoordinates, problem: JointProblem, white_noise: Array, params: Array
) -> Array:
    """Gradient of the log posterior in the latent field."""
    position = coordinates.to_position(white_noise, params)
    position |= {f"{name}_unit": jnp.zeros(()) for name, _ in problem.free_cosmology}
    slope = jax.grad(lambda x: log_joint(coordinates, problem, {**position, FIELD: x}))
    return jnp.nan_to_num(slope(position[FIELD]), posinf=0.0, neginf=0.0)


def _climb_field(
    plain: JointCoordinates, problem: JointProblem, field: Array, params: Array, num_steps: int
) -> Array:
    """Adam on the white noise alone, with a step that falls to zero."""
    mean, square = jnp.zeros_like(field), jnp.zeros_like(field)
    for i in range(num_steps):
        slope = _slope(plain, problem, field, params)
        mean, square = 0.9 * mean + 0.1 * slope, 0.99 * square + 0.01 * slope**2
        m, s = mean / (1 - 0.9 ** (i + 1)), square / (1 - 0.99 ** (i + 1))
        field = field + _LEARNING_RATE * (1 - i / num_steps) * m / (jnp.sqrt(s) + 1e-8)
    return field

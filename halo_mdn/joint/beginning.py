"""Where a chain of joint inference starts: first the field, then the bias, then their scales."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from numpyro.optim import Adam

from halo_mdn.field.fourier import shell_power, shell_product
from halo_mdn.joint.coordinates import FIELD, JointCoordinates, ShellScaled
from halo_mdn.joint.joint_density import JointDensity
from halo_mdn.sampling.coordinates.bijections import Composed, Whitened, whitened_in
from halo_mdn.sampling.coordinates.choice import coordinates_for
from halo_mdn.sampling.start.newton import climb, positive_inverse

_PROBES, _PROBE_SIZE = 6, 0.1  # of the curvature; wide enough to average over the kinks of CIC
_LEARNING_RATE = 0.1  # of Adam, in units of the prior's standard deviation


class Beginning(NamedTuple):
    """A first field and bias, and how wide the posterior is there; all NumPy arrays.

    Attributes
    ----------
    white_noise : array (M0, M1, M2)
    params : array (P,)
    scale : array (S,)
        Of the modes of each shell, as in `ShellScaled`.
    covariance : array (P, P)
        Of the bias at this field.
    num_gradients : array of int, scalar
        Of the forward model, that it took.
    """

    white_noise: np.ndarray
    params: np.ndarray
    scale: np.ndarray
    covariance: np.ndarray
    num_gradients: np.ndarray

    def coordinates(self, density: JointDensity) -> JointCoordinates:
        """Coordinates that suit the posterior here."""
        plain = _plain(density)
        position = plain.to_position(jnp.asarray(self.white_noise), jnp.asarray(self.params))
        given = density.given_field(plain, position | density.elsewhere())
        outer = coordinates_for(given, self.params, self.covariance, self.params[None])
        bias = whitened_in(outer, self.params, self.covariance)
        return JointCoordinates(ShellScaled(jnp.asarray(self.scale)), bias)

    @classmethod
    def stored(cls, arrays: Mapping[str, np.ndarray]) -> list[Beginning]:
        """What `as_arrays` returned, one per chain; raises KeyError if it is not."""
        columns = [arrays[f"start_{name}"] for name in cls._fields]
        return [cls(*rows) for rows in zip(*columns, strict=True)]


def as_arrays(beginnings: list[Beginning]) -> dict[str, np.ndarray]:
    """The beginnings of all chains as plain arrays."""
    columns = zip(*beginnings, strict=True)
    return {f"start_{n}": np.stack(x) for n, x in zip(Beginning._fields, columns, strict=True)}


def begin(
    key: Array, density: JointDensity, params: ArrayLike, *, num_steps: int, newton_steps: int
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
    density : JointDensity
    params : array (num_params,)
        First bias parameters.
    num_steps, newton_steps : int
        Of the two climbs.
    """
    first_key, probe_key, fill_key = jax.random.split(key, 3)
    params, plain = jnp.asarray(params, dtype=float), _plain(density)
    field = 0.1 * jax.random.normal(first_key, density.problem.lpt.noise_shape)
    field = _climb_field(plain, density, field, params, num_steps)
    scaled = ShellScaled.at_curvature(_curvature(probe_key, plain, density, field, params))
    field = field + scaled.to_params(jax.random.normal(fill_key, field.shape))
    given = density.given_field(plain, plain.to_position(field, params) | density.elsewhere())
    top = climb(given, np.asarray(params), max_steps=newton_steps)
    return Beginning(
        white_noise=np.asarray(field),
        params=top.params,
        scale=np.asarray(scaled.scale),
        covariance=positive_inverse(-top.hessian),
        num_gradients=np.array(num_steps + _PROBES + 1),
    )


def _plain(density: JointDensity) -> JointCoordinates:
    """White noise and parameters themselves."""
    size = density.problem.bias.num_params
    unit = Whitened(jnp.zeros(size), jnp.eye(size))
    return JointCoordinates(ShellScaled.unit(density.problem.lpt.noise_shape), Composed(unit, unit))


def _curvature(
    key: Array, plain: JointCoordinates, density: JointDensity, field: Array, params: Array
) -> np.ndarray:
    """Mean of minus the second derivative in the modes of each shell, (S,), by random probes."""
    here = _slope(plain, density, field, params)
    found = []
    for probe_key in jax.random.split(key, _PROBES):
        probe = jax.random.normal(probe_key, field.shape)
        there = _slope(plain, density, field + _PROBE_SIZE * probe, params)
        found.append(shell_product(probe, here - there) / (_PROBE_SIZE * shell_power(probe)))
    return np.mean(found, axis=0)


@jax.jit
def _slope(
    coordinates: JointCoordinates, density: JointDensity, white_noise: Array, params: Array
) -> Array:
    """Gradient of the log posterior in the latent field."""
    position = coordinates.to_position(white_noise, params) | density.elsewhere()
    slope = jax.grad(lambda x: density(coordinates, {**position, FIELD: x}))
    return jnp.nan_to_num(slope(position[FIELD]), posinf=0.0, neginf=0.0)


def _climb_field(
    plain: JointCoordinates, density: JointDensity, field: Array, params: Array, num_steps: int
) -> Array:
    """Adam on the white noise alone, with a step that falls to zero."""
    adam = Adam(lambda i: _LEARNING_RATE * (1 - i / num_steps), b2=0.99)
    state = adam.init(field)
    for _ in range(num_steps):
        state = adam.update(-_slope(plain, density, adam.get_params(state), params), state)
    return adam.get_params(state)

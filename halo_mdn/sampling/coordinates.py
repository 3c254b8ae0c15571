"""Coordinates to sample in, with the density of the parameters left exactly as the model has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.scipy.linalg import solve_triangular
from numpyro.infer.reparam import Reparam

LATENT_SUFFIX = "_latent"


class Coordinates(Protocol):
    """A smooth bijection between latent vectors and parameter vectors; a pytree of arrays."""

    def to_params(self, latent: jax.Array) -> jax.Array:
        """Parameters (P,) of a latent vector (P,)."""

    def to_latent(self, params: jax.Array) -> jax.Array:
        """Latent vector (P,) of parameters (P,)."""

    def log_det(self, latent: jax.Array) -> jax.Array:
        """Log absolute determinant of d params / d latent, a scalar."""


class Whitened(NamedTuple):
    """``params = location + scale_tril @ latent``.

    Attributes
    ----------
    location
        Shape (P,).
    scale_tril
        Lower triangular, shape (P, P): a Cholesky factor of the covariance of the parameters.
    """

    location: jax.Array
    scale_tril: jax.Array

    @classmethod
    def at(cls, location: np.ndarray, covariance: np.ndarray) -> Whitened:
        """Coordinates in which a Gaussian with this covariance is standard.

        Raises
        ------
        ValueError
            If the covariance is not positive definite.
        """
        try:
            scale_tril = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError as error:
            raise ValueError(f"the covariance of the start is not usable: {error}.") from error
        return cls(jnp.asarray(location), jnp.asarray(scale_tril))

    def to_params(self, latent: jax.Array) -> jax.Array:
        return self.location + self.scale_tril @ latent

    def to_latent(self, params: jax.Array) -> jax.Array:
        return solve_triangular(self.scale_tril, params - self.location, lower=True)

    def log_det(self, latent: jax.Array) -> jax.Array:
        return jnp.sum(jnp.log(jnp.abs(jnp.diagonal(self.scale_tril))))


class _ChangeOfCoordinates(Reparam):
    """Sample the latent vector flat; the prior of the site and the Jacobian become one factor."""

    def __init__(self, coordinates: Coordinates) -> None:
        self.coordinates = coordinates

    def __call__(self, name: str, fn: Any, obs: Any) -> tuple[None, jax.Array]:
        flat = dist.ImproperUniform(dist.constraints.real_vector, (), fn.shape())
        latent = numpyro.sample(name + LATENT_SUFFIX, flat)
        value = self.coordinates.to_params(latent)
        log_prior = jnp.sum(fn.log_prob(value))
        numpyro.factor(f"{name}_prior", log_prior + self.coordinates.log_det(latent))
        return None, value


def change_coordinates(model: Callable, site: str) -> Callable:
    """The same model with ``site`` sampled in other coordinates.

    Parameters
    ----------
    model
        A NumPyro model that samples the vector ``site`` from a distribution on all of R^P.
    site
        Name of the sample site.

    Returns
    -------
    callable
        ``changed(coordinates, *args)``; it samples ``site + "_latent"`` and ``site`` is a
        deterministic of it. The joint density of the model is unchanged: the site keeps its
        prior, and the log-determinant of the Jacobian is added.
    """

    def changed(coordinates: Coordinates, *args: Any) -> Any:
        config = {site: _ChangeOfCoordinates(coordinates)}
        return numpyro.handlers.reparam(model, config=config)(*args)

    return changed

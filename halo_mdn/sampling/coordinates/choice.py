"""Which coordinates to sample in: those in which the posterior is least stiff, as measured.

A sampler's step must fit the stiffest direction anywhere in the posterior. In coordinates that are
whitened at the mode every direction has curvature one there; what counts is how much larger it
becomes a standard deviation or so away. So draws of the Laplace approximation are made in each
system, and the largest curvature is taken at each of them.
"""

from __future__ import annotations

import logging
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from halo_mdn.likelihood.fixed_field import FixedFieldLikelihood
from halo_mdn.sampling.coordinates.bijections import (
    Coordinates,
    coordinates_at,
    name_of,
    whitened_in,
)
from halo_mdn.sampling.coordinates.natural import natural_coordinates
from halo_mdn.sampling.start.newton import LogDensity, derivatives

logger = logging.getLogger(__name__)

NUM_DRAWS = 16  # more do not change which system wins (docs/sampling.md)


class Posterior(LogDensity, Protocol):
    """A log-density of the parameters that knows its likelihood; a pytree."""

    @property
    def log_likelihood(self) -> FixedFieldLikelihood: ...


def coordinates_for(
    posterior: Posterior, location: np.ndarray, covariance: np.ndarray, points: np.ndarray
) -> Coordinates:
    """The less stiff of the usual and the natural coordinates, where those apply.

    Parameters
    ----------
    posterior : Posterior
        Such as :class:`halo_mdn.sampling.start.target.LogPosterior`.
    location, covariance : array (P,), (P, P)
        Mode and Laplace covariance of the parameters.
    points : array (C, P)
        Parameters that must have coordinates, such as the chains' starts.
    """
    usual = coordinates_at(posterior.log_likelihood)
    natural = natural_coordinates(posterior.log_likelihood, points)
    if natural is None:
        return usual
    systems = (natural, usual)
    found = [stiffness(one, posterior, location, covariance) for one in systems]
    for one, value in zip(systems, found, strict=True):
        logger.info("stiffness %.3g in coordinates of %s", value, name_of(one))
    return systems[int(np.argmin(found))]


def stiffness(
    coordinates: Coordinates,
    log_density: LogDensity,
    location: np.ndarray,
    covariance: np.ndarray,
    num_draws: int = NUM_DRAWS,
) -> float:
    """Root of the largest curvature in coordinates whitened at the mode; 1 for a Gaussian.

    Parameters
    ----------
    coordinates
        What the parameters are written in.
    log_density
        Of the parameters; a pytree.
    location, covariance : array (P,), (P, P)
        Mode and Laplace covariance of the parameters.
    num_draws : int
        Laplace draws at which it is measured, always the same ones.

    Returns
    -------
    float
        The geometric mean over draws; infinite if a derivative at one of them is.
    """
    chart = whitened_in(coordinates, location, covariance)
    basis, size = np.linalg.cholesky(covariance), len(location)
    logs = []
    for draw in np.random.default_rng(0).standard_normal((num_draws, size)):
        latent = draw.astype(location.dtype)
        params, jacobian = (np.asarray(part) for part in _chart_at(chart, latent))
        _, gradient, hessian = derivatives(log_density, params, basis)
        bend = derivatives(_Bend(chart, jnp.asarray(gradient)), latent, np.eye(size))[2]
        curvature = jacobian.T @ hessian @ jacobian + bend
        if not np.isfinite(curvature).all():
            return float("inf")
        logs.append(0.5 * np.log(np.abs(np.linalg.eigvalsh(curvature)).max()))
    return float(np.exp(np.mean(logs)))


class _Bend(NamedTuple):
    """What the bending of a chart adds to a log-density with this gradient in the parameters."""

    chart: Coordinates
    gradient: Array

    def __call__(self, latent: Array) -> Array:
        return self.gradient @ self.chart.to_params(latent) + self.chart.log_det(latent)


@jax.jit
def _chart_at(chart: Coordinates, latent: Array) -> tuple[Array, Array]:
    """Parameters, and their derivatives with respect to the latent vector."""
    return chart.to_params(latent), jax.jacfwd(chart.to_params)(latent)

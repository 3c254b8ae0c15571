"""Climbs to the summits of a posterior, in coordinates in which they are short.

A summit that is a spike on single masses is no summit of halos, and is left out where there are
others.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from halo_mdn.bias.base import Bias
from halo_mdn.bias.neural import is_network
from halo_mdn.errors import NotFinite
from halo_mdn.halos.mass_observation import gaussian
from halo_mdn.sampling.coordinates.bijections import Coordinates, coordinates_at
from halo_mdn.sampling.start.filter_order import usual_order
from halo_mdn.sampling.start.newton import Summit, climb
from halo_mdn.sampling.start.target import LogPosterior
from halo_mdn.threads import in_threads

logger = logging.getLogger(__name__)

NARROWEST = 0.01  # width in ln M of a believable component; no halo mass is known to 1 per cent


def climb_all(posterior: LogPosterior, candidates: list[np.ndarray], steps: int) -> list[Summit]:
    """Climb from every candidate, best summit first; those that cannot begin are left out.

    Raises
    ------
    NotFinite
        If none can begin.
    """

    field = coordinates_at(posterior.log_likelihood)

    def attempt(params: np.ndarray) -> Summit | None:
        try:
            latent = np.asarray(_to_latent(field, params))
            return _in_params(
                climb(_Standardised(posterior, field), latent, max_steps=steps), field
            )
        except (NotFinite, np.linalg.LinAlgError):
            return None

    summits = [summit for summit in in_threads(attempt, candidates) if summit is not None]
    if not summits:
        raise NotFinite("no starting point has a finite posterior; raise num_starts.")
    honest = [summit for summit in summits if not has_spike(posterior, summit)]
    if len(honest) < len(summits):
        logger.info("%d summits are spikes on single masses", len(summits) - len(honest))
    ordered = [_in_usual_order(posterior.bias, summit) for summit in honest or summits]
    return sorted(ordered, key=lambda summit: -summit.value)


def _in_usual_order(bias: Bias, summit: Summit) -> Summit:
    """The same network with its filters in one order: images are no further modes."""
    if not is_network(bias) or bias.filters == 1:
        return summit
    place = usual_order(bias, summit.params)
    return summit._replace(
        params=summit.params[place], hessian=summit.hessian[np.ix_(place, place)]
    )


def has_spike(posterior: LogPosterior, summit: Summit) -> bool:
    """Whether a component has shrunk onto single masses.

    The density of a mixture grows without bound where a width goes to zero on a mass in the
    catalogue, all the more where many halos share a mass (whole numbers of particles). Such
    summits say nothing about halos, however high they are.
    """
    log_l, bias = posterior.log_likelihood, posterior.bias
    if not is_network(bias):
        return False
    mixture = gaussian(bias.mass_function(jnp.asarray(summit.params), log_l.halo_features))
    distance = (log_l.log_mass[None] - mixture.mean) / mixture.width
    log_share = mixture.log_amplitude - mixture.mean - jnp.log(mixture.width) - 0.5 * distance**2
    share = jax.nn.softmax(log_share, axis=0) * log_l.used[None]
    return bool(jnp.any((share > 0.5) & (mixture.width < NARROWEST)))


class _Standardised(NamedTuple):
    """The posterior density of the parameters as a function of a latent vector."""

    posterior: LogPosterior
    field: Coordinates

    def __call__(self, latent: Array) -> Array:
        # No Jacobian: what is looked for is the mode of the parameters.
        return self.posterior(self.field.to_params(latent))


@jax.jit
def _to_latent(field: Coordinates, params: Array) -> Array:
    return field.to_latent(params)


@jax.jit
def _to_params(field: Coordinates, latent: Array) -> tuple[Array, Array]:
    return field.to_params(latent), jax.jacfwd(field.to_params)(latent)


def _in_params(summit: Summit, field: Coordinates) -> Summit:
    params, jacobian = map(np.asarray, _to_params(field, summit.params))
    # At a summit, where the gradient vanishes, second derivatives transform as a tensor.
    inverse = np.linalg.inv(jacobian)
    return summit._replace(params=params, hessian=inverse.T @ summit.hessian @ inverse)

"""After a run: the modes below its chains, and whether draws are from the density at hand."""

from __future__ import annotations

import numpy as np

from halo_mdn.errors import NotFinite
from halo_mdn.sampling.coordinates.bijections import coordinates_at
from halo_mdn.sampling.nuts.draws import Draws
from halo_mdn.sampling.start.modes import Modes, modes_of
from halo_mdn.sampling.start.summits import climb_all
from halo_mdn.sampling.start.target import LogPosterior, values_of
from halo_mdn.sampling.start.tournament import STEPS_AT_END

AGREEMENT = 0.1  # nats; the same density differs by rounding only


def modes_of_chains(posterior: LogPosterior, known: Modes | None, params: np.ndarray) -> Modes:
    """The modes that are known, and those below the last draw of each chain.

    Parameters
    ----------
    posterior
        What was sampled.
    known
        From the start of the run.
    params
        Draws, shape (chain, draw, P).

    Raises
    ------
    NotFinite
        If nothing is known and no last draw leads anywhere.
    """
    found = known.summits() if known is not None else []
    try:
        found += climb_all(posterior, list(params[:, -1]), STEPS_AT_END)
    except NotFinite:
        if not found:
            raise
    return modes_of(posterior, found, coordinates_at(posterior.log_likelihood))


def agrees_with(posterior: LogPosterior, draws: Draws) -> bool:
    """Whether draws are from this density: their own differs from it by a constant."""
    params = draws.params[:, [0, -1]].reshape(-1, draws.params.shape[-1])
    own = -draws.stats["potential_energy"][:, [0, -1]].ravel()
    rounding = 20 * np.finfo(params.dtype).eps * np.max(np.abs(own))
    return bool(np.ptp(own - np.asarray(values_of(posterior, params))) < AGREEMENT + rounding)

"""One fit of a calibration: draw a truth and its catalogue, sample, rank the truth."""

from __future__ import annotations

import time
import zipfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import jax
import numpy as np

from halo_mdn.bias.normal_prior import draw_params
from halo_mdn.calibration.mock_problem import RANKED, Problem
from halo_mdn.calibration.ranks import rank_of
from halo_mdn.errors import InputError, NotFinite
from halo_mdn.files import replace_file
from halo_mdn.sampling import (
    LogPosterior,
    Program,
    convergence,
    coordinates_for,
    find_start,
    run_nuts,
)

RHAT = 1.1  # the worst of 20 functions reaches 1.05 by chance (median) with 100 effective draws
LEAST_ESS = RANKED / 2  # fewer effective draws than that would blur the ranks


@dataclass(frozen=True)
class Fit:
    """What is kept of a fit.

    Attributes
    ----------
    index : int
    truth : array (Q,)
        The quantities of `Problem.names` at the parameters that made the catalogue.
    rank : array (Q,) of int
        Number of the `RANKED` draws below the truth; -1 where the fit failed.
    mean, sd : array (Q,)
        Of all draws.
    num_halos : int
    worst_rhat, min_ess : float
        Over all quantities.
    num_divergent, num_gradients : int
    seconds : float
        Of processor time.
    failure : str
        Why there are no draws; empty if there are.
    """

    index: int
    truth: np.ndarray
    rank: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    num_halos: int
    worst_rhat: float
    min_ess: float
    num_divergent: int
    num_gradients: int
    seconds: float
    failure: str = ""

    @property
    def converged(self) -> bool:
        """Whether its draws can be taken for independent draws of one distribution."""
        return not self.failure and self.worst_rhat <= RHAT and self.min_ess >= LEAST_ESS

    @property
    def complaint(self) -> str:
        """What is wrong with it, in some words."""
        return self.failure or f"worst R-hat {self.worst_rhat:.3f}, smallest ESS {self.min_ess:.0f}"


def run_fit(problem: Problem, index: int, program: Program) -> Fit:
    """Fit number ``index``; the seed and the index decide every number but the time.

    Raises
    ------
    Interrupted
        After Ctrl-C or SIGTERM.
    """
    began = time.process_time()
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(problem.seed), 2), index)
    truth_key, halo_key, start_key, nuts_key = jax.random.split(key, 4)
    params = draw_params(problem.bias, truth_key, 1)
    try:
        log_l = problem.catalogue(halo_key, params[0])
    except InputError as error:  # more halos than can be drawn
        unknown = np.full(len(problem.names) - params.shape[1], np.nan)
        truth = np.concatenate([params[0], unknown])
        return _failed(index, truth, 0, str(error), time.process_time() - began)
    truth = problem.quantities(log_l, params)[0]
    num_halos = int(np.sum(np.asarray(log_l.used)))
    try:
        start = find_start(
            log_l,
            problem.bias,
            start_key,
            num_chains=problem.settings.num_chains,
            num_starts=problem.num_starts,
        )
    except NotFinite as error:
        return _failed(index, truth, num_halos, str(error), time.process_time() - began)
    draws = run_nuts(
        problem.model,
        (problem.bias, log_l),
        start=start,
        key=nuts_key,
        settings=problem.settings,
        coordinates=coordinates_for(
            LogPosterior(log_l, 1.0, problem.bias),
            start.location,
            start.inverse_mass,
            start.position,
        ),
        program=program,
    )
    chains, per_chain, size = draws.params.shape
    flat = problem.quantities(log_l, draws.params.reshape(-1, size))
    mixing = convergence(flat.reshape(chains, per_chain, -1))
    thinned = flat[np.linspace(0, len(flat) - 1, RANKED).round().astype(int)]
    return Fit(
        index=index,
        truth=truth,
        rank=rank_of(truth, thinned),
        mean=flat.mean(axis=0),
        sd=flat.std(axis=0, ddof=1),
        num_halos=num_halos,
        worst_rhat=mixing.worst_rhat if mixing else np.inf,
        min_ess=mixing.min_ess if mixing else 0.0,
        num_divergent=int(draws.stats["diverging"].sum()),
        num_gradients=draws.num_gradients + draws.num_warmup_gradients,
        seconds=time.process_time() - began,
    )


def _failed(index: int, truth: np.ndarray, num_halos: int, why: str, seconds: float) -> Fit:
    unknown = np.full(len(truth), np.nan)
    no_rank = np.full(len(truth), -1)
    return Fit(
        index, truth, no_rank, unknown, unknown, num_halos, np.inf, 0.0, 0, 0, seconds, failure=why
    )


def write_fit(fit: Fit, folder: Path) -> None:
    """One file per fit, complete or not there at all."""

    def write(part: Path) -> None:
        with part.open("wb") as stream:
            np.savez(stream, **{k: np.asarray(x) for k, x in asdict(fit).items()})  # type: ignore[arg-type]

    replace_file(folder / f"fit_{fit.index:05d}.npz", write)


def read_fits(folder: Path, num: int) -> list[Fit]:
    """The fits below ``num`` that are there, in order; a file that is damaged counts as missing."""
    found = (_read_fit(folder / f"fit_{index:05d}.npz") for index in range(num))
    return [fit for fit in found if fit is not None]


def _read_fit(path: Path) -> Fit | None:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            values = {spec.name: stored[spec.name] for spec in fields(Fit)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return Fit(**{name: x if x.ndim else x.item() for name, x in values.items()})

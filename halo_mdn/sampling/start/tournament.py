"""Starting points: many random networks, the best of them climbed to the top.

The likelihood of a random part of the voxels is itself a Poisson-process likelihood, and a cheap
one. So a tournament is held: many random networks climb on a small part, the better ones go on to
a larger part, and the best few to the whole box. Single climbs end tens to hundreds of nats too
low on real boxes, and nothing in them tells so.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

import jax
import numpy as np

from halo_mdn.bias.base import Bias
from halo_mdn.bias.neural import NeuralBias, is_network
from halo_mdn.errors import InputError, NotFinite
from halo_mdn.likelihood.compressed import compress
from halo_mdn.likelihood.fixed_field import FixedFieldLikelihood
from halo_mdn.sampling.coordinates.bijections import coordinates_at
from halo_mdn.sampling.start.found import Start
from halo_mdn.sampling.start.growth import can_grow, with_one_more_filter
from halo_mdn.sampling.start.mirror import mirrored
from halo_mdn.sampling.start.modes import Modes, modes_of, shared_chains
from halo_mdn.sampling.start.newton import Summit, positive_inverse, positive_root
from halo_mdn.sampling.start.summits import climb_all
from halo_mdn.sampling.start.target import LogPosterior, values_of
from halo_mdn.threads import in_threads

logger = logging.getLogger(__name__)

SMALLEST_PART = 4096  # voxels; smaller parts cost as much, in overhead
HALOS_IN_PART = 400  # least expected: a few tens per parameter
GROWTH = 8  # from one part to the next
STEPS = 30  # of each climb on a part
STEPS_AT_END = 60  # on the whole box
FINALISTS = 3
NUM_TRIALS, ROUGHLY = 4, 1.0  # places where a compression is to be good to so many nats
FEW_NODES = 0.1  # per voxel, else it is hardly faster
FAR = 0.1  # of a height: climbs that end that much lower have found no halos
OVERDISPERSION = 2.0  # deviations of the chain starts, in units of the posterior's


def find_start(
    log_likelihood: FixedFieldLikelihood,
    bias: Bias,
    key: jax.Array,
    *,
    num_chains: int = 4,
    num_starts: int = 32,
) -> Start:
    """Find the modes of the posterior, the covariance of the heaviest, a start for each chain.

    Parameters
    ----------
    log_likelihood
        From `halo_mdn.fixed_field_likelihood`.
    bias
        The model.
    key
        Random key; the same key gives the same start.
    num_chains
        Chain starts to make.
    num_starts
        Random networks to begin with: draws of the prior, but for parameters whose prior is vague
        (:attr:`halo_mdn.bias.base.Bias.prior_is_vague`), which are random numbers that suit the
        field.

    Returns
    -------
    Start
        Chain starts are drawn around the heaviest mode with twice the width of the Laplace
        approximation, and pulled in where that leads to where the posterior is negligible. Other
        modes that hold more than a hundredth of the posterior get chains too.

    Raises
    ------
    NotFinite
        If no random network has a finite posterior.
    """
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    summits, how = _found(log_likelihood, bias, rng, num_starts)
    summits += _climb_mirrored(LogPosterior(log_likelihood, 1.0, bias), summits[0])
    return _start_at(LogPosterior(log_likelihood, 1.0, bias), summits, num_chains, rng, how)


def _found(
    log_likelihood: FixedFieldLikelihood, bias: Bias, rng: np.random.Generator, num_starts: int
) -> tuple[list[Summit], str]:
    """Summits of the whole box, best first, and how they were found."""
    parts = [_part(log_likelihood, bias, size, rng) for size in _sizes(log_likelihood)]
    if not can_grow(bias):
        candidates = _random_networks(parts[0], bias, rng, num_starts)
        summits, counts = _climbed(parts, candidates)
        return summits, (
            f"{counts[0]} random networks, of which {', '.join(map(str, counts[1:]))} climbed on "
            "ever larger parts of the box"
        )
    poorer = replace(bias, filters=bias.filters - 1)
    below, how = _found(replace(log_likelihood, bias=poorer), poorer, rng, num_starts)
    features = np.asarray(log_likelihood.features, dtype=float)
    candidates = with_one_more_filter(poorer, below[0].params, bias, features, rng)
    how = f"{how}; then one more filter in {len(candidates)} ways"
    if len(parts) > 1:
        summits = climb_all(parts[-2], candidates, STEPS)
        candidates = in_threads(partial(_most_of_the_way, parts[-1]), summits[:FINALISTS])
    return _climbed(parts[-1:], candidates)[0], how


def _most_of_the_way(posterior: LogPosterior, summit: Summit) -> np.ndarray:
    """Where a climb from a part's summit leads with the whole compressed: almost to the top."""
    size = len(summit.params)
    offsets = np.random.default_rng(0).normal(size=(NUM_TRIALS, size))
    trials = summit.params + offsets @ positive_root(-summit.hessian).T
    try:
        exact = posterior.log_likelihood
        small = compress(exact, summit.params, trials, tolerance=ROUGHLY, most=FEW_NODES)
        nearly = replace(posterior, log_likelihood=small.log_likelihood)
        return climb_all(nearly, [summit.params], STEPS_AT_END)[0].params
    except (InputError, NotFinite):  # there is no good compression, or it ends nowhere
        return summit.params


def _climbed(
    parts: list[LogPosterior], candidates: list[np.ndarray]
) -> tuple[list[Summit], list[int]]:
    """Summits of the last part, to which the best of the earlier ones lead; how many climbed."""
    counts, summits = [len(candidates)], []
    for level, part in enumerate(parts):
        last = level == len(parts) - 1
        summits = climb_all(part, candidates, STEPS_AT_END if last else STEPS)
        logger.info(
            "part of %d voxels: %s",
            part.log_likelihood.features.shape[1],
            ", ".join(f"{summit.value:.1f}" for summit in summits),
        )
        keep = FINALISTS if level + 2 >= len(parts) else max(FINALISTS, len(summits) // 3)
        candidates = [summit.params for summit in summits[:keep]]
        counts.append(len(summits))
    return summits, counts


def _random_networks(
    posterior: LogPosterior, bias: Bias, rng: np.random.Generator, num_starts: int
) -> list[np.ndarray]:
    """Random networks with a finite posterior on the smallest part.

    Raises
    ------
    NotFinite
        If there is none.
    """
    networks = in_threads(
        partial(_scaled_to_counts, posterior),
        [_random_params(posterior.log_likelihood, bias, rng) for _ in range(num_starts)],
    )
    candidates = [params for params in networks if params is not None]
    if not candidates:
        raise NotFinite(
            f"none of {num_starts} random networks has a finite posterior; check the field and "
            "the masses (Msun/h), or raise num_starts."
        )
    return candidates


def typical_points(posterior: LogPosterior, start: Start) -> np.ndarray:
    """The mode and a point on the way to each chain start that lies within the posterior.

    Half a nat per parameter is what a draw lies below the mode on average; the points lie at most
    twice as far below.

    Returns
    -------
    array (1 + num_chains, P)
    """
    size = len(start.location)
    lowest = float(values_of(posterior, start.location[None])[0]) - size
    offsets = start.position - start.location
    points = [_pulled_in(posterior, start.location, offset, lowest) for offset in offsets]
    return np.stack([start.location, *points])


def _climb_mirrored(posterior: LogPosterior, summit: Summit) -> list[Summit]:
    """Where the mirror image of a network leads: random starts seldom show it."""
    if not is_network(posterior.bias):
        return []
    try:
        image = mirrored(posterior.bias, summit.params, posterior.log_likelihood.features)
        return climb_all(posterior, [image], STEPS_AT_END)
    except NotFinite:
        return []


def _sizes(log_likelihood: FixedFieldLikelihood) -> list[int]:
    """Voxels in each part, the whole last."""
    whole = log_likelihood.features.shape[1]
    halos = max(int(np.sum(np.asarray(log_likelihood.used))), 1)
    size = max(SMALLEST_PART, -(-HALOS_IN_PART * whole // halos))
    sizes = []
    while size * 2 <= whole:
        sizes.append(size)
        size *= GROWTH
    return [*sizes, whole]


def _part(
    log_likelihood: FixedFieldLikelihood, bias: Bias, size: int, rng: np.random.Generator
) -> LogPosterior:
    """The posterior given random voxels and the halos in them, weighted up to the whole."""
    whole = log_likelihood.features.shape[1]
    if size == whole:
        return LogPosterior(log_likelihood, 1.0, bias)
    chosen = np.sort(rng.choice(whole, size, replace=False))
    halos = log_likelihood.halos
    inside = np.flatnonzero(np.isin(np.asarray(halos.voxel), chosen) & np.asarray(halos.used))
    part = log_likelihood.with_halos(inside)
    completeness = None if halos.completeness is None else halos.completeness[chosen]
    part = replace(
        part,
        features=log_likelihood.features[:, chosen],
        halos=replace(part.halos, completeness=completeness),
    )
    return LogPosterior(part, whole / size, bias)


def _random_params(
    log_likelihood: FixedFieldLikelihood, bias: Bias, rng: np.random.Generator
) -> np.ndarray:
    """A draw of the prior; of a network, random numbers of order one where the prior is vague."""
    vague, dtype = bias.prior_is_vague, log_likelihood.features.dtype
    if not is_network(bias) or not vague.any():
        return rng.normal(*bias.prior).astype(dtype)
    network = _random_network(log_likelihood, bias, rng)
    if vague.all():
        return network
    return np.where(vague, network, rng.normal(*bias.prior)).astype(dtype)


def _random_network(
    log_likelihood: FixedFieldLikelihood, bias: NeuralBias, rng: np.random.Generator
) -> np.ndarray:
    """A network whose activations are of order one on this field, in the order of the vector.

    The first mean lies some e-folds below the threshold and the widths are an e-fold or two, so
    that the mass function falls; either may vary with the environment.
    """
    features = np.asarray(log_likelihood.features, dtype=float)
    typical = np.sqrt(np.mean(np.var(features, axis=1)) + 1e-12)
    shapes = bias.block_shapes
    blocks = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    matched = len(features) == shapes["kernel_weights"][1]
    scale = np.std(features, axis=1) + 1e-12 if matched else typical
    blocks["kernel_weights"] /= scale
    if matched and len(blocks["kernel_biases"]) == len(blocks["kernel_weights"]):
        blocks["kernel_biases"] -= blocks["kernel_weights"] @ np.mean(features, axis=1)
    blocks["amplitude_biases"] -= 1.0
    blocks["mean_biases"] = 2.0 * blocks["mean_biases"] + 1.0
    blocks["mean_biases"][0] -= 5.0
    blocks["width_kernels"] *= 0.3
    blocks["width_biases"] += 1.0 - bias.width_offset
    flat = np.concatenate([blocks[name].ravel() for name in shapes])
    return flat.astype(log_likelihood.features.dtype)


def _scaled_to_counts(posterior: LogPosterior, params: np.ndarray) -> np.ndarray | None:
    """Shift all amplitudes so that the expected number of halos is right, or give up.

    In the common shift alone the likelihood is highest where expected and observed numbers
    agree, so it is maximised over a grid.
    """
    direction = np.concatenate(
        [
            np.full(int(np.prod(shape)), name == "amplitude_biases", params.dtype)
            for name, shape in posterior.bias.block_shapes.items()
        ]
    )
    shifts = np.linspace(-15.0, 15.0, 61)[:, None]
    trials = params + (shifts * direction).astype(params.dtype)
    values = np.asarray(values_of(posterior, trials))
    usable = np.isfinite(values)
    return trials[np.argmax(np.where(usable, values, -np.inf))] if usable.any() else None


def _start_at(
    posterior: LogPosterior,
    summits: list[Summit],
    num_chains: int,
    rng: np.random.Generator,
    how: str,
) -> Start:
    field = coordinates_at(posterior.log_likelihood)
    modes = modes_of(posterior, summits, field)
    summits = sorted(summits, key=lambda summit: -summit.value)
    best, others = summits[0], _others(summits)
    state = (
        "converged"
        if best.converged
        else f"not quite converged: a further step promises {best.gain_left:.2g} nats"
    )
    chosen = shared_chains(modes.weight, num_chains)
    position = np.stack([_dispersed(posterior, modes.summits()[k], rng) for k in chosen])
    return Start(
        position=position,
        location=modes.params[0],
        inverse_mass=positive_inverse(-modes.hessian[0]),
        log_posterior=np.array([summit.value for summit in summits]),
        description=(
            f"{how}, and the mirror image of the best. Best log-posterior "
            f"{best.value:.1f} ({state}); others: {others or 'none'}. {_described(modes, chosen)}"
        ),
        modes=modes,
    )


def _others(summits: list[Summit]) -> str:
    """Heights of all but the best; those that lead nowhere near it are counted alone."""
    lowest = summits[0].value - FAR * abs(summits[0].value)
    near = [f"{summit.value:.1f}" for summit in summits[1:] if summit.value >= lowest]
    num_far = len(summits) - 1 - len(near)
    return ", ".join(near + ([f"{num_far} far below"] if num_far else []))


def _described(modes: Modes, chosen: np.ndarray) -> str:
    """The modes found, and how many chains start in each, in a sentence."""
    if modes.num == 1:
        return "All are one mode."
    parts = [
        f"{weight:.2g} ({np.sum(chosen == k)} chains{', rough' if modes.doubtful[k] else ''})"
        for k, weight in enumerate(modes.weight)
    ]
    return f"They are {modes.num} modes, with weights by Laplace approximation {', '.join(parts)}."


def _dispersed(posterior: LogPosterior, mode: Summit, rng: np.random.Generator) -> np.ndarray:
    """A draw around the mode, wider than the posterior but not outside it."""
    size = len(mode.params)
    factor = np.linalg.cholesky(positive_inverse(-mode.hessian))
    offset = OVERDISPERSION * factor @ rng.normal(size=size)
    # A Gaussian that much wider loses this much on average; what loses far more is no tail of it.
    return _pulled_in(posterior, mode.params, offset, mode.value - OVERDISPERSION**2 * size)


def _pulled_in(
    posterior: LogPosterior, mode: np.ndarray, offset: np.ndarray, lowest: float
) -> np.ndarray:
    """``mode + offset``, with the offset shortened until the log-posterior reaches ``lowest``."""
    for _ in range(30):
        params = (mode + offset).astype(mode.dtype)
        if float(values_of(posterior, params[None])[0]) >= lowest:
            return params
        offset = 0.7 * offset
    return mode

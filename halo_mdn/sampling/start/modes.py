"""Several modes of a posterior: told apart, weighed against each other, shared among the chains.

The mass of a mode is its Laplace approximation,

    ln m = ln p(summit) + P/2 ln 2 pi - 1/2 ln det(-H),

with H the second derivatives of the log-posterior at the summit: exact for a Gaussian mode. It is
marked as doubtful where the summit is no clean maximum (the climb stopped short, or some direction
does not curve down), and where integrals along the principal axes are not those of a Gaussian.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from scipy.special import logsumexp

from halo_mdn.sampling.coordinates.bijections import Coordinates
from halo_mdn.sampling.start.newton import (
    LogDensity,
    Summit,
    positive_inverse,
    positive_root,
    value_at,
)

DIP = 1.0  # nats between two summits that make them two modes rather than one crooked one
PIECES = 33  # of the line between two summits
SKEW = 1.0  # nats by which integrals along the axes may differ, in sum, from those of a Gaussian
MATTERS = 0.01  # weight of a mode that must not be left out


@dataclass(frozen=True)
class Modes:
    """Distinct modes, the heaviest first.

    Attributes
    ----------
    params : array (K, P)
        The summits.
    log_posterior : array (K,)
        Log-density there.
    hessian : array (K, P, P)
        Its second derivatives there.
    doubtful : array (K,) of bool
        Whether the Laplace approximation is only a guess.
    """

    params: np.ndarray
    log_posterior: np.ndarray
    hessian: np.ndarray
    doubtful: np.ndarray

    @property
    def num(self) -> int:
        """Number of modes."""
        return len(self.params)

    @property
    def log_mass(self) -> np.ndarray:
        """Laplace approximation of the log of each mode's integral, shape (K,)."""
        return np.array(
            [laplace(*mode) for mode in zip(self.log_posterior, self.hessian, strict=True)]
        )

    @property
    def weight(self) -> np.ndarray:
        """Share of each mode in the posterior, shape (K,), if these are all there are."""
        log_mass = self.log_mass
        return np.exp(log_mass - logsumexp(log_mass))

    def summits(self) -> list[Summit]:
        """The summits as `halo_mdn.sampling.start.newton.climb` gives them."""
        fields = zip(self.params, self.log_posterior, self.hessian, self.doubtful, strict=True)
        return [Summit(p, float(v), h, 0.0, 0, not doubt) for p, v, h, doubt in fields]

    def arrays(self) -> dict[str, np.ndarray]:
        """All fields."""
        return dict(vars(self))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Modes:
        """The inverse of `arrays`."""
        return cls(**arrays)


def laplace(value: float, hessian: np.ndarray) -> float:
    """Log integral of the Gaussian with this log-density and curvature at its summit."""
    log_det = np.linalg.slogdet(positive_inverse(-hessian))[1]
    return float(value + 0.5 * len(hessian) * np.log(2 * np.pi) + 0.5 * log_det)


def modes_of(
    log_density: LogDensity, summits: Sequence[Summit], coordinates: Coordinates | None = None
) -> Modes:
    """The distinct modes among some summits.

    Two summits are one mode if the log-density falls by less than a nat, below the lower of them,
    along the line between them.

    Parameters
    ----------
    log_density
        Of the parameters.
    summits
        Where climbs ended.
    coordinates
        In which lines are straight; those of the parameters if left out.
    """
    distinct: list[Summit] = []
    for summit in sorted(summits, key=lambda summit: -summit.value):
        if not any(_joined(log_density, summit, other, coordinates) for other in distinct):
            distinct.append(summit)
    modes = Modes(
        params=np.stack([summit.params for summit in distinct]),
        log_posterior=np.array([summit.value for summit in distinct]),
        hessian=np.stack([summit.hessian for summit in distinct]),
        doubtful=np.array([_is_doubtful(log_density, s, coordinates) for s in distinct]),
    )
    return _ordered(modes, np.argsort(-modes.log_mass, kind="stable"))


def _ordered(modes: Modes, order: np.ndarray) -> Modes:
    return Modes(**{name: array[order] for name, array in modes.arrays().items()})


def _is_doubtful(log_density: LogDensity, summit: Summit, coordinates: Coordinates | None) -> bool:
    scale = np.sqrt(np.maximum(np.abs(np.diag(summit.hessian)), 1e-300))
    upward = np.linalg.eigvalsh(summit.hessian / np.outer(scale, scale))[-1] >= -1e-9
    excess = axis_excess(log_density, summit, coordinates)
    return bool(upward or not summit.converged or abs(excess) > SKEW)


def axis_excess(
    log_density: LogDensity, summit: Summit, coordinates: Coordinates | None = None
) -> float:
    """Log of the integrals along independent axes of a mode over those of the Gaussian, summed.

    Zero for a Gaussian mode. It is no correction, as axes are not all of space, but tells whether
    one is needed; infinite where a number is not finite. Axes are straight in the coordinates.
    """
    place = np.linspace(-5.0, 5.0, 21)
    offsets = place[:, None, None] * positive_root(-summit.hessian).T
    offsets = offsets.reshape(-1, len(summit.params)).astype(summit.params.dtype)
    if coordinates is None:
        values = _heights(log_density, summit.params + offsets)
    else:
        params, log_det = _around(coordinates, summit.params, offsets)
        values = _heights(log_density, params) + np.asarray(log_det)
    heights = values.reshape(len(place), -1)
    heights = heights - heights[len(place) // 2]
    integrals = logsumexp(heights, axis=0) + np.log((place[1] - place[0]) / np.sqrt(2 * np.pi))
    excess = float(np.sum(integrals))
    return excess if np.isfinite(excess) else np.inf


def _joined(
    log_density: LogDensity, one: Summit, other: Summit, coordinates: Coordinates | None
) -> bool:
    line = _line(one.params, other.params, coordinates)
    return bool(np.min(_heights(log_density, line)) >= min(one.value, other.value) - DIP)


def _heights(log_density: LogDensity, points: ArrayLike) -> np.ndarray:
    # One by one: a compiled loop would take longer to compile than all points to evaluate.
    return np.array([float(value_at(log_density, point)) for point in np.asarray(points)])


@jax.jit
def _line(begin: jax.Array, end: jax.Array, coordinates: Coordinates | None) -> jax.Array:
    """Points on the straight line between two parameter vectors, in the coordinates."""
    if coordinates is not None:
        begin, end = coordinates.to_latent(begin), coordinates.to_latent(end)
    place = jnp.linspace(0, 1, PIECES + 1, dtype=begin.dtype)
    line = begin[None] + jnp.outer(place, end - begin)
    return line if coordinates is None else jax.vmap(coordinates.to_params)(line)


@jax.jit
def _around(
    coordinates: Coordinates, centre: jax.Array, offsets: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Parameters at latent offsets that match some (S, P) of the parameters to first order, and
    the log-determinant of the Jacobian there."""
    latent = coordinates.to_latent(centre)
    jacobian = jax.jacfwd(coordinates.to_params)(latent)
    points = latent[None] + jnp.linalg.solve(jacobian, offsets.T).T
    return jax.vmap(coordinates.to_params)(points), jax.vmap(coordinates.log_det)(points)


def nearest_mode(modes: Modes, draws: np.ndarray) -> np.ndarray:
    """The mode of each draw: the one whose Laplace approximation is highest there.

    Parameters
    ----------
    modes
    draws
        Shape (..., P).

    Returns
    -------
    array (...) of int
    """
    heights = []
    for params, weight, hessian in zip(modes.params, modes.log_mass, modes.hessian, strict=True):
        precision = np.linalg.inv(positive_inverse(-hessian))
        offset = draws - params
        square = np.einsum("...i,ij,...j->...", offset, precision, offset)
        heights.append(weight + 0.5 * np.linalg.slogdet(precision)[1] - 0.5 * square)
    return np.argmax(heights, axis=0)


def same_function(modes: Modes, functions: Callable[[jax.Array], jax.Array]) -> np.ndarray:
    """Which modes describe the same thing.

    Parameters
    ----------
    modes
    functions
        Maps parameters (P,) to what the data pin down (Q,).

    Returns
    -------
    array (K,) of int
        The heaviest mode all of whose functions lie within one posterior standard deviation (the
        smaller one of the two, by linear propagation of the curvature); itself if there is none.
    """
    values = [np.asarray(functions(jnp.asarray(p)), dtype=float) for p in modes.params]
    deviations = []
    for params, hessian in zip(modes.params, modes.hessian, strict=True):
        slope = np.asarray(jax.jacfwd(functions)(jnp.asarray(params)), dtype=float)
        variance = np.einsum("qi,ij,qj->q", slope, positive_inverse(-hessian), slope)
        deviations.append(np.sqrt(variance))
    group = np.arange(modes.num)
    for k in range(modes.num):
        for j in range(k):
            spread = np.minimum(deviations[j], deviations[k])
            if group[j] == j and np.all(np.abs(values[k] - values[j]) <= spread):
                group[k] = j
                break
    return group


def shared_chains(weight: np.ndarray, num_chains: int) -> np.ndarray:
    """The mode in which each chain starts.

    Every mode that matters gets a chain, the heaviest first, as far as there are chains; the rest
    goes to where most weight per chain is left.

    Parameters
    ----------
    weight
        Of each mode, in decreasing order.
    num_chains

    Returns
    -------
    array (num_chains,) of int
    """
    counts = np.zeros(len(weight), dtype=int)
    counts[: max(1, min(num_chains, int(np.sum(weight >= MATTERS))))] = 1
    while counts.sum() < num_chains:
        counts[np.argmax(weight / (counts + 1) * (counts > 0))] += 1
    return np.repeat(np.arange(len(weight)), counts)

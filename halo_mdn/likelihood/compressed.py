"""A fixed field reduced to weighted nodes, so that the integral's cost hardly grows with the grid.

The integral over the field is a sum of one smooth function of a voxel's shell features. Voxels are
sorted into cells in the space of these features (a k-d tree), and the voxels of a cell are replaced
by a cubature of second degree: nodes at ``mean +- sqrt(F) sd`` along each principal axis of the
cell, which have its weight, its mean and its covariance (F features, 2 F nodes). What is neglected
is of third order in the size of a cell. Features are measured in units of their influence on
ln Lambda at given parameters, and cells share out the expected number of halos, to the power 1/2,
evenly: without either, the same number of nodes is ten times less accurate.

The halo sum stays exact, so the error of ln L is that of the integral alone. It is measured, not
assumed: see :func:`compress`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from halo_mdn.errors import InputError
from halo_mdn.likelihood.definition import is_poisson, log_integral_of
from halo_mdn.likelihood.fixed_field import FixedFieldLikelihood
from halo_mdn.threads import in_threads

TOLERANCE = 0.1  # nats: what the error of ln L may vary by (one standard deviation)
FEWEST_CELLS = 2**6
SHARE_POWER = 0.5  # cells get equal sums of the expected numbers to this power


class Compressed(NamedTuple):
    """A compressed likelihood and how well it does.

    Attributes
    ----------
    log_likelihood : FixedFieldLikelihood
        With nodes in the place of voxels; `by_block` and maps over the field need the original.
    num_nodes : int
    error_mean, error_sd : float
        Mean and standard deviation of ``compressed ln L - exact ln L`` over the parameters that
        it was measured at. The mean does not matter to a posterior.
    """

    log_likelihood: FixedFieldLikelihood
    num_nodes: int
    error_mean: float
    error_sd: float


def compress(
    log_likelihood: FixedFieldLikelihood,
    location: np.ndarray,
    trials: np.ndarray,
    *,
    tolerance: float = TOLERANCE,
    most: float = 0.5,
) -> Compressed:
    """The likelihood with the field's voxels reduced to nodes, as few as the tolerance allows.

    Parameters
    ----------
    log_likelihood : FixedFieldLikelihood
        Exact, of a model that sees sums over shells (the multipole 0 only).
    location : array (P,)
        Parameters that measure how much each feature matters, such as the posterior's mode.
    trials : array (T, P)
        Parameters to measure the error at; they should be as wide as the posterior.
    tolerance : float
        Largest standard deviation of the error of ln L over the trials.
    most : float
        Nodes per voxel that are worth it.

    Raises
    ------
    InputError
        If the model has multipoles above 0, whose features are not all independent; if its numbers
        scatter more than a Poisson process and there is a completeness map; or if the tolerance
        asks for more nodes than are worth it.
    """
    _check_compressible(log_likelihood)
    features = np.asarray(log_likelihood.features, dtype=float)
    exact = _expected(log_likelihood, trials)
    without_completeness = replace(log_likelihood.halos, completeness=None)
    influence, share = _influence(log_likelihood, location)
    num_cells, sd = FEWEST_CELLS, np.inf
    while 2 * len(features) * num_cells <= most * features.shape[1]:
        cells = _cells(features * influence[:, None], share, num_cells)
        nodes, weight = _nodes(features, influence, _weights(log_likelihood), cells)
        dtype = log_likelihood.features.dtype
        small = replace(
            log_likelihood,
            features=jnp.asarray(nodes, dtype),
            multiplicity=jnp.asarray(weight, dtype),
            halos=without_completeness,
        )
        error = exact - _expected(small, trials)
        if (sd := float(np.std(error))) <= tolerance:
            return Compressed(small, len(weight), float(np.mean(error)), sd)
        num_cells *= 2
    raise InputError(
        f"the likelihood cannot be compressed to {tolerance:g} nats with {most:g} times as many "
        f"nodes as the {features.shape[1]:,} voxels (reached {sd:.2g})"
    )


def _check_compressible(log_likelihood: FixedFieldLikelihood) -> None:
    bias = log_likelihood.bias
    if bias.basis.num_features != bias.basis.num_weights:
        raise InputError(
            f"the likelihood cannot be compressed with multipoles {getattr(bias, 'multipoles', '')}"
            ", only with (0,)"
        )
    if log_likelihood.halos.completeness is not None and not is_poisson(bias):
        raise InputError(
            f"the likelihood of {type(bias).__name__} cannot be compressed with a completeness map"
        )


def _weights(log_likelihood: FixedFieldLikelihood) -> np.ndarray:
    if log_likelihood.weight is None:
        return np.ones(log_likelihood.features.shape[1])
    return np.asarray(log_likelihood.weight, dtype=float)


def _influence(
    log_likelihood: FixedFieldLikelihood, params: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How ln Lambda depends on each feature, root mean square over halos; the share of voxels."""
    log_lambda, slopes = _slopes(log_likelihood, jnp.asarray(params))
    expected = np.exp(log_lambda - np.max(log_lambda)) * _weights(log_likelihood)
    influence = np.sqrt(slopes**2 @ expected / np.sum(expected))
    influence = np.maximum(influence, 1e-3 * np.max(influence))  # a feature may matter elsewhere
    share = expected**SHARE_POWER
    return influence, share + 1e-3 * np.mean(share)


@jax.jit
def _slopes(log_l: FixedFieldLikelihood, params: Array) -> tuple[Array, Array]:
    def log_lambda(features: Array) -> Array:
        return log_integral_of(log_l, log_l.bias.mass_function(params, features))

    return log_lambda(log_l.features), jax.grad(lambda f: jnp.sum(log_lambda(f)))(log_l.features)


def _expected(log_l: FixedFieldLikelihood, trials: np.ndarray) -> np.ndarray:
    """Expected number of halos in the catalogues at each of the trials."""
    none = log_l.with_halos(np.arange(0))
    return np.array(in_threads(lambda p: -float(none(jnp.asarray(p))), list(trials)))


def _cells(points: np.ndarray, share: np.ndarray, num_cells: int) -> Sequence[np.ndarray]:
    """Indices of the points (F, N) in each cell of a k-d tree.

    Every cell is cut across its longest axis into two of equal share, until there are
    ``num_cells``, a power of 2, or single points.
    """
    cells = [np.arange(points.shape[1])]
    while len(cells) < num_cells:
        halves = [half for cell in cells for half in _halves(points[:, cell], share[cell], cell)]
        if len(halves) == len(cells):
            break
        cells = halves
    return cells


def _halves(points: np.ndarray, share: np.ndarray, cell: np.ndarray) -> list[np.ndarray]:
    if len(cell) < 2:
        return [cell]
    mean = np.average(points, axis=1, weights=share)
    spread = np.average((points - mean[:, None]) ** 2, axis=1, weights=share)
    order = np.argsort(points[np.argmax(spread)], kind="stable")
    below = np.cumsum(share[order])
    middle = np.clip(np.searchsorted(below, 0.5 * below[-1]), 1, len(cell) - 1)
    return [cell[order[:middle]], cell[order[middle:]]]


def _nodes(
    features: np.ndarray, influence: np.ndarray, weight: np.ndarray, cells: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (F, n) and their weights (n,) for all cells; small cells keep their points."""
    size = len(features)
    nodes, weights = [], []
    for cell in cells:
        points, w = features[:, cell], weight[cell]
        if len(cell) > 2 * size and np.sum(w) > 0:
            points, w = _cubature(points * influence[:, None], w)
            points = points / influence[:, None]
        nodes.append(points)
        weights.append(w)
    return np.concatenate(nodes, axis=1), np.concatenate(weights)


def _cubature(points: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """2 F nodes of equal weight with the weight, mean and covariance of the points (F, n)."""
    size, total = len(points), np.sum(weight)
    mean = points @ weight / total
    centred = points - mean[:, None]
    variance, axes = np.linalg.eigh(centred * weight @ centred.T / total)
    steps = axes * np.sqrt(size * np.maximum(variance, 0))
    nodes = np.concatenate([mean[:, None] + steps, mean[:, None] - steps], axis=1)
    return nodes, np.full(2 * size, total / (2 * size))

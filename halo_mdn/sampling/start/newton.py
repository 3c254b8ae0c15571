"""A damped Newton method for log-densities with ridges, saddles and kinks."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax import Array

from halo_mdn.errors import NotFinite

FIRST_SCALE = 1e-2  # of all parameters, before any curvature is known

MOST_DAMPING = 1e12  # a step that small is no step
NOT_A_MAXIMUM = 1e-3  # upward curvature, relative to the diagonal; less is noise of differences


class LogDensity(Protocol):
    """A pytree of arrays, callable on parameters (P,)."""

    def __call__(self, params: Array, /) -> Array:
        """A scalar; -inf where the parameters are impossible."""


class Summit(NamedTuple):
    """Where a climb ended.

    Attributes
    ----------
    params
        Shape (P,).
    value
        The log-density there.
    hessian
        Its second derivatives there, shape (P, P).
    gain_left
        What one more Newton step would gain by the quadratic model, in nats.
    steps
        Accepted steps.
    converged
        Whether the gain left fell below the tolerance.
    """

    params: np.ndarray
    value: float
    hessian: np.ndarray
    gain_left: float
    steps: int
    converged: bool


def climb(
    log_density: LogDensity,
    params: np.ndarray,
    *,
    max_steps: int = 100,
    tolerance: float = 1e-3,
) -> Summit:
    """Climb to a local maximum.

    Each step solves (|H| + damping D) step = gradient, with |H| the Hessian with the absolute
    values of its eigenvalues, so that saddles repel, and D = diag|H|, so that the scales of the
    parameters do not matter. The damping follows the ratio of gained to predicted increase. A
    step to an impossible or worse point is never taken.

    Parameters
    ----------
    log_density
        What to climb.
    params
        Where to begin, shape (P,); the log-density must be finite there.
    max_steps
        Most Hessians to compute.
    tolerance
        Stop when a further step promises less than this, in nats.

    Raises
    ------
    NotFinite
        If the log-density at the beginning is not finite.
    """
    params = np.asarray(params)
    # Twice: the second time along directions that fit the curvature.
    value, gradient, hessian = derivatives(log_density, params, FIRST_SCALE * np.eye(len(params)))
    if _all_finite(value, gradient, hessian):
        value, gradient, hessian = derivatives(log_density, params, _standard_basis(hessian))
    if not _all_finite(value, gradient, hessian):
        raise NotFinite("the climb begins where the log-density or a derivative is not finite.")
    damping, steps = 1e-2, 0
    while steps < max_steps and damping < MOST_DAMPING:
        step, predicted = _damped_step(gradient, hessian, damping)
        if _promise(gradient, hessian) <= tolerance:
            escape = _off_saddle(log_density, params, hessian)
            if escape is None:
                break
            step, predicted = escape, tolerance
        trial = (params + step).astype(params.dtype)
        gained = float(value_at(log_density, trial)) - value
        if not (np.isfinite(gained) and gained > 1e-4 * predicted):
            damping *= 4.0
            continue
        new = derivatives(log_density, trial, _standard_basis(hessian))
        if not _all_finite(*new):
            damping *= 4.0
            continue
        params, steps = trial, steps + 1
        value, gradient, hessian = new
        damping = _next_damping(damping, gained / predicted)
    promise = _promise(gradient, hessian)
    return Summit(params, value, hessian, promise, steps, promise <= tolerance)


def positive_inverse(precision: np.ndarray, floor: float = 1e-10) -> np.ndarray:
    """Inverse of a symmetric matrix made positive definite.

    Eigenvalues, in units in which the diagonal is one, are replaced by their absolute values and
    kept above ``floor`` times the largest: a direction without curvature gets a long but finite
    scale.
    """
    root = positive_root(precision, floor)
    return root @ root.T


def positive_root(precision: np.ndarray, floor: float = 1e-10) -> np.ndarray:
    """A matrix whose product with its transpose is `positive_inverse`.

    Its columns are independent directions of a Gaussian with this precision, one standard
    deviation long, however different their lengths are.
    """
    scale = np.sqrt(_diagonal_scale(precision))
    eigenvalues, vectors = np.linalg.eigh(precision / np.outer(scale, scale))
    size = np.abs(eigenvalues)
    size = np.maximum(size, floor * size.max())
    return (vectors / np.sqrt(size)) / scale[:, None]


def _damped_step(
    gradient: np.ndarray, hessian: np.ndarray, damping: float
) -> tuple[np.ndarray, float]:
    scale = np.sqrt(_diagonal_scale(hessian))
    eigenvalues, vectors = np.linalg.eigh(hessian / np.outer(scale, scale))
    # Far from any halos a step or its promise may overflow: it is then refused, and damped more.
    with np.errstate(over="ignore", invalid="ignore"):
        slope = vectors.T @ (gradient / scale)
        amount = slope / (np.abs(eigenvalues) + damping)
        # Not the curvature alone: with negative directions the model grows without bound.
        predicted = float(np.sum(slope * amount - 0.5 * np.abs(eigenvalues) * amount**2))
        return (vectors @ amount) / scale, predicted


def _off_saddle(
    log_density: LogDensity, params: np.ndarray, hessian: np.ndarray
) -> np.ndarray | None:
    """The better of two steps along the direction that curves up most; None at a maximum."""
    scale = np.sqrt(_diagonal_scale(hessian))
    eigenvalues, vectors = np.linalg.eigh(hessian / np.outer(scale, scale))
    if eigenvalues[-1] <= NOT_A_MAXIMUM:
        return None
    step = vectors[:, -1] / scale / np.sqrt(eigenvalues[-1])
    values = [float(value_at(log_density, params + sign * step)) for sign in (1.0, -1.0)]
    return step if values[0] >= values[1] else -step


def _promise(gradient: np.ndarray, hessian: np.ndarray) -> float:
    return _damped_step(gradient, hessian, 1e-9)[1]


def _diagonal_scale(hessian: np.ndarray) -> np.ndarray:
    diagonal = np.abs(np.diag(hessian))
    # A unit that is dead (flat relu, closed softplus) still feels the prior.
    return np.maximum(diagonal, 1e-12 * max(diagonal.max(), 1e-300))


def _next_damping(damping: float, ratio: float) -> float:
    if ratio > 0.75:
        return max(damping / 5.0, 1e-9)
    return damping * 2.0 if ratio < 0.25 else damping


def _all_finite(*values: Any) -> bool:
    return all(np.all(np.isfinite(x)) for x in values)


@jax.jit
def value_at(log_density: LogDensity, params: Array) -> Array:
    return log_density(params)


@jax.jit
def _value_and_gradient(log_density: LogDensity, params: Array) -> tuple[Array, Array]:
    return jax.value_and_grad(log_density)(params)


@jax.jit
def _gradients(log_density: LogDensity, params: Array) -> Array:
    # One after another: all at once would hold as many copies of the field in memory.
    return jax.lax.map(jax.grad(log_density), params)


def derivatives(
    log_density: LogDensity, params: np.ndarray, basis: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Value, gradient, and Hessian by central differences of the gradient along ``basis``.

    Differences need nothing but the gradient, which is what gets optimised for speed: its second
    derivatives take minutes to compile. With steps of a hundredth of the posterior's width they
    are good to four digits.
    """
    value, gradient = _value_and_gradient(log_density, params)
    step = float(np.finfo(params.dtype).eps) ** 0.125
    points = np.concatenate([params + step * basis.T, params - step * basis.T])
    slopes = np.asarray(_gradients(log_density, points.astype(params.dtype)), dtype=float)
    ahead, behind = np.split(slopes, 2)
    along = (ahead - behind) @ basis / (2.0 * step)
    inverse = np.linalg.inv(basis)
    hessian = inverse.T @ (0.5 * (along + along.T)) @ inverse
    return float(value), np.asarray(gradient), 0.5 * (hessian + hessian.T)


def _standard_basis(hessian: np.ndarray) -> np.ndarray:
    """Columns along which the curvature is about one."""
    return np.linalg.cholesky(positive_inverse(hessian))

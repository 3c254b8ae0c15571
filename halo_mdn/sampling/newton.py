"""A damped Newton method for log-densities with ridges, saddles and kinks."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


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
    ValueError
        If the log-density at the beginning is not finite.
    """
    params = np.asarray(params)
    value, gradient, hessian = _derivatives(log_density, params)
    if not _all_finite(value, gradient, hessian):
        raise ValueError("the climb begins where the log-density or a derivative is not finite.")
    damping, steps = 1e-2, 0
    while (promise := _promise(gradient, hessian)) > tolerance and steps < max_steps:
        step, predicted = _damped_step(gradient, hessian, damping)
        gained = float(_value(log_density, params + step)) - value
        if not (np.isfinite(gained) and gained > 1e-4 * predicted):
            damping *= 4.0
            if damping > 1e12:
                break
            continue
        new = _derivatives(log_density, params + step)
        if not _all_finite(*new):
            damping *= 4.0
            continue
        params, steps = params + step, steps + 1
        value, gradient, hessian = new
        damping = _next_damping(damping, gained / predicted)
    return Summit(params, value, hessian, promise, steps, promise <= tolerance)


def positive_inverse(precision: np.ndarray, floor: float = 1e-10) -> np.ndarray:
    """Inverse of a symmetric matrix made positive definite.

    Eigenvalues, in units in which the diagonal is one, are replaced by their absolute values and
    kept above ``floor`` times the largest: a direction without curvature gets a long but finite
    scale.
    """
    scale = np.sqrt(_diagonal_scale(precision))
    eigenvalues, vectors = np.linalg.eigh(precision / np.outer(scale, scale))
    size = np.abs(eigenvalues)
    size = np.maximum(size, floor * size.max())
    return ((vectors / size) @ vectors.T) / np.outer(scale, scale)


def _damped_step(
    gradient: np.ndarray, hessian: np.ndarray, damping: float
) -> tuple[np.ndarray, float]:
    scale = np.sqrt(_diagonal_scale(hessian))
    eigenvalues, vectors = np.linalg.eigh(hessian / np.outer(scale, scale))
    slope = vectors.T @ (gradient / scale)
    amount = slope / (np.abs(eigenvalues) + damping)
    # Not the curvature alone: with negative directions the model grows without bound.
    predicted = float(np.sum(slope * amount - 0.5 * np.abs(eigenvalues) * amount**2))
    return (vectors @ amount) / scale, predicted


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
def _value(log_density: LogDensity, params: Array) -> Array:
    return log_density(params)


def _derivatives(
    log_density: LogDensity, params: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    value, gradient, hessian = _all_derivatives(log_density, params)
    hessian = np.asarray(hessian)
    return float(value), np.asarray(gradient), 0.5 * (hessian + hessian.T)


@jax.jit
def _all_derivatives(log_density: LogDensity, params: Array) -> tuple[Array, Array, Array]:
    value = log_density(params)
    gradient, hessian_times = jax.linearize(jax.grad(log_density), params)
    # One direction after another: all at once would hold P times the fields in memory.
    return value, gradient, jax.lax.map(hessian_times, jnp.eye(len(params), dtype=params.dtype))

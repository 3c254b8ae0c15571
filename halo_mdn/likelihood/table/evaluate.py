"""Fast value and gradient of the fixed-field likelihood, behind ``Prepared``.

A model with one channel sees a voxel only through a scalar t; for a network with one filter it is
``t = w . S + b``. The voxels' part of ln L is then a sum of one smooth function f(t), for a Poisson
process ``-V Lambda(t)``:

1. ``f`` and ``df/dt`` are evaluated by the readable definition at the few hundred nodes in t of a
   :mod:`halo_mdn.likelihood.table.cubics`, whose panels break at the model's kinks;
2. the voxels enter as moments of their cells in the table. Taken back to the nodes, they are
   quadrature weights, so the gradient with respect to everything above t is one vector-Jacobian
   product over the nodes;
3. the gradient with respect to t at the voxels is read from the table, and taken back through the
   activation: for a network it is ``sum_v S_v df/dt(t_v)`` in the kernel.

The size of the neglected terms is measured at every call; where it is too large, or where anything
is not finite, the definition itself is used.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from halo_mdn.bias.base import Bias
from halo_mdn.field.kernels import linear_responses
from halo_mdn.likelihood.definition import definition as readable
from halo_mdn.likelihood.definition import is_poisson, largest_number, per_voxel, voxel_scale
from halo_mdn.likelihood.prepared import Observed, Prepared
from halo_mdn.likelihood.table import many_channels
from halo_mdn.likelihood.table.cubics import (
    jump_at_edges,
    make_table,
    relative_error,
    sum_and_look_up,
    to_nodes,
)
from halo_mdn.likelihood.table.fallback import by_definition
from halo_mdn.likelihood.table.halo_sum import halo_sum

Definition = Callable[[Any, Array], Array]

TOLERANCE = 1e-9  # of the neglected terms, relative to the sum over the field


class AtActivation(NamedTuple):
    """ln L as a function of what the model sees, and its gradients.

    Attributes
    ----------
    value : scalar
    params_cot : array (num_params,)
        In the parameters, at fixed t.
    field_cot, halos_cot : arrays (N,), (H,)
        In t at the voxels, and at the halos.
    """

    value: Array
    params_cot: Array
    field_cot: Array
    halos_cot: Array


def applies(log_l: Observed) -> bool:
    """Whether there is a fast path: a table, or for a network with several channels, pieces."""
    return has_table(log_l) or many_channels.applies(log_l)


def has_table(log_l: Observed) -> bool:
    """Whether the model sees one scalar per voxel, all is float64, and voxels differ by it alone.

    Numbers that scatter more than a Poisson process depend on a voxel's completeness as well.
    """
    bias = log_l.bias
    if bias.num_channels != 1 or log_l.log_mass.dtype != jnp.float64:
        return False
    return log_l.halos.completeness is None or is_poisson(bias)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def evaluate(definition: Definition, log_l: Prepared, params: Array) -> Array:
    """ln L, differentiable any number of times and under ``vmap``.

    Parameters
    ----------
    definition : function (log_l, params) -> scalar
        The readable definition of ln L: used on accelerators, and for derivatives with respect to
        anything but the parameters.
    log_l : Prepared
        One to which the fast path :func:`applies`.
    params : array (num_params,)
    """
    return value_and_grad(definition, log_l, params)[0]


@partial(evaluate.defjvp, symbolic_zeros=True)
def _evaluate_jvp(definition: Definition, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    if not _only_params_vary(tangents):
        return jax.jvp(definition, primals, _written_out(tangents))
    value, grad = value_and_grad(definition, *primals)
    return value, jnp.vdot(grad, _written_out(tangents)[1])


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def value_and_grad(definition: Definition, log_l: Prepared, params: Array) -> tuple[Array, Array]:
    """ln L and its gradient with respect to the parameters; see :func:`evaluate`."""

    fast = jax.custom_batching.sequential_vmap(
        value_and_grad_on_cpu
    )  # a batched cond runs both sides
    slow = jax.value_and_grad(definition, argnums=1)
    return lax.platform_dependent(log_l, params, cpu=fast, default=slow)


@partial(value_and_grad.defjvp, symbolic_zeros=True)
def _value_and_grad_jvp(definition: Definition, primals: tuple, tangents: tuple) -> tuple:
    if not _only_params_vary(tangents):
        slow = jax.value_and_grad(definition, argnums=1)
        return jax.jvp(slow, primals, _written_out(tangents))
    value, grad = value_and_grad(definition, *primals)
    tangent = _written_out(tangents)[1]
    second = hessian(definition, *primals)
    return (value, grad), (jnp.vdot(grad, tangent), second @ tangent)


def hessian(definition: Definition, log_l: Prepared, params: Array) -> Array:
    """Second derivatives of ln L in the parameters, (num_params, num_params).

    Forward-mode derivatives of the fast gradient, one parameter at a time to bound memory; the
    curvature in the kernel is that of the cells' cubics, good to about 1e-7.
    """

    def columns(gradient: Callable[[Array], Array], params: Array) -> Array:
        along = lambda direction: jax.jvp(gradient, (params,), (direction,))[1]  # noqa: E731
        matrix = lax.map(along, jnp.eye(len(params), dtype=params.dtype))
        return 0.5 * (matrix + matrix.T)

    def slow(log_l: Prepared, params: Array) -> Array:
        return columns(lambda p: jax.grad(definition, argnums=1)(log_l, p), params)

    @jax.custom_batching.sequential_vmap
    def fast(log_l: Prepared, params: Array) -> Array:
        return columns(lambda p: value_and_grad_on_cpu(log_l, p)[1], params)

    return lax.platform_dependent(log_l, params, cpu=fast, default=slow)


def _only_params_vary(tangents: tuple) -> bool:
    return all(_is_zero(tangent) for tangent in jax.tree.leaves(tangents[0]))


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def _written_out(tangents: tuple) -> tuple:
    """Tangents with their symbolic zeros as arrays, as ``jax.jvp`` wants them."""
    return jax.tree.map(lambda t: np.zeros(t.shape, t.dtype) if _is_zero(t) else t, tangents)


def value_and_grad_on_cpu(
    log_l: Prepared, params: Array, axis: str | None = None
) -> tuple[Array, Array]:
    """ln L and its gradient, fast where that is to be trusted; not under ``vmap``."""
    if not has_table(log_l):
        return _in_pieces(log_l, params, axis)
    seen = lambda features: jax.vjp(lambda p: _seen(log_l.bias, p, features), params)  # noqa: E731
    (t, of_field), (t_halos, of_halos) = seen(log_l.features), seen(log_l.halo_features)
    at = from_activation(log_l, params, t, t_halos, axis)
    through = of_field(at.field_cot)[0] + of_halos(at.halos_cot)[0]
    return at.value, through + at.params_cot


def _in_pieces(log_l: Prepared, params: Array, axis: str | None) -> tuple[Array, Array]:
    """For a network with several channels, by the definition where that is not to be trusted."""
    value, grad, trusted = many_channels.value_and_grad(log_l, params, axis)
    exact = jax.value_and_grad(readable, argnums=1)
    return lax.cond(trusted, lambda: (value, grad), lambda: exact(log_l, params, axis))


def _seen(bias: Bias, params: Array, features: Array) -> Array:
    """The one channel, (N,)."""
    linear = bias.linear(params)
    if linear is None:
        return bias.activation(params, features)[0]
    return linear_responses(*linear, features)[0]


def from_activation(
    log_l: Observed, params: Array, t: Array, t_halos: Array, axis: str | None = None
) -> AtActivation:
    """ln L and its gradients, given ``t`` at the voxels (N,) and at the halos (H,).

    The features of ``log_l`` are not used, nor what leads from the parameters to t. With a mesh
    ``axis`` the voxels and halos are one device's part, and so are the results; all devices use the
    same table, or none.
    """
    result, trusted = from_table(log_l, params, t, t_halos, axis)

    def exact() -> AtActivation:
        return AtActivation(*by_definition(log_l, params, t, t_halos, axis))

    return lax.cond(trusted, lambda: result, exact)


def from_table(
    log_l: Observed, params: Array, t: Array, t_halos: Array, axis: str | None = None
) -> tuple[AtActivation, Array]:
    """As :func:`from_activation`, and whether it is to be trusted (a boolean scalar)."""
    field, params_cot, field_cot, error = _of_field(log_l, params, t, axis)
    halos, of_halos, halos_cot, right = halo_sum(log_l, params, t_halos)
    at = AtActivation(field + halos, params_cot + of_halos, field_cot, halos_cot)
    finite = jnp.isfinite(at.value) & jnp.all(jnp.isfinite(at.params_cot))
    finite &= jnp.isfinite(jnp.sum(field_cot)) & jnp.isfinite(jnp.sum(halos_cot))
    # Beyond the largest number ln L is -inf by the rule of the definition, which then decides.
    countable = -field < log_l.num_catalogues * largest_number(t.dtype)
    trusted = finite & countable & (error < TOLERANCE) & right
    if axis is not None:
        trusted = lax.pmin(trusted.astype(jnp.int32), axis) == 1
    return at, trusted


def _of_field(
    log_l: Observed, params: Array, t: Array, axis: str | None
) -> tuple[Array, Array, Array, Array]:
    """The voxels' part of ln L; its gradients in params (t fixed) and in t; a relative error."""
    weight, scale = log_l.weight, voxel_scale(log_l)
    low, high = _range(t, weight, axis)
    table = make_table(low, high, log_l.bias.kinks(params, low, high))

    def at_nodes(t: Array, params: Array) -> Array:
        return scale * per_voxel(log_l, params, log_l.bias.mass_function_at(params, t[None]))

    flat = table.nodes.ravel()
    values, pull_back = jax.vjp(lambda p: at_nodes(flat, p), params)
    slopes = jax.jvp(lambda t: at_nodes(t, params), (flat,), (jnp.ones_like(flat),))[1]
    values, slopes = values.reshape(table.nodes.shape), slopes.reshape(table.nodes.shape)
    sums, slope_at_voxels = sum_and_look_up(table, slopes, t, weight)
    nodes_cot = to_nodes(sums)
    if weight is not None:
        slope_at_voxels = slope_at_voxels * weight
    counts = sums[0] if axis is None else lax.psum(sums[0], axis)
    error = jnp.maximum(relative_error(counts, values), relative_error(counts, slopes))
    error += jump_at_edges(counts, values)
    return jnp.vdot(nodes_cot, values), pull_back(nodes_cot.ravel())[0], slope_at_voxels, error


def _range(t: Array, weight: Array | None, axis: str | None) -> tuple[Array, Array]:
    """The least and the largest t of the voxels that count, on all devices."""
    low, high = t, t
    if weight is not None:
        low, high = jnp.where(weight > 0, t, jnp.inf), jnp.where(weight > 0, t, -jnp.inf)
    low, high = jnp.min(low), jnp.max(high)
    if axis is None:
        return low, high
    return lax.pmin(lax.stop_gradient(low), axis), lax.pmax(lax.stop_gradient(high), axis)

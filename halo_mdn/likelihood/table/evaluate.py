"""Fast value and gradient of the fixed-field likelihood, behind ``Prepared``.

With one filter, the network sees a voxel only through the scalar ``t = w . S + b``. The integral
over the field is then a sum of one smooth function ``Lambda(t)`` over the voxels:

1. ``Lambda`` and ``dLambda/dt`` are evaluated by the readable definition at the few hundred nodes
   in t of a :mod:`halo_mdn.likelihood.table.cubics`, whose panels break where a mean's relu has its
   kink;
2. the voxels enter as moments of their cells in the table. Taken back to the nodes, they are
   quadrature weights, so the gradient with respect to everything above t is one vector-Jacobian
   product over the nodes;
3. the gradient with respect to the kernel is ``sum_v S_v dLambda/dt(t_v)``, read from the table.

The halo sum is evaluated and differentiated by hand. The size of the neglected terms is measured at
every call; where it is too large, or where anything is not finite, the definition itself is used.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import log
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from halo_mdn.bias.neural import NeuralBias, mixture_parameters
from halo_mdn.halos.mass_function import log_integral
from halo_mdn.likelihood.definition import largest_number
from halo_mdn.likelihood.prepared import Prepared
from halo_mdn.likelihood.table.cubics import make_table, relative_error, sum_and_look_up, to_nodes
from halo_mdn.likelihood.table.fallback import by_definition
from halo_mdn.likelihood.table.halo_sum import halo_sum

Definition = Callable[[Any, Array], Array]

TOLERANCE = 1e-9  # of the neglected terms, relative to the sum over the field


class AtActivation(NamedTuple):
    """ln L as a function of what the network sees, and its gradients.

    Attributes
    ----------
    value : scalar
    heads_cot : array (num_params - F - 1,)
        In the parameters above the convolution.
    field_cot, halos_cot : arrays (N,), (H,)
        In t at the voxels, and at the halos.
    """

    value: Array
    heads_cot: Array
    field_cot: Array
    halos_cot: Array


def applies(log_l: Prepared) -> bool:
    """Whether the network sees one scalar per voxel, masses are exact, and all is float64."""
    bias = log_l.bias
    single = bias.filters == 1 and bias.multipoles == (0,) and not bias.hidden_layers
    return single and log_l.observation.is_exact and log_l.features.dtype == jnp.float64


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
    """ln L and its gradient by the table where it is to be trusted; not under ``vmap``."""
    kernel = params[: len(log_l.features) + 1]
    t, t_halos = (activation(kernel, f) for f in (log_l.features, log_l.halo_features))
    at = from_activation(log_l, params, t, t_halos, axis)
    weights_cot = log_l.features @ at.field_cot + log_l.halo_features @ at.halos_cot
    shift_cot = jnp.sum(at.field_cot) + jnp.sum(at.halos_cot)
    return at.value, jnp.concatenate([weights_cot, shift_cot[None], at.heads_cot])


def activation(kernel: Array, features: Array) -> Array:
    """``t = w . S + b``; written out, because a dot of this shape is slower on CPU."""
    t = kernel[0] * features[0]
    for weight, feature in zip(kernel[1:-1], features[1:], strict=True):
        t = t + weight * feature
    return t + kernel[-1]


def from_activation(
    log_l: Prepared, params: Array, t: Array, t_halos: Array, axis: str | None = None
) -> AtActivation:
    """ln L and its gradients, given ``t`` at the voxels (N,) and at the halos (H,).

    The features of ``log_l`` and the kernel's part of the parameters are not used. With a mesh
    ``axis`` the voxels and halos are one device's part, and so are the results; all devices use the
    same table, or none.
    """
    result, trusted = from_table(log_l, params, t, t_halos, axis)

    def exact() -> AtActivation:
        return AtActivation(*by_definition(log_l, params, t, t_halos, axis))

    return lax.cond(trusted, lambda: result, exact)


def from_table(
    log_l: Prepared, params: Array, t: Array, t_halos: Array, axis: str | None = None
) -> tuple[AtActivation, Array]:
    """As :func:`from_activation`, and whether it is to be trusted (a boolean scalar)."""
    bias = log_l.bias
    scale = -log_l.grid.voxel_volume * log_l.num_catalogues
    integral, heads_cot, field_cot, error = _integral(bias, params, t, log_l.weight, scale, axis)
    halos, halos_heads, halos_cot, smallest = halo_sum(log_l, bias.unpack(params), t_halos)
    at = AtActivation(
        integral + halos,
        heads_cot[bias.basis.num_weights + 1 :] + halos_heads,
        field_cot,
        halos_cot,
    )
    finite = jnp.isfinite(at.value) & jnp.all(jnp.isfinite(at.heads_cot))
    finite &= jnp.isfinite(jnp.sum(field_cot)) & jnp.isfinite(jnp.sum(halos_cot))
    # Beyond the largest number ln L is -inf by the rule of the definition, which then decides.
    countable = -integral < log_l.num_catalogues * largest_number(t.dtype)
    trusted = finite & countable & (error < TOLERANCE) & (smallest > 1e-280)
    if axis is not None:
        trusted = lax.pmin(trusted.astype(jnp.int32), axis) == 1
    return at, trusted


def _integral(
    bias: NeuralBias,
    params: Array,
    t: Array,
    weight: Array | None,
    scale: float,
    axis: str | None,
) -> tuple[Array, Array, Array, Array]:
    """``scale sum_v c_v Lambda(t_v)``; its gradients in params (t fixed) and in t; a relative
    error."""
    table = make_table(*_range(t, weight, axis), _kinks(bias, params))

    def at_nodes(t: Array, params: Array) -> Array:
        mixture = mixture_parameters(bias, bias.unpack(params), jax.nn.softplus(t)[None])
        return scale * jnp.exp(log_integral(mixture, log(bias.mass_threshold)))

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


def _kinks(bias: NeuralBias, params: Array) -> list[Array]:
    """Where in t the relu of each further mean turns on or off, in increasing order."""
    if bias.ordering != "relu" or bias.components == 1:
        return []
    blocks = bias.unpack(params)
    z = -blocks["mean_biases"][1:] / blocks["mean_kernels"][0, 1:]
    safe = jnp.where(z > 0, z, 1)
    t = jnp.where(z > 0, safe + jnp.log(-jnp.expm1(-safe)), -jnp.inf)
    return list(jnp.sort(t))

"""Fast value and gradient of the fixed-field likelihood, behind ``FixedFieldLikelihood``.

With one filter, the network sees a voxel only through the scalar ``t = w . S + b``. The integral
over the field is then a sum of one smooth function ``Lambda(t)`` over the voxels:

1. ``Lambda`` and ``dLambda/dt`` are evaluated by the readable definition at a few hundred Chebyshev
   nodes in t, on panels that break where a mean's relu has its kink, and turned into one cubic per
   cell of a fine table by a constant matrix;
2. the voxels enter as moments ``sum_v s_v^p`` of their cells. The moments, taken back to the nodes,
   are quadrature weights, so the gradient with respect to everything above t is one
   vector-Jacobian product over the nodes;
3. the gradient with respect to the kernel is ``sum_v S_v dLambda/dt(t_v)``, read from the table.

The halo sum is evaluated and differentiated by hand. The size of the neglected terms is measured at
every call; where it is too large, or where anything is not finite, the definition itself is used.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial, reduce
from itertools import accumulate
from math import log, pi
from operator import add
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.polynomial import chebyshev

from halo_mdn.elementary import log_positive, softplus_and_slope
from halo_mdn.fast_exact import by_definition
from halo_mdn.mass_function import log_integral
from halo_mdn.network import HEADS, NeuralBias, mixture_parameters

if TYPE_CHECKING:
    from halo_mdn.poisson_process import FixedFieldLikelihood

Definition = Callable[[Any, Array], Array]

PANELS = 64  # over the range of t, shared among the stretches between kinks
NODES = 12  # Chebyshev nodes of a panel
CELLS = 64  # per panel
DEGREE = 3  # of the polynomial in a cell
TOLERANCE = 1e-9  # of the neglected terms, relative to the sum over the field
CHUNK = 65536  # voxels at a time
PADDING = 4096  # XLA vectorises loops of such lengths, and not those of odd lengths


class _Table(NamedTuple):
    """Panels over the range of t: the nodes (P, D), the ends of the stretches between kinks, and
    the cells per unit of t on each stretch."""

    nodes: Array
    edges: list[Array]
    rates: list[Array]


def applies(log_l: FixedFieldLikelihood) -> bool:
    """Whether the network sees one scalar per voxel, masses are exact, and all is float64."""
    bias = log_l.bias
    single = bias.filters == 1 and bias.multipoles == (0,) and not bias.hidden_layers
    return single and log_l.observation.is_exact and log_l.features.dtype == jnp.float64


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def evaluate(definition: Definition, log_l: FixedFieldLikelihood, params: Array) -> Array:
    """ln L, differentiable any number of times and under ``vmap``.

    Parameters
    ----------
    definition : function (log_l, params) -> scalar
        The readable definition of ln L: used on accelerators, and for derivatives with respect to
        anything but the parameters.
    log_l : FixedFieldLikelihood
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
def value_and_grad(
    definition: Definition, log_l: FixedFieldLikelihood, params: Array
) -> tuple[Array, Array]:
    """ln L and its gradient with respect to the parameters; see :func:`evaluate`."""

    fast = jax.custom_batching.sequential_vmap(_value_and_grad)  # a batched cond runs both sides
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


def hessian(definition: Definition, log_l: FixedFieldLikelihood, params: Array) -> Array:
    """Second derivatives of ln L in the parameters, (num_params, num_params).

    Forward-mode derivatives of the fast gradient, one parameter at a time to bound memory; the
    curvature in the kernel is that of the cells' cubics, good to about 1e-7.
    """

    def columns(gradient: Callable[[Array], Array], params: Array) -> Array:
        along = lambda direction: jax.jvp(gradient, (params,), (direction,))[1]  # noqa: E731
        matrix = lax.map(along, jnp.eye(len(params), dtype=params.dtype))
        return 0.5 * (matrix + matrix.T)

    def slow(log_l: FixedFieldLikelihood, params: Array) -> Array:
        return columns(lambda p: jax.grad(definition, argnums=1)(log_l, p), params)

    @jax.custom_batching.sequential_vmap
    def fast(log_l: FixedFieldLikelihood, params: Array) -> Array:
        return columns(lambda p: _value_and_grad(log_l, p)[1], params)

    return lax.platform_dependent(log_l, params, cpu=fast, default=slow)


def _only_params_vary(tangents: tuple) -> bool:
    return all(_is_zero(tangent) for tangent in jax.tree.leaves(tangents[0]))


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def _written_out(tangents: tuple) -> tuple:
    """Tangents with their symbolic zeros as arrays, as ``jax.jvp`` wants them."""
    return jax.tree.map(lambda t: np.zeros(t.shape, t.dtype) if _is_zero(t) else t, tangents)


def _value_and_grad(log_l: FixedFieldLikelihood, params: Array) -> tuple[Array, Array]:
    t = activation(params[: len(log_l.features) + 1], log_l.features)
    value, head, t_cot = from_activation(log_l, params, t)
    return value, jnp.concatenate([log_l.features @ t_cot, jnp.sum(t_cot)[None], head])


def from_activation(
    log_l: FixedFieldLikelihood, params: Array, t: Array
) -> tuple[Array, Array, Array]:
    """ln L given ``t`` (N,); its gradients in the heads' parameters and in t.

    The features of ``log_l`` are not used.
    """
    *result, trusted = from_table(log_l, params, t)
    return lax.cond(trusted, lambda *_: tuple(result), by_definition, log_l, params, t)


def from_table(
    log_l: FixedFieldLikelihood, params: Array, t: Array
) -> tuple[Array, Array, Array, Array]:
    """As :func:`from_activation`, and whether it is to be trusted (a boolean scalar)."""
    bias = log_l.bias
    scale = -log_l.grid.voxel_volume * log_l.num_catalogues
    expected, expected_head, expected_t, error = _integral(bias, params, t, log_l.completeness)
    halos, halos_head, halos_t, smallest = _halo_sum(log_l, bias.unpack(params), t)
    t_cot = (scale * expected_t).at[log_l.halo_voxel].add(halos_t)
    head = scale * expected_head[bias.basis.num_weights + 1 :] + halos_head
    value = scale * expected + halos
    finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(head)) & jnp.isfinite(jnp.sum(t_cot))
    return value, head, t_cot, finite & (error < TOLERANCE) & (smallest > 1e-280)


def activation(kernel: Array, features: Array) -> Array:
    """``t = w . S + b``; written out, because a dot of this shape is slower on CPU."""
    t = kernel[0] * features[0]
    for weight, feature in zip(kernel[1:-1], features[1:], strict=True):
        t = t + weight * feature
    return t + kernel[-1]


# -- the integral over the field ---------------------------------------------------------------


def _integral(
    bias: NeuralBias, params: Array, t: Array, weight: Array | None
) -> tuple[Array, Array, Array, Array]:
    """``sum_v c_v Lambda(t_v)``; its gradients in params (t fixed) and in t; a relative error."""
    table = _panels(jnp.min(t), jnp.max(t), _kinks(bias, params))

    def at_nodes(t: Array, params: Array) -> Array:
        mixture = mixture_parameters(bias, bias.unpack(params), jax.nn.softplus(t)[None])
        return jnp.exp(log_integral(mixture, log(bias.mass_threshold)))

    flat = table.nodes.ravel()
    values, pull_back = jax.vjp(lambda p: at_nodes(flat, p), params)
    slopes = jax.jvp(lambda t: at_nodes(t, params), (flat,), (jnp.ones_like(flat),))[1]
    values, slopes = values.reshape(table.nodes.shape), slopes.reshape(table.nodes.shape)
    moments = _moments(table, t, weight)
    cotangent = jnp.einsum("kpm,kmd->pd", moments, _cell_matrix()[0])
    total = jnp.vdot(cotangent, values)
    slope_at_voxels = _look_up(table, slopes, t)
    if weight is not None:
        slope_at_voxels = slope_at_voxels * weight
    error = jnp.maximum(_relative_error(moments[0], values), _relative_error(moments[0], slopes))
    return total, pull_back(cotangent.ravel())[0], slope_at_voxels, error


def _kinks(bias: NeuralBias, params: Array) -> list[Array]:
    """Where in t the relu of each further mean turns on or off, in increasing order."""
    if bias.ordering != "relu" or bias.components == 1:
        return []
    blocks = bias.unpack(params)
    z = -blocks["mean_biases"][1:] / blocks["mean_kernels"][0, 1:]
    safe = jnp.where(z > 0, z, 1)
    t = jnp.where(z > 0, safe + jnp.log(-jnp.expm1(-safe)), -jnp.inf)
    return list(jnp.sort(t))


def _panels(low: Array, high: Array, kinks: list[Array]) -> _Table:
    """Equal panels on each of the stretches between the kinks."""
    edges = [low, *(jnp.clip(kink, low, high) for kink in kinks), high]
    panels = PANELS // (len(edges) - 1)
    widths = [(b - a) / panels for a, b in zip(edges[:-1], edges[1:], strict=True)]
    rates = [jnp.where(w > 0, CELLS / jnp.where(w > 0, w, 1), 0) for w in widths]
    offset = jnp.arange(panels)[:, None] + 0.5 + 0.5 * jnp.asarray(_chebyshev_points(NODES))[None]
    nodes = [left + width * offset for left, width in zip(edges[:-1], widths, strict=True)]
    return _Table(jnp.concatenate(nodes), edges, rates)


def _cells(table: _Table, t: Array) -> tuple[Array, Array]:
    """The cell of each t and the place in it, in [-1, 1]."""
    per_stretch = len(table.nodes) * CELLS // len(table.rates)
    y, last = jnp.zeros_like(t), jnp.zeros_like(t)
    for i, (left, rate) in enumerate(zip(table.edges[:-1], table.rates, strict=True)):
        inside = t >= left
        y = jnp.where(inside, (t - left) * rate + i * per_stretch, y)
        last = jnp.where(inside, (i + 1.0) * per_stretch - 1, last)
    cell = jnp.minimum(y, last).astype(jnp.int32)
    return cell, 2 * (y - cell) - 1


def _moments(table: _Table, t: Array, weight: Array | None) -> Array:
    """``sum_v c_v s_v^p`` in each cell, shape (DEGREE + 1, P, CELLS)."""

    def add_chunk(moments: list[Array], chunk: tuple[Array, ...]) -> tuple[list[Array], None]:
        cell, s = _cells(table, chunk[0])
        power = chunk[1] if len(chunk) > 1 else jnp.ones_like(s)
        summed = []
        for moment in moments:
            summed.append(moment.at[cell].add(power, mode="promise_in_bounds"))
            power = power * s
        return summed, None

    start = [jnp.zeros(len(table.nodes) * CELLS, t.dtype)] * (DEGREE + 1)
    fields = (t,) if weight is None else (t, weight)
    moments, _ = lax.scan(add_chunk, start, tuple(_chunks(field) for field in fields))
    return jnp.stack(moments).reshape(DEGREE + 1, -1, CELLS)


def _look_up(table: _Table, values: Array, t: Array) -> Array:
    """The function known by its ``values`` (P, D) at the nodes, at the voxels."""
    coefficients = jnp.einsum("kmd,pd->kpm", _cell_matrix()[0], values).reshape(DEGREE + 1, -1)

    def of_chunk(t: Array) -> Array:
        cell, s = _cells(table, t)
        gather = [c.at[cell].get(mode="promise_in_bounds") for c in coefficients]
        return reduce(lambda result, coefficient: result * s + coefficient, gather[::-1])

    return lax.map(of_chunk, _chunks(t)).ravel()


def _chunks(field: Array) -> Array:
    """The field in rows that fit into the cache, or in one row if its size has no good divisor."""
    for rows in range(-(-len(field) // CHUNK), 2 * len(field) // CHUNK + 2):
        if len(field) % rows == 0:
            return field.reshape(rows, -1)
    return field[None]


def _relative_error(counts: Array, values: Array) -> Array:
    """Bound on the neglected terms of ``sum_v f(t_v)``, relative to ``sum_v |f(t_v)|``.

    In each cell the next Chebyshev coefficient, in each panel the last two.
    """
    _, next_term, tail = _cell_matrix()
    in_cells = jnp.abs(jnp.einsum("md,pd->pm", next_term, values))
    in_panels = jnp.sum(jnp.abs(values @ tail.T), axis=1)
    size = jnp.sum(counts * jnp.mean(jnp.abs(values), axis=1)[:, None])
    return jnp.sum(counts * (in_cells + in_panels[:, None])) / size


def _chebyshev_points(count: int) -> np.ndarray:
    return np.cos(pi * (np.arange(count) + 0.5) / count)


@lru_cache
def _cell_matrix() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Constant matrices that act on the values at the nodes of a panel.

    Returns the coefficients of ``s^p`` in each cell (DEGREE + 1, CELLS, NODES), the first neglected
    Chebyshev coefficient in each cell (CELLS, NODES), and the last two of the panel (2, NODES).
    """
    fit = np.linalg.inv(chebyshev.chebvander(_chebyshev_points(NODES), NODES - 1))
    points = _chebyshev_points(DEGREE + 2)
    centres = (2 * np.arange(CELLS) + 1) / CELLS - 1
    values = chebyshev.chebvander(centres[:, None] + points / CELLS, NODES - 1) @ fit
    local = np.linalg.inv(chebyshev.chebvander(points, DEGREE + 1))
    coefficients = np.einsum("cn,mnd->cmd", local, values)
    powers = np.zeros((DEGREE + 1, DEGREE + 1))
    for c in range(DEGREE + 1):
        powers[: c + 1, c] = chebyshev.cheb2poly(np.eye(DEGREE + 1)[c])[: c + 1]
    cubic = np.einsum("kc,cmd->kmd", powers, coefficients[:-1])
    return cubic, coefficients[-1], fit[-2:]


# -- the sum over the halos --------------------------------------------------------------------


def _halo_sum(
    log_l: FixedFieldLikelihood, blocks: dict[str, Array], t_voxels: Array
) -> tuple[Array, Array, Array, Array]:
    """``sum_h ln(c n)``; its gradients in the heads' parameters and in t (H,); the smallest n."""
    count = len(log_l.halo_voxel)
    padding = (0, -count % PADDING)
    used = jnp.pad(log_l.used, padding)
    u = jnp.pad(log_l.log_mass, padding) - log(log_l.bias.mass_threshold)
    t = t_voxels[jnp.pad(log_l.halo_voxel, padding)]
    z, z_slope = softplus_and_slope(t)
    value, cots, smallest = _mixture_sum(log_l.bias, blocks, z, jnp.where(used, u, 0), used)
    sums = [[jnp.vdot(cot, z) for cot in cots], [jnp.sum(cot) for cot in cots]]
    grad = jnp.array(sums).reshape(2, len(HEADS), -1).swapaxes(0, 1).ravel()
    kernels = jnp.concatenate([blocks[f"{head}_kernels"][0] for head in HEADS])
    z_cot = sum(kernel * cot for kernel, cot in zip(kernels, cots, strict=True))
    constant = log(log_l.bias.mass_threshold) + 0.5 * log(2 * pi)
    value = value - constant * jnp.sum(log_l.used)
    if log_l.completeness is not None:
        coverage = jnp.where(log_l.used, log_l.completeness[log_l.halo_voxel], 1)
        value = value + jnp.sum(jnp.log(coverage))
    return value, grad, (z_cot * z_slope)[:count], smallest


def _mixture_sum(
    bias: NeuralBias, blocks: dict[str, Array], z: Array, u: Array, used: Array
) -> tuple[Array, list[Array], Array]:
    """The log mixture, summed; its derivatives in what enters the heads, (H,) each; the least n.

    Masses and means are relative to the threshold; constants are left out. Components are kept in
    lists: a stacked axis would make XLA compute every row again for each that it reads.
    """
    amplitude_in, mean_in, width_in = (_head_inputs(blocks, head, z) for head in HEADS)
    amplitude = [softplus_and_slope(x + bias.amplitude_offset) for x in amplitude_in]
    width = [softplus_and_slope(x + bias.width_offset) for x in width_in]
    step = [(mean_in[0], 1.0), *(_step_and_slope(bias, x) for x in mean_in[1:])]
    mean = list(accumulate(size for size, _ in step))
    inverse = [1 / size for size, _ in width]
    distance = [(u - m) * i for m, i in zip(mean, inverse, strict=True)]
    exponent = [-m - 0.5 * d**2 for m, d in zip(mean, distance, strict=True)]
    top = reduce(jnp.maximum, exponent)
    part = [i * jnp.exp(e - top) for i, e in zip(inverse, exponent, strict=True)]
    total = reduce(add, (a * p for (a, _), p in zip(amplitude, part, strict=True)))
    value = jnp.sum(jnp.where(used, top + log_positive(total), 0))
    scale = used / total
    share = [p * scale for p in part]
    weight = [a * s for (a, _), s in zip(amplitude, share, strict=True)]
    mean_cot = [w * (d * i - 1) for w, d, i in zip(weight, distance, inverse, strict=True)]
    step_cot = list(accumulate(reversed(mean_cot)))[::-1]
    cots = [s * slope for s, (_, slope) in zip(share, amplitude, strict=True)]
    cots += [c * slope for c, (_, slope) in zip(step_cot, step, strict=True)]
    cots += [
        w * (d**2 - 1) * i * slope
        for w, d, i, (_, slope) in zip(weight, distance, inverse, width, strict=True)
    ]
    return value, cots, jnp.min(total, initial=jnp.inf)


def _head_inputs(blocks: dict[str, Array], head: str, z: Array) -> list[Array]:
    kernels, biases = blocks[f"{head}_kernels"][0], blocks[f"{head}_biases"]
    return [kernel * z + bias for kernel, bias in zip(kernels, biases, strict=True)]


def _step_and_slope(bias: NeuralBias, x: Array) -> tuple[Array, Array]:
    if bias.ordering == "softplus":
        return softplus_and_slope(x)
    return jnp.maximum(x, 0), (x > 0).astype(x.dtype)

"""The halos' part of ln L for a model with one channel, and its gradients.

Where a network's heads are linear in that channel (no hidden layers) it is differentiated by hand,
several times faster than automatically.
"""

from __future__ import annotations

from math import log, pi

import jax.numpy as jnp
from jax import Array, lax

from halo_mdn.bias.neural import HEADS, NeuralBias, is_network
from halo_mdn.likelihood.definition import is_poisson
from halo_mdn.likelihood.prepared import Observed
from halo_mdn.likelihood.table.elementary import softplus_and_slope
from halo_mdn.likelihood.table.fallback import of_halos
from halo_mdn.likelihood.table.mixture_sums import log_density_sum

PADDING = 4096  # XLA vectorises loops of such lengths, and not those of odd lengths
CHUNK = 65536  # halos at a time: the dozen arrays of more would leave the cache


def halo_sum(log_l: Observed, params: Array, t: Array) -> tuple[Array, Array, Array, Array]:
    """The sum; its gradients in the parameters (t fixed) and in t, (H,); whether they are right.

    They are not where widths are so small that the definition takes others, or where a density is
    too small for a float.

    Parameters
    ----------
    params : array (num_params,)
    t : array (H,)
        What the model sees, at each halo.
    """
    bias = log_l.bias
    plain = log_l.observation.is_exact and is_poisson(bias)
    if plain and is_network(bias) and not bias.hidden_layers:
        value, heads, t_cot, right = _by_hand(log_l, bias, params, t)
        before = bias.num_params - len(heads)  # the kernel's parameters come first
        return value, jnp.pad(heads, (before, 0)), t_cot, right
    return *of_halos(log_l, params, t), jnp.ones((), bool)


def _by_hand(
    log_l: Observed, bias: NeuralBias, params: Array, t: Array
) -> tuple[Array, Array, Array, Array]:
    """The sum of ``ln(c n)``; its gradients in the heads' parameters and in t; if all is right."""
    blocks = bias.unpack(params)
    threshold = log(bias.mass_threshold)
    kernels = jnp.concatenate([blocks[f"{head}_kernels"][0] for head in HEADS])

    def of_chunk(chunk: tuple[Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        t, log_mass, used = chunk
        u = jnp.where(used, log_mass - threshold, 0)
        z, z_slope = softplus_and_slope(t)
        inputs = [_head_inputs(blocks, head, z) for head in HEADS]
        value, cots, right = log_density_sum(bias, inputs, u, used)
        sums = [[jnp.vdot(cot, z) for cot in cots], [jnp.sum(cot) for cot in cots]]
        grad = jnp.array(sums).reshape(2, len(HEADS), -1).swapaxes(0, 1).ravel()
        z_cot = sum(kernel * cot for kernel, cot in zip(kernels, cots, strict=True))
        return value, grad, right, z_cot * z_slope

    chunks = tuple(_chunks(array) for array in (t, log_l.log_mass, log_l.used))
    values, grads, right, t_cot = lax.map(of_chunk, chunks)
    value = jnp.sum(values) - (threshold + 0.5 * log(2 * pi)) * jnp.sum(log_l.used)
    if log_l.halo_coverage is not None:
        value = value + jnp.sum(jnp.log(log_l.halo_coverage))
    return value, jnp.sum(grads, axis=0), t_cot.ravel()[: len(t)], jnp.all(right)


def _chunks(array: Array) -> Array:
    """In rows of one length, a multiple of ``PADDING``, with zeros at the end."""
    rows = max(1, -(-len(array) // CHUNK))
    size = -(-max(1, len(array)) // (rows * PADDING)) * PADDING
    return jnp.pad(array, (0, rows * size - len(array))).reshape(rows, size)


def _head_inputs(blocks: dict[str, Array], head: str, z: Array) -> list[Array]:
    kernels, biases = blocks[f"{head}_kernels"][0], blocks[f"{head}_biases"]
    return [kernel * z + bias for kernel, bias in zip(kernels, biases, strict=True)]

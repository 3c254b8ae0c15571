"""The gradients above the convolution from the definition, chunk by chunk.

This is where the table of :mod:`halo_mdn.likelihood.table.evaluate` does not resolve the functions:
slower, with little memory, and right for every parameter vector.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from halo_mdn.bias.neural import mixture_parameters
from halo_mdn.halos.mass_function import Mixture
from halo_mdn.likelihood.definition import largest_number
from halo_mdn.likelihood.prepared import Prepared

CHUNK = 4096  # voxels or halos at a time: what autodiff keeps of them is some 20 arrays


def by_definition(
    log_l: Prepared, params: Array, t: Array, t_halos: Array, axis: str | None = None
) -> tuple[Array, Array, Array, Array]:
    """What :func:`halo_mdn.likelihood.table.evaluate.from_activation` gives, from the definition
    by autodiff.
    """
    num_kernel = log_l.bias.basis.num_weights + 1
    threshold = float(np.log(log_l.bias.mass_threshold))

    def mixture_at(params: Array, t: Array) -> Mixture:
        blocks = log_l.bias.unpack(params)
        return mixture_parameters(log_l.bias, blocks, jax.nn.softplus(t)[None])

    def expected(params: Array, t: Array, weight: Array) -> Array:
        log_lambda = log_l.observation.log_integral(mixture_at(params, t), threshold, threshold)
        return jnp.sum(weight * jnp.exp(log_lambda))

    def of_halos(params: Array, t: Array, log_mass: Array, used: Array) -> Array:
        log_mass = jnp.where(used, log_mass, threshold)
        log_n = log_l.observation.log_density(mixture_at(params, t), log_mass, threshold)
        return jnp.sum(jnp.where(used, log_n, 0))

    weight = jnp.ones_like(t) if log_l.weight is None else log_l.weight
    total, total_params, total_t = _chunked(expected, params, t, weight)
    halos, halos_params, halos_t = _chunked(of_halos, params, t_halos, log_l.log_mass, log_l.used)
    if log_l.halo_coverage is not None:
        halos = halos + jnp.sum(jnp.log(log_l.halo_coverage))  # 1 where not used
    scale = -log_l.grid.voxel_volume * log_l.num_catalogues
    everywhere = total if axis is None else lax.psum(lax.stop_gradient(total), axis)
    fits = everywhere * log_l.grid.voxel_volume < largest_number(t.dtype)

    of_field, head = jnp.where(fits, scale * total_params, 0), halos_params
    value = scale * jnp.where(fits, total, jnp.inf) + halos
    return value, (of_field + head)[num_kernel:], jnp.where(fits, scale * total_t, 0), halos_t


def _chunked(
    function: Callable[..., Array], params: Array, t: Array, *others: Array
) -> tuple[Array, Array, Array]:
    """Value and gradients of a sum over t and others, ``CHUNK`` at a time; padded with zeros."""
    size = max(1, min(CHUNK, len(t)))
    rows = tuple(jnp.pad(a, (0, -len(t) % size)).reshape(-1, size) for a in (t, *others))

    def step(
        carry: tuple[Array, Array], chunk: tuple[Array, ...]
    ) -> tuple[tuple[Array, Array], Array]:
        value, (of_params, of_t) = jax.value_and_grad(function, argnums=(0, 1))(params, *chunk)
        return (carry[0] + value, carry[1] + of_params), of_t

    start = (jnp.zeros((), t.dtype), jnp.zeros_like(params))
    (value, of_params), of_t = lax.scan(step, start, rows)
    return value, of_params, of_t.ravel()[: len(t)]

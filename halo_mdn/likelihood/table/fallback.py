"""The gradients above the activation from the definition, chunk by chunk.

This is where the table of :mod:`halo_mdn.likelihood.table.evaluate` does not resolve the functions:
slower, with little memory, and right for every parameter vector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import log

import jax
import jax.numpy as jnp
from jax import Array, lax

from halo_mdn.likelihood.definition import (
    is_poisson,
    largest_number,
    of_neighbours,
    per_halo,
    per_voxel,
    voxel_scale,
)
from halo_mdn.likelihood.prepared import Observed

CHUNK = 4096  # voxels or halos at a time: what autodiff keeps of them is some 20 arrays


def by_definition(
    log_l: Observed, params: Array, t: Array, t_halos: Array, axis: str | None = None
) -> tuple[Array, Array, Array, Array]:
    """What :func:`halo_mdn.likelihood.table.evaluate.from_activation` gives, by autodiff."""

    def of_voxels(params: Array, t: Array, weight: Array) -> Array:
        mass_function = log_l.bias.mass_function_at(params, t[None])
        return jnp.sum(weight * per_voxel(log_l, params, mass_function))

    weight = jnp.ones_like(t) if log_l.weight is None else log_l.weight
    field, field_params, field_t = _chunked(of_voxels, params, t, weight)
    halos, halos_params, halos_t = of_halos(log_l, params, t_halos)
    scale = voxel_scale(log_l)
    if is_poisson(log_l.bias):
        everywhere = field if axis is None else lax.psum(lax.stop_gradient(field), axis)
        fits = everywhere * log_l.grid.voxel_volume < largest_number(t.dtype)
        field = jnp.where(fits, field, jnp.inf)
        field_params, field_t = jnp.where(fits, field_params, 0), jnp.where(fits, field_t, 0)
    return scale * field + halos, scale * field_params + halos_params, scale * field_t, halos_t


def of_halos(log_l: Observed, params: Array, t: Array) -> tuple[Array, Array, Array]:
    """The halos' part of ln L and its gradients in the parameters (t fixed) and in t, (H,)."""
    bias, halos = log_l.bias, log_l.halos
    threshold = jnp.asarray(log(bias.mass_threshold), t.dtype)

    def of_chunk(params: Array, t: Array, log_mass: Array, used: Array, coverage: Array) -> Array:
        part = replace(
            log_l,
            halos=replace(
                halos,
                log_mass=jnp.where(used, log_mass, threshold),
                used=used,
                coverage=jnp.where(used, coverage, 1),
            ),
        )
        return jnp.sum(per_halo(part, params, bias.mass_function_at(params, t[None])))

    coverage = jnp.ones_like(t) if halos.coverage is None else halos.coverage
    value, params_cot, t_cot = _chunked(of_chunk, params, t, halos.log_mass, halos.used, coverage)
    of_counts, of_counts_cot = jax.value_and_grad(partial(of_neighbours, log_l))(params)
    return value + of_counts, params_cot + of_counts_cot, t_cot


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

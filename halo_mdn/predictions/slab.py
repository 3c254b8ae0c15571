"""A slab of the box: halos that are there and halos that are expected."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from halo_mdn.likelihood.fixed_field import FixedFieldLikelihood
from halo_mdn.predictions.expected_counts import ExpectedCounts, expected_counts

_SLAB_DRAWS = 20  # draws that the mean of the pictured slab is taken over
_SLAB_DEPTH = 15.0  # Mpc/h: thick enough to hold halos, thin enough to show structure


class Slab(NamedTuple):
    """A slab through the middle of the domain, summed along z into columns, shape (N0', N1').

    ``density`` is the mean of ``1 + delta``, ``expected`` and ``observed`` are numbers of halos;
    ``depth`` is the thickness in Mpc/h.
    """

    depth: float
    density: np.ndarray
    expected: np.ndarray
    observed: np.ndarray


def slab(log_l: FixedFieldLikelihood, delta: ArrayLike, params: np.ndarray) -> Slab:
    """The slab for draws (..., P); the expected number is the mean over some of them."""
    domain, grid = log_l.halos.domain.shape, log_l.grid
    depth = max(1, min(domain[2], round(_SLAB_DEPTH / grid.voxel_size[2])))
    layers = slice((domain[2] - depth) // 2, (domain[2] - depth) // 2 + depth)
    flat = params.reshape(-1, params.shape[-1])
    some = flat[:: max(1, len(flat) // _SLAB_DRAWS)]
    halos = log_l.halos.counts().reshape(domain)
    voxels = np.arange(np.prod(domain)).reshape(domain)[:, :, layers].ravel()
    expected = _mean_expected(log_l, voxels, some).reshape(*domain[:2], depth)
    return Slab(
        depth=depth * grid.voxel_size[2],
        density=1 + log_l.halos.domain.crop(np.asarray(delta))[:, :, layers].mean(axis=2),
        expected=expected.sum(axis=2),
        observed=halos[:, :, layers].sum(axis=2),
    )


def _mean_expected(
    log_l: FixedFieldLikelihood, voxels: np.ndarray, params: np.ndarray
) -> np.ndarray:
    """Expected number of halos in some voxels, averaged over draws."""
    counts = expected_counts(log_l, np.zeros(1, int), np.log([log_l.bias.mass_threshold]))
    part = replace(counts, features=counts.features[:, voxels], weight=counts.weight[voxels])
    return np.asarray(_mean_per_voxel(part, jnp.asarray(params, part.features.dtype)), dtype=float)


@jax.jit
def _mean_per_voxel(counts: ExpectedCounts, params: Array) -> Array:
    def add(total: Array, draw: Array) -> tuple[Array, None]:
        mixture = counts.bias.mass_function(draw, counts.features)
        return total + counts.above(mixture, counts.log_edges[0]), None

    total, _ = jax.lax.scan(add, jnp.zeros_like(counts.weight), params)
    return counts.weight * total / len(params)

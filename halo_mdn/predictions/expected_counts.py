"""Expected numbers of halos, by environment, mass and sub-box, for each draw of a posterior.

Where the model squeezes a voxel into one channel (for a network: one filter, one multipole, the
default), the expected number above a mass is a function of that number. Then the voxels
are counted in fine bins of it, and the mixture is evaluated at the bins alone: the cost is one pass
over the field per draw, whatever the number of masses. Otherwise the mixture is evaluated per
voxel. Draws go through one after another in each chain, so that memory does not grow with their
number, and chains side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import log

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from halo_mdn.bias.base import Bias
from halo_mdn.halos.mass_function import MassFunction
from halo_mdn.halos.mass_observation import MassObservation
from halo_mdn.likelihood.fixed_field import FixedFieldLikelihood
from halo_mdn.likelihood.negative_binomial import gamma_weights
from halo_mdn.threads import in_threads

_NODES = 2048  # ln Lambda spans about 30 over them, and the error is (its step)^2/8: about 1e-4


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ExpectedCounts:
    """Expected number of halos per label of voxels and mass bin; made by `expected_counts`.

    It is a pytree: pass it to jitted functions as an argument.

    Attributes
    ----------
    features : array (F, N)
        Shell features of the voxels of the domain.
    weight : array (N,) or scalar
        Voxel volume in (Mpc/h)^3 times completeness times number of catalogues.
    label : array (N,) of int
        Which sum a voxel belongs to.
    log_edges : array (B,)
        Lower edges of the mass bins in ln(Msun/h); the last bin is open.
    bias : Bias
    num_labels : int
    binned : bool
        Whether to go through bins of the one channel.
    observation : MassObservation
        Errors and completeness of the masses.
    """

    features: Array
    weight: Array
    label: Array
    log_edges: Array
    bias: Bias = field(metadata={"static": True})
    num_labels: int = field(metadata={"static": True})
    binned: bool = field(metadata={"static": True})
    observation: MassObservation = field(metadata={"static": True})

    def __call__(self, params: Array) -> Array:
        """Expected counts, shape (num_labels, B), for params (num_params,)."""
        return _counts(self, jnp.asarray(params, self.features.dtype))

    def above(self, mixture: MassFunction, log_edge: Array) -> Array:
        """Number density of observed halos above a mass, per environment of the mass function."""
        log_threshold = log(self.bias.mass_threshold)
        return jnp.exp(self.observation.log_integral(mixture, log_edge, log_threshold))

    def scattered(self, key: Array) -> _ScatteredCounts:
        """The same with the intensity of each voxel scattered as the bias says, for `evaluate`."""
        return _ScatteredCounts(replace(self, binned=False), key)


def expected_counts(
    log_l: FixedFieldLikelihood,
    label: np.ndarray,
    log_edges: np.ndarray,
    *,
    binned: bool | None = None,
) -> ExpectedCounts:
    """Prepare the expected counts of a field.

    Parameters
    ----------
    log_l : FixedFieldLikelihood
        Holds the field's features and the completeness.
    label : array (N,) of int
        Label of each voxel of the domain, from 0.
    log_edges : array (B,)
        Lower edges of the mass bins in ln(Msun/h), increasing; the last bin is open.
    binned : bool, optional
        By default wherever the model allows it and there are more voxels than bins.
    """
    dtype = log_l.features.dtype
    volume = log_l.grid.voxel_volume * log_l.num_catalogues
    weight = jnp.full(log_l.features.shape[1], volume, dtype)
    if log_l.weight is not None:
        weight = weight * log_l.weight
    one_number = log_l.bias.num_channels == 1
    worthwhile = log_l.features.shape[1] > 4 * _NODES
    return ExpectedCounts(
        features=log_l.features,
        weight=weight,
        label=jnp.asarray(label, jnp.int32),
        log_edges=jnp.asarray(log_edges, dtype),
        bias=log_l.bias,
        num_labels=int(np.max(label)) + 1,
        binned=one_number and (worthwhile if binned is None else binned),
        observation=log_l.observation,
    )


def evaluate(function: Callable[[Array], Array], params: np.ndarray) -> np.ndarray:
    """A function of the parameters (a pytree) at all draws: (C, D, P) to (C, D, *its shape)."""

    def of_chain(chain: Array) -> np.ndarray:
        return np.asarray(_of_draws(function, chain), dtype=float)

    return np.stack(in_threads(of_chain, [jnp.asarray(chain) for chain in params]))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _ScatteredCounts:
    """Expected counts given the G_v of :mod:`halo_mdn.likelihood.negative_binomial`, new ones for
    each draw.
    """

    counts: ExpectedCounts
    key: Array

    def __call__(self, params: Array) -> Array:
        log_phi = self.counts.bias.log_dispersion(params)
        assert log_phi is not None
        # The parameters tell draws apart: `evaluate` knows nothing else of them.
        words = jax.lax.bitcast_convert_type(params, jnp.uint32)
        key = jax.random.fold_in(self.key, jnp.sum(words, dtype=jnp.uint32))
        weights = gamma_weights(key, log_phi, self.counts.weight.shape)
        return replace(self.counts, weight=self.counts.weight * weights)(params)


def observed_counts(
    log_l: FixedFieldLikelihood, label: np.ndarray, log_edges: np.ndarray
) -> np.ndarray:
    """Observed number of halos per label and mass bin, (num_labels, B), to set beside them."""
    halo_label = np.asarray(label)[log_l.halos.used_voxel()]
    mass_bin = np.searchsorted(log_edges, log_l.halos.used_log_mass() + 1e-9, "right") - 1
    counts = np.zeros((int(np.max(label)) + 1, len(log_edges)), dtype=int)
    np.add.at(counts, (halo_label, np.maximum(mass_bin, 0)), 1)
    return counts


@jax.jit
def _of_draws(function: Callable[[Array], Array], params: Array) -> Array:
    return jax.lax.map(function, params)


def _counts(counts: ExpectedCounts, params: Array) -> Array:
    per_edge = _above_binned if counts.binned else _above_per_voxel
    above = per_edge(counts, params)
    return jnp.concatenate([above[:, :-1] - above[:, 1:], above[:, -1:]], axis=1)


def _above_per_voxel(counts: ExpectedCounts, params: Array) -> Array:
    """Expected counts above each edge, (num_labels, B), voxel by voxel."""
    mixture = counts.bias.mass_function(params, counts.features)

    def above(log_edge: Array) -> Array:
        expected = counts.weight * counts.above(mixture, log_edge)
        return jax.ops.segment_sum(expected, counts.label, counts.num_labels)

    return jax.lax.map(above, counts.log_edges).T


def _above_binned(counts: ExpectedCounts, params: Array) -> Array:
    """The same through bins of the one channel, shared out linearly between two nodes each."""
    field = counts.bias.activation(params, counts.features)[0]
    low, high = jnp.min(field), jnp.max(field)
    spacing = jnp.maximum((high - low) / (_NODES - 1), jnp.finfo(field.dtype).tiny)
    place = jnp.clip((field - low) / spacing, 0, _NODES - 1)
    left = jnp.minimum(place.astype(jnp.int32), _NODES - 2)
    share = (place - left) * counts.weight
    node = counts.label * _NODES + left
    sums = jnp.zeros(counts.num_labels * _NODES, field.dtype)
    sums = sums.at[node].add(counts.weight - share).at[node + 1].add(share)
    nodes = low + spacing * jnp.arange(_NODES, dtype=field.dtype)
    mixture = counts.bias.mass_function_at(params, nodes[None])
    above = jax.vmap(lambda log_edge: counts.above(mixture, log_edge))(counts.log_edges)
    # A bin without voxels must not turn an overflow elsewhere into a NaN.
    sums = sums.reshape(counts.num_labels, 1, _NODES)
    return jnp.sum(jnp.where(sums > 0, sums * above[None], 0), axis=-1)

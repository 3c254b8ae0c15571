"""Expected numbers of halos, by environment, mass and sub-box, for each draw of a posterior.

Where the network squeezes a voxel into one number (one filter, one multipole: the default model),
the expected number above a mass is a function of that number, the convolved field. Then the voxels
are counted in fine bins of it, and the mixture is evaluated at the bins alone: the cost is one pass
over the field per draw, whatever the number of masses. Otherwise the mixture is evaluated per
voxel. Draws go through one after another in each chain, so that memory does not grow with their
number, and chains side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import log
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from jax.typing import ArrayLike

from halo_mdn.bias import Bias
from halo_mdn.kernels import kernel_responses
from halo_mdn.mass_function import MassFunction
from halo_mdn.mass_observation import MassObservation
from halo_mdn.network import NeuralBias, is_network, mixture_parameters
from halo_mdn.overdispersion import gamma_weights
from halo_mdn.poisson_process import FixedFieldLikelihood, block_of_voxel
from halo_mdn.threads import in_threads

_NODES = 2048  # ln Lambda spans about 30 over them, and the error is (its step)^2/8: about 1e-4
_SLAB_DRAWS = 20  # draws that the mean of the pictured slab is taken over
_SLAB_DEPTH = 15.0  # Mpc/h: thick enough to hold halos, thin enough to show structure


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("features", "weight", "label", "log_edges"),
    meta_fields=("bias", "num_labels", "binned", "observation"),
)
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
        Whether to go through bins of the convolved field.
    observation : MassObservation
        Errors and completeness of the masses.
    """

    features: Array
    weight: Array
    label: Array
    log_edges: Array
    bias: Bias
    num_labels: int
    binned: bool
    observation: MassObservation

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
    bias = log_l.bias
    one_number = is_network(bias) and bias.filters * len(bias.multipoles) == 1
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


@partial(jax.tree_util.register_dataclass, data_fields=("counts", "key"), meta_fields=())
@dataclass(frozen=True)
class _ScatteredCounts:
    """Expected counts given the G_v of :mod:`halo_mdn.overdispersion`, new ones for each draw."""

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


def block_log_likelihood(
    log_l: FixedFieldLikelihood, block: np.ndarray, params: np.ndarray, expected: np.ndarray
) -> np.ndarray:
    """Log-likelihood of sub-boxes, (..., B), from their expected numbers of halos, (..., B).

    The same as ``log_l.by_block``, which evaluates the network at every voxel; here it is
    evaluated only at the halos, unless numbers scatter more than a Poisson process.
    """
    if log_l.bias.log_dispersion(jnp.asarray(params[0, 0])) is not None:
        per_side = round(expected.shape[-1] ** (1 / 3))
        return evaluate(Partial(lambda log_l, p: log_l.by_block(p, per_side), log_l), params)
    used = np.asarray(log_l.used)
    voxel = np.asarray(log_l.halo_voxel)[used]
    coverage = None if log_l.halo_coverage is None else jnp.log(log_l.halo_coverage[used])
    sums = _HaloSums(
        features=log_l.halo_features[:, used],
        log_mass=jnp.asarray(log_l.log_mass)[used],
        log_completeness=coverage,
        block=jnp.asarray(block[voxel], jnp.int32),
        bias=log_l.bias,
        num_blocks=expected.shape[-1],
        observation=log_l.observation,
    )
    return evaluate(sums, params) - expected


def usable_blocks(log_l: FixedFieldLikelihood, wanted: int) -> int:
    """So many sub-boxes per side that none lies in a border that is left out."""
    margin = log_l.grid.margin(log_l.bias._size)
    return min(wanted, *(n // (m + 1) for n, m in zip(log_l.grid.shape, margin, strict=True)))


def block_volume(log_l: FixedFieldLikelihood, per_side: int) -> np.ndarray:
    """Volume of each sub-box in (Mpc/h)^3, times completeness and number of catalogues, (B,)."""
    block = block_of_voxel(log_l.grid, log_l.bias._size, per_side)
    weight = log_l.grid.voxel_volume * log_l.num_catalogues * np.ones(len(block))
    if log_l.weight is not None:
        weight = weight * np.asarray(log_l.weight, dtype=float)
    return np.bincount(block, weights=weight, minlength=per_side**3)


def observed_counts(
    log_l: FixedFieldLikelihood, label: np.ndarray, log_edges: np.ndarray
) -> np.ndarray:
    """Observed number of halos per label and mass bin, (num_labels, B), to set beside them."""
    used = np.asarray(log_l.used)
    halo_label = np.asarray(label)[np.asarray(log_l.halo_voxel)[used]]
    mass_bin = np.searchsorted(log_edges, np.asarray(log_l.log_mass)[used] + 1e-9, "right") - 1
    counts = np.zeros((int(np.max(label)) + 1, len(log_edges)), dtype=int)
    np.add.at(counts, (halo_label, np.maximum(mass_bin, 0)), 1)
    return counts


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("features", "log_mass", "log_completeness", "block"),
    meta_fields=("bias", "num_blocks", "observation"),
)
@dataclass(frozen=True)
class _HaloSums:
    """Sum of ``ln(c n)`` over the halos of each sub-box, from the features at the halos."""

    features: Array
    log_mass: Array
    log_completeness: Array | None
    block: Array
    bias: Bias
    num_blocks: int
    observation: MassObservation

    def __call__(self, params: Array) -> Array:
        mixture = self.bias.mass_function(params, self.features)
        log_threshold = log(self.bias.mass_threshold)
        log_n = self.observation.log_density(mixture, self.log_mass, log_threshold)
        log_n = log_n if self.log_completeness is None else log_n + self.log_completeness
        return jax.ops.segment_sum(log_n, self.block, self.num_blocks)


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
    size, grid = log_l.bias._size, log_l.grid
    domain, margin = grid.domain_shape(size), grid.margin(size)
    depth = max(1, min(domain[2], round(_SLAB_DEPTH / grid.voxel_size[2])))
    layers = slice((domain[2] - depth) // 2, (domain[2] - depth) // 2 + depth)
    inner = tuple(slice(m, m + n) for m, n in zip(margin, domain, strict=True))
    flat = params.reshape(-1, params.shape[-1])
    some = flat[:: max(1, len(flat) // _SLAB_DRAWS)]
    halo_voxel = np.asarray(log_l.halo_voxel)[np.asarray(log_l.used)]
    halos = np.bincount(halo_voxel, minlength=int(np.prod(domain))).reshape(domain)
    voxels = np.arange(np.prod(domain)).reshape(domain)[:, :, layers].ravel()
    expected = _mean_expected(log_l, voxels, some).reshape(*domain[:2], depth)
    return Slab(
        depth=depth * grid.voxel_size[2],
        density=1 + np.asarray(delta)[inner][:, :, layers].mean(axis=2),
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
    """The same through bins of the convolved field, shared out linearly between two nodes each."""
    bias, blocks = counts.bias, counts.bias.unpack(params)
    assert isinstance(bias, NeuralBias)  # or there would be no such number
    field = kernel_responses(blocks["kernel_weights"][0], counts.features, bias.basis)[0]
    low, high = jnp.min(field), jnp.max(field)
    spacing = jnp.maximum((high - low) / (_NODES - 1), jnp.finfo(field.dtype).tiny)
    place = jnp.clip((field - low) / spacing, 0, _NODES - 1)
    left = jnp.minimum(place.astype(jnp.int32), _NODES - 2)
    share = (place - left) * counts.weight
    node = counts.label * _NODES + left
    sums = jnp.zeros(counts.num_labels * _NODES, field.dtype)
    sums = sums.at[node].add(counts.weight - share).at[node + 1].add(share)
    nodes = low + spacing * jnp.arange(_NODES, dtype=field.dtype)
    npe = jax.nn.softplus(nodes + blocks["kernel_biases"][0])
    mixture = mixture_parameters(bias, blocks, npe[None])
    above = jax.vmap(lambda log_edge: counts.above(mixture, log_edge))(counts.log_edges)
    # A bin without voxels must not turn an overflow elsewhere into a NaN.
    sums = sums.reshape(counts.num_labels, 1, _NODES)
    return jnp.sum(jnp.where(sums > 0, sums * above[None], 0), axis=-1)


@jax.jit
def _mean_per_voxel(counts: ExpectedCounts, params: Array) -> Array:
    def add(total: Array, draw: Array) -> tuple[Array, None]:
        mixture = counts.bias.mass_function(draw, counts.features)
        return total + counts.above(mixture, counts.log_edges[0]), None

    total, _ = jax.lax.scan(add, jnp.zeros_like(counts.weight), params)
    return counts.weight * total / len(params)

"""The likelihood: halos as an inhomogeneous Poisson process in space and mass.

    ln L = sum_halos ln[c(x_i) n(M_i | delta at i)] - V sum_voxels c_v Lambda_v

with the voxel volume V and the completeness c (1 where none is given). Errors and completeness in
mass replace n by the observed mass function (:mod:`halo_mdn.halos.mass_observation`). Each of
several catalogues of the same field adds its own such term. Where the expected number of halos is
beyond 1e246 (7e30 in float32), ln L is -inf, with a finite gradient (that of the halo sum).

Models whose numbers scatter more than that: :mod:`halo_mdn.likelihood.negative_binomial`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from halo_mdn.bias.base import Bias, features_of_density
from halo_mdn.bias.neural import NeuralBias
from halo_mdn.errors import InputError
from halo_mdn.field.density import check_density, is_concrete
from halo_mdn.field.grid import Grid
from halo_mdn.halos.catalogue import HaloCatalogue
from halo_mdn.likelihood.definition import (
    definition,
    exp_or_inf,
    halo_and_voxel_terms,
    log_expected_observed,
)
from halo_mdn.likelihood.negative_binomial import mixed_terms
from halo_mdn.likelihood.prepared import DATA_FIELDS, META_FIELDS, Prepared
from halo_mdn.likelihood.table import evaluate as fast


@partial(jax.tree_util.register_dataclass, data_fields=DATA_FIELDS, meta_fields=META_FIELDS)
@dataclass(frozen=True)
class FixedFieldLikelihood(Prepared):
    """ln L as a function of the parameters alone, for one density field and its halos.

    Made by :func:`fixed_field_likelihood`. It is a pytree: pass it to jitted functions as an
    argument, so that its arrays do not become constants of the compiled program. Its attributes
    are those of :class:`halo_mdn.likelihood.prepared.Prepared`.
    """

    def __call__(self, params: ArrayLike) -> Array:
        """ln L, a scalar.

        Parameters
        ----------
        params : array (num_params,)
            In the order of ``bias.block_shapes``.
        """
        return _evaluate(self, jnp.asarray(params))

    def by_block(self, params: ArrayLike, blocks_per_side: int = 4) -> Array:
        """ln L of each of ``blocks_per_side^3`` sub-boxes of the grid, in C order.

        The sub-boxes are independent under the model, so the values add up to ln L. What lies
        outside of the domain adds nothing.
        """
        return _evaluate_by_block(self, jnp.asarray(params), blocks_per_side)


def fixed_field_likelihood(
    bias: Bias, delta: ArrayLike, halos: HaloCatalogue
) -> FixedFieldLikelihood:
    """Prepare the likelihood of a fixed density field: shell sums are made once.

    Parameters
    ----------
    bias : Bias
    delta : array (N0, N1, N2)
        Overdensity at the voxel centres.
    halos : HaloCatalogue

    Returns
    -------
    FixedFieldLikelihood
        ``log_l(params)`` is ln L.

    Raises
    ------
    InputError
        If the field is unusable (wrong shape, NaN, delta <= -1 without a floor) or the mass
        thresholds of model and catalogue differ.
    """
    check_density(delta, halos.grid.shape, bias.density_floor)
    _check_thresholds(bias, halos)
    delta = jnp.asarray(delta)
    margin, domain = (
        halos.grid.margin(bias.kernel_shape),
        halos.grid.domain_shape(bias.kernel_shape),
    )
    i, j, k = (jnp.ravel(jnp.asarray(halos.voxel)[..., axis]) - margin[axis] for axis in range(3))
    inside = (i >= 0) & (j >= 0) & (k >= 0) & (i < domain[0]) & (j < domain[1]) & (k < domain[2])
    used = jnp.ravel(jnp.asarray(halos.selected)) & inside
    voxel = jnp.where(used, (i * domain[1] + j) * domain[2] + k, 0)
    features = _features(bias, delta, halos.grid)
    weight = _domain_of(halos.completeness, margin, _float_type(delta))
    log_l = FixedFieldLikelihood(
        features=features,
        weight=weight,
        halo_features=features[:, voxel],
        halo_coverage=None if weight is None else jnp.where(used, weight[voxel], 1),
        halo_voxel=voxel,
        log_mass=jnp.ravel(jnp.asarray(halos.log_mass, dtype=_float_type(delta))),
        used=used,
        bias=bias,
        grid=halos.grid,
        num_catalogues=halos.num_catalogues,
        observation=halos.observation,
    )
    return _used_halos(log_l) if is_concrete(delta, halos) else log_l


def log_likelihood(bias: Bias, params: ArrayLike, delta: ArrayLike, halos: HaloCatalogue) -> Array:
    """ln L of a catalogue (or of several, summed) given the density field; a scalar.

    Differentiable in ``params`` and ``delta``. Arguments and errors are those of
    :func:`fixed_field_likelihood`, plus ``params`` of shape (num_params,).
    """
    return fixed_field_likelihood(bias, delta, halos)(params)


@jax.jit
def _evaluate(log_l: FixedFieldLikelihood, params: Array) -> Array:
    if has_fast_path(log_l):
        return fast.evaluate(definition, log_l, params)
    return definition(log_l, params)


def has_fast_path(log_l: FixedFieldLikelihood) -> bool:
    """Whether :mod:`halo_mdn.likelihood.table.evaluate` knows this model: a network, and a
    Poisson process.
    """
    return type(log_l.bias) is NeuralBias and fast.applies(log_l)


@partial(jax.jit, static_argnums=2)
def _evaluate_by_block(log_l: FixedFieldLikelihood, params: Array, per_side: int) -> Array:
    block = jnp.asarray(block_of_voxel(log_l.grid, log_l.bias.kernel_shape, per_side))
    log_n, log_lambda = halo_and_voxel_terms(log_l, params)
    log_expected = log_expected_observed(log_l, log_lambda)
    log_phi = log_l.bias.log_dispersion(params)
    if log_phi is None:
        per_voxel = -log_l.num_catalogues * exp_or_inf(log_expected)
    else:
        log_n, per_voxel = mixed_terms(log_l, log_n, log_expected, log_phi)
    sums = partial(jax.ops.segment_sum, num_segments=per_side**3)
    return sums(log_n, block[log_l.halo_voxel]) + sums(per_voxel, block)


def block_of_voxel(grid: Grid, kernel_size: tuple[int, int, int], per_side: int) -> np.ndarray:
    """Sub-box index of each voxel of the domain, flat, for ``per_side^3`` sub-boxes of the grid.

    The grid is cut up, not the domain: models with kernels of different size share their sub-boxes.

    Raises
    ------
    InputError
        If there are more sub-boxes than voxels along an axis.
    """
    if not 1 <= per_side <= min(grid.shape):
        raise InputError(f"blocks_per_side is {per_side}, expected 1 to {min(grid.shape)}")
    margin = grid.margin(kernel_size)
    i, j, k = (np.arange(m, n - m) * per_side // n for m, n in zip(margin, grid.shape, strict=True))
    return ((i[:, None, None] * per_side + j[:, None]) * per_side + k).ravel()


@partial(jax.jit, static_argnums=(0, 2))
def _features(bias: Bias, delta: Array, grid: Grid) -> Array:
    return features_of_density(bias, delta, grid)


def _used_halos(log_l: FixedFieldLikelihood) -> FixedFieldLikelihood:
    """The same likelihood with only the halos it uses, in the order of their voxels."""
    used = np.flatnonzero(log_l.used)
    order = used[np.argsort(np.asarray(log_l.halo_voxel)[used], kind="stable")]
    return log_l.with_halos(order)


def _check_thresholds(bias: Bias, halos: HaloCatalogue) -> None:
    if not np.isclose(bias.mass_threshold, halos.mass_threshold, rtol=1e-9, atol=0):
        raise InputError(
            f"the model integrates above {bias.mass_threshold:.6g} Msun/h, the catalogue is cut at "
            f"{halos.mass_threshold:.6g}: give both the same mass_threshold"
        )


def _domain_of(
    field: ArrayLike | None, margin: tuple[int, int, int], dtype: jnp.dtype
) -> Array | None:
    """The part of a map on the domain, flat."""
    if field is None:
        return None
    field = jnp.asarray(field, dtype=dtype)
    inner = tuple(slice(m, n - m) for m, n in zip(margin, field.shape, strict=True))
    return jnp.ravel(field[inner])


def _float_type(array: Array) -> jnp.dtype:
    return jnp.result_type(array, jnp.float32) if prod(array.shape) else jnp.result_type(float)

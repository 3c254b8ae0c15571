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

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from halo_mdn.bias.base import Bias, features_of_density
from halo_mdn.errors import InputError
from halo_mdn.field.density import check_density, in_floats
from halo_mdn.field.grid import Grid
from halo_mdn.halos.placed import Halos, PlacedHalos, place_halos
from halo_mdn.likelihood.definition import by_halo_and_voxel, definition
from halo_mdn.likelihood.prepared import Prepared
from halo_mdn.likelihood.table import evaluate as fast


@jax.tree_util.register_dataclass
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
        return _evaluate(self, in_floats(params))

    def by_block(self, params: ArrayLike, blocks_per_side: int = 4) -> Array:
        """ln L of each of ``blocks_per_side^3`` sub-boxes of the grid, in C order.

        The sub-boxes are independent under the model, so the values add up to ln L. What lies
        outside of the domain adds nothing.
        """
        return _evaluate_by_block(self, in_floats(params), blocks_per_side)


def fixed_field_likelihood(bias: Bias, delta: ArrayLike, halos: Halos) -> FixedFieldLikelihood:
    """Prepare the likelihood of a fixed density field: shell sums are made once.

    Parameters
    ----------
    bias : Bias
    delta : array (N0, N1, N2)
        Overdensity at the voxel centres.
    halos : HaloCatalogue or PlacedHalos
        For many fields, place them once: :func:`halo_mdn.place_halos`.

    Returns
    -------
    FixedFieldLikelihood
        ``log_l(params)`` is ln L.

    Raises
    ------
    InputError
        If the field is unusable (wrong shape, NaN, delta <= -1 without a floor) or the mass
        thresholds of model and catalogue differ.

    Examples
    --------
    >>> import numpy as np
    >>> import halo_mdn as hm
    >>> bias, delta = hm.TruncatedPowerLaw(), np.zeros((4, 4, 4))
    >>> grid = hm.Grid(delta.shape, (40.0, 40.0, 40.0))
    >>> halos = hm.HaloCatalogue.from_positions([[1.0, 2.0, 3.0]], [3e12], grid)
    >>> log_l = hm.fixed_field_likelihood(bias, delta, halos)
    >>> bool(log_l(np.zeros(6)) > log_l(np.ones(6)))
    True
    """
    placed = placed_for(bias, halos)
    check_density(delta, placed.grid.shape, bias.density_floor)
    delta = in_floats(delta)
    features = _features(bias, delta, placed.grid)
    placed = placed.in_precision(delta.dtype)
    return FixedFieldLikelihood(bias, placed, features, features[:, placed.voxel])


def log_likelihood(bias: Bias, params: ArrayLike, delta: ArrayLike, halos: Halos) -> Array:
    """ln L of a catalogue (or of several, summed) given the density field; a scalar.

    Differentiable in ``params`` and ``delta``. Arguments and errors are those of
    :func:`fixed_field_likelihood`, plus ``params`` of shape (num_params,).
    """
    return fixed_field_likelihood(bias, delta, halos)(params)


@jax.jit
def _evaluate(log_l: FixedFieldLikelihood, params: Array) -> Array:
    if fast.applies(log_l):
        return fast.evaluate(definition, log_l, params)
    return definition(log_l, params)


@partial(jax.jit, static_argnums=2)
def _evaluate_by_block(log_l: FixedFieldLikelihood, params: Array, per_side: int) -> Array:
    block = jnp.asarray(log_l.halos.domain.sub_boxes(per_side))
    of_halos, of_voxels = by_halo_and_voxel(log_l, params)
    sums = partial(jax.ops.segment_sum, num_segments=per_side**3)
    return sums(of_halos, block[log_l.halo_voxel]) + sums(of_voxels, block)


@partial(jax.jit, static_argnums=(0, 2))
def _features(bias: Bias, delta: Array, grid: Grid) -> Array:
    return features_of_density(bias, delta, grid)


def placed_for(bias: Bias, halos: Halos) -> PlacedHalos:
    """The halos in the voxels on which a model is evaluated.

    Raises
    ------
    InputError
        If the mass thresholds of model and catalogue differ.
    """
    if not np.isclose(bias.mass_threshold, halos.mass_threshold, rtol=1e-9, atol=0):
        raise InputError(
            f"the model integrates above {bias.mass_threshold:.6g} Msun/h, the catalogue is cut at "
            f"{halos.mass_threshold:.6g}: give both the same mass_threshold"
        )
    return place_halos(halos, bias.domain(halos.grid))

"""ln L and its gradients with respect to the density field and the parameters."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from halo_mdn.bias.base import Bias
from halo_mdn.errors import InputError
from halo_mdn.field.density import check_density
from halo_mdn.halos.placed import Halos
from halo_mdn.likelihood.fixed_field import log_likelihood, placed_for
from halo_mdn.likelihood.prepared import Observed
from halo_mdn.likelihood.table.field_adjoint import CHUNK, applies, value_and_cotangents


class Adjoint(NamedTuple):
    """The log-likelihood and its gradients.

    ``value`` is ln L, ``delta_cot`` is d ln L / d delta, shape (N0, N1, N2), and ``params_cot`` is
    d ln L / d params, shape (num_params,). No prior enters. Samplers that work with *minus* the
    log-likelihood flip all three signs.
    """

    value: Array
    delta_cot: Array
    params_cot: Array


def adjoint(
    bias: Bias,
    params: ArrayLike,
    delta: ArrayLike,
    halos: Halos,
    *,
    chunk_size: int = CHUNK,
) -> Adjoint:
    """ln L with its gradients, for samplers of the density field.

    Parameters
    ----------
    bias : Bias
    params : array (num_params,)
    delta : array (N0, N1, N2)
        Overdensity, for instance from Lagrangian perturbation theory.
    halos : HaloCatalogue or PlacedHalos
        For many fields, place them once: :func:`halo_mdn.place_halos`.
    chunk_size : int
        Voxels convolved at a time, in whole planes: those that fit into the processor's cache are
        fastest. It does not change the result. The default model needs memory for about six fields
        beside it; other models are differentiated as a whole, with about 35.

    Raises
    ------
    InputError
        As :func:`halo_mdn.log_likelihood`, or if ``chunk_size`` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> import halo_mdn as hm
    >>> bias, delta = hm.TruncatedPowerLaw(), np.zeros((4, 4, 4))
    >>> grid = hm.Grid(delta.shape, (40.0, 40.0, 40.0))
    >>> halos = hm.HaloCatalogue.from_positions([[1.0, 2.0, 3.0]], [3e12], grid)
    >>> out = hm.adjoint(bias, np.zeros(6), delta, halos)
    >>> out.delta_cot.shape, out.params_cot.shape
    ((4, 4, 4), (6,))
    """
    if chunk_size < 1:
        raise InputError(f"chunk_size is {chunk_size}, expected a positive number of voxels")
    check_density(delta, halos.grid.shape, bias.density_floor)
    params, delta = jnp.asarray(params, dtype=float), jnp.asarray(delta, dtype=float)
    return _adjoint(bias, params, delta, halos, chunk_size)


@partial(jax.jit, static_argnums=(0, 4))
def _adjoint(bias: Bias, params: Array, delta: Array, halos: Halos, chunk_size: int) -> Adjoint:
    given_field = Observed(bias, placed_for(bias, halos))
    if applies(given_field):
        value, delta_cot, params_cot = value_and_cotangents(
            given_field, params, delta, chunk_size=chunk_size
        )
        return Adjoint(value, delta_cot, params_cot)
    value, (params_cot, delta_cot) = jax.value_and_grad(log_likelihood, argnums=(1, 2))(
        bias, params, delta, halos
    )
    return Adjoint(value, delta_cot, params_cot)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def with_adjoint(bias: Bias, params: Array, delta: Array, halos: Halos) -> Array:
    """:func:`halo_mdn.log_likelihood` with :func:`adjoint` as its gradient, for models of a field.

    Several times faster than automatic differentiation. For first derivatives by reverse mode
    (``jax.grad``), in parameters and field.
    """
    return log_likelihood(bias, params, delta, halos)


def _forward(
    bias: Bias, params: Array, delta: Array, halos: Halos
) -> tuple[Array, tuple[Array, Array]]:
    at = adjoint(bias, params, delta, halos)
    return at.value, (at.params_cot.astype(params.dtype), at.delta_cot.astype(delta.dtype))


def _backward(bias: Bias, cots: tuple[Array, Array], cot: Array) -> tuple[Array, Array, None]:
    params_cot, delta_cot = cots
    return cot * params_cot, cot * delta_cot, None


with_adjoint.defvjp(_forward, _backward)

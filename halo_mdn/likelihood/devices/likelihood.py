"""ln L and its gradients with the density field on several devices.

The likelihoods of the parts of a box add up. Each device evaluates the single-device likelihood of
its slab and its halos (:mod:`halo_mdn.likelihood.devices.slabs`); what travels are the ghost
planes, their gradients on the way back, and sums of a few numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike

from halo_mdn.bias.neural import NeuralBias
from halo_mdn.errors import InputError
from halo_mdn.field.density import check_density, check_shape, is_concrete
from halo_mdn.halos.placed import PlacedHalos
from halo_mdn.likelihood.adjoint import Adjoint
from halo_mdn.likelihood.definition import definition
from halo_mdn.likelihood.devices.slabs import (
    AXIS,
    ShardedCatalogue,
    catalogue_with_ghosts,
    check_slabs,
    shard_field,
    with_ghosts,
)
from halo_mdn.likelihood.fixed_field import FixedFieldLikelihood, fixed_field_likelihood, placed_for
from halo_mdn.likelihood.prepared import Observed
from halo_mdn.likelihood.table import evaluate as fast
from halo_mdn.likelihood.table import field_adjoint

_FEATURES = {"features": P(None, AXIS), "halo_features": P(None, AXIS)}
_HALOS = {name: P(AXIS) for name in ("voxel", "log_mass", "used", "coverage", "completeness")}
SPECS = {**_FEATURES, **_HALOS}  # how the arrays of a likelihood and of its halos are split


def sharded_adjoint(
    bias: NeuralBias, params: ArrayLike, delta: ArrayLike, halos: ShardedCatalogue
) -> Adjoint:
    """As :func:`halo_mdn.likelihood.adjoint`, on the devices that hold the halos.

    Parameters
    ----------
    bias : NeuralBias
    params : array (num_params,)
        The same on every process.
    delta : array (N0, N1, N2)
        Overdensity. Anything but the result of
        :func:`halo_mdn.likelihood.devices.slabs.shard_field`, or an array split like it, is split
        first.
    halos : ShardedCatalogue

    Returns
    -------
    Adjoint
        ``delta_cot`` is split as the field is; the others are on every device.

    Raises
    ------
    InputError
        As :func:`halo_mdn.likelihood.adjoint`, or if the kernel is longer than a slab.
    """
    params, delta = _prepared(bias, params, delta, halos)
    return _adjoint(bias, params, delta.astype(float), halos)


def sharded_likelihood(
    bias: NeuralBias, delta: ArrayLike, halos: ShardedCatalogue
) -> ShardedLikelihood:
    """As :func:`halo_mdn.fixed_field_likelihood`, on the devices that hold the halos.

    Arguments and errors are those of :func:`sharded_adjoint`; ``log_l(params)`` is ln L.
    """
    _, delta = _prepared(bias, np.zeros(bias.num_params), delta, halos)
    arrays = _fixed_field(bias, delta, halos)
    placed = PlacedHalos(
        **{name: arrays[name] for name in _HALOS},
        domain=bias.domain(halos.grid),
        mass_threshold=halos.mass_threshold,
        num_catalogues=1 if halos.log_mass.ndim == 1 else halos.log_mass.shape[0],
        observation=halos.observation,
    )
    features = {name: arrays[name] for name in _FEATURES}
    log_l = FixedFieldLikelihood(bias=bias, halos=placed, **features)
    return ShardedLikelihood(log_l, halos.mesh)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ShardedLikelihood:
    """ln L as a function of the parameters alone; made by :func:`sharded_likelihood`.

    A pytree: pass it to jitted functions as an argument.

    Attributes
    ----------
    parts : FixedFieldLikelihood
        The likelihoods of all slabs in a row: split by device, each array is that of one slab.
    mesh : Mesh
    """

    parts: FixedFieldLikelihood
    mesh: Mesh = field(metadata={"static": True})

    def __call__(self, params: ArrayLike) -> Array:
        """ln L, a scalar; differentiable in the parameters, shape (num_params,)."""

        @jax.custom_jvp
        def value_and_grad(params: Array) -> tuple[Array, Array]:
            return _value_and_grad(self, params)

        @value_and_grad.defjvp
        def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple:
            value, grad = value_and_grad(*primals)
            along_grad = _hessian(self, *primals) @ tangents[0]
            return (value, grad), (_along(grad, tangents[0], value), along_grad)

        @jax.custom_jvp
        def log_l(params: Array) -> Array:
            return value_and_grad(params)[0]

        @log_l.defjvp
        def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
            value, grad = value_and_grad(*primals)
            return value, _along(grad, tangents[0], value)

        return log_l(_replicated(params))

    @property
    def specs(self) -> FixedFieldLikelihood:
        """How each array is split, in the place of the array."""
        halos = self.parts.halos
        present: dict[str, Any] = {
            name: spec if getattr(halos, name) is not None else None
            for name, spec in _HALOS.items()
        }
        features: dict[str, Any] = _FEATURES
        return replace(self.parts, halos=replace(halos, **present), **features)


@partial(jax.jit, static_argnums=0)
def _adjoint(bias: NeuralBias, params: Array, delta: Array, halos: ShardedCatalogue) -> Adjoint:
    def of_device(
        params: Array, slab: Array, halos: ShardedCatalogue
    ) -> tuple[Array, Array, Array]:
        around, to_slab = jax.vjp(
            lambda s: with_ghosts(s, halos.grid, bias.reach, halos.mesh), slab
        )
        part = catalogue_with_ghosts(halos, bias.reach)
        given_field = Observed(bias, placed_for(bias, part))
        if field_adjoint.applies(given_field):
            value, delta_cot, params_cot = field_adjoint.value_and_cotangents(
                given_field, params, around, axis=AXIS
            )
        else:
            value, (params_cot, delta_cot) = jax.value_and_grad(
                lambda p, d: definition(fixed_field_likelihood(bias, d, part), p, AXIS), (0, 1)
            )(params, around)
        return lax.psum(value, AXIS), to_slab(delta_cot)[0], lax.psum(params_cot, AXIS)

    result = jax.shard_map(
        of_device,
        mesh=halos.mesh,
        in_specs=(P(), P(AXIS), halos.specs),
        out_specs=(P(), P(AXIS), P()),
        check_vma=False,  # sums over the devices are written out above
    )(params, delta, halos)
    return Adjoint(*result)


@partial(jax.jit, static_argnums=0)
def _fixed_field(
    bias: NeuralBias, delta: Array, halos: ShardedCatalogue
) -> dict[str, Array | None]:
    """The arrays of the likelihood of each slab."""

    def of_device(slab: Array, halos: ShardedCatalogue) -> dict[str, Array | None]:
        around = with_ghosts(slab, halos.grid, bias.reach, halos.mesh)
        log_l = fixed_field_likelihood(bias, around, catalogue_with_ghosts(halos, bias.reach))
        features = {name: getattr(log_l, name) for name in _FEATURES}
        return {**features, **{name: getattr(log_l.halos, name) for name in _HALOS}}

    return jax.shard_map(
        of_device,
        mesh=halos.mesh,
        in_specs=(P(AXIS), halos.specs),
        out_specs=SPECS,
        check_vma=False,
    )(delta, halos)


@jax.jit
def _value_and_grad(log_l: ShardedLikelihood, params: Array) -> tuple[Array, Array]:
    """ln L and its gradient in the parameters."""
    return _over_devices(_part_value_and_grad, log_l, params)


@jax.jit
def _hessian(log_l: ShardedLikelihood, params: Array) -> Array:
    """Second derivatives of ln L in the parameters, one row at a time to bound memory."""

    def of_part(part: FixedFieldLikelihood, params: Array) -> Array:
        gradient = lambda p: _part_value_and_grad(part, p)[1]  # noqa: E731
        along = lambda direction: jax.jvp(gradient, (params,), (direction,))[1]  # noqa: E731
        matrix = lax.map(along, jnp.eye(len(params), dtype=params.dtype))
        return 0.5 * (matrix + matrix.T)

    return _over_devices(of_part, log_l, params)


def _over_devices(
    function: Callable[[FixedFieldLikelihood, Array], Any], log_l: ShardedLikelihood, params: Array
) -> Any:
    """The function of each device's part, summed."""

    @jax.custom_batching.sequential_vmap  # a batched cond runs both sides
    def summed(parts: FixedFieldLikelihood, params: Array) -> Any:
        return jax.shard_map(
            lambda part, params: lax.psum(function(part, params), AXIS),
            mesh=log_l.mesh,
            in_specs=(log_l.specs, P()),
            out_specs=P(),
            check_vma=False,
        )(parts, params)

    return summed(log_l.parts, params)


def _part_value_and_grad(part: FixedFieldLikelihood, params: Array) -> tuple[Array, Array]:
    """A device's part of ln L and of its gradient."""

    plain = jax.value_and_grad(partial(definition, axis=AXIS), argnums=1)
    if not fast.applies(part):
        return plain(part, params)
    by_table = partial(fast.value_and_grad_on_cpu, axis=AXIS)
    return lax.platform_dependent(part, params, cpu=by_table, default=plain)


def _prepared(
    bias: NeuralBias, params: ArrayLike, delta: ArrayLike, halos: ShardedCatalogue
) -> tuple[Array | np.ndarray, Array]:
    """Parameters and field, checked and placed."""
    if not isinstance(halos, ShardedCatalogue):
        raise InputError(
            f"halos is a {type(halos).__name__}, expected what shard_catalogue(halos, mesh) gives"
        )
    check_shape(delta, halos.grid.shape)
    check_slabs(halos.grid, bias.reach, halos.mesh)
    delta = shard_field(delta, halos.mesh) if is_concrete(delta) else jnp.asarray(delta)
    check_density(delta, halos.grid.shape, bias.density_floor)
    bias.unpack(params)
    return _replicated(params), delta


def _along(grad: Array, direction: Array, value: Array) -> Array:
    return jnp.vdot(grad, direction).astype(value.dtype)


def _replicated(params: ArrayLike) -> Array | np.ndarray:
    """Parameters that a program of all processes accepts: not bound to a device."""
    if is_concrete(params):
        return np.asarray(params, dtype=jnp.result_type(params, float))
    return jnp.asarray(params)

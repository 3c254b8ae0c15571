"""The likelihood: halos as an inhomogeneous Poisson process in space and mass.

    ln L = sum_halos ln[c(x_i) n(M_i | delta at i)] - V sum_voxels c_v Lambda_v

with the voxel volume V and the completeness c (1 where none is given). Errors and completeness in
mass replace n by the observed mass function (:mod:`halo_mdn.mass_observation`). Each of several
catalogues of the same field adds its own such term. Where the expected number of halos is beyond
1e246 (7e30 in float32), ln L is -inf, with a finite gradient (that of the halo sum).

Models whose numbers scatter more than that: :mod:`halo_mdn.overdispersion`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from math import log, prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from halo_mdn import fast
from halo_mdn.bias import Bias
from halo_mdn.catalogue import HaloCatalogue
from halo_mdn.density import check_density, is_concrete
from halo_mdn.errors import InputError
from halo_mdn.fast_exact import largest_number
from halo_mdn.grid import Grid
from halo_mdn.mass_observation import EXACT, MassObservation
from halo_mdn.network import NeuralBias, features_of_density
from halo_mdn.overdispersion import mixed_terms


@partial(
    jax.tree_util.register_dataclass,
    data_fields=(
        "features",
        "weight",
        "halo_features",
        "halo_coverage",
        "halo_voxel",
        "log_mass",
        "used",
    ),
    meta_fields=("bias", "grid", "num_catalogues", "observation"),
)
@dataclass(frozen=True)
class FixedFieldLikelihood:
    """ln L as a function of the parameters alone, for one density field and its halos.

    Made by :func:`fixed_field_likelihood`. It is a pytree: pass it to jitted functions as an
    argument, so that its arrays do not become constants of the compiled program.

    Attributes
    ----------
    features : array (F, N)
        Shell features of ln(1 + delta) over the N voxels of the domain.
    weight : array (N,) or None
        Of each voxel in the integral: the expected observed fraction; None for ones.
    halo_features : array (F, H)
        Shell features at the halos.
    halo_coverage : array (H,) or None
        Expected observed fraction at the halos (1 where not used).
    halo_voxel : array (H,) of int
        Index of each halo's voxel in the domain.
    log_mass : array (H,)
        Natural log of the masses in Msun/h.
    used : array (H,) of bool
        Halos that are selected and inside the domain.
    observation : MassObservation
        Errors and completeness of the masses.
    """

    features: Array
    weight: Array | None
    halo_features: Array
    halo_coverage: Array | None
    halo_voxel: Array
    log_mass: Array
    used: Array
    bias: Any  # a Bias; the fast path knows that it is a network
    grid: Grid
    num_catalogues: int
    observation: MassObservation = EXACT

    def __call__(self, params: ArrayLike) -> Array:
        """ln L, a scalar.

        Parameters
        ----------
        params : array (num_params,)
            In the order of ``bias.block_shapes``.
        """
        return _evaluate(self, jnp.asarray(params))

    def with_halos(self, index: np.ndarray) -> FixedFieldLikelihood:
        """The same likelihood with only the halos at ``index``, in that order."""
        names = ("halo_features", "halo_coverage", "halo_voxel", "log_mass", "used")
        arrays = {name: getattr(self, name) for name in names}
        kept = {name: x[..., index] for name, x in arrays.items() if x is not None}
        return replace(self, **kept)

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
    margin, domain = halos.grid.margin(bias._size), halos.grid.domain_shape(bias._size)
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


def log_prior(bias: Bias, params: ArrayLike) -> Array:
    """Log density of the prior, the Normal of ``bias.prior`` on each parameter; normalised."""
    params = jnp.asarray(params)
    bias.unpack(params)
    mean, scale = (jnp.broadcast_to(x.astype(params.dtype), params.shape) for x in bias.prior)
    constant = np.sum(np.log(bias.prior[1])) + 0.5 * bias.num_params * log(2 * np.pi)
    return -0.5 * jnp.sum(((params - mean) / scale) ** 2, axis=-1) - float(constant)


def log_intensity(
    bias: Bias, params: ArrayLike, delta: ArrayLike, grid: Grid, log_mass: ArrayLike
) -> Array:
    """``ln n(M | delta)`` per voxel: halos per (Mpc/h)^3 and per Msun/h.

    Parameters
    ----------
    log_mass : scalar or array (...)
        Natural log of the mass in Msun/h.

    Returns
    -------
    array (..., N0', N1', N2')
        Over the domain: the whole grid when periodic, its interior otherwise.
    """
    check_density(delta, grid.shape, bias.density_floor)
    flat = _intensity(bias, jnp.asarray(params), jnp.asarray(delta), grid, jnp.ravel(log_mass))
    return flat.reshape(*jnp.shape(log_mass), *grid.domain_shape(bias._size))


def log_expected(bias: Bias, params: ArrayLike, delta: ArrayLike, grid: Grid) -> Array:
    """``ln Lambda`` per voxel: the intensity integrated above ``bias.mass_threshold``.

    Halos per (Mpc/h)^3; the expected number in a voxel is ``grid.voxel_volume`` times its
    exponential. Shape (N0', N1', N2') over the domain.
    """
    check_density(delta, grid.shape, bias.density_floor)
    flat = _log_expected(bias, jnp.asarray(params), jnp.asarray(delta), grid)
    return flat.reshape(grid.domain_shape(bias._size))


@jax.jit
def _evaluate(log_l: FixedFieldLikelihood, params: Array) -> Array:
    if has_fast_path(log_l):
        return fast.evaluate(definition, log_l, params)
    return definition(log_l, params)


def has_fast_path(log_l: FixedFieldLikelihood) -> bool:
    """Whether :mod:`halo_mdn.fast` knows this model: a network, and a Poisson process."""
    return type(log_l.bias) is NeuralBias and fast.applies(log_l)


def definition(log_l: FixedFieldLikelihood, params: Array, axis: str | None = None) -> Array:
    """ln L as it is written above, for any model: what every faster way must agree with.

    The terms are of the type of the features; they are summed in float64 where JAX has it, because
    ln L of a survey needs more digits than float32 holds. With a mesh ``axis`` the voxels are one
    device's part of the field: the value is its part of ln L.
    """
    log_n, log_lambda = halo_and_voxel_terms(log_l, params)
    log_phi = log_l.bias.log_dispersion(params)
    if log_phi is not None:
        log_expected = _log_expected_observed(log_l, log_lambda)
        per_halo, per_voxel = mixed_terms(log_l, log_n, log_expected, log_phi)
        return jnp.sum(per_halo, dtype=float) + jnp.sum(per_voxel, dtype=float)
    expected = _total(log_lambda + log(log_l.grid.voxel_volume), log_l.weight, axis)
    return jnp.sum(log_n, dtype=float) - log_l.num_catalogues * expected


@partial(jax.jit, static_argnums=2)
def _evaluate_by_block(log_l: FixedFieldLikelihood, params: Array, per_side: int) -> Array:
    block = jnp.asarray(block_of_voxel(log_l.grid, log_l.bias._size, per_side))
    log_n, log_lambda = halo_and_voxel_terms(log_l, params)
    log_expected = _log_expected_observed(log_l, log_lambda)
    log_phi = log_l.bias.log_dispersion(params)
    if log_phi is None:
        per_voxel = -log_l.num_catalogues * _exp_or_inf(log_expected)
    else:
        log_n, per_voxel = mixed_terms(log_l, log_n, log_expected, log_phi)
    sums = partial(jax.ops.segment_sum, num_segments=per_side**3)
    return sums(log_n, block[log_l.halo_voxel]) + sums(per_voxel, block)


def _log_expected_observed(log_l: FixedFieldLikelihood, log_lambda: Array) -> Array:
    """``ln(V c Lambda)`` per voxel."""
    log_expected = log_lambda + log(log_l.grid.voxel_volume)
    return log_expected if log_l.weight is None else log_expected + jnp.log(log_l.weight)


def halo_and_voxel_terms(log_l: FixedFieldLikelihood, params: Array) -> tuple[Array, Array]:
    """``ln(c n)`` per halo (0 where not used), shape (H,), and ``ln Lambda`` per voxel, (N,)."""
    mixture = log_l.bias.mass_function(params, log_l.features)
    at_halos = log_l.bias.mass_function(params, log_l.halo_features)
    log_threshold = log(log_l.bias.mass_threshold)
    log_n = log_l.observation.log_density(at_halos, log_l.log_mass, log_threshold)
    if log_l.halo_coverage is not None:
        log_n = log_n + jnp.log(log_l.halo_coverage)
    log_lambda = log_l.observation.log_integral(mixture, log_threshold, log_threshold)
    return jnp.where(log_l.used, log_n, 0), log_lambda


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


@partial(jax.jit, static_argnums=(0, 3))
def _intensity(bias: Bias, params: Array, delta: Array, grid: Grid, u: Array) -> Array:
    mass_function = bias.mass_function(params, features_of_density(bias, delta, grid))
    return lax.map(mass_function.log_density, u)


@partial(jax.jit, static_argnums=(0, 3))
def _log_expected(bias: Bias, params: Array, delta: Array, grid: Grid) -> Array:
    mass_function = bias.mass_function(params, features_of_density(bias, delta, grid))
    return mass_function.log_integral(log(bias.mass_threshold))


def _total(log_expected: Array, weight: Array | None, axis: str | None) -> Array:
    """``sum_v c_v exp(log_expected_v)``, with inf and a zero gradient where it is too large.

    It is the sum over all devices of the mesh ``axis`` that must not be too large.
    """
    largest = largest_number(log_expected.dtype)
    expected = jnp.exp(jnp.minimum(log_expected, log(largest)))
    total = jnp.sum(expected if weight is None else weight * expected, dtype=float)
    everywhere = total if axis is None else lax.psum(lax.stop_gradient(total), axis)
    return jnp.where(everywhere < largest, total, jnp.inf)


def _exp_or_inf(log_value: Array) -> Array:
    """``exp``, with inf and a zero gradient where it is too large for sums and products of it."""
    fits = log_value < log(largest_number(log_value.dtype))
    return jnp.where(fits, jnp.exp(jnp.where(fits, log_value, 0)), jnp.inf)


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

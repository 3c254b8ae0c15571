"""Coordinates to sample in, with the density of the parameters left exactly as the model has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.scipy.linalg import solve_triangular
from numpyro.infer.reparam import Reparam

from halo_mdn.bias.neural import HEADS, Blocks, NeuralBias, is_network, npe_field
from halo_mdn.likelihood.fixed_field import FixedFieldLikelihood

SPREAD_FLOOR = 1e-3  # of the NPE field, whose values are of order one
LATENT_SUFFIX = "_latent"

Factor = list[list[jax.Array]]  # a lower triangle of scalars, by row
Pair = tuple[jax.Array, jax.Array]


class Coordinates(Protocol):
    """A smooth bijection between latent vectors and parameter vectors; a pytree of arrays."""

    def to_params(self, latent: jax.Array) -> jax.Array:
        """Parameters (P,) of a latent vector (P,)."""

    def to_latent(self, params: jax.Array) -> jax.Array:
        """Latent vector (P,) of parameters (P,)."""

    def log_det(self, latent: jax.Array) -> jax.Array:
        """Log absolute determinant of d params / d latent, a scalar."""


class Whitened(NamedTuple):
    """``params = location + scale_tril @ latent``.

    Attributes
    ----------
    location
        Shape (P,).
    scale_tril
        Lower triangular, shape (P, P): a Cholesky factor of the covariance of the parameters.
    """

    location: jax.Array
    scale_tril: jax.Array

    @classmethod
    def at(cls, location: np.ndarray, covariance: np.ndarray) -> Whitened:
        """Coordinates in which a Gaussian with this covariance is standard.

        Raises
        ------
        ValueError
            If the covariance is not positive definite.
        """
        try:
            scale_tril = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError as error:
            raise ValueError(f"the covariance of the start is not usable: {error}.") from error
        return cls(jnp.asarray(location), jnp.asarray(scale_tril))

    def to_params(self, latent: jax.Array) -> jax.Array:
        return self.location + self.scale_tril @ latent

    def to_latent(self, params: jax.Array) -> jax.Array:
        return solve_triangular(self.scale_tril, params - self.location, lower=True)

    def log_det(self, latent: jax.Array) -> jax.Array:
        return jnp.sum(jnp.log(jnp.abs(jnp.diagonal(self.scale_tril))))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StandardisedField:
    """The same network, written in terms of a standardised NPE field.

    With ``m`` the mean and ``S S^T`` the covariance of the channels ``z`` of the NPE field over
    reference voxels (S lower triangular; for one channel its spread), the layer that reads them is
    written ``A z + a = A' S^-1 (z - m) + a'``, and ``A'``, ``a'`` take the places of ``A``, ``a``
    in the latent vector. The kernels keep their places. What is gained: a larger or shifted kernel
    no longer forces every head to follow, nor do channels that are much alike.

    Attributes
    ----------
    features : array (F, R)
        Shell features of the reference voxels.
    bias : NeuralBias
    """

    features: jax.Array
    bias: NeuralBias = field(metadata={"static": True})

    @classmethod
    def at_halos(cls, log_likelihood: FixedFieldLikelihood, size: int = 512) -> StandardisedField:
        """Reference voxels evenly spaced among those that hold halos; some twice if those are few.

        Always ``size`` of them, so that a program fits catalogues of any size.
        """
        assert isinstance(log_likelihood.bias, NeuralBias)
        voxel = np.asarray(log_likelihood.halo_voxel)
        order = np.argsort(voxel, kind="stable")
        order = order[np.asarray(log_likelihood.used)[order]]
        features = log_likelihood.halo_features
        if len(order) == 0:
            features, order = log_likelihood.features, np.arange(log_likelihood.features.shape[1])
        chosen = order[np.linspace(0, len(order) - 1, size).astype(int)]
        return cls(features[:, chosen], log_likelihood.bias)

    def to_params(self, latent: jax.Array) -> jax.Array:
        """Parameters of a latent vector, both (P,)."""

        def rule(kernel: jax.Array, shift: jax.Array, z: Moments) -> Pair:
            if len(kernel) == 1:  # written as an array: a stack of one would round differently
                return kernel / z.spread[:, None], shift - (z.mean / z.spread) @ kernel
            centre = jnp.stack(_standardised(list(z.mean), z.factor))
            return jnp.stack(solved_for_slopes(list(kernel), z.factor)), shift - centre @ kernel

        return self._rewritten(latent, rule)

    def to_latent(self, params: jax.Array) -> jax.Array:
        """Latent vector of parameters, both (P,)."""

        def rule(kernel: jax.Array, shift: jax.Array, z: Moments) -> Pair:
            if len(kernel) == 1:
                return kernel * z.spread[:, None], shift + z.mean @ kernel
            rows = list(kernel)
            columns = [[row[c] for row in z.factor[c:]] for c in range(len(rows))]
            mixed = [weighted(rows[c:], column) for c, column in enumerate(columns)]
            return jnp.stack(mixed), shift + z.mean @ kernel

        return self._rewritten(params, rule)

    def log_det(self, latent: jax.Array) -> jax.Array:
        """Log absolute determinant of d params / d latent."""
        blocks = self.bias.unpack(latent)
        columns = sum(blocks[kernel].shape[1] for kernel, _ in self._reading)
        z = field_moments(self.bias, blocks, self.features)
        if len(z.factor) == 1:
            return -columns * jnp.sum(jnp.log(z.spread))
        return -columns * reduce(add, (jnp.log(row[-1]) for row in z.factor))

    @property
    def _reading(self) -> list[tuple[str, str]]:
        """Names of kernels and biases of the layer that reads the NPE field."""
        if self.bias.hidden_layers:
            return [("hidden_0_weights", "hidden_0_biases")]
        return [(f"{head}_kernels", f"{head}_biases") for head in HEADS]

    def _rewritten(self, vector: jax.Array, rule: Callable[..., tuple]) -> jax.Array:
        blocks = self.bias.unpack(vector)
        moments = field_moments(self.bias, blocks, self.features)
        new = dict(blocks)
        for kernel, shift in self._reading:
            new[kernel], new[shift] = rule(blocks[kernel], blocks[shift], moments)
        return self.bias.pack(new)


class Moments(NamedTuple):
    """Of the channels of the NPE field over reference voxels.

    Attributes
    ----------
    mean, spread : array (C,)
    factor : list of lists of scalars
        The Cholesky factor of the covariance, by row, up to the diagonal.
    """

    mean: jax.Array
    spread: jax.Array
    factor: Factor


def field_moments(bias: NeuralBias, blocks: Blocks, features: jax.Array) -> Moments:
    """Moments of the NPE field over reference voxels (F, R).

    Dead channels, and copies of others, have no spread; a floor keeps bijections finite there.
    """
    z = npe_field(bias, blocks, features)
    mean, variance = jnp.mean(z, axis=1), jnp.var(z, axis=1)
    spread = jnp.sqrt(variance + SPREAD_FLOOR**2)
    factor: Factor = [[spread[0]]]
    for i in range(1, len(z)):
        row: list[jax.Array] = []
        for j in range(i):
            covariance = jnp.mean((z[i] - mean[i]) * (z[j] - mean[j]))
            row.append((covariance - _dot(row, factor[j][:j])) / factor[j][j])
        left = jnp.maximum(variance[i] - _dot(row, row), 0)
        row.append(jnp.sqrt(left + SPREAD_FLOOR**2))
        factor.append(row)
    return Moments(mean, spread, factor)


def weighted(rows: list[jax.Array], weights: list[jax.Array]) -> jax.Array:
    """``sum_c w_c row_c``; written out, so that few channels stay few operations."""
    return reduce(add, (row * weight for row, weight in zip(rows, weights, strict=True)))


def solved_for_slopes(rows: list[jax.Array], factor: Factor) -> list[jax.Array]:
    """``x`` with ``S^T x = rows``, by channel, for S of :func:`field_moments`."""
    found: list[jax.Array] = []  # from the last channel on
    for c in reversed(range(len(rows))):
        below = [row[c] for row in factor[c + 1 :]]
        rest = rows[c] - weighted(found[::-1], below) if below else rows[c]
        found.append(rest / factor[c][c])
    return found[::-1]


def _standardised(mean: list[jax.Array], factor: Factor) -> list[jax.Array]:
    """``y`` with ``S y = mean``."""
    found: list[jax.Array] = []
    for m, row in zip(mean, factor, strict=True):
        rest = m - _dot(row[:-1], found) if found else m
        found.append(rest / row[-1])
    return found


def _dot(left: list[jax.Array], right: list[jax.Array]) -> jax.Array | float:
    return sum((a * b for a, b in zip(left, right, strict=True)), start=0.0)


def coordinates_at(log_likelihood: FixedFieldLikelihood) -> Coordinates:
    """Good coordinates for a model: a network's standardised field, else its own parameters."""
    if is_network(log_likelihood.bias):
        return StandardisedField.at_halos(log_likelihood)
    size = log_likelihood.bias.num_params
    return Whitened.at(np.zeros(size), np.eye(size))


class Composed(NamedTuple):
    """``params = outer.to_params(inner.to_params(latent))``."""

    outer: Coordinates
    inner: Coordinates

    def to_params(self, latent: jax.Array) -> jax.Array:
        return self.outer.to_params(self.inner.to_params(latent))

    def to_latent(self, params: jax.Array) -> jax.Array:
        return self.inner.to_latent(self.outer.to_latent(params))

    def log_det(self, latent: jax.Array) -> jax.Array:
        return self.inner.log_det(latent) + self.outer.log_det(self.inner.to_params(latent))


def name_of(coordinates: Coordinates | None) -> str:
    """What the coordinates are made of, such as ``NaturalMixture of Whitened``."""
    if isinstance(coordinates, Composed):
        return f"{name_of(coordinates.outer)} of {name_of(coordinates.inner)}"
    return type(coordinates).__name__


def whitened_in(outer: Coordinates, location: np.ndarray, covariance: np.ndarray) -> Composed:
    """Coordinates on top of ``outer`` in which a Gaussian of the parameters is standard, to
    first order around its mean.

    Parameters
    ----------
    outer
        Coordinates of the parameters.
    location, covariance
        Of the parameters, shapes (P,) and (P, P).
    """
    latent = outer.to_latent(jnp.asarray(location))
    jacobian = np.asarray(jax.jacfwd(outer.to_params)(latent))
    half = np.linalg.solve(jacobian, np.linalg.cholesky(covariance))
    # half @ half.T may lose its smallest variances to rounding; its Cholesky factor does not.
    upper: np.ndarray = np.asarray(np.linalg.qr(half.T, mode="r"))
    scale_tril = upper.T * np.copysign(1.0, np.diagonal(upper))
    if not np.isfinite(scale_tril).all():
        raise ValueError("the covariance of the start is not usable: it is not finite.")
    return Composed(outer, Whitened(jnp.asarray(np.asarray(latent)), jnp.asarray(scale_tril)))


class _ChangeOfCoordinates(Reparam):
    """Sample the latent vector flat; the prior of the site and the Jacobian become one factor."""

    def __init__(self, coordinates: Coordinates) -> None:
        self.coordinates = coordinates

    def __call__(self, name: str, fn: Any, obs: Any) -> tuple[None, jax.Array]:
        flat = dist.ImproperUniform(dist.constraints.real_vector, (), fn.shape())
        latent = numpyro.sample(name + LATENT_SUFFIX, flat)
        value = self.coordinates.to_params(latent)
        log_prior = jnp.sum(fn.log_prob(value))
        numpyro.factor(f"{name}_prior", log_prior + self.coordinates.log_det(latent))
        return None, value


def change_coordinates(model: Callable, site: str) -> Callable:
    """The same model with ``site`` sampled in other coordinates.

    Parameters
    ----------
    model
        A NumPyro model that samples the vector ``site`` from a distribution on all of R^P.
    site
        Name of the sample site.

    Returns
    -------
    callable
        ``changed(coordinates, *args)``; it samples ``site + "_latent"`` and ``site`` is a
        deterministic of it. The joint density of the model is unchanged: the site keeps its
        prior, and the log-determinant of the Jacobian is added.
    """

    def changed(coordinates: Coordinates, *args: Any) -> Any:
        config = {site: _ChangeOfCoordinates(coordinates)}
        return numpyro.handlers.reparam(model, config=config)(*args)

    return changed

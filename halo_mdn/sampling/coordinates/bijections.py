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
        return self._rewritten(
            latent,
            lambda rows, shift, mean, factor: _with_shift(
                solved_for_slopes(rows, factor), lambda x: shift - weighted(x, mean)
            ),
        )

    def to_latent(self, params: jax.Array) -> jax.Array:
        """Latent vector of parameters, both (P,)."""
        return self._rewritten(
            params,
            lambda rows, shift, mean, factor: _with_shift(
                [weighted(rows[c:], [row[c] for row in factor[c:]]) for c in range(len(rows))],
                lambda _: shift + weighted(rows, mean),
            ),
        )

    def log_det(self, latent: jax.Array) -> jax.Array:
        """Log absolute determinant of d params / d latent."""
        blocks = self.bias.unpack(latent)
        columns = sum(blocks[kernel].shape[1] for kernel, _ in self._reading)
        factor = field_moments(self.bias, blocks, self.features)[1]
        return -columns * reduce(add, (jnp.log(row[-1]) for row in factor))

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
            new[kernel], new[shift] = rule(list(blocks[kernel]), blocks[shift], *moments)
        return self.bias.pack(new)


def field_moments(
    bias: NeuralBias, blocks: Blocks, features: jax.Array
) -> tuple[list[jax.Array], list[list[jax.Array]]]:
    """Mean of each channel of the NPE field over reference voxels (F, R), and the Cholesky factor.

    The factor S of the covariance is given by row, up to the diagonal; all entries are scalars.
    """
    z = list(npe_field(bias, blocks, features))
    mean = [jnp.mean(channel) for channel in z]
    factor: list[list[jax.Array]] = []
    for i, channel in enumerate(z):
        row: list[jax.Array] = []
        for j in range(i):
            covariance = jnp.mean((channel - mean[i]) * (z[j] - mean[j]))
            row.append((covariance - _dot(row, factor[j][:j])) / factor[j][j])
        # Dead channels, and copies of others, have no spread; the floor keeps bijections finite.
        left = jnp.var(channel) - _dot(row, row) if row else jnp.var(channel)
        row.append(
            jnp.sqrt(jnp.maximum(left, 0) + SPREAD_FLOOR**2 if row else left + SPREAD_FLOOR**2)
        )
        factor.append(row)
    return mean, factor


def weighted(rows: list[jax.Array], weights: list[jax.Array]) -> jax.Array:
    """``sum_c w_c row_c``; written out, so that few channels stay few operations."""
    return reduce(add, (row * weight for row, weight in zip(rows, weights, strict=True)))


def solved_for_slopes(rows: list[jax.Array], factor: list[list[jax.Array]]) -> list[jax.Array]:
    """``x`` with ``S^T x = rows``, by channel, for S of :func:`field_moments`."""
    found: list[jax.Array] = []  # from the last channel on
    for c in reversed(range(len(rows))):
        below = [row[c] for row in factor[c + 1 :]]
        rest = rows[c] - weighted(found[::-1], below) if below else rows[c]
        found.append(rest / factor[c][c])
    return found[::-1]


def _dot(left: list[jax.Array], right: list[jax.Array]) -> jax.Array | float:
    return sum((a * b for a, b in zip(left, right, strict=True)), start=0.0)


def _with_shift(
    rows: list[jax.Array], shift: Callable[[list[jax.Array]], jax.Array]
) -> tuple[jax.Array, jax.Array]:
    return jnp.stack(rows), shift(rows)


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

"""What every model of the halos has: parameters in named blocks, and a mass function per voxel.

A model of your own is a frozen dataclass that inherits from :class:`Bias`. Put it into a model file
as ``Bias``, beside the NumPyro function ``model``: the likelihood, the sampler, the diagnostics and
the mock catalogues ask nothing of it but what is listed here.

A model sees a voxel through the *channels* of its activation, made from the shell features around
it; the mass function is a function of these channels and the parameters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from math import prod
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from halo_mdn.errors import InputError
from halo_mdn.field.density import log_one_plus_delta
from halo_mdn.field.domain import Domain
from halo_mdn.field.grid import Grid
from halo_mdn.field.kernels import (
    Grouping,
    KernelBasis,
    kernel_basis,
    linear_responses,
    shell_features,
)
from halo_mdn.halos.mass_function import MassFunction

Blocks = dict[str, Array]
Vectors = TypeVar("Vectors", Array, np.ndarray)  # (..., num_params)

VAGUE_WIDTH = 5.0  # of a prior that hardly tells one parameter of order one from another


class Bias(ABC):
    """How halos depend on the density; its parameters are kept apart, as one vector.

    Subclasses are frozen dataclasses: hashable, because they are static arguments of jitted
    functions.

    Attributes
    ----------
    mass_threshold : float
        Lower limit of the modelled masses in Msun/h.
    density_floor : float
        Floor on ``1 + delta``; 0 for none.
    prior_mean, prior_scale : float or tuple of float
        Mean and width of the Normal prior: one for all parameters, or one for each, in the order
        of the vector.
    kernel_size : int or tuple of 3 int
        Voxels per axis that the model sees around a voxel, odd.
    grouping : {"radius", "orbit"}
        Which of these voxels act alike.
    """

    mass_threshold: float
    density_floor: float
    prior_scale: float | tuple[float, ...]
    prior_mean: float | tuple[float, ...] = 0.0
    kernel_size: int | tuple[int, int, int] = 1
    grouping: Grouping = "radius"

    @property
    @abstractmethod
    def block_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each named block, in the order of the parameter vector."""

    @property
    @abstractmethod
    def block_dims(self) -> dict[str, tuple[str, ...]]:
        """Names of the dimensions of each block."""

    @property
    def coords(self) -> dict[str, list[str] | list[int]]:
        """Labels along each dimension."""
        return {}

    def linear(self, params: Array) -> tuple[Array, Array] | None:
        """Weights (C, F) and shifts (C,) of an activation that is linear in the features.

        None for another one, which :meth:`activation` then has to give. Unless a subclass says
        otherwise, the model sees the features themselves.
        """
        size = self.basis.num_features
        return jnp.eye(size, dtype=params.dtype), jnp.zeros(size, params.dtype)

    def activation(self, params: Array, features: Array) -> Array:
        """What the model sees of each voxel: channels (C, N) from shell features (F, N).

        The features are sums of ``ln(1 + delta)`` over the shells of :attr:`basis`; without a
        kernel there is one, ``ln(1 + delta)`` of the voxel itself.
        """
        linear = self.linear(params)
        assert linear is not None, "a bias whose activation is not linear gives its own"
        return linear_responses(*linear, features)

    def mass_function_at(self, params: Array, activation: Array) -> MassFunction:
        """n(M) of each voxel, from the parameters (P,) and what the model sees, (C, N)."""
        raise TypeError(f"{type(self).__name__} needs a method mass_function_at, or mass_function")

    def mass_function(self, params: Array, features: Array) -> MassFunction:
        """n(M) of each voxel, from the parameters (P,) and shell features (F, N).

        A subclass may give this alone in the place of :meth:`mass_function_at`. All works as well,
        but slower: what the model sees of a voxel is then not known.
        """
        return self.mass_function_at(params, self.activation(params, features))

    def kinks(self, params: Array, low: Array, high: Array) -> list[Array]:
        """Where between two values of a single channel n(M) is not smooth, in increasing order.

        They make the table of the likelihood exact. Without them it is still safe, because its
        error is measured.
        """
        return []

    @property
    def num_channels(self) -> int:
        """Number of channels C of the activation; 0 where the model does not say what it sees.

        With one channel the likelihood is read from a table of it, several times faster.
        """
        if type(self).mass_function is not Bias.mass_function:
            return 0
        return _num_channels(self)

    def log_dispersion(self, params: Array) -> Array | None:
        """``ln phi`` of numbers that scatter more than a Poisson process; None for that process.

        See :mod:`halo_mdn.likelihood.negative_binomial`.
        """
        return None

    def domain(self, grid: Grid) -> Domain:
        """The voxels of a grid on which the model is evaluated.

        Raises
        ------
        InputError
            If the kernel does not fit into the grid.
        """
        return Domain(grid, self.reach)

    @property
    def reach(self) -> tuple[int, int, int]:
        """Voxels per axis that the model sees around a voxel: those of its kernel."""
        return self.kernel_shape

    def shell_sums(self, x: Array, grid: Grid) -> Array:
        """Features (F, N0', N1', N2') of ``x = ln(1 + delta)``: its sums over shells of cells."""
        return shell_features(x, grid, self.kernel_shape, self.basis)

    @property
    def basis(self) -> KernelBasis:
        """The shell features of the kernel."""
        return kernel_basis(self.kernel_shape, (0,), self.grouping)

    @property
    def kernel_shape(self) -> tuple[int, int, int]:
        size = self.kernel_size
        return (size, size, size) if isinstance(size, int) else size

    @property
    def num_params(self) -> int:
        """Length of the parameter vector."""
        return sum(prod(shape) for shape in self.block_shapes.values())

    @property
    def prior(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and width of the Normal prior of each parameter, each (num_params,).

        Raises
        ------
        InputError
            If there is neither one value nor one per parameter, or a width is not positive.
        """
        values = {name: np.ravel(getattr(self, name)) for name in ("prior_mean", "prior_scale")}
        for name, value in values.items():
            if len(value) not in (1, self.num_params):
                raise InputError(
                    f"{name} has {len(value)} values, expected 1 or one for each of the "
                    f"{self.num_params} parameters"
                )
            if not np.isfinite(value).all() or (name == "prior_scale" and value.min() <= 0):
                raise InputError(
                    f"{name} is {getattr(self, name)!r}, expected finite means and positive widths"
                )
        mean, scale = (np.full(self.num_params, value, dtype=float) for value in values.values())
        return mean, scale

    @property
    def prior_is_vague(self) -> np.ndarray:
        """Whether the prior of each parameter says little, shape (num_params,) of bool.

        Parameters are scaled so that halos ask for values of order one. A prior is vague where all
        of these are much the same to it: its width is at least 5, and its mean lies within one
        width of 0. Most of its own draws are then far from any halos.
        """
        mean, scale = self.prior
        return (scale >= VAGUE_WIDTH) & (np.abs(mean) <= scale)

    def unpack(self, params: ArrayLike) -> Blocks:
        """Named blocks of a parameter vector, shape (..., num_params).

        Raises
        ------
        InputError
            If the last axis has another length.
        """
        params = jnp.asarray(params)
        if params.ndim < 1 or params.shape[-1] != self.num_params:
            sizes = ", ".join(f"{name} {prod(s)}" for name, s in self.block_shapes.items())
            raise InputError(
                f"params has shape {params.shape}, expected (..., {self.num_params}): {sizes}"
            )
        params = params.astype(jnp.result_type(params, float)) if _is_integer(params) else params
        return self.blocks_of(params)

    def blocks_of(self, params: Vectors) -> dict[str, Vectors]:
        """As :meth:`unpack`, unchecked, of an array of JAX or of NumPy: blocks are of its kind."""
        blocks, start = {}, 0
        for name, shape in self.block_shapes.items():
            stop = start + prod(shape)
            blocks[name] = params[..., start:stop].reshape(*params.shape[:-1], *shape)
            start = stop
        return blocks

    def pack(self, blocks: Blocks) -> Array:
        """The parameter vector of named blocks; the inverse of :meth:`unpack`.

        Raises
        ------
        InputError
            If a block is missing, unknown or of the wrong shape.
        """
        shapes = self.block_shapes
        if set(blocks) != set(shapes):
            raise InputError(f"blocks are {sorted(blocks)}, expected {sorted(shapes)}")
        flat = []
        for name, shape in shapes.items():
            block = jnp.asarray(blocks[name])
            lead = block.shape[: block.ndim - len(shape)]
            if block.shape != (*lead, *shape):
                raise InputError(f"block {name} has shape {block.shape}, expected (..., {shape})")
            flat.append(block.reshape(*lead, prod(shape)))
        return jnp.concatenate(flat, axis=-1)


@lru_cache
def _num_channels(bias: Bias) -> int:
    params = jax.ShapeDtypeStruct((bias.num_params,), float)
    features = jax.ShapeDtypeStruct((bias.basis.num_features, 1), float)
    return jax.eval_shape(bias.activation, params, features).shape[0]


def _is_integer(array: Array) -> bool:
    return bool(jnp.issubdtype(array.dtype, jnp.integer))


def features_of_density(bias: Bias, delta: Array, grid: Grid) -> Array:
    """Shell features of ``ln(1 + delta)``, shape (F, N) over the N voxels of the domain."""
    x = log_one_plus_delta(delta, bias.density_floor)
    features = bias.shell_sums(x, grid)
    return features.reshape(len(features), -1)

"""The neural bias: a neural physical engine and a mixture density network.

    x       = ln(1 + delta)
    z       = softplus(conv(x, K) + b)                      the NPE field
    h       = softplus(W h + b) for each hidden layer       (none by default)
    alpha_k = softplus(A_k h + a_k + amplitude_offset)
    mu_1    = ln M_th + m_1,  mu_{k+1} = mu_k + relu(m_{k+1}),  m_k = B_k h + b_k
    sigma_k = softplus(C_k h + c_k + width_offset)

(Charnock et al. 2020, MNRAS 494, 50; arXiv:1909.06379.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import log
from typing import Literal, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from halo_mdn.bias.base import Bias, Blocks
from halo_mdn.bias.first_layer import check_first_layer, layered_features, reach, stacked_basis
from halo_mdn.bias.roots import sign_changes
from halo_mdn.errors import InputError
from halo_mdn.field.grid import Grid
from halo_mdn.field.kernels import (
    Grouping,
    KernelBasis,
    kernel_basis,
    kernel_responses,
)
from halo_mdn.halos.mass_function import Mixture
from halo_mdn.halos.special import log_softplus
from halo_mdn.setting_field import setting

HEADS = ("amplitude", "mean", "width")


@dataclass(frozen=True)
class NeuralBias(Bias):
    """What the network looks like; its parameters are kept apart, as one vector or named blocks.

    The default is the 17-parameter model of Charnock et al. (2020). Instances are hashable and
    are static arguments of jitted functions.

    Parameters
    ----------
    kernel_size : int or tuple of 3 int
        Voxels per axis, odd.
    multipoles : tuple of int
        Degrees l of the spherical harmonics; each gives one channel per filter.
    grouping : {"radius", "orbit"}
        Which cells of the kernel share a weight.
    first_layer : tuple of float
        A frozen first layer of the neural physical engine, whose fields this one sees beside
        ln(1 + delta): five numbers per filter, the weights of centre, faces, edges and corners of
        a 3x3x3 kernel and a bias (:mod:`halo_mdn.bias.first_layer`). Empty for none.
    filters : int
        Number of kernels per multipole.
    hidden_layers : tuple of int
        Widths of fully connected softplus layers between the NPE field and the mixture.
    components : int
        Number of Gaussians K.
    ordering : {"relu", "softplus"}
        How the means are kept in order: the model's relu, or a smooth alternative.
    mass_threshold : float
        M_th in Msun/h: the offset of the first mean and the lower limit of the integral.
    amplitude_offset, width_offset : float
        Added to the amplitude and width heads, so that parameters are of order one.
    density_floor : float
        Floor on ``1 + delta``; 0 for none. The gradient is zero where it acts.
    prior_mean, prior_scale : float or tuple of float
        Mean and width of the Normal prior: one for all parameters, or one for each, in the order
        of the vector.

    Raises
    ------
    InputError
        If a setting is out of range.

    Examples
    --------
    >>> import halo_mdn as hm
    >>> hm.NeuralBias().num_params
    17
    >>> wide = hm.NeuralBias(kernel_size=5, filters=2, hidden_layers=(4,))
    >>> wide.block_shapes["kernel_weights"]
    (2, 10)
    """

    kernel_size: int | tuple[int, int, int] = setting(
        3, "voxels per side of the kernel, odd; one number or one per axis", minimum=1
    )
    multipoles: tuple[int, ...] = setting((0,), "multipoles of the kernel, 0 first", minimum=0)
    grouping: Grouping = setting(
        "radius", "kernel cells that share a weight: at the same radius, or in one cubic orbit"
    )
    first_layer: tuple[float, ...] = setting(
        (),
        "a frozen layer before this one: for each of its 3x3x3 filters the weights of centre, "
        "faces, edges and corners, and a bias; empty for none",
    )
    filters: int = setting(1, "number of kernels", minimum=1)
    hidden_layers: tuple[int, ...] = setting((), "widths of hidden layers, such as 4,4", minimum=1)
    components: int = setting(2, "components of the mass mixture", minimum=1)
    ordering: Literal["relu", "softplus"] = setting(
        "relu", "function that keeps the means in order"
    )
    mass_threshold: float = setting(2e12, "smallest halo mass that is modelled, Msun/h", above=0.0)
    amplitude_offset: float = setting(log(1e-3), "added to the amplitudes' pre-activation; ln 1e-3")
    width_offset: float = setting(log(1e3), "added to the widths' pre-activation; ln 1e3")
    density_floor: float = setting(
        0.0, "smallest allowed 1 + delta; 0 means none, and delta <= -1 is an error", minimum=0.0
    )
    prior_mean: float | tuple[float, ...] = setting(
        0.0, "mean of the Normal prior: one number, or one per parameter"
    )
    prior_scale: float | tuple[float, ...] = setting(
        10.0, "width of the Normal prior: one number, or one per parameter", above=0.0
    )

    def __post_init__(self) -> None:
        size = np.ravel(self.kernel_size)
        size = np.repeat(size, 3) if len(size) == 1 else size
        object.__setattr__(self, "kernel_size", tuple(int(n) for n in size))
        for name in ("multipoles", "hidden_layers"):
            object.__setattr__(self, name, tuple(int(n) for n in np.ravel(getattr(self, name))))
        numbers = tuple(float(x) for x in np.ravel(self.first_layer))
        object.__setattr__(self, "first_layer", numbers)
        for name in ("prior_mean", "prior_scale"):
            values = tuple(float(x) for x in np.ravel(getattr(self, name)))
            object.__setattr__(self, name, values[0] if len(values) == 1 else values)
        _check_settings(self)

    @property
    def basis(self) -> KernelBasis:
        """The shell features of the kernel."""
        basis = kernel_basis(self.kernel_shape, self.multipoles, self.grouping)
        return stacked_basis(self.first_layer, basis) if self.first_layer else basis

    @property
    def reach(self) -> tuple[int, int, int]:
        """Voxels per axis that the layers see together."""
        return reach(self.first_layer, self.kernel_shape)

    def shell_sums(self, x: Array, grid: Grid) -> Array:
        """Shell sums of ``ln(1 + delta)``, and of the fields of a first layer."""
        if not self.first_layer:
            return super().shell_sums(x, grid)
        basis = kernel_basis(self.kernel_shape, self.multipoles, self.grouping)
        return layered_features(self.first_layer, x, grid, self.kernel_shape, basis)

    @property
    def block_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each named block, in the order of the parameter vector."""
        channels = self.filters * len(self.multipoles)
        shapes: dict[str, tuple[int, ...]] = {
            "kernel_weights": (self.filters, self.basis.num_weights),
            "kernel_biases": (channels,),
        }
        widths = (channels, *self.hidden_layers)
        for i, (width_in, width_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            shapes[f"hidden_{i}_weights"] = (width_in, width_out)
            shapes[f"hidden_{i}_biases"] = (width_out,)
        for head in HEADS:
            shapes[f"{head}_kernels"] = (widths[-1], self.components)
            shapes[f"{head}_biases"] = (self.components,)
        return shapes

    @property
    def block_dims(self) -> dict[str, tuple[str, ...]]:
        """Names of the dimensions of each block."""
        dims: dict[str, tuple[str, ...]] = {
            "kernel_weights": ("filter", "kernel_weight"),
            "kernel_biases": ("channel",),
        }
        last = "channel"
        for i in range(len(self.hidden_layers)):
            dims[f"hidden_{i}_weights"] = (last, f"hidden_{i}")
            dims[f"hidden_{i}_biases"] = (f"hidden_{i}",)
            last = f"hidden_{i}"
        for head in HEADS:
            dims[f"{head}_kernels"] = (last, "component")
            dims[f"{head}_biases"] = ("component",)
        return dims

    @property
    def coords(self) -> dict[str, list[str] | list[int]]:
        """Labels along each dimension."""
        labels: dict[str, list[str] | list[int]] = {
            "filter": list(range(self.filters)),
            "kernel_weight": list(self.basis.labels),
            "channel": [f"filter {f} l={n}" for f in range(self.filters) for n in self.multipoles],
            "component": list(range(self.components)),
        }
        for i, width in enumerate(self.hidden_layers):
            labels[f"hidden_{i}"] = list(range(width))
        return labels

    def linear(self, params: Array) -> tuple[Array, Array] | None:
        """Weights (C, F) and shifts (C,) of the convolutions; None with multipoles above 0."""
        if self.multipoles != (0,):
            return None
        blocks = self.unpack(params)
        return blocks["kernel_weights"], blocks["kernel_biases"]

    def activation(self, params: Array, features: Array) -> Array:
        """The convolved field plus a bias, shape (C, N): what the softplus of the NPE gets."""
        return _convolved(self, self.unpack(params), features)

    def mass_function_at(self, params: Array, activation: Array) -> Mixture:
        """The mixture of each voxel, from the convolved field."""
        return mixture_parameters(self, self.unpack(params), jax.nn.softplus(activation))

    def kinks(self, params: Array, low: Array, high: Array) -> list[Array]:
        """Where the relu of each further mean turns on or off."""
        if self.ordering != "relu" or self.components == 1:
            return []
        if self.hidden_layers:
            return _kinks_behind_layers(self, params, low, high)
        blocks = self.unpack(params)
        z = -blocks["mean_biases"][1:] / blocks["mean_kernels"][0, 1:]
        safe = jnp.where(z > 0, z, 1)
        t = jnp.where(z > 0, safe + jnp.log(-jnp.expm1(-safe)), -jnp.inf)
        return list(jnp.sort(t))


def is_network(bias: Bias) -> TypeGuard[NeuralBias]:
    """Whether the mass function is that of a neural bias: other parameters may come after its own.

    A subclass with a mass function of its own is no network in this sense.
    """
    own = (type(bias).mass_function, type(bias).mass_function_at, type(bias).activation)
    usual = (NeuralBias.mass_function, NeuralBias.mass_function_at, NeuralBias.activation)
    return isinstance(bias, NeuralBias) and own == usual


def reading_blocks(bias: NeuralBias) -> list[str]:
    """Names of the weights that read the NPE field, channels along their first axis."""
    if bias.hidden_layers:
        return ["hidden_0_weights"]
    return [f"{head}_kernels" for head in HEADS]


def npe_field(bias: NeuralBias, blocks: Blocks, features: Array) -> Array:
    """The NPE field: softplus of the convolved field plus a bias, shape (channels, N)."""
    return jax.nn.softplus(_convolved(bias, blocks, features))


def _convolved(bias: NeuralBias, blocks: Blocks, features: Array) -> Array:
    responses = [
        kernel_responses(weights, features, bias.basis) for weights in blocks["kernel_weights"]
    ]
    return jnp.concatenate(responses) + _column(blocks["kernel_biases"])


def mixture_parameters(bias: NeuralBias, blocks: Blocks, npe: Array) -> Mixture:
    """The mixture density network: amplitudes, means and widths, each (K, N), from the NPE field.

    Widths are kept above :func:`smallest_width`, so that the density and its gradient stay finite.
    """
    hidden = _behind_layers(bias, blocks, npe)
    amplitude, mean, width = (
        _product(blocks[f"{head}_kernels"], hidden) + _column(blocks[f"{head}_biases"])
        for head in HEADS
    )
    step = jax.nn.relu if bias.ordering == "relu" else jax.nn.softplus
    means = [log(bias.mass_threshold) + mean[0]]
    for gap in mean[1:]:
        means.append(means[-1] + step(gap))
    return Mixture(
        log_amplitude=log_softplus(amplitude + bias.amplitude_offset),
        mean=jnp.stack(means),
        width=jnp.maximum(jax.nn.softplus(width + bias.width_offset), smallest_width(width.dtype)),
    )


def smallest_width(dtype: jnp.dtype) -> float:
    """``tiny^(1/6)``, far below the rounding of ln M: 5e-52 in float64, 5e-7 in float32."""
    return float(jnp.finfo(dtype).tiny) ** (1 / 6)


def _behind_layers(bias: NeuralBias, blocks: Blocks, npe: Array) -> Array:
    """The last hidden layer, (width, N); the NPE field itself if there is none."""
    hidden = npe
    for i in range(len(bias.hidden_layers)):
        weights, biases = blocks[f"hidden_{i}_weights"], blocks[f"hidden_{i}_biases"]
        hidden = jax.nn.softplus(_product(weights, hidden) + _column(biases))
    return hidden


def _kinks_behind_layers(bias: NeuralBias, params: Array, low: Array, high: Array) -> list[Array]:
    """Sign changes of what the relu of each further mean gets, up to three for each."""
    blocks = bias.unpack(params)

    def gap(k: int, t: Array) -> Array:
        hidden = _behind_layers(bias, blocks, jax.nn.softplus(t)[None])
        return _product(blocks["mean_kernels"], hidden)[k] + blocks["mean_biases"][k]

    found = [sign_changes(partial(gap, k), low, high, count=3) for k in range(1, bias.components)]
    return list(jnp.sort(jnp.concatenate(found)))


def _product(weights: Array, channels: Array) -> Array:
    """``W^T h``, in full precision: accelerators would round float32 factors to 10 bits."""
    return jnp.matmul(weights.T, channels, precision="highest")


def _column(vector: Array) -> Array:
    return vector[:, None]


def _check_settings(bias: NeuralBias) -> None:
    wanted = {
        "kernel_size": (
            len(bias.kernel_shape) == 3 and all(n > 0 and n % 2 for n in bias.kernel_shape),
            "one or three odd positive integers",
        ),
        "multipoles": (
            len(bias.multipoles) > 0
            and min(bias.multipoles) >= 0
            and len(set(bias.multipoles)) == len(bias.multipoles)
            and (max(bias.kernel_shape) > 1 or max(bias.multipoles) == 0),
            "distinct degrees l >= 0, and l > 0 only for kernels larger than one voxel",
        ),
        "grouping": (bias.grouping in ("radius", "orbit"), "'radius' or 'orbit'"),
        "first_layer": (
            not bias.first_layer or bias.multipoles == (0,),
            "none where the kernel has multipoles above 0",
        ),
        "filters": (bias.filters >= 1, "at least 1"),
        "hidden_layers": (all(n >= 1 for n in bias.hidden_layers), "positive widths"),
        "components": (bias.components >= 1, "at least 1"),
        "ordering": (bias.ordering in ("relu", "softplus"), "'relu' or 'softplus'"),
        "mass_threshold": (0 < bias.mass_threshold < np.inf, "a mass in Msun/h"),
        "density_floor": (0 <= bias.density_floor < np.inf, "a floor on 1 + delta, or 0 for none"),
    }
    for name, (ok, expected) in wanted.items():
        if not ok:
            raise InputError(f"{name} is {getattr(bias, name)!r}, expected {expected}")
    check_first_layer(bias.first_layer)
    bias.prior  # noqa: B018  # refuses what is no prior

"""The mirror image of a network: a kernel of the opposite sign that describes nearly the same."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array

from halo_mdn.bias.neural import HEADS, NeuralBias, npe_field

_VOXELS = 4096  # enough to fit a line to


def mirrored(bias: NeuralBias, params: np.ndarray, features: Array) -> np.ndarray:
    """The network with the sign of its l = 0 kernels flipped, and its next layer refitted.

    With t the convolved field, ``softplus(-t) = softplus(t) - t`` is not linear in ``softplus(t)``,
    so the image is exact only where the softplus is nearly straight. In the layer that reads the
    field, z is replaced by the least-squares line in its image, ``c + d z'``. (The sign of a kernel
    of l > 0 does not matter at all: its response is a square.)

    Parameters
    ----------
    bias : NeuralBias
    params : array (P,)
    features : array (F, N)
        Shell features of the voxels.

    Returns
    -------
    array (P,)
    """
    some = features[:, :: max(1, features.shape[1] // _VOXELS)]
    old = {name: np.array(block) for name, block in bias.unpack(params).items()}
    new = {name: block.copy() for name, block in old.items()}
    isotropic = [str(label).startswith("l=0") for label in bias.coords["kernel_weight"]]
    channels = [i for i, name in enumerate(bias.coords["channel"]) if str(name).endswith("l=0")]
    new["kernel_weights"][:, isotropic] *= -1
    new["kernel_biases"][channels] *= -1
    z, image = (np.asarray(npe_field(bias, _arrays(blocks), some)) for blocks in (old, new))
    reading = (
        [("hidden_0_weights", "hidden_0_biases")]
        if bias.hidden_layers
        else [(f"{head}_kernels", f"{head}_biases") for head in HEADS]
    )
    for channel in channels:
        x, y = image[channel], z[channel]
        slope = np.mean((x - x.mean()) * (y - y.mean())) / (np.var(x) + 1e-12)
        for kernel, shift in reading:
            new[shift] += old[kernel][channel] * (y.mean() - slope * x.mean())
            new[kernel][channel] *= slope
    return np.asarray(bias.pack(_arrays(new)), dtype=params.dtype)


def _arrays(blocks: dict[str, np.ndarray]) -> dict[str, Array]:
    return {name: jnp.asarray(block) for name, block in blocks.items()}

"""Functions of the parameters that the data pin down, whatever mode the weights are in.

The weights of the network are not identified: a kernel and its mirror image, or a kernel twice as
large with heads half as large, describe the same halos. What is identified is the intensity
``ln n(M | environment)``. It is evaluated for representative voxels of the field, from void to
cluster, and for masses from the threshold up. Where the data hold no halos, the function is an
extrapolation that nothing constrains; such pairs of environment and mass are reported but do not
decide whether a run converged.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from halo_mdn.bias.base import Bias
from halo_mdn.errors import InputError
from halo_mdn.halos.catalogue import HaloCatalogue
from halo_mdn.likelihood.fixed_field import FixedFieldLikelihood, fixed_field_likelihood
from halo_mdn.predictions.environments import Environments, environments

LEAST_HALOS = 5  # above a mass in an environment, for ln n there to count as constrained by data


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class IdentifiedFunctions:
    """``ln n(M | environment)`` as a function of the parameters; made by `identified_functions`.

    It is a pytree: pass it to jitted functions as an argument.

    Attributes
    ----------
    features : array (F, E)
        Shell features of the representative voxels.
    log_mass : array (M,)
        Natural log of the masses in Msun/h.
    index : array (Q,) of int
        The pairs, flat in (E, M), that the data constrain.
    bias : Bias
    environment : tuple of E str
        Names: the density around the representative voxel, in units of the mean density.
    """

    features: Array
    log_mass: Array
    index: Array
    bias: Bias = field(metadata={"static": True})
    environment: tuple[str, ...] = field(metadata={"static": True})

    def __call__(self, params: ArrayLike) -> Array:
        """``ln n``, shape (E, M), per (Mpc/h)^3 and per Msun/h, for params (num_params,)."""
        return _log_intensity(self, jnp.asarray(params))

    def constrained(self, params: ArrayLike) -> Array:
        """The values that the data constrain, shape (Q,): what a sampler should monitor."""
        return self(params).ravel()[self.index]

    @property
    def supported(self) -> np.ndarray:
        """Which pairs the data constrain, shape (E, M) of bool."""
        shape = (len(self.environment), len(self.log_mass))
        flags = np.zeros(shape, dtype=bool)
        flags.ravel()[np.asarray(self.index)] = True
        return flags


def identified_functions(
    bias: Bias,
    delta: ArrayLike,
    halos: HaloCatalogue,
    num_environments: int = 6,
    num_masses: int = 6,
) -> IdentifiedFunctions:
    """Choose environments and masses from the data.

    Environments are those of :func:`halo_mdn.predictions.environments.environments`; masses are
    spaced evenly in ln M from the threshold to the tenth largest halo.

    Raises
    ------
    InputError
        If the field is unusable, or the numbers are smaller than 1.

    Examples
    --------
    >>> import numpy as np
    >>> import halo_mdn as hm
    >>> bias, delta = hm.TruncatedPowerLaw(), np.linspace(-0.5, 2, 64).reshape(4, 4, 4)
    >>> grid = hm.Grid(delta.shape, (40.0, 40.0, 40.0))
    >>> halos = hm.HaloCatalogue.from_positions([[1.0, 2.0, 3.0]], [3e12], grid)
    >>> functions = hm.identified_functions(bias, delta, halos, num_environments=2, num_masses=3)
    >>> functions(np.zeros(6)).shape  # ln n(M | environment)
    (2, 3)
    """
    log_l = fixed_field_likelihood(bias, delta, halos)
    classes = environments(bias, delta, halos.grid, num_environments, features=log_l.features)
    return functions_of(log_l, classes, num_masses)


def functions_of(
    log_l: FixedFieldLikelihood, classes: Environments, num_masses: int = 6
) -> IdentifiedFunctions:
    """The functions for environments that are known already."""
    if num_masses < 1:
        raise InputError(f"num_masses is {num_masses}, expected at least 1")
    halo_mass = np.sort(log_l.halos.used_log_mass())
    lowest = np.log(log_l.bias.mass_threshold)
    highest = halo_mass[-min(10, len(halo_mass))] if len(halo_mass) else lowest
    # Without a range of masses in the data, look one decade up.
    highest = highest if highest > lowest + 1e-6 else lowest + np.log(10)
    log_mass = np.linspace(lowest, highest, num_masses)
    supported = _supported(log_l, classes, log_mass)
    dtype = log_l.features.dtype
    return IdentifiedFunctions(
        features=log_l.features[:, classes.voxel],
        log_mass=jnp.asarray(log_mass, dtype),
        index=jnp.asarray(np.flatnonzero(supported), jnp.int32),
        bias=log_l.bias,
        environment=classes.names,
    )


def _supported(
    log_l: FixedFieldLikelihood, classes: Environments, log_mass: np.ndarray
) -> np.ndarray:
    """Pairs (E, M) with enough halos of at least that mass; the best pair if there is none."""
    halo_class = classes.label[log_l.halos.used_voxel()]
    above = log_l.halos.used_log_mass()[:, None] >= log_mass - 1e-9
    count = np.stack([above[halo_class == e].sum(axis=0) for e in range(classes.num)])
    return count >= min(LEAST_HALOS, max(count.max(), 1))


@jax.jit
def _log_intensity(functions: IdentifiedFunctions, params: Array) -> Array:
    mass_function = functions.bias.mass_function(params, functions.features)
    return jax.vmap(mass_function.log_density, out_axes=1)(functions.log_mass)

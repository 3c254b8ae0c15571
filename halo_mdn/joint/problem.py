"""What joint inference is given: the halos, and how initial conditions become halos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from halo_mdn.bias.neural import NeuralBias
from halo_mdn.field.cosmology import Cosmology
from halo_mdn.field.lpt import Lpt, density
from halo_mdn.halos.placed import PlacedHalos
from halo_mdn.likelihood.adjoint import with_adjoint
from halo_mdn.likelihood.fixed_field import FixedFieldLikelihood, fixed_field_likelihood

FreeCosmology = tuple[tuple[str, tuple[float, float]], ...]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class JointProblem:
    """What a joint model file writes its density with. A pytree: pass it to jitted functions.

    Attributes
    ----------
    bias : NeuralBias
    lpt : Lpt
        On the grid of the halos.
    halos : PlacedHalos
        In their voxels, once for all fields: :func:`halo_mdn.place_halos`.
    cosmology : Cosmology
    free_cosmology : tuple of (name, (mean, standard deviation))
        Parameters of the cosmology that are inferred as well, with their Gaussian priors.
    precision : {"float64", "float32"}
        Of the forward model of the density; the likelihood keeps the precision of the parameters.
    fixed : FixedFieldLikelihood or None
        The likelihood of the one field that is looked at, see `at_field`; None for any field.
    """

    bias: NeuralBias = field(metadata={"static": True})
    lpt: Lpt = field(metadata={"static": True})
    halos: PlacedHalos
    cosmology: Cosmology
    free_cosmology: FreeCosmology = field(default=(), metadata={"static": True})
    precision: Literal["float64", "float32"] = field(default="float64", metadata={"static": True})
    fixed: FixedFieldLikelihood | None = None

    def density(self, white_noise: Array, cosmology: Cosmology) -> Array:
        """The forward model: overdensity on the grid of the halos, of white noise."""
        delta = density(white_noise.astype(self.precision), self.lpt, cosmology)
        return delta.astype(white_noise.dtype)

    def log_likelihood(self, params: Array, delta: Array) -> Array:
        """ln L of the halos; at a fixed field the answer is that field's, whatever ``delta`` is."""
        if self.fixed is not None:
            return self.fixed(params)
        return with_adjoint(self.bias, params, delta, self.halos)

    def units_of(self, values: Mapping[str, float | Array | np.ndarray]) -> dict[str, Array]:
        """Inferred cosmological parameters in units of their priors, ``NAME_unit``."""
        return {
            f"{name}_unit": jnp.asarray((values[name] - mean) / scale)
            for name, (mean, scale) in self.free_cosmology
        }

    def at_field(self, delta: Array) -> JointProblem:
        """The same problem at one field, whose likelihood is prepared once: fast in the bias."""
        return replace(self, fixed=fixed_field_likelihood(self.bias, delta, self.halos))

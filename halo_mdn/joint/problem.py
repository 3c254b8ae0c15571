"""What joint inference is given, and the log-density that its samplers see."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.infer.util import log_density

from halo_mdn.bias.neural import NeuralBias
from halo_mdn.config.model_files import load_model
from halo_mdn.field.cosmology import Cosmology
from halo_mdn.field.lpt import Lpt
from halo_mdn.halos.catalogue import HaloCatalogue
from halo_mdn.joint.coordinates import JointCoordinates, Position
from halo_mdn.sampling.coordinates.bijections import change_coordinates

FreeCosmology = tuple[tuple[str, tuple[float, float]], ...]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("halos", "cosmology"),
    meta_fields=("bias", "lpt", "free_cosmology", "precision"),
)
@dataclass(frozen=True)
class JointProblem:
    """Halos, and how initial conditions become halos. A pytree: pass it to jitted functions.

    Attributes
    ----------
    bias : NeuralBias
    lpt : Lpt
        On the grid of the halos.
    halos : HaloCatalogue
    cosmology : Cosmology
    free_cosmology : tuple of (name, (mean, standard deviation))
        Parameters of the cosmology that are inferred as well, with their Gaussian priors.
    precision : {"float64", "float32"}
        Of the forward model of the density; the likelihood keeps the precision of the parameters.
    """

    bias: NeuralBias
    lpt: Lpt
    halos: HaloCatalogue
    cosmology: Cosmology
    free_cosmology: FreeCosmology = ()
    precision: Literal["float64", "float32"] = "float64"

    def cosmology_at(self, position: Position) -> Cosmology:
        """The cosmology at a position, with the inferred parameters filled in."""
        changes: dict[str, Any] = {
            name: mean + scale * position[f"{name}_unit"]
            for name, (mean, scale) in self.free_cosmology
        }
        return replace(self.cosmology, **changes)


def joint_model(coordinates: JointCoordinates, problem: JointProblem) -> None:
    """The model of ``models/joint_field.py`` in other coordinates."""
    model = change_coordinates(load_model("joint_field"), "params")
    change_coordinates(model, "white_noise")(coordinates.field, coordinates.bias, problem)


def log_joint(coordinates: JointCoordinates, problem: JointProblem, position: Position) -> Array:
    """Log posterior density of a position, up to a constant; all its coordinates are real."""
    value, _ = log_density(joint_model, (coordinates, problem), {}, position)
    # Where LPT leaves an empty cell the density is impossible, not undefined.
    return jnp.where(jnp.isnan(value), -jnp.inf, value)

"""What a likelihood is made of: the features of a field and the halos in its voxels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import jax
import numpy as np
from jax import Array

from halo_mdn.field.grid import Grid
from halo_mdn.halos.mass_observation import EXACT, MassObservation

DATA_FIELDS = (
    "features",
    "weight",
    "halo_features",
    "halo_coverage",
    "halo_voxel",
    "log_mass",
    "used",
)
META_FIELDS = ("bias", "grid", "num_catalogues", "observation")


@partial(jax.tree_util.register_dataclass, data_fields=DATA_FIELDS, meta_fields=META_FIELDS)
@dataclass(frozen=True)
class Prepared:
    """A model, the features of one density field, and the halos in its voxels.

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

    def with_halos(self, index: np.ndarray) -> Self:
        """The same with only the halos at ``index``, in that order."""
        names = ("halo_features", "halo_coverage", "halo_voxel", "log_mass", "used")
        arrays = {name: getattr(self, name) for name in names}
        kept = {name: x[..., index] for name, x in arrays.items() if x is not None}
        return replace(self, **kept)

"""What a likelihood is made of: the features of a field and the halos in its voxels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import jax
import numpy as np
from jax import Array

from halo_mdn.bias.base import Bias
from halo_mdn.field.grid import Grid
from halo_mdn.halos.mass_observation import MassObservation
from halo_mdn.halos.placed import PlacedHalos


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Observed:
    """A model, and the halos in the voxels of a domain: all but the density field.

    Attributes
    ----------
    bias : Bias
    halos : PlacedHalos
        Their voxels, masses and selection.
    multiplicity : array (N,) or None
        How many voxels, times their completeness, each of N nodes stands for; None for voxels.
    """

    bias: Bias = field(metadata={"static": True})
    halos: PlacedHalos
    multiplicity: Array | None = field(default=None, kw_only=True)

    @property
    def weight(self) -> Array | None:
        """What each voxel or node counts in the integral, (N,); None for ones."""
        return self.halos.completeness if self.multiplicity is None else self.multiplicity

    @property
    def halo_voxel(self) -> Array:
        """Index of each halo's voxel in the domain, (H,) of int."""
        return self.halos.voxel

    @property
    def log_mass(self) -> Array:
        """Natural log of the masses in Msun/h, (H,)."""
        return self.halos.log_mass

    @property
    def used(self) -> Array:
        """Halos that are selected and inside the domain, (H,) of bool."""
        return self.halos.used

    @property
    def halo_coverage(self) -> Array | None:
        """Expected observed fraction at the halos, (H,), 1 where not used; None for ones."""
        return self.halos.coverage

    @property
    def grid(self) -> Grid:
        """The grid of the whole field."""
        return self.halos.grid

    @property
    def num_catalogues(self) -> int:
        """Number of catalogues of the same field."""
        return self.halos.num_catalogues

    @property
    def observation(self) -> MassObservation:
        """Errors and completeness of the masses."""
        return self.halos.observation


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Prepared(Observed):
    """The same with the features of one density field.

    Attributes
    ----------
    features : array (F, N)
        Shell features of ln(1 + delta) over the N voxels of the domain, or of N nodes that stand
        for them.
    halo_features : array (F, H)
        Shell features at the halos.
    """

    features: Array
    halo_features: Array

    def with_halos(self, index: np.ndarray) -> Self:
        """The same with only the halos at ``index``, in that order."""
        return replace(
            self, halos=self.halos.take(index), halo_features=self.halo_features[:, index]
        )

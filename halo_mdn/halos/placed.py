"""Halos in the voxels of a domain: indices, selection and order, made once for many fields."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import log

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from halo_mdn.errors import InputError
from halo_mdn.field.density import is_concrete
from halo_mdn.field.domain import Domain
from halo_mdn.field.grid import Grid
from halo_mdn.halos.catalogue import HaloCatalogue
from halo_mdn.halos.mass_observation import MassObservation


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PlacedHalos:
    """Halos of one or several catalogues by voxel; made by :func:`place_halos`. A pytree.

    Attributes
    ----------
    voxel : array (H,) of int
        Index of each halo's voxel in the domain; 0 where the halo is not used.
    log_mass : array (H,)
        Natural log of the masses in Msun/h.
    used : array (H,) of bool
        Halos that are selected and inside the domain.
    coverage : array (H,) or None
        Expected observed fraction at the halos (1 where not used); None for ones.
    completeness : array (N,) or None
        Expected observed fraction of the voxels of the domain; None for ones.
    domain : Domain
    mass_threshold : float
        Msun/h.
    num_catalogues : int
    observation : MassObservation
        Errors and completeness of the masses.
    """

    voxel: Array
    log_mass: Array
    used: Array
    coverage: Array | None
    completeness: Array | None
    domain: Domain = field(metadata={"static": True})
    mass_threshold: float = field(metadata={"static": True})
    num_catalogues: int = field(metadata={"static": True})
    observation: MassObservation = field(metadata={"static": True})

    @property
    def grid(self) -> Grid:
        """The grid of the whole field."""
        return self.domain.grid

    def take(self, index: np.ndarray) -> PlacedHalos:
        """Only the halos at ``index``, in that order."""
        names = ("voxel", "log_mass", "used", "coverage")
        arrays = {name: getattr(self, name) for name in names}
        return replace(self, **{n: x[index] for n, x in arrays.items() if x is not None})

    def padded(self, length: int) -> PlacedHalos:
        """The same with halos that are not used at the end, ``length`` in all.

        Programs are compiled for a number of halos, so that mocks of one length share them.
        """
        extra = (0, length - len(self.voxel))
        coverage = self.coverage
        return replace(
            self,
            voxel=jnp.pad(self.voxel, extra),
            log_mass=jnp.pad(self.log_mass, extra, constant_values=log(self.mass_threshold)),
            used=jnp.pad(self.used, extra),
            coverage=None if coverage is None else jnp.pad(coverage, extra, constant_values=1),
        )

    def used_log_mass(self) -> np.ndarray:
        """Natural log masses of the halos that are used."""
        return np.asarray(self.log_mass)[np.asarray(self.used)]

    def used_voxel(self) -> np.ndarray:
        """Voxels of the halos that are used."""
        return np.asarray(self.voxel)[np.asarray(self.used)]

    def counts(self) -> np.ndarray:
        """Number of used halos in each voxel of the domain, (N,)."""
        return np.bincount(self.used_voxel(), minlength=self.domain.num_voxels)

    def in_precision(self, dtype: jnp.dtype) -> PlacedHalos:
        """The same with masses and completeness of a type."""
        names = ("log_mass", "coverage", "completeness")
        arrays = {name: getattr(self, name) for name in names}
        return replace(self, **{n: x.astype(dtype) for n, x in arrays.items() if x is not None})


Halos = HaloCatalogue | PlacedHalos


def place_halos(halos: Halos, domain: Domain) -> PlacedHalos:
    """Find the voxel of each halo in a domain.

    Outside of traces the halos that are not used are left out, and the others are sorted by voxel:
    that makes reading the field at the halos several times faster. Samplers that evaluate many
    fields place the halos once, with ``domain = bias.domain(halos.grid)``.

    Parameters
    ----------
    halos : HaloCatalogue or PlacedHalos
        What is placed already is returned as it is.
    domain : Domain

    Raises
    ------
    InputError
        If the halos were placed in another domain.
    """
    if isinstance(halos, PlacedHalos):
        if halos.domain != domain:
            raise InputError(
                f"the halos were placed for {halos.domain}, expected {domain}: place the catalogue "
                "anew with place_halos"
            )
        return halos
    index, inside = domain.index_of(halos.voxel)
    used = jnp.ravel(jnp.asarray(halos.selected) & inside)
    voxel = jnp.where(used, jnp.ravel(index), 0)
    completeness = None
    if halos.completeness is not None:
        completeness = jnp.ravel(domain.crop(jnp.asarray(halos.completeness, dtype=float)))
    placed = PlacedHalos(
        voxel=voxel,
        log_mass=jnp.ravel(jnp.asarray(halos.log_mass, dtype=float)),
        used=used,
        coverage=None if completeness is None else jnp.where(used, completeness[voxel], 1),
        completeness=completeness,
        domain=domain,
        mass_threshold=halos.mass_threshold,
        num_catalogues=halos.num_catalogues,
        observation=halos.observation,
    )
    return placed.take(_used_by_voxel(placed)) if is_concrete(placed) else placed


def _used_by_voxel(halos: PlacedHalos) -> np.ndarray:
    used = np.flatnonzero(halos.used)
    return used[np.argsort(np.asarray(halos.voxel)[used], kind="stable")]

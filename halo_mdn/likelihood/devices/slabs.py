"""A density field and its halos split over devices: slabs of the grid along x, one per device.

A device that evaluates a kernel needs some planes of its neighbours around its slab, the ghosts.
With them it holds an ordinary small problem: a field and the halos inside of it, of which the outer
layer of voxels is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from halo_mdn.errors import InputError
from halo_mdn.field.grid import Grid
from halo_mdn.halos.catalogue import HaloCatalogue
from halo_mdn.halos.mass_observation import MassObservation

AXIS = "slab"


def slab_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The devices in a row, in the order of their slabs; all there are, of all processes."""
    return Mesh(np.ravel(np.array(jax.devices() if devices is None else devices)), (AXIS,))


def shard_field(field: ArrayLike, mesh: Mesh) -> Array:
    """The field (N0, N1, N2) with equal slabs along x on the devices of the mesh.

    Each process reads the slabs of its own devices alone: pass ``np.load(path, mmap_mode="r")`` to
    open a field that does not fit into the memory of one machine.

    Raises
    ------
    InputError
        If the field has not three axes, the mesh not one, or the slabs would not be equal.
    """
    mesh = _row(mesh)
    shape = jnp.shape(field)
    if len(shape) != 3:
        raise InputError(f"the field has shape {shape}, expected three axes")
    _planes_per_device(shape, mesh)
    return _put(field, mesh, 0)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ShardedCatalogue:
    """Halos on the devices that hold their voxels; made by :func:`shard_catalogue`.

    Attributes
    ----------
    log_mass : array (..., D * H)
        Natural log of the masses in Msun/h: H per device, padded with halos that are not selected.
    voxel : array (..., D * H, 3) of int
        Voxel of each halo in the slab of its device.
    selected : array (..., D * H) of bool
    completeness : array (N0, N1, N2) or None
        In slabs, as the field.
    grid : Grid
        The whole grid.
    mesh : Mesh
        D devices in a row.
    """

    log_mass: Array
    voxel: Array
    selected: Array
    completeness: Array | None
    grid: Grid = field(metadata={"static": True})
    mass_threshold: float = field(metadata={"static": True})
    observation: MassObservation = field(metadata={"static": True})
    mesh: Mesh = field(metadata={"static": True})

    @property
    def specs(self) -> ShardedCatalogue:
        """How each array is split, in the place of the array."""
        row = PartitionSpec(*[None] * (self.log_mass.ndim - 1), AXIS)
        slabs: Any = None if self.completeness is None else PartitionSpec(AXIS)
        arrays: dict[str, Any] = {"log_mass": row, "voxel": row, "selected": row}
        return replace(self, **arrays, completeness=slabs)


def shard_catalogue(halos: HaloCatalogue, mesh: Mesh) -> ShardedCatalogue:
    """The selected halos, sorted by voxel, on the devices that hold their voxels.

    Parameters
    ----------
    halos : HaloCatalogue
        The whole catalogue, the same on every process.
    mesh : Mesh
        One axis of devices, such as :func:`slab_mesh` gives.

    Raises
    ------
    InputError
        If the mesh has several axes, or its devices do not divide the grid's planes.
    """
    mesh = _row(mesh)
    planes = _planes_per_device(halos.grid.shape, mesh)
    order, selected = _by_owner(halos, planes, mesh.size)
    log_mass = np.take_along_axis(np.asarray(halos.log_mass), order, axis=-1)
    voxel = np.take_along_axis(np.asarray(halos.voxel), order[..., None], axis=-2)
    voxel = np.where(selected[..., None], voxel % np.array([planes, *halos.grid.shape[1:]]), 0)
    last = order.ndim - 1
    coverage = halos.completeness
    return ShardedCatalogue(
        log_mass=_put(np.where(selected, log_mass, np.log(halos.mass_threshold)), mesh, last),
        voxel=_put(voxel.astype(np.int32), mesh, last),
        selected=_put(selected, mesh, last),
        completeness=None if coverage is None else shard_field(coverage, mesh),
        grid=halos.grid,
        mass_threshold=halos.mass_threshold,
        observation=halos.observation,
        mesh=mesh,
    )


def check_slabs(grid: Grid, kernel_size: tuple[int, int, int], mesh: Mesh) -> None:
    """Refuse a kernel that would reach beyond the neighbouring slab, or does not fit the grid."""
    grid.domain_shape(kernel_size)
    planes = _planes_per_device(grid.shape, mesh)
    if kernel_size[0] > planes:
        raise InputError(
            f"the kernel is {kernel_size[0]} voxels long and each of {mesh.size} devices holds "
            f"{planes} planes, expected at least as many planes: use fewer devices"
        )


# -- on one device -----------------------------------------------------------------------------


def with_ghosts(slab: Array, grid: Grid, kernel_size: tuple[int, int, int], mesh: Mesh) -> Array:
    """A device's slab with the planes around it, and wrapped in y and z where the grid is.

    The first and the last slab are neighbours, whatever the boundary.
    """
    half = kernel_size[0] // 2
    if half > 0:
        forth = [(i, (i + 1) % mesh.size) for i in range(mesh.size)]
        back = [(i, j) for j, i in forth]
        below, above = slab[-half:], slab[:half]
        slab = jnp.concatenate(
            [lax.ppermute(below, AXIS, forth), slab, lax.ppermute(above, AXIS, back)]
        )
    _, *sides = _padding(grid, kernel_size)
    return jnp.pad(slab, [(0, 0), *((n, n) for n in sides)], mode="wrap")


def catalogue_with_ghosts(
    halos: ShardedCatalogue, kernel_size: tuple[int, int, int]
) -> HaloCatalogue:
    """A device's halos as a catalogue of the grid that :func:`with_ghosts` makes of its slab.

    Planes that the boundary leaves out get a completeness of zero.
    """
    grid, padding = halos.grid, _padding(halos.grid, kernel_size)
    planes = _planes_per_device(grid.shape, halos.mesh)
    plane = lax.axis_index(AXIS) * planes + jnp.arange(planes)
    margin = grid.margin(kernel_size)[0]
    inside = (plane >= margin) & (plane < grid.shape[0] - margin)
    coverage = halos.completeness
    if margin > 0:
        coverage = jnp.ones((planes, *grid.shape[1:])) if coverage is None else coverage
        coverage = jnp.where(inside[:, None, None], coverage, 0)
    if coverage is not None:
        coverage = jnp.pad(coverage, [(n, n) for n in padding])
    shape = np.array([planes, *grid.shape[1:]]) + 2 * np.array(padding)
    arrays: dict[str, Any] = {
        "log_mass": halos.log_mass,
        "voxel": halos.voxel + jnp.broadcast_to(jnp.array(padding, jnp.int32), halos.voxel.shape),
        "selected": halos.selected & inside[halos.voxel[..., 0]],
        "completeness": coverage,
    }
    return HaloCatalogue(
        **arrays,
        position=None,
        grid=Grid(tuple(shape), tuple(shape * np.array(grid.voxel_size)), "interior"),
        mass_threshold=halos.mass_threshold,
        observation=halos.observation,
    )


def _padding(grid: Grid, kernel_size: tuple[int, int, int]) -> tuple[int, int, int]:
    """Layers around a slab: ghosts along x, and along y and z where the field is wrapped."""
    h0, h1, h2 = (n // 2 for n in kernel_size)
    return (h0, h1, h2) if grid.boundary == "periodic" else (h0, 0, 0)


# -- to the devices ----------------------------------------------------------------------------


def _by_owner(halos: HaloCatalogue, planes: int, devices: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (..., D * H) of the halos, device after device, and which are not padding."""
    selected = np.atleast_2d(halos.selected)
    voxel = np.asarray(halos.voxel).reshape(*selected.shape, 3)
    rows = []
    for used, v in zip(selected, voxel, strict=True):
        order = np.lexsort((v[:, 2], v[:, 1], v[:, 0]))
        order = order[used[order]]
        edges = np.searchsorted(v[order, 0], planes * np.arange(1, devices))
        rows.append(np.split(order, edges))
    capacity = max(1, *(len(bucket) for row in rows for bucket in row))
    order = np.zeros((len(rows), devices, capacity), dtype=np.int64)
    filled = np.zeros(order.shape, dtype=bool)
    for c, row in enumerate(rows):
        for d, bucket in enumerate(row):
            order[c, d, : len(bucket)], filled[c, d, : len(bucket)] = bucket, True
    shape = (*np.shape(halos.selected)[:-1], devices * capacity)
    return order.reshape(shape), filled.reshape(shape)


def _row(mesh: Mesh) -> Mesh:
    """The mesh with our name for its axis."""
    if mesh.devices.ndim != 1:
        raise InputError(
            f"the mesh has axes {dict(mesh.shape)}, expected one axis of devices: slab_mesh() or "
            "slab_mesh(mesh.devices)"
        )
    return slab_mesh(list(mesh.devices))


def _planes_per_device(shape: tuple[int, ...], mesh: Mesh) -> int:
    if shape[0] % mesh.size:
        fitting = [n for n in range(1, mesh.size) if shape[0] % n == 0]
        raise InputError(
            f"the grid has {shape[0]} planes along x and the mesh {mesh.size} devices, expected a "
            f"number of devices that divides the planes: use {fitting[-1]}"
        )
    return shape[0] // mesh.size


def _put(array: ArrayLike, mesh: Mesh, axis: int) -> Array:
    """The array split along an axis, in the type JAX gives it."""
    sharding = NamedSharding(mesh, PartitionSpec(*[None] * axis, AXIS))
    if isinstance(array, jax.Array):
        return jax.device_put(array, sharding)
    values, dtype = np.asanyarray(array), jax.dtypes.canonicalize_dtype(np.asarray(array).dtype)
    return jax.make_array_from_callback(
        values.shape, sharding, lambda part: np.asarray(values[part], dtype=dtype)
    )

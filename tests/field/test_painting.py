"""Cloud-in-cell assignment against a loop over particles, and the conventions it promises."""

from __future__ import annotations

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from halo_mdn import Grid, InputError
from halo_mdn.field.painting import paint_mass, paint_overdensity

GRID = Grid((4, 5, 6), (8.0, 15.0, 9.0))


@pytest.fixture
def position() -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 2, size=(50, 3)) * GRID.box_size


def shared_volume(position: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Overlap of a cell-sized cube at each particle with each cell, image by image."""
    mesh = np.zeros(GRID.shape)
    sides = np.array(GRID.voxel_size)
    for x, mass in zip(position, weight, strict=True):
        for cell in np.ndindex(*GRID.shape):
            centre = (np.array(cell) + 0.5) * sides
            distance = np.abs((x - centre + np.array(GRID.box_size) / 2) % GRID.box_size
                              - np.array(GRID.box_size) / 2)  # fmt: skip
            mesh[cell] += mass * np.prod(np.clip(1 - distance / sides, 0, None))
    return mesh


def test_mass_is_the_volume_shared_with_each_cell(position: np.ndarray) -> None:
    weight = np.random.default_rng(2).uniform(size=len(position))
    mesh = paint_mass(position, GRID, weight)
    np.testing.assert_allclose(mesh, shared_volume(position, weight), atol=1e-12)
    np.testing.assert_allclose(jnp.sum(mesh), weight.sum(), rtol=1e-14)


def test_particle_at_a_centre_fills_that_cell_alone() -> None:
    cell = (3, 0, 5)
    position = (np.array([cell]) + 0.5) * GRID.voxel_size
    mesh = np.asarray(paint_mass(position, GRID))
    assert mesh[cell] == pytest.approx(1)
    assert mesh.sum() == pytest.approx(1)
    assert tuple(GRID.voxel_of(position)[0]) == cell


def test_particle_at_a_corner_of_the_box_is_shared_by_eight_cells() -> None:
    mesh = np.asarray(paint_mass(np.zeros((1, 3)), GRID))
    for cell in product((0, -1), repeat=3):
        assert mesh[cell] == pytest.approx(1 / 8)


def test_shifting_particles_by_cells_rolls_the_field(position: np.ndarray) -> None:
    moved = position + np.array([1, 2, -3]) * GRID.voxel_size
    expected = np.roll(paint_mass(position, GRID), (1, 2, -3), axis=(0, 1, 2))
    np.testing.assert_allclose(paint_mass(moved, GRID), expected, atol=1e-12)


def test_overdensity_of_a_lattice_is_zero() -> None:
    centres = (np.indices(GRID.shape).reshape(3, -1).T + 0.5) * GRID.voxel_size
    np.testing.assert_allclose(paint_overdensity(centres, GRID), 0, atol=1e-12)
    shifted = paint_overdensity(centres + 0.3 * np.array(GRID.voxel_size), GRID)
    np.testing.assert_allclose(shifted, 0, atol=1e-12)


def test_gradient_is_that_of_finite_differences(position: np.ndarray) -> None:
    rng = np.random.default_rng(4)
    response, direction = rng.normal(size=GRID.shape), rng.normal(size=position.shape)

    def total(position: jax.Array) -> jax.Array:
        return jnp.sum(response * paint_mass(position, GRID))

    step = 1e-6  # short enough that no particle crosses a kink
    forward, backward = (total(position + sign * step * direction) for sign in (1, -1))
    slope = jnp.vdot(jax.grad(total)(position), direction)
    np.testing.assert_allclose(slope, (forward - backward) / (2 * step), rtol=1e-7)


def test_gradient_in_the_weights_is_the_interpolated_field(position: np.ndarray) -> None:
    rng = np.random.default_rng(5)
    response, weight = rng.normal(size=GRID.shape), rng.uniform(size=len(position))

    def total(position: jax.Array, weight: jax.Array) -> jax.Array:
        return jnp.sum(response * paint_mass(position, GRID, weight))

    in_position, in_weight = jax.grad(total, argnums=(0, 1))(position, weight)
    # Mass is linear in the weights: the sum over particles is the total itself.
    np.testing.assert_allclose(jnp.vdot(in_weight, weight), total(position, weight), rtol=1e-12)
    alone = jax.vmap(lambda x: jax.grad(total)(x[None], jnp.ones(1))[0])(jnp.array(position))
    np.testing.assert_allclose(in_position, weight[:, None] * alone, rtol=1e-10, atol=1e-12)


def test_single_precision_is_good_to_1e_5(position: np.ndarray) -> None:
    exact = np.asarray(paint_mass(position, GRID))
    with jax.enable_x64(False):
        single = paint_mass(position.astype(np.float32), GRID)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, exact, atol=1e-5)


def test_unusable_particles_are_refused(position: np.ndarray) -> None:
    with pytest.raises(InputError, match="expected \\(particles, 3\\)"):
        paint_mass(position[:, :2], GRID)
    with pytest.raises(InputError, match="one per particle"):
        paint_mass(position, GRID, np.ones(3))
    with pytest.raises(InputError, match="1 particle positions are NaN"):
        paint_mass(np.concatenate([position, np.full((1, 3), np.nan)]), GRID)
    with pytest.raises(InputError, match="periodic"):
        paint_mass(position, Grid(GRID.shape, GRID.box_size, "interior"))

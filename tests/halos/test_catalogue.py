"""Catalogues are validated at the edge."""

from __future__ import annotations

import numpy as np
import pytest

import halo_mdn as hm

GRID = hm.Grid((4, 4, 4), (8.0, 8.0, 8.0))
POSITION = np.array([[0.5, 0.5, 0.5], [7.9, 0.1, 4.1], [3.0, 3.0, 3.0]])
MASS = np.array([2e12, 5e13, 1e15])


def test_from_positions() -> None:
    halos = hm.HaloCatalogue.from_positions(POSITION, MASS, GRID)
    assert halos.num_catalogues == 1 and halos.num_halos == 3
    np.testing.assert_array_equal(halos.voxel, [[0, 0, 0], [3, 0, 2], [1, 1, 1]])
    np.testing.assert_allclose(halos.mass, MASS, rtol=1e-13)


def test_voxels_and_positions_agree() -> None:
    first = hm.HaloCatalogue.from_positions(POSITION, MASS, GRID)
    second = hm.HaloCatalogue.from_voxels(first.voxel, first.log_mass, GRID)
    np.testing.assert_array_equal(first.voxel, second.voxel)
    np.testing.assert_array_equal(first.log_mass, second.log_mass)


def test_unselected_halos_may_be_anything() -> None:
    position, mass = POSITION.copy(), MASS.copy()
    position[1], mass[2] = np.nan, -1
    halos = hm.HaloCatalogue.from_positions(
        position, mass, GRID, selected=np.array([True, False, False])
    )
    assert halos.num_halos == 1 and np.isfinite(halos.log_mass).all()


def test_halos_without_coverage_are_not_used() -> None:
    coverage = np.ones(GRID.shape)
    coverage[3, 0, 2] = 0
    halos = hm.HaloCatalogue.from_positions(POSITION, MASS, GRID, completeness=coverage)
    np.testing.assert_array_equal(halos.selected, [True, False, True])


def test_stack_and_pick() -> None:
    long = hm.HaloCatalogue.from_positions(POSITION, MASS, GRID)
    short = hm.HaloCatalogue.from_positions(POSITION[:1], MASS[:1], GRID)
    both = hm.HaloCatalogue.stack([long, short])
    assert both.num_catalogues == 2 and both.num_halos == 4
    assert both[1].num_halos == 1 and both[0].num_halos == 3
    with pytest.raises(hm.InputError, match="single catalogue"):
        long[0]
    with pytest.raises(hm.InputError, match="share grid"):
        other = hm.Grid((4, 4, 4), (9.0, 8.0, 8.0))
        hm.HaloCatalogue.stack([long, hm.HaloCatalogue.from_positions(POSITION, MASS, other)])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"mass": np.log10(MASS)}, "look like logarithms"),
        ({"mass": np.log(MASS)}, "look like logarithms"),
        ({"mass": MASS * [1, 1, np.nan]}, "NaN"),
        ({"mass": MASS * [0.99, 1, 1]}, "1 of 3 halos are below the mass threshold"),
        ({"mass": MASS[:2]}, "has shape"),
        ({"position": POSITION[:, :2]}, "has shape"),
        ({"position": POSITION + 1}, "outside the box"),
        ({"position": POSITION[:0], "mass": MASS[:0]}, "empty"),
        ({"selected": np.array([True, False])}, "one bool per halo"),
        ({"selected": np.array([1, 0, 1])}, "one bool per halo"),
        ({"completeness": np.ones((4, 4))}, "completeness has shape"),
        ({"completeness": np.full((4, 4, 4), 1.5)}, "outside"),
        ({"completeness": np.full((4, 4, 4), np.nan)}, "outside"),
        ({"mass_threshold": -1.0}, "mass_threshold is -1"),
    ],
)
def test_bad_catalogues(change: dict, message: str) -> None:
    arguments = {"position": POSITION, "mass": MASS, **change}
    with pytest.raises(hm.InputError, match=message):
        hm.HaloCatalogue.from_positions(**arguments, grid=GRID)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"log_mass": np.log10(MASS)}, "not log10"),
        ({"log_mass": MASS}, "not masses"),
        ({"log_mass": np.log(MASS) * [1, np.inf, 1]}, "NaN or infinite"),
        ({"voxel": POSITION}, "expected integers"),
        ({"voxel": np.full((3, 3), 4)}, "outside the grid"),
        ({"voxel": np.full((3, 3), -1)}, "outside the grid"),
    ],
)
def test_bad_voxels(change: dict, message: str) -> None:
    arguments = {"voxel": np.zeros((3, 3), dtype=int), "log_mass": np.log(MASS), **change}
    with pytest.raises(hm.InputError, match=message):
        hm.HaloCatalogue.from_voxels(**arguments, grid=GRID)

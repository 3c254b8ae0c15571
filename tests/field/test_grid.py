"""Boxes and voxels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import halo_mdn as hm

GRID = hm.Grid((4, 5, 6), (8.0, 10.0, 12.0))


def test_geometry() -> None:
    assert GRID.num_voxels == 120
    assert GRID.voxel_size == (2.0, 2.0, 2.0)
    assert GRID.voxel_volume == 8.0


def test_lists_are_accepted_and_hashable() -> None:
    assert hash(hm.Grid([4, 5, 6], [8, 10, 12])) == hash(GRID)  # type: ignore[arg-type]


@given(st.tuples(*(st.floats(0, 1, exclude_max=True) for _ in range(3))))
def test_a_voxel_contains_its_position(fraction: tuple[float, float, float]) -> None:
    position = np.array(fraction) * GRID.box_size
    voxel = GRID.voxel_of(position)
    # a product within rounding of a voxel face may fall on either side of it
    assert (voxel * 2.0 <= position + 1e-12).all() and (position <= (voxel + 1) * 2.0 + 1e-12).all()


@pytest.mark.parametrize("boundary, last", [("periodic", (0, 0, 0)), ("interior", (3, 4, 5))])
def test_the_far_corner(boundary: str, last: tuple[int, ...]) -> None:
    grid = hm.Grid(GRID.shape, GRID.box_size, boundary)  # type: ignore[arg-type]
    assert tuple(grid.voxel_of(np.array(GRID.box_size))) == last


@pytest.mark.parametrize("bad", [-0.1, 12.1, np.nan, np.inf])
def test_positions_outside_are_refused(bad: float) -> None:
    with pytest.raises(hm.InputError, match="1 positions are outside the box"):
        GRID.voxel_of(np.array([[1.0, 2.0, bad], [1, 2, 3]]))


@pytest.mark.parametrize(
    "shape, box, boundary, message",
    [
        ((4, 4), (1, 1, 1), "periodic", "three positive integers"),
        ((4, 4, 0), (1, 1, 1), "periodic", "three positive integers"),
        ((4, 4, 4), (1, 1, -1), "periodic", "three positive lengths"),
        ((4, 4, 4), (1, 1, np.nan), "periodic", "three positive lengths"),
        ((4, 4, 4), (1, 1, 1), "open", "'periodic' or 'interior'"),
    ],
)
def test_bad_grids(shape: tuple, box: tuple, boundary: str, message: str) -> None:
    with pytest.raises(hm.InputError, match=message):
        hm.Grid(shape, box, boundary)  # type: ignore[arg-type]


def test_domain() -> None:
    interior = hm.Grid(GRID.shape, GRID.box_size, "interior")
    assert interior.domain_shape((3, 3, 5)) == (2, 3, 2)
    assert GRID.domain_shape((3, 3, 5)) == GRID.shape
    with pytest.raises(hm.InputError, match="does not fit"):
        GRID.domain_shape((5, 5, 5))

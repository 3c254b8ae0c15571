"""Which placement of halos on a field is best: the example, mocks, and deliberate mistakes."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest

from halo_mdn import Grid, HaloCatalogue, simulate
from halo_mdn.config import DataConfig
from halo_mdn.halos.alignment import Placement, compare_placements
from halo_mdn.io import RunData, load_data


@pytest.fixture(scope="module")
def example() -> RunData:
    return load_data(DataConfig())


def moved(halos: HaloCatalogue, voxels: tuple[float, ...]) -> HaloCatalogue:
    grid = halos.grid
    position = (halos.position + np.array(voxels) * grid.voxel_size) % grid.box_size
    return HaloCatalogue.from_positions(position, halos.mass, grid)


def correlation(field: np.ndarray, halos: HaloCatalogue) -> float:
    counts = np.zeros(field.shape)
    np.add.at(counts, tuple(halos.voxel.T), 1)
    return float(np.corrcoef(counts.ravel(), np.log1p(field).ravel())[0, 1])


def test_the_example_is_aligned(example: RunData) -> None:
    found = compare_placements(example.delta, example.halos)
    assert found.better is None and len(found.others) == 5**3 + 48 - 2
    assert found.in_words().startswith("aligned: counts and ln(1 + delta) correlate by 0.488")
    # Sums over voxels and over halos are the same numbers in another order.
    expected = correlation(example.delta, example.halos)
    assert found.given.correlation == pytest.approx(expected, rel=1e-12)
    by_placement = {other.placement: other.correlation for other in found.others}
    whole = by_placement[Placement(shift=(0.0, -1.0, 1.0))]
    rolled = np.roll(example.delta, (0, 1, -1), axis=(0, 1, 2))
    assert whole == pytest.approx(correlation(rolled, example.halos), rel=1e-12)
    half = by_placement[Placement(shift=(0.5, 0.0, -1.0))]
    expected = correlation(example.delta, moved(example.halos, (0.5, 0.0, -1.0)))
    assert half == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ((1, 0, 0), "halos shifted by (-1, 0, 0) voxels"),
        ((-0.5, -0.5, -0.5), "halos shifted by (+0.5, +0.5, +0.5) voxels"),
        ((0, 0, 0.5), "halos shifted by (0, 0, -0.5) voxels"),
    ],
)
def test_shifted_halos_are_told(example: RunData, mistake: tuple[float, ...], words: str) -> None:
    said = compare_placements(example.delta, moved(example.halos, mistake)).in_words()
    assert said.startswith("misaligned: with the") and words in said
    assert "would correlate by 0.488 rather than" in said
    assert ("data.field_points = corners" in said) == (mistake[0] == -0.5)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        (lambda delta: delta.transpose(2, 1, 0), "taken as z, y, x, counts"),
        (lambda delta: delta.transpose(2, 0, 1), "taken as z, x, y, counts"),
        (lambda delta: delta[:, ::-1], "taken as x, y, z and y backwards"),
        (lambda delta: delta[::-1].transpose(1, 0, 2), "taken as y, x, z and x backwards"),
    ],
)
def test_swapped_and_reversed_axes_are_told(example: RunData, field, words: str) -> None:
    found = compare_placements(field(example.delta), example.halos)
    assert abs(found.given.correlation) < 0.05
    assert words in found.in_words() and "correlate by 0.488" in found.in_words()


def test_a_fraction_of_a_voxel_is_no_alarm(example: RunData) -> None:
    """Nothing that is tried is clearly better than a shift by a quarter."""
    found = compare_placements(example.delta, moved(example.halos, (0.25, 0.25, 0.25)))
    assert found.better is None


def test_another_universe_is_no_misalignment(example: RunData) -> None:
    far = np.roll(example.delta, (20, 30, 40), axis=(0, 1, 2))
    found = compare_placements(far, example.halos)
    assert found.better is None
    assert found.in_words().startswith("unrelated: ")


def test_few_halos_raise_no_alarm(example: RunData) -> None:
    halos = example.halos
    for seed in range(20):
        some = np.random.default_rng(seed).choice(halos.num_halos, 40, replace=False)
        few = HaloCatalogue.from_positions(halos.position[some], halos.mass[some], halos.grid)
        assert compare_placements(example.delta, few).better is None


def test_draws_of_the_model_raise_no_alarm(bias, params) -> None:
    grid = Grid((16, 16, 16), (64.0, 64.0, 64.0))
    for seed in range(5):
        delta = np.exp(np.random.default_rng(seed).normal(size=grid.shape) - 0.5) - 1
        halos = simulate(jax.random.key(seed), bias, params, delta, grid)
        found = compare_placements(delta, halos)
        assert found.better is None and found.in_words().startswith("aligned")


def test_a_survey_of_one_corner(example: RunData) -> None:
    """The mask is no reason to turn the box around, and a shift is still seen."""
    halos, grid = example.halos, example.halos.grid
    seen = np.zeros(grid.shape)
    seen[:24, :32, 10:50] = 0.7
    chance = seen[tuple(halos.voxel.T)]
    keep = np.random.default_rng(0).random(len(chance)) < chance
    for step, aligned in ((0.0, True), (1.0, False)):
        position = halos.position[keep] + np.array([0, step, 0]) * grid.voxel_size
        some = HaloCatalogue.from_positions(
            position % grid.box_size, halos.mass[keep], grid, completeness=seen
        )
        assert (compare_placements(example.delta, some).better is None) == aligned


def test_grids_that_cannot_be_turned_and_borders_that_do_not_wrap(example: RunData) -> None:
    patch = example.delta[:40, :50, :30]
    grid = Grid(patch.shape, tuple(n * 250 / 64 for n in patch.shape), "interior")
    halos = example.halos
    inside = (halos.position < grid.box_size).all(axis=1)
    for step, words in (
        (0.0, "aligned"),
        (1.0, "misaligned: with the halos shifted by (-1, 0, 0)"),
    ):
        position = halos.position[inside] + np.array([step, 0, 0]) * grid.voxel_size
        kept = (position < grid.box_size).all(axis=1)
        cut = HaloCatalogue.from_positions(position[kept], halos.mass[inside][kept], grid)
        found = compare_placements(patch, cut)
        assert found.in_words().startswith(words)
        assert len(found.others) == 5**3 + 8 - 2  # axes of different lengths stay where they are


def test_several_catalogues_and_empty_voxels(example: RunData) -> None:
    stacked = HaloCatalogue.stack([example.halos, example.halos])
    found = compare_placements(example.delta, stacked)
    assert found.better is None and len(found.others) == 3**3 + 48 - 2
    emptied = np.where(example.delta < -0.7, -1.0, example.delta)
    found = compare_placements(emptied, example.halos, density_floor=0.1)
    assert found.better is None and found.given.correlation > 0.4


def test_a_subsample_stands_for_all(example: RunData) -> None:
    """More halos than are looked up: the correlation is still that of all of them."""
    halos = example.halos
    many = HaloCatalogue.from_positions(
        np.repeat(halos.position, 3, axis=0), np.repeat(halos.mass, 3), halos.grid
    )
    found = compare_placements(example.delta, many)
    # Tripled counts correlate as single ones do; 40,000 of 116,241 halos give it to 2 %.
    assert found.given.correlation == pytest.approx(0.488, rel=0.02)


def test_a_uniform_field_and_one_halo_give_numbers() -> None:
    grid = Grid((4, 4, 4), (8.0, 8.0, 8.0))
    halos = HaloCatalogue.from_positions(np.ones((1, 3)), np.array([3e12]), grid)
    found = compare_placements(np.zeros((4, 4, 4)), halos)
    assert found.given.correlation == 0 and found.better is None
    at_border = replace(halos, grid=replace(grid, boundary="interior"))
    assert compare_placements(np.zeros((4, 4, 4)), at_border).given.correlation == 0
    alone = replace(halos, position=None)
    assert np.isfinite(compare_placements(np.eye(4)[None] + np.zeros((4, 4, 4)), alone).given[1])

"""Do halos and density field lie on top of each other, or would they in another placement?

Halos follow the density, so counts in voxels and ln(1 + delta) correlate most where both are
aligned. A shift by a part of a voxel, or swapped axes, raise no error and give a bad fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations, product
from typing import NamedTuple

import numpy as np

from halo_mdn.field.grid import Grid
from halo_mdn.halos.catalogue import HaloCatalogue

_AXES, _FORWARD = (0, 1, 2), (False, False, False)
_STEPS = (-1.0, -0.5, 0.0, 0.5, 1.0)  # voxels
_PARTS = tuple(product((0.0, 0.5), repeat=3))
_BLOCKS = 8  # per axis: the draws from which errors are estimated, wider than halos cluster
_MOST = 40_000  # halos, and points of the survey, that are looked up: enough, and always fast
_SIGNIFICANT = 5.0  # standard errors: 171 placements compete with the one as given
_RELATED = 3.0  # standard errors of the correlation as given, which has no competitors
_GAIN = 1.03  # halos displaced by a quarter of a voxel are not told to move by half of one


class Placement(NamedTuple):
    """How halos are put on the field.

    Attributes
    ----------
    axes : tuple of 3 int
        Axis of the field along which x, y and z run.
    backwards : tuple of 3 bool
        Which of x, y and z run backwards.
    shift : tuple of 3 float
        Added to the positions first, in voxels.
    """

    axes: tuple[int, int, int] = _AXES
    backwards: tuple[bool, bool, bool] = _FORWARD
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def in_words(self) -> str:
        """The placement, to follow "with"."""
        if any(self.shift):
            steps = ", ".join(f"{step:+g}" if step else "0" for step in self.shift)
            return f"the halos shifted by ({steps}) voxels"
        order = ", ".join("xyz"[self.axes.index(axis)] for axis in _AXES)
        turned = [name for name, flag in zip("xyz", self.backwards, strict=True) if flag]
        return f"the field's axes taken as {order}" + (
            f" and {', '.join(turned)} backwards" if turned else ""
        )


class Alignment(NamedTuple):
    """How well one placement fits.

    Attributes
    ----------
    placement : Placement
    correlation : float
        Of counts in voxels with ln(1 + delta).
    significance : float
        Standard errors by which halos lie at higher densities than in the placement as given; for
        that one itself, than anywhere in the survey.
    """

    placement: Placement
    correlation: float
    significance: float


class Comparison(NamedTuple):
    """The placement as given, and all others, the best first."""

    given: Alignment
    others: tuple[Alignment, ...]

    @property
    def better(self) -> Alignment | None:
        """The best other placement, if it is clearly better than the one as given."""
        for other in self.others:
            if other.correlation < _GAIN * max(self.given.correlation, 0):
                return None
            if other.significance > _SIGNIFICANT:
                return other
        return None

    @property
    def aligned(self) -> bool:
        """Whether halos follow the field as given, and in no other placement clearly better."""
        return self.better is None and self.given.significance >= _RELATED

    def in_words(self) -> str:
        """One sentence: aligned, misaligned and how, or unrelated."""
        given, better = self.given, self.better
        if better is not None:
            return (
                f"misaligned: with {better.placement.in_words()}, counts and ln(1 + delta) would "
                f"correlate by {better.correlation:.3f} rather than {given.correlation:.3f}: "
                f"{_advice(better.placement)}"
            )
        if given.significance < _RELATED:
            return (
                f"unrelated: counts and ln(1 + delta) correlate by {given.correlation:.3f} "
                f"({given.significance:.1f} standard errors) and clearly in no other placement: "
                "field and halos are of different universes, or the halos too few to tell"
            )
        return (
            f"aligned: counts and ln(1 + delta) correlate by {given.correlation:.3f}, in the best "
            f"of {len(self.others)} other placements by {self.others[0].correlation:.3f}"
        )


def compare_placements(
    delta: np.ndarray, halos: HaloCatalogue, density_floor: float = 0.0
) -> Comparison:
    """Try other placements of halos on a field.

    Tried are shifts by -1, -1/2, 0, 1/2 and 1 voxel along each axis, and every order and direction
    of the axes that the grid allows: 171 placements on a cubic grid. The field is looked up at the
    halos (at most 40,000 of them), so the grid hardly matters for the cost.

    Parameters
    ----------
    delta : array (N0, N1, N2)
        Overdensity; its logarithm must exist.
    halos : HaloCatalogue
        Several catalogues count together. Without positions, whole voxels are tried alone.
    density_floor : float
        On 1 + delta.
    """
    rng, grid = np.random.default_rng(0), halos.grid
    field = np.log(np.maximum(1 + np.asarray(delta, dtype=float), density_floor))
    every, survey = _places(halos), _survey(halos, rng)
    place = _some(every, rng)
    block, mean = _blocks(place, grid), field.mean()
    scale = len(place) / max(len(every), 1) * grid.num_voxels * field.std()
    counts_spread = {part: _spread_of_counts(every + part, grid) for part in _PARTS}

    def excess(placement: Placement) -> np.ndarray:
        usual = mean if survey is None else _look_up(field, survey, placement).mean()
        return _look_up(field, place, placement) - usual

    def alignment(placement: Placement, reference: np.ndarray | float) -> Alignment:
        above = excess(placement)
        norm = scale * counts_spread[_part(placement)]
        correlation = float(above.sum() / norm) if norm > 0 else 0.0
        return Alignment(placement, correlation, _significance(above - reference, block))

    given = alignment(Placement(), 0.0)
    here = excess(Placement())
    steps = _STEPS if halos.position is not None else _STEPS[::2]
    others = [alignment(placement, here) for placement in _other_placements(grid, steps)]
    return Comparison(given, tuple(sorted(others, key=lambda one: -one.correlation)))


def _part(placement: Placement) -> tuple[float, ...]:
    """The part of a voxel by which a placement shifts."""
    return tuple(step % 1 for step in placement.shift)


def _other_placements(grid: Grid, steps: tuple[float, ...]) -> Iterator[Placement]:
    for step0, step1, step2 in product(steps, repeat=3):
        if step0 or step1 or step2:
            yield Placement(shift=(step0, step1, step2))
    sides = list(zip(grid.shape, grid.box_size, strict=True))
    for axes in permutations(_AXES):
        for back0, back1, back2 in product((False, True), repeat=3):
            placement = Placement(axes, (back0, back1, back2))  # type: ignore[arg-type]
            if placement != Placement() and [sides[axis] for axis in axes] == sides:
                yield placement


def _places(halos: HaloCatalogue) -> np.ndarray:
    """Positions in voxels, (H, 3), of the halos that count."""
    shape, used = np.array(halos.grid.shape), halos.selected
    place = halos.voxel[used] + 0.5
    if halos.position is not None:
        place = np.minimum(halos.position[used] / halos.grid.voxel_size, shape)
    if halos.grid.boundary == "interior":  # shifts must not wrap there
        place = place[((place >= 1) & (place < shape - 1)).all(axis=-1)]
    return place


def _survey(halos: HaloCatalogue, rng: np.random.Generator) -> np.ndarray | None:
    """Places in voxels as they are observed, for a catalogue with a completeness map."""
    if halos.completeness is None:
        return None
    chance = halos.completeness.ravel() / halos.completeness.sum()
    voxel = np.unravel_index(rng.choice(chance.size, _MOST, p=chance), halos.completeness.shape)
    return np.stack(voxel, axis=-1) + rng.random((_MOST, 3))


def _some(place: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return place if len(place) <= _MOST else rng.choice(place, _MOST, replace=False)


def _look_up(field: np.ndarray, place: np.ndarray, placement: Placement) -> np.ndarray:
    """The field at places given in voxels, as a placement puts them."""
    index = [np.empty(0, dtype=int)] * 3
    for axis, back, step, x in zip(*placement, place.T, strict=True):
        num = field.shape[axis]
        voxel = np.floor(x + step).astype(int) % num
        index[axis] = num - 1 - voxel if back else voxel
    return field[tuple(index)]


def _blocks(place: np.ndarray, grid: Grid) -> np.ndarray:
    """Which block each halo is in: errors come from blocks, because halos cluster."""
    block = np.minimum(place * _BLOCKS / grid.shape, _BLOCKS - 1).astype(int)
    return np.ravel_multi_index(tuple(block.T), (_BLOCKS,) * 3)


def _significance(values: np.ndarray, block: np.ndarray) -> float:
    """Sum over its standard error."""
    sums = np.bincount(block, values)
    error = np.sqrt(np.sum(sums**2))
    return float(sums.sum() / error) if error > 0 else 0.0


def _spread_of_counts(place: np.ndarray, grid: Grid) -> float:
    """Standard deviation of the counts in voxels."""
    voxel = np.floor(place).astype(int) % grid.shape
    flat = np.ravel_multi_index(tuple(voxel.T), grid.shape)
    _, counts = np.unique(flat, return_counts=True)
    mean_square = np.sum(counts.astype(float) ** 2) / grid.num_voxels
    return float(np.sqrt(mean_square - (len(place) / grid.num_voxels) ** 2))


def _advice(placement: Placement) -> str:
    if not any(placement.shift):
        return "store the field with axes x, y, z, all forwards"
    if set(placement.shift) == {0.5}:
        return "the field probably has its values at voxel corners: set data.field_points = corners"
    if all(step % 1 == 0 for step in placement.shift):
        return "check data.box_corner, and whether somebody counted voxels from 1"
    return "check data.field_points and data.box_corner"

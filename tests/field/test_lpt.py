"""The forward model of the density: conventions, perturbation theory, adjoint, an N-body code's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from halo_mdn import Grid, InputError
from halo_mdn.field.cosmology import Cosmology, growth_factor, linear_power, second_order_growth
from halo_mdn.field.lpt import Lpt, density, displacement, linear_field

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "nbody_s1001.npz"
BOX = (100.0, 120.0, 90.0)
SHAPE = (8, 10, 12)
COSMOLOGY = Cosmology()


@pytest.fixture
def lpt() -> Lpt:
    return Lpt(Grid(SHAPE, BOX), redshift=0.5)


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(5).normal(size=SHAPE)


def wave(shape: tuple[int, int, int], cycles: tuple[int, int, int]) -> np.ndarray:
    """A cosine with these numbers of cycles per box, at the centres of cells."""
    x, y, z = np.ix_(*((np.arange(n) + 0.5) / n for n in shape))
    return np.cos(2 * np.pi * (cycles[0] * x + cycles[1] * y + cycles[2] * z))


def amplitude(lpt: Lpt, cycles: tuple[int, int, int]) -> float:
    """What the linear field makes of a unit wave: sqrt(P N / V)."""
    k = 2 * np.pi * np.linalg.norm(np.array(cycles) / BOX)
    power = linear_power(COSMOLOGY, jnp.array([k]), lpt.redshift)[0]
    return float(jnp.sqrt(power * np.prod(SHAPE) / np.prod(BOX)))


def test_linear_field_has_the_linear_power(lpt: Lpt, noise: np.ndarray) -> None:
    modes = np.fft.fftn(noise)
    k = np.sqrt(
        sum(
            (2 * np.pi * np.fft.fftfreq(n, side / n).reshape(np.roll([n, 1, 1], axis))) ** 2
            for axis, (n, side) in enumerate(zip(SHAPE, BOX, strict=True))
        )
    )
    field = np.fft.fftn(linear_field(noise, lpt, COSMOLOGY))
    power = np.abs(field) ** 2 / np.abs(modes) ** 2 * np.prod(BOX) / np.prod(SHAPE)
    inner = np.ones(SHAPE, dtype=bool)  # without k = 0 and the Nyquist planes
    inner[0, 0, 0] = inner[4] = inner[:, 5] = inner[:, :, 6] = False
    expected = np.asarray(linear_power(COSMOLOGY, k, 0.5))
    np.testing.assert_allclose(power[inner], expected[inner], rtol=1e-9)
    np.testing.assert_allclose(power[~inner], 0, atol=1e-20)


def test_early_density_is_linear_theory_on_large_scales() -> None:
    # 400 Mpc/h at z = 30: displacements are small against a cell, so CIC shows the linear field
    # times its own window, here divided out; what is left is second order in delta (0.03).
    grid = Grid((16,) * 3, (400.0,) * 3)
    lpt = Lpt(grid, redshift=30.0, supersampling=4)
    noise = np.random.default_rng(6).normal(size=grid.shape)
    linear = np.fft.rfftn(linear_field(noise, lpt, COSMOLOGY))
    painted = np.fft.rfftn(density(noise, lpt, COSMOLOGY))
    for cycles in ((1, 0, 0), (0, 2, 1), (1, 1, 1), (15, 2, 2)):
        signed = np.array(cycles) - 16 * (np.array(cycles) > 8)
        ratio = painted[cycles] / linear[cycles] / np.prod(np.sinc(signed / 16)) ** 2
        # A wrong sign, phase or half-cell shift would be off by 0.2 and more.
        assert abs(ratio - 1) < 0.02, (cycles, ratio)


@pytest.mark.parametrize("order", [1, 2])
def test_plane_wave_is_the_exact_solution(lpt: Lpt, order: int) -> None:
    # In one dimension the Zel'dovich solution is exact and the second order vanishes.
    lpt = replace(lpt, order=order)
    cycles, k = (0, 2, 0), 2 * np.pi * 2 / BOX[1]
    psi = displacement(wave(SHAPE, cycles), lpt, COSMOLOGY)
    y = (np.arange(20) + 0.5) / 20
    expected = -amplitude(lpt, cycles) / k * np.sin(4 * np.pi * y)
    np.testing.assert_allclose(psi[1][3, :, 5], expected, rtol=1e-10)
    np.testing.assert_allclose(psi[0], 0, atol=1e-10)
    np.testing.assert_allclose(psi[2], 0, atol=1e-10)


def test_second_order_of_crossed_waves_is_the_analytic_one(lpt: Lpt) -> None:
    # phi = -A/kx^2 cos(kx x) - B/ky^2 cos(ky y), so S = A B cos cos and, with
    # lap phi2 = S, phi2 = -A B cos cos / (kx^2 + ky^2); psi_2 = D2/D1^2 grad phi2.
    first, second = (1, 0, 0), (0, 2, 0)
    noise = wave(SHAPE, first) + wave(SHAPE, second)
    psi2 = displacement(noise, lpt, COSMOLOGY)
    psi1 = displacement(noise, replace(lpt, order=1), COSMOLOGY)
    kx, ky = 2 * np.pi / BOX[0], 4 * np.pi / BOX[1]
    x, y, _ = np.ix_(*((np.arange(2 * n) + 0.5) / (2 * n) for n in SHAPE))
    ratio = second_order_growth(COSMOLOGY, 0.5) / growth_factor(COSMOLOGY, 0.5) ** 2
    product = amplitude(lpt, first) * amplitude(lpt, second) / (kx**2 + ky**2)
    expected = float(ratio) * product * kx * np.sin(2 * np.pi * x) * np.cos(4 * np.pi * y)
    measured = np.asarray(psi2[0] - psi1[0])
    np.testing.assert_allclose(measured, np.broadcast_to(expected, measured.shape), atol=1e-9)


def test_second_order_scales_as_the_square(lpt: Lpt, noise: np.ndarray) -> None:
    def second_order(lpt: Lpt, cosmology: Cosmology) -> np.ndarray:
        both = displacement(noise, lpt, cosmology)
        first = displacement(noise, replace(lpt, order=1), cosmology)
        return np.array(both) - np.array(first)

    half = replace(COSMOLOGY, sigma8=COSMOLOGY.sigma8 / 2)
    reference = second_order(lpt, COSMOLOGY)
    np.testing.assert_allclose(second_order(lpt, half), reference / 4, atol=1e-10)
    growth = second_order_growth(COSMOLOGY, 2.0) / second_order_growth(COSMOLOGY, 0.5)
    later = second_order(replace(lpt, redshift=2.0), COSMOLOGY)
    np.testing.assert_allclose(later, growth * reference, atol=1e-10)


@pytest.mark.parametrize("order", [1, 2])
def test_mass_is_conserved(lpt: Lpt, noise: np.ndarray, order: int) -> None:
    delta = density(noise, replace(lpt, order=order), COSMOLOGY)
    np.testing.assert_allclose(jnp.mean(delta), 0, atol=1e-13)
    assert float(jnp.min(delta)) >= -1
    assert float(jnp.std(delta)) > 0.1


def test_moving_the_noise_moves_the_density(lpt: Lpt, noise: np.ndarray) -> None:
    shift, axes = (3, -2, 5), (0, 1, 2)
    moved = density(np.roll(noise, shift, axes), lpt, COSMOLOGY)
    expected = np.roll(density(noise, lpt, COSMOLOGY), shift, axes)
    np.testing.assert_allclose(moved, expected, atol=1e-11)


def test_swapping_axes_of_the_noise_swaps_those_of_the_density(lpt: Lpt, noise: np.ndarray) -> None:
    axes = (2, 0, 1)
    grid = Grid(tuple(SHAPE[a] for a in axes), tuple(BOX[a] for a in axes))
    swapped = density(noise.transpose(axes), replace(lpt, grid=grid, modes=None), COSMOLOGY)
    expected = np.transpose(density(noise, lpt, COSMOLOGY), axes)
    np.testing.assert_allclose(swapped, expected, atol=1e-11)


def test_odd_numbers_of_cells(noise: np.ndarray) -> None:
    """Turning the axes round turns the displacement, whichever of them ``rfftn`` halves."""
    lpt = Lpt(Grid((7, 7, 7), (60.0,) * 3), supersampling=1)
    noise = noise[:7, :7, :7]
    psi = displacement(noise, lpt, COSMOLOGY)
    turned = displacement(np.transpose(noise, (1, 2, 0)), lpt, COSMOLOGY)
    for axis in range(3):
        expected = np.transpose(psi[(axis + 1) % 3], (1, 2, 0))
        np.testing.assert_allclose(turned[axis], expected, atol=1e-10)


def test_mirror_image_of_the_noise_mirrors_the_density(lpt: Lpt, noise: np.ndarray) -> None:
    # A reflection maps cell centres onto each other, so any offset in the chain breaks this.
    mirrored = density(noise[::-1, :, ::-1], lpt, COSMOLOGY)
    expected = np.asarray(density(noise, lpt, COSMOLOGY))[::-1, :, ::-1]
    np.testing.assert_allclose(mirrored, expected, atol=1e-11)


def test_finer_noise_of_the_same_waves_gives_the_same_displacement(lpt: Lpt) -> None:
    fine = tuple(2 * n for n in SHAPE)
    coarse_psi = displacement(wave(SHAPE, (1, 2, 0)), lpt, COSMOLOGY)
    # Eight times the cells: unit white noise has sqrt(8) less amplitude per mode.
    fine_lpt = replace(lpt, modes=fine, supersampling=1)
    fine_psi = displacement(wave(fine, (1, 2, 0)) / np.sqrt(8), fine_lpt, COSMOLOGY)
    np.testing.assert_allclose(np.array(fine_psi), np.array(coarse_psi), atol=1e-9)


@pytest.mark.parametrize("order", [1, 2])
def test_adjoint_is_the_transpose(lpt: Lpt, noise: np.ndarray, order: int) -> None:
    """Of the displacements; painting has a gradient only, which its own tests check."""

    def forward(noise: jax.Array) -> jax.Array:
        return jnp.stack(displacement(noise, replace(lpt, order=order), COSMOLOGY))

    rng = np.random.default_rng(7)
    tangent, cotangent = rng.normal(size=SHAPE), rng.normal(size=(3, *lpt.lattice))

    @jax.jit
    def both_ways(noise: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, pushed = jax.jvp(forward, (noise,), (tangent,))
        _, pull = jax.vjp(forward, noise)
        return jnp.vdot(pushed, cotangent), jnp.vdot(tangent, pull(cotangent)[0])

    left, right = both_ways(noise)
    np.testing.assert_allclose(left, right, rtol=1e-10)


def check_slope(function: Callable[[jax.Array], jax.Array], at: float) -> None:
    step = 1e-6
    expected = (function(at + step) - function(at - step)) / (2 * step)
    # Rounding of the difference is 1e-15 / step; kinks of CIC add the few particles that cross.
    np.testing.assert_allclose(jax.jit(jax.grad(function))(at), expected, rtol=1e-5)


def test_gradient_is_that_of_finite_differences(lpt: Lpt, noise: np.ndarray) -> None:
    rng = np.random.default_rng(8)
    response, direction = rng.normal(size=SHAPE), rng.normal(size=SHAPE)

    def along(t: jax.Array) -> jax.Array:
        return jnp.sum(response * density(noise + t * direction, lpt, COSMOLOGY))

    check_slope(along, 0.0)


@pytest.mark.parametrize("name", ["sigma8", "omega_m"])
def test_gradient_in_the_cosmology(lpt: Lpt, noise: np.ndarray, name: str) -> None:
    response = np.random.default_rng(9).normal(size=SHAPE)

    def along(value: jax.Array) -> jax.Array:
        return jnp.sum(response * density(noise, lpt, replace(COSMOLOGY, **{name: value})))

    check_slope(along, float(getattr(COSMOLOGY, name)))


def test_single_precision_is_good_to_1e_4(lpt: Lpt, noise: np.ndarray) -> None:
    exact = np.asarray(density(noise, lpt, COSMOLOGY))
    with jax.enable_x64(False):
        single = density(noise.astype(np.float32), lpt, COSMOLOGY)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, exact, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": 3}, "order is 3, expected 1 or 2"),
        ({"supersampling": 0}, "supersampling is 0"),
        ({"redshift": -0.5}, "redshift is -0.5"),
        ({"grid": Grid(SHAPE, BOX, "interior")}, "expected a periodic grid"),
    ],
)
def test_bad_settings_are_refused(lpt: Lpt, changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(lpt, **changes)


def test_noise_of_another_shape_is_refused(lpt: Lpt, noise: np.ndarray) -> None:
    with pytest.raises(InputError, match="the white noise has shape"):
        density(noise[:4], lpt, COSMOLOGY)


@pytest.fixture(scope="module")
def nbody() -> dict[str, np.ndarray]:
    if not SHARED.is_file():
        pytest.skip("the N-body box is not at ../shared/data/nbody_s1001.npz beside the repository")
    with np.load(SHARED) as archive:
        wanted = ("white_noise", "delta_lin", "delta_lpt1_coarse", "delta_lpt")
        return {name: archive[name].astype(float) for name in wanted}


def at_cell_centres(noise: np.ndarray) -> np.ndarray:
    """The box's white noise moved to our convention.

    It is the low modes of a 256^3 field whose first value sits at the centre of the first of 256
    cells, so on 64^3 its first value sits at 1/8 of the first cell instead of 1/2.
    """
    n = noise.shape[0]
    cycles = np.ix_(np.fft.fftfreq(n, 1 / n), np.fft.fftfreq(n, 1 / n), np.fft.rfftfreq(n, 1 / n))
    phase = np.exp(2j * np.pi * (3 / 8) / n * (cycles[0] + cycles[1] + cycles[2]))
    return np.fft.irfftn(np.fft.rfftn(noise) * phase, noise.shape, axes=(0, 1, 2))


def test_linear_field_of_the_nbody_box(nbody: dict[str, np.ndarray]) -> None:
    lpt = Lpt(Grid((64,) * 3, (250.0,) * 3))
    linear = np.asarray(linear_field(nbody["white_noise"], lpt, COSMOLOGY))
    # Its spectrum comes from colossus' tables, good to 1e-4; its values are single precision.
    residual = np.std(linear - nbody["delta_lin"]) / np.std(linear)
    assert residual < 1e-4


def test_second_order_density_of_the_nbody_box(nbody: dict[str, np.ndarray]) -> None:
    # The box's 2LPT field has all modes of 256^3, ours those of 64^3: the rest is noise to us.
    lpt = Lpt(Grid((64,) * 3, (250.0,) * 3))
    delta = np.asarray(density(at_cell_centres(nbody["white_noise"]), lpt, COSMOLOGY))
    first = np.asarray(
        density(at_cell_centres(nbody["white_noise"]), replace(lpt, order=1), COSMOLOGY)
    )
    ours = np.corrcoef(delta.ravel(), nbody["delta_lpt"].ravel())[0, 1]
    assert ours > 0.985
    assert ours > np.corrcoef(first.ravel(), nbody["delta_lpt"].ravel())[0, 1] + 0.02
    assert delta.min() > -1  # eight particles per cell leave no cell empty


@pytest.mark.slow
def test_first_order_density_of_the_nbody_box(nbody: dict[str, np.ndarray]) -> None:
    lpt = Lpt(Grid((64,) * 3, (250.0,) * 3), order=1, supersampling=4)
    delta = np.asarray(density(at_cell_centres(nbody["white_noise"]), lpt, COSMOLOGY))
    reference = nbody["delta_lpt1_coarse"]
    # Same modes, same 256^3 particles; measured 5.5e-5 (rms) and 1.5e-3 (largest, of 1 + delta
    # up to 30): the single-precision noise and the tables behind the other spectrum.
    assert np.std(delta - reference) / np.std(reference) < 2e-4
    np.testing.assert_allclose(delta, reference, atol=5e-3)

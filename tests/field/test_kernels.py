"""Multipole kernels: shells, angles and rotations."""

from __future__ import annotations

from itertools import permutations, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import eval_legendre

import halo_mdn as hm
from halo_mdn.field.kernels import (
    kernel_basis,
    kernel_cube,
    kernel_responses,
    real_spherical_harmonic,
    shell_features,
)


@pytest.mark.parametrize(
    "size, grouping, expected",
    [
        (1, "radius", 1),
        (3, "radius", 4),
        (5, "radius", 10),
        (7, "radius", 19),
        (3, "orbit", 4),
        (5, "orbit", 10),
        (7, "orbit", 20),  # (3,0,0) and (2,2,1) share a radius
    ],
)
def test_number_of_shells(size: int, grouping: str, expected: int) -> None:
    assert kernel_basis((size,) * 3, (0,), grouping).num_weights == expected


def test_shells_of_the_default_kernel() -> None:
    basis = kernel_basis((3, 3, 3), (0,), "radius")
    np.testing.assert_array_equal(basis.coefficients.sum(axis=1), [1, 6, 12, 8])
    assert basis.labels == ("l=0 r2=0", "l=0 r2=1", "l=0 r2=2", "l=0 r2=3")


def test_multipoles_have_no_weight_for_the_centre() -> None:
    assert kernel_basis((3, 3, 3), (0, 1, 2), "radius").num_shells == (4, 3, 3)


def test_addition_theorem() -> None:
    """sum_m Y_lm(a) Y_lm(b) = P_l(cos angle), which fails for swapped angles."""
    a, b = np.random.default_rng(1).normal(size=(2, 20, 3))
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    for degree in range(6):
        total = sum(
            real_spherical_harmonic(degree, m, a) * real_spherical_harmonic(degree, m, b)
            for m in range(-degree, degree + 1)
        )
        np.testing.assert_allclose(total, eval_legendre(degree, cosine), atol=1e-13)


def test_first_harmonics_are_the_axes() -> None:
    x, y, z = direction = np.array([0.48, 0.6, 0.64])
    actual = [real_spherical_harmonic(1, m, direction) for m in (-1, 0, 1)]
    np.testing.assert_allclose(np.abs(actual), [y, z, x], rtol=1e-14)


def cube_rotations() -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The 48 symmetries of the cube: a permutation of the axes and the axes to flip."""
    flips = [tuple(axis for axis in range(3) if bits[axis]) for bits in product((0, 1), repeat=3)]
    return [(axes, flip) for axes in permutations(range(3)) for flip in flips]


@pytest.mark.parametrize("size", [3, 5])
def test_responses_turn_with_the_field(size: int) -> None:
    basis = kernel_basis((size,) * 3, (0, 1, 2, 3), "radius")
    grid = hm.Grid((6, 6, 6), (1.0, 1.0, 1.0))
    rng = np.random.default_rng(2)
    field, weights = rng.normal(size=grid.shape), rng.normal(size=basis.num_weights)

    @jax.jit
    def respond(x: jax.Array) -> jax.Array:
        return kernel_responses(weights, shell_features(x, grid, (size,) * 3, basis), basis)

    reference = np.asarray(respond(field))
    assert np.abs(reference).min(axis=(1, 2, 3)).max() > 0
    for axes, flip in cube_rotations()[::5]:
        turned = np.flip(field.transpose(axes), flip)
        expected = [np.flip(channel.transpose(axes), flip) for channel in reference]
        np.testing.assert_allclose(respond(turned), expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("boundary", ["periodic", "interior"])
def test_features_against_a_convolution(boundary: str) -> None:
    """The weighted features are what a library's convolution with the kernel cube gives."""
    size, multipoles = (3, 5, 3), (0, 2)
    basis = kernel_basis(size, multipoles, "radius")
    grid = hm.Grid((6, 7, 8), (1.0, 1.0, 1.0), boundary)  # type: ignore[arg-type]
    rng = np.random.default_rng(3)
    field, weights = rng.normal(size=grid.shape), rng.normal(size=basis.num_weights)
    cube = kernel_cube(weights, size, basis)
    wrap = [(n // 2, n // 2) for n in size] if boundary == "periodic" else [(0, 0)] * 3
    padded = jnp.pad(field, wrap, mode="wrap")
    convolved = jax.lax.conv_general_dilated(
        padded[None, None], cube[:, None], (1, 1, 1), "VALID", precision="highest"
    )[0]
    expected = jnp.stack([convolved[0], jnp.sum(convolved[1:] ** 2, axis=0)])
    actual = kernel_responses(weights, shell_features(field, grid, size, basis), basis)
    np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-12)

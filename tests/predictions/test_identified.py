"""Environments and identified functions: what they are, and that the data choose them."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from jax.tree_util import Partial

import halo_mdn as hm
from halo_mdn.predictions.environments import environments
from halo_mdn.predictions.identified import IdentifiedFunctions, identified_functions
from tests.run_for_tests import TRUTH, mock_fit


def kernel_mean(delta: np.ndarray) -> np.ndarray:
    """Mean of ln(1 + delta) over the 27 cells around each voxel of a periodic box."""
    x = np.log1p(delta)
    for axis in range(3):
        x = (np.roll(x, 1, axis) + x + np.roll(x, -1, axis)) / 3
    return x


@pytest.mark.parametrize("boundary", ["periodic", "interior"])
def test_environments_are_slices_of_the_smoothed_density(boundary: str) -> None:
    fit = mock_fit(boundary)
    classes = environments(fit.bias, fit.delta, fit.grid)
    smooth = kernel_mean(fit.delta)
    smooth = smooth.ravel() if boundary == "periodic" else smooth[1:-1, 1:-1, 1:-1].ravel()
    top = [smooth[classes.label == e].max() for e in range(classes.num)]
    bottom = [smooth[classes.label == e].min() for e in range(classes.num)]
    assert all(high <= low for high, low in zip(top[:-1], bottom[1:], strict=True))
    share = np.bincount(classes.label) / smooth.size
    np.testing.assert_allclose(share, np.diff(classes.edges), atol=1.5 / smooth.size)
    np.testing.assert_allclose(classes.density, np.exp(smooth[classes.voxel]))
    assert (classes.label[classes.voxel] == np.arange(classes.num)).all()
    assert (np.diff(classes.density) > 0).all()  # from void to cluster


def test_the_densest_environment_is_the_top_percent() -> None:
    assert environments(*mock_fit()[:1], mock_fit().delta, mock_fit().grid).edges[-2] == 0.99


@pytest.mark.parametrize("num", [1, 2, 6, 13])
def test_any_number_of_environments(num: int) -> None:
    fit = mock_fit()
    classes = environments(fit.bias, fit.delta, fit.grid, num)
    assert classes.num == len(classes.names) == len(set(classes.names)) == num
    assert set(classes.label.tolist()) == set(range(num))


def test_a_uniform_field_still_has_environments() -> None:
    grid = hm.Grid((4, 4, 4), (16.0,) * 3)
    classes = environments(hm.NeuralBias(), np.zeros(grid.shape), grid)
    assert len(set(classes.names)) == 6
    np.testing.assert_allclose(classes.density, 1.0)


def test_too_many_environments_are_refused() -> None:
    fit = mock_fit()
    with pytest.raises(hm.InputError, match="num_environments is 513, expected 1 to 512"):
        environments(fit.bias, fit.delta, fit.grid, 513)


def test_values_are_the_intensity_at_the_representative_voxels() -> None:
    fit = mock_fit()
    functions = identified_functions(fit.bias, fit.delta, fit.halos, 4, 3)
    classes = environments(fit.bias, fit.delta, fit.grid, 4)
    field = hm.log_intensity(fit.bias, TRUTH, fit.delta, fit.grid, functions.log_mass)
    wanted = np.asarray(field).reshape(3, -1)[:, classes.voxel].T
    np.testing.assert_allclose(functions(TRUTH), wanted, rtol=1e-12)


def test_masses_run_from_the_threshold_to_the_tenth_largest_halo() -> None:
    fit = mock_fit()
    mass = np.exp(identified_functions(fit.bias, fit.delta, fit.halos).log_mass)
    np.testing.assert_allclose(mass[[0, -1]], [2e12, np.sort(fit.halos.mass)[-10]])
    np.testing.assert_allclose(np.diff(np.log(mass)), np.log(mass[1] / mass[0]))


def test_only_pairs_with_halos_are_constrained() -> None:
    fit = mock_fit()
    functions = identified_functions(fit.bias, fit.delta, fit.halos)
    classes = environments(fit.bias, fit.delta, fit.grid)
    flat = np.ravel_multi_index(fit.halos.voxel.T, fit.grid.shape)
    for e, u in np.ndindex(6, 6):
        here = fit.halos.log_mass[classes.label[flat] == e]
        enough = (here >= functions.log_mass[u] - 1e-9).sum() >= 5
        assert functions.supported[e, u] == enough
    assert 0 < functions.supported.sum() < 36  # the test would be empty otherwise
    values = np.asarray(functions(TRUTH))
    np.testing.assert_array_equal(functions.constrained(TRUTH), values[functions.supported])


def test_hardly_any_halos_still_give_something_to_monitor() -> None:
    fit = mock_fit()
    few = hm.HaloCatalogue.from_voxels(fit.halos.voxel[:2], fit.halos.log_mass[:2], fit.grid)
    functions = identified_functions(fit.bias, fit.delta, few)
    assert functions.constrained(TRUTH).size >= 1
    one_mass = hm.HaloCatalogue.from_voxels([[0, 0, 0]], [np.log(2e12)], fit.grid)
    functions = identified_functions(fit.bias, fit.delta, one_mass)
    assert np.isfinite(functions(TRUTH)).all() and np.ptp(functions.log_mass) > 1


def test_the_functions_do_not_see_the_scale_degeneracy() -> None:
    fit = mock_fit()
    bias = hm.NeuralBias(hidden_layers=(1,))
    functions = identified_functions(bias, fit.delta, fit.halos)
    blocks = dict(bias.unpack(0.3 * np.random.default_rng(0).normal(size=bias.num_params)))
    swapped = hm.NeuralBias(components=2)  # the same test for label swaps of a plain model
    plain = dict(swapped.unpack(TRUTH))
    assert functions(bias.pack(blocks)).shape == (6, 6)
    plain["mean_biases"] = plain["mean_biases"].at[1].set(-50.0)  # relu is flat: means coincide
    plain["mean_kernels"] = plain["mean_kernels"].at[0, 1].set(0.0)
    mirrored = {
        name: value[..., ::-1] if name.startswith(("amplitude", "width")) else value
        for name, value in plain.items()
    }
    of_plain = identified_functions(swapped, fit.delta, fit.halos)
    np.testing.assert_allclose(
        of_plain(swapped.pack(plain)), of_plain(swapped.pack(mirrored)), rtol=1e-12
    )


def test_it_is_a_pytree_that_jit_takes_as_an_argument() -> None:
    fit = mock_fit()
    functions = identified_functions(fit.bias, fit.delta, fit.halos)
    monitor = Partial(IdentifiedFunctions.constrained, functions)
    compiled = jax.jit(lambda f, params: f(params))
    np.testing.assert_allclose(compiled(monitor, TRUTH), functions.constrained(TRUTH), rtol=1e-12)
    many = jax.vmap(functions)(np.stack([TRUTH, TRUTH]))
    assert many.shape == (2, 6, 6)


def test_multipoles_and_float32_work() -> None:
    fit = mock_fit()
    bias = hm.NeuralBias(multipoles=(0, 1), filters=2)
    params = 0.1 * np.random.default_rng(2).normal(size=bias.num_params)
    double = identified_functions(bias, fit.delta, fit.halos)(params)
    single = identified_functions(bias, np.float32(fit.delta), fit.halos)(np.float32(params))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, rtol=2e-6)  # values near -36


def test_numbers_below_one_are_refused() -> None:
    fit = mock_fit()
    with pytest.raises(hm.InputError, match="num_masses is 0"):
        identified_functions(fit.bias, fit.delta, fit.halos, 6, 0)

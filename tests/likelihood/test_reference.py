"""Golden vectors: two independent implementations and 60-digit arithmetic.

Values, fields and gradients must agree to 1e-10 of the largest entry; they are known to about
1e-14, and 1e-10 leaves room for the conditioning of exp(sigma^2/2) at large widths.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import halo_mdn as hm
from halo_mdn.bias.base import features_of_density
from halo_mdn.bias.neural import mixture_parameters, npe_field
from halo_mdn.field.kernels import kernel_cube

SHARED = Path(__file__).parents[3] / "shared" / "reference"
COPIED = Path(__file__).parents[1] / "reference"
NAMES = (
    "01_zero_8",
    "02_n01_8",
    "03_n01_8x10x12",
    "04_multi_8x10x12",
    "06_n03_8_overflow",
    "09_realistic_16",
    "12_relu_dead_8",
    "13_all_masked_8",
    "15_border_5x6x7",
    "16_deep_voids_8",
    "17_ndist3_8x9x10",
)
TOLERANCE = 1e-10


class Case:
    """One golden vector with the objects it describes."""

    def __init__(self, name: str) -> None:
        path = next(
            (p for p in (SHARED / f"{name}.npz", COPIED / f"{name}.npz") if p.exists()), None
        )
        if path is None:
            pytest.skip(f"{name}.npz is not here: the folder {SHARED} of golden vectors is missing")
        self.data = dict(np.load(path))
        self.delta, self.params = self["delta"], self["params"]
        threshold = float(np.exp(self["log_m_th"]))
        self.grid = hm.Grid(self.delta.shape, tuple(self["box"]), "interior")
        self.bias = hm.NeuralBias(components=int(self["n_dist"]), mass_threshold=threshold)
        self.halos = hm.HaloCatalogue.from_voxels(
            self["voxel_index"], self["log_mass"], self.grid, threshold, self["mask"]
        )

    def __getitem__(self, key: str) -> np.ndarray:
        return self.data[key]


case_of = cache(Case)


@pytest.fixture(params=NAMES)
def case(request: pytest.FixtureRequest) -> Case:
    return case_of(request.param)


def check_equal(actual: jax.Array, expected: np.ndarray) -> None:
    """Largest deviation relative to the largest expected entry."""
    actual = np.asarray(actual)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= TOLERANCE * max(np.abs(expected).max(), 1e-300)


def test_kernel(case: Case) -> None:
    weights = case.bias.unpack(case.params)["kernel_weights"][0]
    check_equal(kernel_cube(weights, (3, 3, 3), case.bias.basis)[0], case["ref_kernel"])


def test_fields(case: Case) -> None:
    blocks = case.bias.unpack(case.params)
    npe = npe_field(case.bias, blocks, features_of_density(case.bias, case.delta, case.grid))
    mixture = mixture_parameters(case.bias, blocks, npe)
    check_equal(npe[0].reshape(case["ref_npe"].shape), case["ref_npe"])
    fields = {"alpha": jnp.exp(mixture.log_amplitude), "mu": mixture.mean, "sigma": mixture.width}
    for name, field in fields.items():
        expected = case[f"ref_{name}"]
        check_equal(field.T.reshape(expected.shape), expected)


def log_integral(case: Case, params: jax.Array, delta: jax.Array) -> jax.Array:
    return jax.nn.logsumexp(hm.log_expected(case.bias, params, delta, case.grid))


def test_log_integral(case: Case) -> None:
    check_equal(log_integral(case, case.params, case.delta), case["ref_log_integral"])


def test_log_integral_gradients(case: Case) -> None:
    gradient = jax.grad(log_integral, argnums=(1, 2))
    params_cot, delta_cot = gradient(case, case.params, case.delta)
    check_equal(params_cot, case["ref_log_integral_grad_params"])
    check_equal(delta_cot, case["ref_log_integral_grad_delta"])


def test_log_prior(case: Case) -> None:
    constant = case.bias.num_params * (np.log(10) + 0.5 * np.log(2 * np.pi))
    check_equal(-hm.log_prior(case.bias, case.params) - constant, case["ref_prior"])


def test_log_intensity(case: Case) -> None:
    if not case["mask"].any():
        pytest.skip("no halo is used in this case")
    catalogue, halo = (int(index[0]) for index in np.nonzero(case["mask"]))
    log_mass = case["log_mass"][catalogue, halo]
    field = hm.log_intensity(case.bias, case.params, case.delta, case.grid, log_mass)
    voxel = tuple(case["voxel_index"][catalogue, halo] - 1)
    check_equal(field[voxel], case["ref_log_n"][catalogue, halo])


def overflows(case: Case) -> bool:
    return float(case["ref_log_expected"]) > 700


def test_likelihood(case: Case) -> None:
    for index, expected in enumerate(case["ref_likelihood_poisson"]):
        actual = hm.log_likelihood(case.bias, case.params, case.delta, case.halos[index])
        if overflows(case):
            assert actual == -np.inf
        else:
            check_equal(-actual, expected)


def test_adjoint(case: Case) -> None:
    for index in range(case.halos.num_catalogues):
        out = hm.adjoint(case.bias, case.params, case.delta, case.halos[index])
        assert np.isfinite(out.params_cot).all() and np.isfinite(out.delta_cot).all()
        if overflows(case):
            check_equal(out.params_cot, case["ref_sum_log_n_grad_params"][index])
            check_equal(out.delta_cot, case["ref_sum_log_n_grad_delta"][index])
            continue
        loss_cot = -out.params_cot + case.params / 100
        check_equal(loss_cot, case["ref_loss_poisson_grad_params"][index])
        check_equal(-out.delta_cot, case["ref_loss_poisson_grad_delta"][index])


def test_several_catalogues_add_up(case: Case) -> None:
    if overflows(case):
        pytest.skip("the likelihood of this case is -inf")
    total = hm.log_likelihood(case.bias, case.params, case.delta, case.halos)
    check_equal(-total, case["ref_likelihood_poisson"].sum())

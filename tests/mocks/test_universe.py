"""Mocks: reproducible, consistent with their own truth, realistic; and their command."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import halo_mdn as hm
from halo_mdn.bias.mock_params import MOCK_PARAMS
from halo_mdn.cli import run
from halo_mdn.field.cosmology import Cosmology
from halo_mdn.field.lpt import Lpt, density
from halo_mdn.io.formats.exchange import read_exchange
from halo_mdn.mocks.universe import MockUniverse, as_exchange, make_mock

# Halos above 2e12, 4e12, ... 2.56e14 Msun/h in (250 Mpc/h)^3 at z = 0 by Tinker et al. 2008
# (200m) for the default cosmology, integrated with colossus.
TINKER_ABOVE = np.array([38569, 20075, 10157, 4930, 2253, 943, 346, 105])


def mock_of(seed: int, cells: int = 16) -> MockUniverse:
    grid = hm.Grid((cells,) * 3, (cells * 250 / 64,) * 3)
    return make_mock(
        seed, Lpt(grid), cosmology=Cosmology(), bias=hm.NeuralBias(), params=MOCK_PARAMS
    )


def test_a_seed_decides_everything() -> None:
    first, again, other = mock_of(1), mock_of(1), mock_of(2)
    np.testing.assert_array_equal(first.halos.log_mass, again.halos.log_mass)
    np.testing.assert_array_equal(first.white_noise, again.white_noise)
    assert np.abs(first.white_noise - other.white_noise).max() > 1


def test_density_is_that_of_the_white_noise() -> None:
    mock = mock_of(3)
    np.testing.assert_array_equal(density(mock.white_noise, mock.lpt, mock.cosmology), mock.delta)
    assert abs(mock.white_noise.std() - 1) < 0.05  # 4096 values: 0.011


@pytest.mark.slow
def test_default_parameters_give_the_mass_function_of_tinker() -> None:
    mock = mock_of(0, cells=64)
    above = [np.sum(mock.halos.mass >= 2e12 * 2.0**i) for i in range(len(TINKER_ABOVE))]
    # 20 % in number is what is asked for; heavy halos are few (10 % Poisson at the end).
    np.testing.assert_allclose(above[0], TINKER_ABOVE[0], rtol=0.05)
    np.testing.assert_allclose(above[:6], TINKER_ABOVE[:6], rtol=0.2)


def test_default_parameters_expect_the_right_number_in_a_small_box() -> None:
    # The mean over realisations; cosmic variance of one (62.5 Mpc/h)^3 box is about 15 %.
    expected = []
    for seed in range(8):
        mock = mock_of(seed)
        log_expected = hm.log_expected(mock.bias, jnp.array(MOCK_PARAMS), mock.delta, mock.lpt.grid)
        expected.append(float(jnp.sum(jnp.exp(log_expected))) * mock.lpt.grid.voxel_volume)
    np.testing.assert_allclose(np.mean(expected), TINKER_ABOVE[0] / 64, rtol=0.15)


def test_exchange_content_tells_how_the_mock_was_made() -> None:
    mock = mock_of(1)
    content = as_exchange(mock, command="a test")
    assert content.settings["seed"] == 1
    assert content.settings["lpt"] == {
        "order": 2, "redshift": 0.0, "supersampling": 2, "modes": [16, 16, 16]
    }  # fmt: skip
    assert content.settings["cosmology"]["sigma8"] == 0.8102
    assert content.provenance["command"] == "a test"


def simulate(*arguments: object) -> int:
    small = ("--cells", 8, "--box_size", 31.25)
    return run(["simulate", *map(str, small), *map(str, arguments)])


def test_command_writes_a_readable_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mock.h5"
    assert simulate(path, "--seed", 5, "--redshift", 0.3, "--order", 1) == 0
    assert "wrote" in capsys.readouterr().out
    content = read_exchange(path)
    assert content.redshift == 0.3 and content.delta.shape == (8, 8, 8)
    assert content.settings["seed"] == 5 and content.settings["lpt"]["order"] == 1
    assert content.white_noise is not None
    lpt = Lpt(content.grid, redshift=0.3, order=1)
    np.testing.assert_allclose(
        density(content.white_noise, lpt, Cosmology()), content.delta, atol=1e-12
    )
    before = path.read_bytes()
    with pytest.raises(hm.InputError, match="--overwrite"):
        simulate(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--order", 3), "order is 3"),
        (("--sigma8", -1), "sigma8 is -1"),
        (("--cells", 2), "--cells is 2"),
        (("--box_size", 0), "box_size is"),
        (("--seed", -1), "--seed is -1"),
        (("--params", "nowhere.npy"), "nowhere.npy"),
        (("--sede", 1), "did you mean --seed"),
        (("--cells", "many"), "invalid int value"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, arguments: tuple, message: str) -> None:
    with pytest.raises(hm.InputError, match=message):
        simulate(tmp_path / "mock.h5", *arguments)
    assert not list(tmp_path.iterdir())

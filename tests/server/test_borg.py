"""The halo likelihood inside BORG: with a stand-in everywhere, with the real package where it is.

The second needs the environment that scripts/borg_environment.sh makes; HALO_MDN_BORG_PYTHON
names another one.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import borg_stand_in
import jax
import numpy as np
import pytest

import halo_mdn as hm
from halo_mdn.server import LikelihoodServer
from halo_mdn.server.server import listening

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "halo_mdn" / "clients"
BORG_PYTHON = Path(os.environ.get("HALO_MDN_BORG_PYTHON", ROOT / "build" / "borg" / "bin/python"))
SHAPE = (16, 16, 16)
SIDE = 64.0


@contextmanager
def serving(bias: hm.NeuralBias, halos: hm.HaloCatalogue, path: Path) -> Iterator[str]:
    stopped = threading.Event()
    with listening(path) as listener:
        server = LikelihoodServer(bias, halos)
        thread = threading.Thread(target=server.serve, args=(listener, stopped.is_set))
        thread.start()
        try:
            yield str(path)
        finally:
            stopped.set()
            thread.join()


# With the stand-in: our side of the interface, step by step.


@pytest.fixture
def grid() -> hm.Grid:
    return hm.Grid((8, 9, 10), (32.0, 36.0, 40.0))


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    borg_stand_in.install(monkeypatch, str(CLIENTS))
    yield importlib.import_module("halo_mdn_borg")
    for name in ("halo_mdn_borg", "halo_mdn_client"):
        sys.modules.pop(name, None)


@pytest.fixture
def chain() -> borg_stand_in.LogNormalChain:
    return borg_stand_in.LogNormalChain((8, 9, 10), (32.0, 36.0, 40.0))


@pytest.fixture
def server(ours: ModuleType, bias, halos, tmp_path: Path) -> Iterator[Any]:
    with serving(bias, halos, tmp_path / "a.sock") as path, ours.Likelihood(path) as connection:
        yield connection


@pytest.fixture
def likelihood(ours: ModuleType, chain, server, params) -> Any:
    return ours.HaloLikelihood(chain, server, np.asarray(params))


@pytest.fixture
def s_hat() -> np.ndarray:
    return np.fft.rfftn(np.random.default_rng(4).normal(size=(8, 9, 10))) / 720**0.5


@pytest.fixture
def state(likelihood: Any) -> borg_stand_in.MarkovState:
    state = borg_stand_in.MarkovState()
    likelihood.initializeLikelihood(state)
    likelihood.setupDefaultParameters(state, 0)
    return state


def test_energy_and_gradient_are_those_of_minus_ln_l(
    likelihood, chain, s_hat, bias, params, halos
) -> None:
    energy, gradient = likelihood.logLikelihood(s_hat), likelihood.gradientLikelihood(s_hat)
    expected = hm.log_likelihood(bias, params, chain.delta, halos)
    assert energy == pytest.approx(-float(expected), rel=1e-12)
    direction = np.fft.rfftn(np.random.default_rng(5).normal(size=(8, 9, 10))) / 720**0.5
    step = 1e-5  # the model is smooth: the error of central differences is about step^2
    right, left = (likelihood.logLikelihood(s_hat + sign * step * direction) for sign in (1, -1))
    along = np.sum((np.conj(gradient) * direction).real)
    assert (right - left) / (2 * step) == pytest.approx(along, rel=1e-7)


def test_real_fields_are_borgs_fourier_pair(likelihood, chain, s_hat) -> None:
    cell = 64.0  # (Mpc/h)^3
    real = np.fft.irfftn(s_hat, s=(8, 9, 10), axes=(0, 1, 2)) / cell
    assert likelihood.logLikelihood(real) == pytest.approx(
        likelihood.logLikelihood(s_hat), rel=1e-12
    )
    gradient = likelihood.gradientLikelihood(real)
    direction = np.random.default_rng(5).normal(size=real.shape) / cell
    step = 1e-6
    right, left = (likelihood.logLikelihood(real + sign * step * direction) for sign in (1, -1))
    assert (right - left) / (2 * step) == pytest.approx(np.sum(gradient * direction), rel=1e-6)


def test_value_and_gradient_of_one_field_ask_the_server_once(
    likelihood, s_hat, server, monkeypatch
) -> None:
    asked = []
    evaluate = server.evaluate
    monkeypatch.setattr(server, "evaluate", lambda *args: asked.append(1) or evaluate(*args))
    likelihood.logLikelihood(s_hat)
    likelihood.gradientLikelihood(s_hat)
    assert len(asked) == 1
    likelihood.params = likelihood.params + 0.01
    likelihood.logLikelihood(s_hat)
    assert len(asked) == 2


def test_the_state_holds_parameters_and_density(
    likelihood, state, chain, s_hat, params, server
) -> None:
    np.testing.assert_array_equal(state["halo_bias_params"], params)
    state["halo_bias_params"][:] += 0.1
    likelihood.updateMetaParameters(state)
    np.testing.assert_array_equal(likelihood.params, params + 0.1)
    likelihood.logLikelihood(s_hat)
    likelihood.commitAuxiliaryFields(state)
    np.testing.assert_array_equal(state["BORG_final_density"], chain.delta)
    likelihood.updateCosmology("a cosmology")
    assert chain.cosmology == "a cosmology"


def test_mock_data_come_from_the_field(likelihood, state, chain, s_hat, bias, params, grid) -> None:
    likelihood.generateMockData(s_hat, state)
    mock = hm.simulate(jax.random.key(0), bias, params, chain.delta, grid)
    expected = hm.log_likelihood(bias, params, chain.delta, mock)
    assert likelihood.logLikelihood(s_hat) == pytest.approx(-float(expected), rel=1e-9)
    np.testing.assert_array_equal(state["BORG_final_density"], chain.delta)


def test_a_box_that_does_not_fit_is_refused(ours: ModuleType, server, params) -> None:
    make = borg_stand_in.LogNormalChain
    sides = (32.0, 36.0, 40.0)
    for chain, complaint in (
        (make((8, 8, 8), sides), "has the grid"),
        (make((8, 9, 10), (32.0, 36.0, 41.0)), "has the sides"),
        (make((8, 9, 10), sides, planes=4), "holds 4 of 8 planes"),
    ):
        with pytest.raises(ValueError, match=complaint):
            ours.HaloLikelihood(chain, server, np.asarray(params))


def test_the_bias_sampler_moves_the_parameters_at_the_field(
    ours: ModuleType, likelihood, state, s_hat, params
) -> None:
    state["s_hat_field"] = s_hat
    sampler = ours.BiasSampler(likelihood, num_adapt=6, max_steps=4)
    sampler.initialize(state)
    before = [sampler.sample(state) or np.array(state["halo_bias_params"]) for _ in range(8)]
    np.testing.assert_array_equal(likelihood.params, before[-1])
    assert np.isfinite(before).all() and not np.array_equal(before[-1], params)
    assert state["halo_bias_adaptation"][0] == 8
    saved = {name: np.array(array) for name, array in state.items()}
    sampler.sample(state)
    # A restart: BORG allocates through `restore`, then fills in what it saved.
    again = ours.BiasSampler(likelihood, num_adapt=6, max_steps=4)
    other = borg_stand_in.MarkovState(s_hat_field=s_hat)
    likelihood.initializeLikelihood(other)
    again.restore(other)
    for name, array in saved.items():
        other[name][...] = array
    again.sample(other)
    np.testing.assert_array_equal(other["halo_bias_params"], state["halo_bias_params"])


def test_trajectories_leave_a_gaussian_as_it_is(ours: ModuleType) -> None:
    """Mean and covariance of 4000 moves within 6 standard errors (about 400 effective draws)."""
    random = np.random.default_rng(6)
    precision = np.array([[30.0, 4.0, 0.0], [4.0, 1.0, 0.1], [0.0, 0.1, 0.3]])
    mean = np.array([1.0, -2.0, 3.0])

    def potential(at: np.ndarray) -> tuple[float, np.ndarray]:
        gradient = precision @ (at - mean)
        return 0.5 * float((at - mean) @ gradient), gradient

    transform = ours.whitening(potential, mean + 0.3)
    np.testing.assert_allclose(transform.T @ precision @ transform, np.eye(3), atol=1e-6)
    draws = [mean]
    for _ in range(4000):
        draws.append(ours.trajectory(potential, draws[-1], transform, 1.5, 8, random).params)
    whitened = np.linalg.solve(transform, (np.array(draws) - mean).T)
    np.testing.assert_allclose(whitened.mean(axis=1), 0, atol=6 / 400**0.5)
    np.testing.assert_allclose(np.cov(whitened), np.eye(3), atol=6 * 2**0.5 / 400**0.5)


def test_a_trajectory_that_diverges_is_rejected(ours: ModuleType) -> None:
    def potential(at: np.ndarray) -> tuple[float, np.ndarray]:
        inside = bool(np.abs(at).max() < 10)
        return (float(at @ at) if inside else np.inf), 2 * at

    start, random = np.ones(2), np.random.default_rng(0)
    for _ in range(20):
        move = ours.trajectory(potential, start, np.eye(2), 50.0, 8, random)
        np.testing.assert_array_equal(move.params, start)
        assert move.accept_prob == 0
    with pytest.raises(ValueError, match="start from others"):
        ours.trajectory(potential, 20 * start, np.eye(2), 0.1, 8, random)


# With the real package, in a process of its own.


@pytest.fixture(scope="module")
def catalogue() -> hm.HaloCatalogue:
    from conftest import REALISTIC

    field = np.exp(np.random.default_rng(3).normal(size=SHAPE) - 0.5) - 1
    grid = hm.Grid(SHAPE, (SIDE, SIDE, SIDE))
    return hm.simulate(jax.random.key(1), hm.NeuralBias(), REALISTIC, field, grid)


@pytest.fixture(scope="module")
def measured(
    catalogue: hm.HaloCatalogue, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, np.ndarray]:
    """What tests/server/borg_chain.py measured inside BORG's environment."""
    if not BORG_PYTHON.is_file():
        pytest.skip(f"no BORG environment at {BORG_PYTHON}: scripts/borg_environment.sh makes it")
    folder = tmp_path_factory.mktemp("borg")  # BORG writes files into the current folder
    environment = {**os.environ, "PYTHONPATH": str(CLIENTS), "OMP_NUM_THREADS": "1"}
    script = str(ROOT / "tests" / "server" / "borg_chain.py")
    text = (ROOT / "docs" / "borg.md").read_text()
    documented = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    with serving(hm.NeuralBias(), catalogue, folder / "run.sock") as path:
        for arguments in ([script, path, "results.npz"], ["-c", documented]):
            result = subprocess.run(
                [str(BORG_PYTHON), *arguments],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    with np.load(folder / "results.npz") as file:
        return dict(file)


@pytest.mark.borg
def test_borg_gets_our_value_and_gradient(measured, catalogue, bias, params) -> None:
    expected = hm.adjoint(bias, params, measured["delta"], catalogue)
    assert measured["value"] == pytest.approx(-float(expected.value), rel=1e-10)
    scale = float(np.abs(expected.delta_cot).max())
    np.testing.assert_allclose(
        measured["delta_cot"], expected.delta_cot, rtol=1e-10, atol=1e-10 * scale
    )
    # A chain of its own, driven by hand, turns that into what the likelihood returned.
    scale = np.abs(measured["by_hand"]).max()
    np.testing.assert_allclose(
        measured["gradient"], measured["by_hand"], rtol=1e-10, atol=1e-10 * scale
    )
    np.testing.assert_allclose(measured["density"], measured["delta"], rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(measured["state_params"], params)


@pytest.mark.borg
@pytest.mark.parametrize("kind", ["differences", "real_differences"])
def test_the_gradient_through_borgs_lpt_is_that_of_differences(measured, kind: str) -> None:
    """Along random directions; errors are relative to the product of the two norms.

    A derivative along a random direction is some 300 times smaller than that product, and the
    value's rounding of 1e-16 * 45000 limits it to 1e-6 of itself at this step.
    """
    numerical, analytical = measured[kind].T
    scale = measured["gradient_norm"] * measured["direction_norm"]
    np.testing.assert_allclose(numerical / scale, analytical / scale, rtol=0, atol=1e-7)
    np.testing.assert_allclose(numerical, analytical, rtol=1e-4)


@pytest.mark.borg
def test_real_input_is_the_same_point(measured) -> None:
    assert measured["real_value"] == pytest.approx(float(measured["value"]), rel=1e-10)


@pytest.mark.borg
def test_hamiltonian_trajectories_through_borg_conserve_energy(measured) -> None:
    """Leapfrog: half the step, a quarter of the error (CIC's kinks add noise to it)."""
    error = np.sqrt(np.mean(measured["energy_errors"] ** 2, axis=0))
    order = np.log2(error[0] / error[-1]) / (len(error) - 1)
    assert 1.6 < order < 2.5


@pytest.mark.borg
def test_borgs_density_belongs_to_the_corners_of_the_voxels(measured) -> None:
    """What docs/borg.md says of the half-voxel offset between BORG's field and ours."""
    density = measured["density"]
    np.testing.assert_allclose(measured["particles_at_corners"], density, atol=1e-10)
    assert np.abs(measured["particles_at_centres"] - density).max() > 1


@pytest.mark.borg
def test_the_bias_is_sampled_beside_borgs_field(measured) -> None:
    chain = measured["chain"]
    assert np.isfinite(chain).all()
    assert len(np.unique(chain, axis=0)) > 5
    np.testing.assert_array_equal(measured["likelihood_params"], chain[-1])


@pytest.mark.borg
def test_mistakes_inside_borg_are_told(measured) -> None:
    wanted = ["has the grid", "has the sides", "params has shape", "are NaN or infinite"]
    for message, part in zip(measured["messages"], wanted, strict=True):
        assert part in message

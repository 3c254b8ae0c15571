from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, NUTS, init_to_value

from halo_mdn.sampling import (
    CheckpointError,
    Interrupted,
    NutsSettings,
    Program,
    Start,
    StartError,
    Whitened,
    change_coordinates,
    run_nuts,
)
from halo_mdn.sampling.nuts.checkpoint import load_checkpoint, save_checkpoint

SHORT = NutsSettings(
    num_chains=2, num_warmup=70, num_samples=50, chunk_size=20, whiten=False, adapt_mass=True
)
FIELDS = ("energy", "num_steps", "accept_prob", "diverging", "potential_energy")


def curved(data):
    """A banana with a narrow direction: long and short trajectories, rejections, adaptation."""
    params = numpyro.sample("params", dist.Normal(0.0, 10.0).expand([3]))
    x, y, z = params
    numpyro.factor("data", -0.5 * jnp.sum((data - x) ** 2) - 2.0 * (y - x**2) ** 2 - 50.0 * z**2)


DATA = jnp.asarray([0.3, -0.2, 1.1])
COVARIANCE = np.array([[0.4, 0.1, 0.0], [0.1, 0.8, 0.01], [0.0, 0.01, 0.02]])


def make_start(num_chains=2, seed=1):
    noise = np.random.default_rng(seed).normal(size=(num_chains, 3))
    return Start(
        position=noise * 0.3,
        location=np.array([0.3, 0.1, 0.0]),
        inverse_mass=COVARIANCE,
        log_posterior=np.zeros(1),
        description="made up",
    )


def numpyro_reference(chain_method, *, settings=SHORT, whiten=False):
    start = make_start(settings.num_chains)
    model, args, site = curved, (DATA,), "params"
    position, inverse_mass = jnp.asarray(start.position), jnp.asarray(start.inverse_mass)
    if whiten:
        coordinates = Whitened.at(start.location, start.inverse_mass)
        model, args = change_coordinates(curved, "params"), (coordinates, DATA)
        site, inverse_mass = "params_latent", None
        position = jax.vmap(coordinates.to_latent)(position)
    kernel = NUTS(
        model,
        dense_mass=True,
        inverse_mass_matrix=inverse_mass,
        init_strategy=init_to_value(values={site: position[0]}),
    )
    mcmc = MCMC(
        kernel,
        num_warmup=settings.num_warmup,
        num_samples=settings.num_samples,
        num_chains=settings.num_chains,
        chain_method=chain_method,
        progress_bar=False,
    )
    single = settings.num_chains == 1
    initial = {site: position[0] if single else position}
    mcmc.run(jax.random.key(3), *args, init_params=initial, extra_fields=FIELDS)
    return mcmc.get_samples(group_by_chain=True)["params"], mcmc.get_extra_fields(True)


def run(settings=SHORT, **options):
    options.setdefault("start", make_start(settings.num_chains))
    return run_nuts(curved, (DATA,), key=jax.random.key(3), settings=settings, **options)


def changed(**changes):
    return NutsSettings(**{**vars(SHORT), **changes})


@pytest.mark.parametrize(
    ("ours", "theirs", "whiten"),
    [
        ("vectorized", "vectorized", False),
        ("vectorized", "vectorized", True),
        ("parallel", "sequential", True),
        pytest.param("sequential", "sequential", False, marks=pytest.mark.slow),
        pytest.param("parallel", "sequential", False, marks=pytest.mark.slow),
    ],
)
def test_draws_are_those_of_numpyro_to_the_last_bit(ours, theirs, whiten):
    expected, fields = numpyro_reference(theirs, whiten=whiten)
    draws = run(changed(chain_method=ours, whiten=whiten))
    np.testing.assert_array_equal(draws.params, expected)
    for name in FIELDS:
        if not (whiten and name == "potential_energy"):  # NumPyro's lacks the Jacobian
            np.testing.assert_array_equal(draws.stats[name], fields[name], err_msg=name)


@pytest.mark.slow
def test_one_chain_is_numpyros_too():
    settings = changed(num_chains=1)
    expected, _ = numpyro_reference("sequential", settings=settings)
    np.testing.assert_array_equal(run(settings).params, expected)


def test_chunk_size_changes_no_draw():
    whole, pieces = run(changed(chunk_size=50)), run(changed(chunk_size=7))
    np.testing.assert_array_equal(whole.params, pieces.params)


def test_statistics_mean_what_they_say():
    draws = run(changed(whiten=True))

    def potential(params):
        traced = numpyro.infer.util.log_density(curved, (DATA,), {}, {"params": params})
        return -traced[0]

    expected = jax.vmap(jax.vmap(potential))(draws.params)
    np.testing.assert_allclose(draws.stats["potential_energy"], expected, rtol=1e-12)
    assert draws.params.shape == (2, 50, 3)
    assert draws.warmup_params.shape == (2, 70, 3)
    assert draws.inverse_mass.shape == (2, 3, 3)
    assert draws.num_gradients == draws.stats["num_steps"].sum()
    steps = draws.stats["num_steps"]
    assert np.all(steps < 2 ** draws.stats["tree_depth"])
    assert np.all(steps >= 2 ** (draws.stats["tree_depth"] - 1))
    assert np.all(draws.stats["step_size"] == draws.stats["step_size"][:, :1])


def test_posterior_of_a_gaussian_is_right():
    def model(precision, mean):
        params = numpyro.sample("params", dist.Normal(0.0, 10.0).expand([2]))
        numpyro.factor("data", -0.5 * (params - mean) @ precision @ (params - mean))

    precision = np.array([[4.0, 1.5], [1.5, 900.0]])
    mean = np.array([1.0, -2.0])
    total = precision + np.eye(2) / 100.0
    covariance = np.linalg.inv(total)
    start = Start(np.zeros((4, 2)), mean, covariance, np.zeros(1), "")
    settings = NutsSettings(num_warmup=300, num_samples=1000, chunk_size=100)
    draws = run_nuts(
        model, (precision, mean), start=start, key=jax.random.key(0), settings=settings
    )
    flat = draws.params.reshape(-1, 2)
    deviation = np.sqrt(np.diag(covariance))
    # NUTS on a whitened Gaussian is close to independent: 4,000 draws, so a mean is known to
    # 1/60 of a deviation and a variance to 2.5 per cent; four of these each.
    shift = (flat.mean(axis=0) - covariance @ precision @ mean) / deviation
    np.testing.assert_allclose(shift, 0.0, atol=0.07)
    scaled = (np.cov(flat.T) - covariance) / np.outer(deviation, deviation)
    np.testing.assert_allclose(scaled, 0.0, atol=0.1)


def test_model_is_traced_a_fixed_number_of_times():
    traces = []

    def counted(data):
        traces.append(1)
        curved(data)

    def count(num_samples):
        traces.clear()
        settings = changed(num_samples=num_samples)
        run_nuts(counted, (DATA,), start=make_start(), key=jax.random.key(3), settings=settings)
        return len(traces)

    assert count(20) == count(200)


def test_progress_tells_phases_totals_and_convergence():
    reports = []
    run(progress=reports.append, monitor=lambda params: params[:2])
    assert [reports[0].phase, reports[-1].phase] == ["start", "sampling"]
    assert [r.done for r in reports if r.phase == "warmup"][-1] == 70
    assert (reports[-1].done, reports[-1].total, reports[-1].seconds_left) == (50, 50, 0.0)
    assert reports[-1].worst_rhat > 0.98 and reports[-1].min_ess > 0
    assert reports[0].worst_rhat is None


def test_stops_at_the_target_and_not_before():
    long = changed(num_samples=4000, target_ess=100.0, target_rhat=1.1)
    reports = []
    draws = run(long, monitor=lambda params: params, progress=reports.append)
    assert draws.stopped_early
    assert draws.params.shape[1] < 4000 and draws.params.shape[1] % 20 == 0
    assert reports[-1].min_ess >= 100.0
    whole = run(changed(num_samples=draws.params.shape[1]))
    np.testing.assert_array_equal(draws.params, whole.params)
    assert not whole.stopped_early


class StopAfter:
    """Sends a signal to this process once so many draws are made."""

    def __init__(self, done, number=signal.SIGINT):
        self.done, self.number = done, number

    def __call__(self, report):
        if report.phase == "sampling" and report.done >= self.done:
            self.done = np.inf
            signal.raise_signal(self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("chain_method", ["parallel", "vectorized"])
def test_interrupted_run_goes_on_as_if_nothing_had_happened(tmp_path, number, chain_method):
    path = tmp_path / "run" / "checkpoint.npz"
    settings = changed(chain_method=chain_method)
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match="--resume") as caught:
        run(settings, checkpoint=path, progress=StopAfter(10, number))
    assert caught.value.done < caught.value.total
    assert signal.getsignal(number) is before
    resumed = run_nuts(
        curved,
        (DATA,),
        start=None,
        key=jax.random.key(3),
        settings=settings,
        checkpoint=path,
        resume=True,
    )
    whole = run(settings)
    np.testing.assert_array_equal(resumed.params, whole.params)
    for name, values in whole.stats.items():
        np.testing.assert_array_equal(resumed.stats[name], values, err_msg=name)
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint.npz"]


def test_finished_run_can_be_made_longer(tmp_path):
    path = tmp_path / "checkpoint.npz"
    run(changed(num_samples=30), checkpoint=path)
    longer = run(checkpoint=path, resume=True)
    np.testing.assert_array_equal(longer.params, run().params)
    with pytest.raises(CheckpointError, match="num_samples to at least 50"):
        run(changed(num_samples=10), checkpoint=path, resume=True)


def test_checkpoint_of_another_run_is_refused_by_name(tmp_path):
    path = tmp_path / "checkpoint.npz"
    run(changed(num_samples=1), checkpoint=path, fingerprint={"catalogue": "a.npz"})
    with pytest.raises(CheckpointError, match=r"target_accept is 0\.9 now and was 0\.8"):
        run(changed(target_accept=0.9), checkpoint=path, resume=True)
    with pytest.raises(CheckpointError, match="catalogue is 'b.npz' now and was 'a.npz'"):
        run(checkpoint=path, resume=True, fingerprint={"catalogue": "b.npz"})
    with pytest.raises(CheckpointError, match="model arguments is"):
        run_nuts(
            curved,
            (DATA + 1e-9,),
            start=make_start(),
            key=jax.random.key(3),
            settings=SHORT,
            checkpoint=path,
            resume=True,
        )


def test_a_checkpoint_of_other_chains_is_refused(tmp_path):
    path = tmp_path / "checkpoint.npz"
    save_checkpoint(path, {f"start_{k}": x for k, x in make_start(2).arrays().items()}, {})
    with pytest.raises(CheckpointError, match="it has 2 chains, num_chains is 3 now"):
        run(changed(num_chains=3), start=None, checkpoint=path, resume=True)


def test_a_checkpoint_that_was_edited_is_refused(tmp_path):
    path, program = tmp_path / "checkpoint.npz", Program()
    settings = changed(num_warmup=4, num_samples=4, chunk_size=4)
    run(settings, checkpoint=path, program=program)
    kept = path.read_bytes()
    arrays, header = load_checkpoint(path), json.loads(str(np.load(path)["header"]))
    longer = replace(settings, num_samples=6)
    assert run(longer, checkpoint=path, resume=True, program=program).params.shape[1] == 6

    def with_nan(name):
        array = arrays[name].copy()
        array.flat[-1] = np.nan
        return {name: array}

    edits = [
        ({"done": np.array(-5)}, "holds -5 draws per chain"),
        ({"done": np.array(7)}, "says 7 draws of 2 chains and does not hold them"),
        ({"done": np.arange(2)}, "has no clock"),
        ({"rows_params": arrays["rows_params"][:1]}, "does not hold them"),
        (with_nan("rows_params"), "draws that are not numbers"),
        (with_nan("state_0001"), "draws that are not numbers"),
        (with_nan("start_location"), "start that is not finite"),
    ]
    for edit, complaint in edits:
        save_checkpoint(path, {**arrays, **edit}, header["fingerprint"])
        with pytest.raises(CheckpointError, match=complaint):
            run(longer, start=None, checkpoint=path, resume=True, program=program)
    path.write_bytes(kept)
    assert run(longer, checkpoint=path, resume=True, program=program).params.shape[1] == 6


def test_start_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="holds 2 chains, the settings ask for 3"):
        run_nuts(
            curved,
            (DATA,),
            start=make_start(2),
            key=jax.random.key(3),
            settings=changed(num_chains=3),
        )
    with pytest.raises(CheckpointError, match="nothing to resume"):
        run_nuts(curved, (DATA,), start=None, key=jax.random.key(3), resume=True)


@pytest.mark.parametrize(
    "bad",
    [
        {"num_chains": 0},
        {"num_samples": 1.5},
        {"target_accept": 1.0},
        {"chain_method": "fast"},
        {"target_ess": -1.0},
        {"target_rhat": 1.0},
    ],
)
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        NutsSettings(**bad)


CHILD = """
import os, signal, sys
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
from pathlib import Path
from typing import NamedTuple
from test_nuts import SHORT, run
folder, kill_at = Path(sys.argv[1]), int(sys.argv[2])
made = 0
def progress(report):
    global made
    made += report.phase != "start"
    if made == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
draws = run(checkpoint=folder / "checkpoint.npz", resume=True, progress=progress)
np.savez(folder / "draws.npz", params=draws.params, **draws.stats)
"""


@pytest.mark.slow
def test_killed_several_times_the_draws_are_the_same(tmp_path):
    """kill -9 after 4, 5 and 6 stretches, then to the end; each life starts from the last file."""
    here = Path(__file__).parent
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    environment = {"PYTHONPATH": f"{here}:{here.parents[1]}", "PATH": "/usr/bin:/bin"}
    for kill_at in (4, 5, 6):
        life = subprocess.run([*command, str(kill_at)], env=environment, capture_output=True)
        assert life.returncode == -signal.SIGKILL, life.stderr.decode()
    life = subprocess.run([*command, "-1"], env=environment, capture_output=True)
    assert life.returncode == 0, life.stderr.decode()
    whole = run()
    with np.load(tmp_path / "draws.npz") as draws:
        np.testing.assert_array_equal(draws["params"], whole.params)
        np.testing.assert_array_equal(draws["energy"], whole.stats["energy"])


class Sinh(NamedTuple):
    """Strongly curved coordinates for the test below."""

    def to_params(self, latent):
        return jnp.sinh(latent)

    def to_latent(self, params):
        return jnp.arcsinh(params)

    def log_det(self, latent):
        return jnp.sum(jnp.log(jnp.cosh(latent)))


def test_curved_coordinates_leave_the_posterior_alone():
    """Prior Normal(0, 10) and two unit-variance measurements of each of two parameters."""

    def model(data):
        params = numpyro.sample("params", dist.Normal(0.0, 10.0).expand([2]))
        numpyro.factor("data", -0.5 * jnp.sum((data - params[None]) ** 2) / 4.0)

    data = np.array([[1.0, -3.0], [2.0, -2.0]])
    variance = 1.0 / (2.0 / 4.0 + 1.0 / 100.0)
    mean = variance * data.sum(axis=0) / 4.0
    start = Start(np.tile(mean, (4, 1)), mean, variance * np.eye(2), np.zeros(1), "")
    settings = NutsSettings(num_warmup=300, num_samples=1000, chunk_size=100)
    draws = run_nuts(
        model,
        (data,),
        start=start,
        key=jax.random.key(0),
        settings=settings,
        coordinates=Sinh(),
    )
    scaled = (draws.params.reshape(-1, 2) - mean) / np.sqrt(variance)
    # 4,000 draws, a third of them effective: four deviations of a mean are 0.11, of a variance
    # 0.16. Without the Jacobian the first mean is off by 0.4.
    np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=0.11)
    np.testing.assert_allclose(scaled.var(axis=0), 1.0, atol=0.16)


def test_a_program_serves_other_data_without_compiling_and_changes_no_draw():
    settings = changed(whiten=True, num_warmup=20, num_samples=20, chain_method="sequential")

    def draws(data, seed, program, **changes):
        key, used = jax.random.key(seed), NutsSettings(**{**vars(settings), **changes})
        start = make_start(seed=seed)
        result = run_nuts(curved, (data,), start=start, key=key, settings=used, program=program)
        return np.concatenate([result.warmup_params, result.params], axis=1)

    program = Program()
    other = DATA + 0.5
    first = draws(DATA, 3, program)
    compiled = program._chains._segment._cache_size()
    second = draws(other, 4, program)
    assert program._chains._segment._cache_size() == compiled
    np.testing.assert_array_equal(second, draws(other, 4, None))
    np.testing.assert_array_equal(first, draws(DATA, 3, program))
    # With other settings it is another program.
    longer = draws(DATA, 3, program, num_warmup=30)
    np.testing.assert_array_equal(longer, draws(DATA, 3, None, num_warmup=30))
    assert not np.array_equal(longer[:, :40], first)


def test_a_start_of_infinite_energy_is_an_error_of_one_sentence():
    start = make_start()
    far = start.position.copy()
    far[0] = 1e200  # its square overflows
    with pytest.raises(StartError, match="posterior is not finite where a chain starts"):
        run_nuts(
            curved,
            (DATA,),
            start=replace(start, position=far),
            key=jax.random.key(0),
            settings=SHORT,
        )

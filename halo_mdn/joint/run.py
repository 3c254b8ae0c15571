"""A joint inference from settings to results."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import h5py
import jax
import jax.numpy as jnp
import numpy as np

from halo_mdn.catalogue import HaloCatalogue
from halo_mdn.cosmology import Cosmology, check_cosmology
from halo_mdn.defaults import MOCK_PARAMS
from halo_mdn.errors import InputError
from halo_mdn.grid import Grid
from halo_mdn.identified import identified_functions
from halo_mdn.io.exchange import Exchange, read_exchange
from halo_mdn.joint.beginning import begin
from halo_mdn.joint.figure import write_figure
from halo_mdn.joint.problem import FreeCosmology, JointProblem
from halo_mdn.joint.recovery import Mixing, Recovery, measure_recovery, mixing
from halo_mdn.joint.samplers import Chunk, sampler_of
from halo_mdn.joint.settings import JointConfig, as_text
from halo_mdn.lpt import Lpt, density
from halo_mdn.mock import as_exchange, make_mock
from halo_mdn.network import NeuralBias
from halo_mdn.provenance import versions

RESULTS = ("joint.h5", "joint.png", "summary.txt")
_COUNTS = (
    "start_gradients",
    "warmup_gradients",
    "num_gradients",
    "accept_prob",
    "divergences",
    "seconds",
)
Say = Callable[[str], None]


class JointDraws(NamedTuple):
    """Draws of all chains, cut to the shortest, and what they cost.

    Attributes
    ----------
    white_noise : array (chain, draw, M0, M1, M2), single precision
    params : array (chain, draw, P)
    cosmology : dict of arrays (chain, draw)
    start_gradients, warmup_gradients, num_gradients : int
        Gradients of the forward model, over all chains.
    accept_prob, divergences, seconds
        Of the sampling phase.
    """

    white_noise: np.ndarray
    params: np.ndarray
    cosmology: dict[str, np.ndarray]
    start_gradients: int
    warmup_gradients: int
    num_gradients: int
    accept_prob: float
    divergences: int
    seconds: float


def prepare(config: JointConfig) -> tuple[JointProblem, Exchange]:
    """The problem, and the file or mock that it comes from.

    Raises
    ------
    InputError
        If the data or a setting is unusable.
    """
    bias = NeuralBias(
        mass_threshold=config.data.mass_threshold, density_floor=config.data.density_floor
    )
    names = ("omega_m", "omega_b", "h", "n_s", "sigma8")
    cosmology = Cosmology(**{name: getattr(config.cosmology, name) for name in names})
    check_cosmology(cosmology)
    content = _content(config, bias, cosmology)
    lpt = Lpt(
        content.grid,
        redshift=content.redshift,
        order=config.lpt.order,  # type: ignore[arg-type]
        supersampling=config.lpt.supersampling,
    )
    if content.mass.size and content.mass.min() < config.data.mass_threshold * (1 - 1e-9):
        raise InputError(
            f"the lightest halo has {content.mass.min():.4g} Msun/h, below data.mass_threshold = "
            f"{config.data.mass_threshold:.4g}: raise the threshold of the file's catalogue"
        )
    halos = HaloCatalogue.from_positions(
        content.position, content.mass, content.grid, config.data.mass_threshold
    )
    problem = JointProblem(
        bias=bias,
        lpt=lpt,
        halos=halos,
        cosmology=cosmology,
        free_cosmology=_free_cosmology(config),
        precision=config.lpt.precision,  # type: ignore[arg-type]
    )
    return problem, content


def draw(config: JointConfig, problem: JointProblem, say: Say) -> JointDraws:
    """Start and run all chains, each on its own thread."""
    began = time.monotonic()
    sampler = sampler_of(config.sampler)
    keys = jax.random.split(jax.random.key(config.seed), config.sampler.num_chains)

    def one_chain(number: int) -> tuple[int, list[Chunk]]:
        scatter_key, begin_key, key = jax.random.split(keys[number], 3)
        scatter = config.start.scatter * jax.random.normal(scatter_key, (len(MOCK_PARAMS),))
        start = begin(
            begin_key, problem, jnp.array(MOCK_PARAMS) + scatter,
            num_steps=config.start.field_steps, newton_steps=config.start.newton_steps,
        )  # fmt: skip
        say(f"chain {number + 1}: started, {time.monotonic() - began:.0f} s")
        chunks, done = [], 0
        for chunk in sampler(key, problem, start, config.sampler):
            chunks.append(chunk)
            done += len(chunk.params) * (not chunk.warming_up)
            phase = "warm-up" if chunk.warming_up else f"{done}/{config.sampler.num_samples}"
            gradients = sum(c.num_gradients for c in chunks)
            say(
                f"chain {number + 1}: {phase}, {gradients} gradients, acceptance "
                f"{chunk.accept_prob:.2f}, {time.monotonic() - began:.0f} s"
            )
            if time.monotonic() - began > 60 * config.sampler.max_minutes and done >= 4:
                break
        return start.num_gradients, chunks

    with ThreadPoolExecutor(config.sampler.num_chains) as pool:
        chains = list(pool.map(one_chain, range(config.sampler.num_chains)))
    return _join(chains, time.monotonic() - began)


def report(
    problem: JointProblem, content: Exchange, draws: JointDraws
) -> tuple[str, Recovery | None]:
    """The summary in words and numbers, and the recovery where the truth is known."""
    num_chains, num_draws = draws.params.shape[:2]
    lines = [
        f"{problem.halos.num_halos:,} halos, {problem.lpt.grid.shape[0]}^3 cells; {num_chains} "
        f"chains x {num_draws} draws in {draws.seconds:.0f} s; {draws.divergences} divergent, "
        f"mean acceptance {draws.accept_prob:.2f}",
        f"gradients of the forward model: start {draws.start_gradients}, warm-up "
        f"{draws.warmup_gradients}, sampling {draws.num_gradients}",
    ]
    lines += [_cost_line("bias, raw parameters", mixing(draws.params), draws)]
    lines += [_cost_line("bias, ln n(M | environment)", _function_mixing(problem, draws), draws)]
    recovery = None
    box_size = problem.lpt.grid.box_size[0]
    for name, values in draws.cosmology.items():
        lines.append(f"{name}: {values.mean():.4f} +- {values.std():.4f}")
        lines.append(_cost_line(name, mixing(values[..., None]), draws))
    truth = content.white_noise
    if truth is not None and truth.shape == draws.white_noise.shape[2:]:
        recovery = measure_recovery(draws.white_noise, truth, box_size)
        lines += _recovery_lines(recovery, draws)
        lines += _params_lines(problem, content, draws)
    return "\n".join(lines) + "\n", recovery


def write_draws(folder: Path, config: JointConfig, draws: JointDraws) -> None:
    """Write all draws to ``joint.h5``; the file appears complete or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    _atomic(folder / "joint.h5", lambda path: _write_draws(path, config, draws))


def write_report(
    folder: Path, problem: JointProblem, content: Exchange, draws: JointDraws, text: str,
    recovery: Recovery | None,
) -> None:  # fmt: skip
    """Write the summary and, where the truth is known, the figure."""
    _atomic(folder / "summary.txt", lambda path: path.write_text(text, encoding="utf-8"))
    if recovery is None:
        return
    mean, spread = _density_moments(problem, draws)
    counts = np.zeros(problem.lpt.grid.shape)
    np.add.at(counts, tuple(np.asarray(problem.halos.voxel).T), 1)
    _atomic(
        folder / "joint.png",
        lambda path: write_figure(
            path, recovery, truth=1 + content.delta, mean=mean, spread=spread, counts=counts,
            box_size=problem.lpt.grid.box_size[0],
        ),
    )  # fmt: skip


def _content(config: JointConfig, bias: NeuralBias, cosmology: Cosmology) -> Exchange:
    if config.data.file:
        return read_exchange(Path(config.data.file))
    settings = config.mock
    grid = Grid((settings.cells,) * 3, (settings.box_size,) * 3)
    lpt = Lpt(
        grid,
        redshift=config.lpt.redshift,
        order=config.lpt.order,  # type: ignore[arg-type]
        supersampling=config.lpt.supersampling,
    )
    mock = make_mock(
        settings.seed, lpt, cosmology=cosmology, bias=bias, params=np.array(MOCK_PARAMS)
    )
    return as_exchange(mock)


def _free_cosmology(config: JointConfig) -> FreeCosmology:
    values = vars(config.cosmology)
    return tuple(
        (name, (values[name], values[f"{name}_width"]))
        for name in ("sigma8", "omega_m")
        if values[f"{name}_width"] > 0
    )


def _join(chains: list[tuple[int, list[Chunk]]], seconds: float) -> JointDraws:
    kept = [[c for c in chunks if not c.warming_up] for _, chunks in chains]
    length = min(sum(len(c.params) for c in chunks) for chunks in kept)

    def stacked(value: Callable[[Chunk], np.ndarray]) -> np.ndarray:
        return np.stack([np.concatenate([value(c) for c in chunks])[:length] for chunks in kept])

    flat = [c for chunks in kept for c in chunks]
    return JointDraws(
        white_noise=stacked(lambda c: c.white_noise),
        params=stacked(lambda c: c.params),
        cosmology={
            name: stacked(lambda c: c.cosmology[name])  # noqa: B023 (called at once)
            for name in flat[0].cosmology
        },
        start_gradients=sum(cost for cost, _ in chains),
        warmup_gradients=sum(c.num_gradients for _, cs in chains for c in cs if c.warming_up),
        num_gradients=sum(c.num_gradients for c in flat),
        accept_prob=float(np.mean([c.accept_prob for c in flat])),
        divergences=sum(c.divergences for c in flat),
        seconds=seconds,
    )


def _cost_line(name: str, mixed: Mixing, draws: JointDraws) -> str:
    worst, typical = (draws.num_gradients / ess for ess in (mixed.min_ess, mixed.median_ess))
    return (
        f"{name}: worst R-hat {mixed.worst_rhat:.3f}, ESS {mixed.min_ess:.0f} (smallest) "
        f"{mixed.median_ess:.0f} (median); gradients per effective draw "
        f"{worst:.0f} and {typical:.0f}"
    )


def _function_values(problem: JointProblem, draws: JointDraws) -> np.ndarray:
    """ln n(M | environment) of every draw, in environments of the posterior mean field."""
    field = jnp.asarray(draws.white_noise[0, -1], dtype=float)
    delta = density(field, problem.lpt, problem.cosmology)
    functions = identified_functions(problem.bias, delta, problem.halos)
    supported = np.asarray(functions.supported).ravel()
    values = jax.lax.map(functions, jnp.asarray(draws.params.reshape(-1, draws.params.shape[-1])))
    return np.asarray(values).reshape(*draws.params.shape[:2], -1)[..., supported]


def _function_mixing(problem: JointProblem, draws: JointDraws) -> Mixing:
    return mixing(_function_values(problem, draws))


def _recovery_lines(recovery: Recovery, draws: JointDraws) -> list[str]:
    lines = [
        f"field: variance of z {np.mean(recovery.z**2):.3f} over {recovery.z.size} mode parts; "
        f"worst R-hat {recovery.worst_rhat.max():.3f}; gradients per effective draw of a mode "
        f"{draws.num_gradients / np.median(recovery.ess):.0f} (median shell), "
        f"{draws.num_gradients / recovery.ess.min():.0f} (worst shell)",
        "   k [h/Mpc]   r(k)  expected  draws   var z   ESS  R-hat",
    ]
    columns = zip(*recovery[:7], strict=True)
    for k, r, expected, single, variance, ess, rhat in columns:
        lines.append(
            f"   {k:9.3f}  {r:5.3f}  {expected:8.3f}  {single:5.3f}  {variance:6.3f}  {ess:4.0f}"
            f"  {rhat:5.3f}"
        )
    return lines


def _params_lines(problem: JointProblem, content: Exchange, draws: JointDraws) -> list[str]:
    """z-scores of the true functions; raw parameters have mirror modes and mean little."""
    if content.params is None:
        return []
    shape = (1, 1, len(content.params))
    truth = draws._replace(params=np.asarray(content.params).reshape(shape))
    values, target = _function_values(problem, draws), _function_values(problem, truth)[0, 0]
    z = (target - values.mean(axis=(0, 1))) / values.std(axis=(0, 1))
    return [
        f"bias: true ln n(M | environment) lies {np.sqrt(np.mean(z**2)):.2f} (rms) and "
        f"{np.abs(z).max():.2f} (largest) standard deviations from the mean, {z.size} functions"
    ]


def _density_moments(problem: JointProblem, draws: JointDraws) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and standard deviation of 1 + delta, from up to 40 draws."""
    flat = draws.white_noise.reshape(-1, *draws.white_noise.shape[2:])
    some = flat[:: max(1, len(flat) // 40)]
    fields = [
        1 + np.asarray(density(jnp.asarray(w, dtype=float), problem.lpt, problem.cosmology))
        for w in some
    ]
    return np.mean(fields, axis=0), np.std(fields, axis=0)


def _write_draws(path: Path, config: JointConfig, draws: JointDraws) -> None:
    with h5py.File(path, "w") as file:
        file.attrs.update({**versions(), "configuration": as_text(config)})
        for name in _COUNTS:
            file.attrs[name] = getattr(draws, name)
        for name in ("params", "white_noise"):
            file.create_dataset(name, data=getattr(draws, name))
        for name, values in draws.cosmology.items():
            file.create_dataset(name, data=values)
        file["white_noise"].attrs["dims"] = json.dumps(["chain", "draw", "x", "y", "z"])


def _atomic(path: Path, write: Callable[[Path], object]) -> None:
    handle, name = tempfile.mkstemp(prefix=".unfinished-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        write(Path(name))
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)

"""What a joint inference leaves: draws, a summary in words and numbers, and a picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import h5py
import jax
import jax.numpy as jnp
import numpy as np

from halo_mdn.config import to_toml
from halo_mdn.config.joint_schema import JointConfig
from halo_mdn.field.lpt import density, linear_field
from halo_mdn.files import replace_file, write_file, write_hdf5
from halo_mdn.io.formats.exchange import Exchange
from halo_mdn.joint.joint_chains import JointDraws
from halo_mdn.joint.problem import JointProblem
from halo_mdn.joint.recovery import (
    FieldMixing,
    Mixing,
    Recovery,
    measure_mixing,
    measure_recovery,
    mixing,
)
from halo_mdn.joint.recovery_figure import write_figure
from halo_mdn.predictions.identified import identified_functions
from halo_mdn.provenance import versions

RESULTS = ("joint.h5", "joint.png", "summary.txt", "config.toml")
_LARGEST_RHAT, _SMALLEST_ESS = 1.05, 100  # R-hat is the largest of a thousand, not of one
_COUNTS = (
    "start_gradients",
    "warmup_gradients",
    "num_gradients",
    "accept_prob",
    "divergences",
    "seconds",
)


class Report(NamedTuple):
    """A summary in words and numbers; the recovery of the field where the truth is known."""

    text: str
    field: FieldMixing
    recovery: Recovery | None


def report(problem: JointProblem, content: Exchange, draws: JointDraws) -> Report:
    """What was found, whether it has converged, and how it compares with the truth."""
    num_chains, num_draws = draws.params.shape[:2]
    accepted = f", mean acceptance {draws.accept_prob:.2f}"
    lines = [
        f"{problem.halos.num_halos:,} halos, {problem.lpt.grid.shape[0]}^3 cells; {num_chains} "
        f"chains x {num_draws} draws in {draws.seconds:.0f} s; {draws.divergences} divergent"
        f"{'' if np.isnan(draws.accept_prob) else accepted}",
        f"gradients of the forward model: start {draws.start_gradients}, warm-up "
        f"{draws.warmup_gradients}, sampling {draws.num_gradients}",
    ]
    lines += [_cost_line("bias, raw parameters", mixing(draws.params), draws)]
    functions_of = _functions_of(problem, draws)
    values = functions_of(draws.params)
    functions = mixing(values)
    lines += [_cost_line("bias, ln n(M | environment)", functions, draws)]
    for name, inferred in draws.cosmology.items():
        lines.append(f"{name}: {inferred.mean():.4f} +- {inferred.std():.4f}")
        lines.append(_cost_line(name, mixing(inferred[..., None]), draws))
    box_size, truth = problem.lpt.grid.box_size[0], content.white_noise
    field = measure_mixing(draws.white_noise, box_size)
    lines += _field_lines(field, draws)
    recovery = None
    if truth is not None and truth.shape == draws.white_noise.shape[2:]:
        recovery = measure_recovery(draws.white_noise, truth, box_size)
        lines += _recovery_lines(recovery)
    elif truth is not None:
        lines.append(f"the file's true white noise has shape {truth.shape}: not compared with it")
    true_params = content.params
    if true_params is not None and len(true_params) == draws.params.shape[-1]:
        lines += _bias_lines(values, functions_of(true_params[None, None])[0, 0])
    lines.append(_verdict(field, functions))
    return Report("\n".join(lines) + "\n", field, recovery)


def _verdict(field: FieldMixing, functions: Mixing) -> str:
    worst = max(field.worst_rhat.max(), field.power_rhat.max(), functions.worst_rhat)
    fewest = min(field.ess.min(), functions.min_ess)
    found = f"largest R-hat {worst:.3f}, smallest ESS {fewest:.0f}"
    if worst < _LARGEST_RHAT and fewest >= _SMALLEST_ESS:
        return f"verdict: field and ln n(M | environment) have converged ({found})"
    return (
        f"verdict: NOT converged ({found}; expected below {_LARGEST_RHAT} and at least "
        f"{_SMALLEST_ESS}): raise sampler.max_minutes and sampler.num_samples"
    )


def write_draws(folder: Path, config: JointConfig, draws: JointDraws) -> None:
    """Write the settings and all draws, ``joint.h5``; a file appears complete or not at all."""
    write_file(folder / "config.toml", to_toml(config))
    write_hdf5(folder / "joint.h5", lambda file: _fill(file, config, draws))


def write_report(
    folder: Path, problem: JointProblem, content: Exchange, draws: JointDraws, found: Report
) -> None:
    """Write the summary and, where the truth is known, the figure."""
    write_file(folder / "summary.txt", found.text)
    recovery = found.recovery
    if recovery is None or content.white_noise is None:
        return
    mean_noise = draws.white_noise.mean(axis=(0, 1), dtype=float)
    truth, mean = (
        np.asarray(linear_field(noise, problem.lpt, problem.cosmology))
        for noise in (content.white_noise, mean_noise)
    )
    counts = np.zeros(problem.lpt.grid.shape)
    np.add.at(counts, tuple(np.asarray(problem.halos.voxel).T), 1)
    replace_file(
        folder / "joint.png",
        lambda path: write_figure(
            path, recovery, found.field, truth=truth, mean=mean, counts=counts,
            density=_mean_density(problem, draws), box_size=problem.lpt.grid.box_size[0],
        ),
    )  # fmt: skip


def _cost_line(name: str, mixed: Mixing, draws: JointDraws) -> str:
    worst, typical = (draws.num_gradients / ess for ess in (mixed.min_ess, mixed.median_ess))
    return (
        f"{name}: worst R-hat {mixed.worst_rhat:.3f}, ESS {mixed.min_ess:.0f} (smallest) "
        f"{mixed.median_ess:.0f} (median); gradients per effective draw "
        f"{worst:.0f} and {typical:.0f}"
    )


def _functions_of(problem: JointProblem, draws: JointDraws) -> Callable[[np.ndarray], np.ndarray]:
    """ln n(M | environment) in environments of the last field of a chain.

    The result takes parameters (chain, draw, P) to values (chain, draw, function).
    """
    delta = _density(problem, draws, 0, -1)
    functions = identified_functions(problem.bias, delta, problem.halos)
    supported = np.asarray(functions.supported).ravel()

    def evaluate(params: np.ndarray) -> np.ndarray:
        values = jax.lax.map(functions, jnp.asarray(params.reshape(-1, params.shape[-1])))
        return np.asarray(values).reshape(*params.shape[:2], -1)[..., supported]

    return evaluate


def _field_lines(field: FieldMixing, draws: JointDraws) -> list[str]:
    typical, worst = np.median(field.ess), field.ess.min()
    lines = [
        f"field: worst R-hat of a mode {field.worst_rhat.max():.3f}, of the power of a shell "
        f"{field.power_rhat.max():.3f}; gradients per effective draw of a mode "
        f"{draws.num_gradients / typical:.0f} (median shell), "
        f"{draws.num_gradients / worst:.0f} (worst shell)",
        "   k [h/Mpc]   ESS  R-hat: worst mode, power",
    ]
    for k, ess, rhat, power in zip(*field, strict=True):
        lines.append(f"   {k:9.3f}  {ess:4.0f}  {rhat:17.3f}  {power:5.3f}")
    return lines


def _recovery_lines(recovery: Recovery) -> list[str]:
    lines = [
        f"field against the truth: variance of z {np.mean(recovery.z**2):.3f} over "
        f"{recovery.z.size} mode parts",
        "   k [h/Mpc]   r(k)  expected  draws  R-hat of draws' r   var z",
    ]
    for k, r, expected, single, rhat, variance in zip(*recovery[:6], strict=True):
        lines.append(
            f"   {k:9.3f}  {r:5.3f}  {expected:8.3f}  {single:5.3f}  {rhat:17.3f}  {variance:6.3f}"
        )
    return lines


def _bias_lines(values: np.ndarray, target: np.ndarray) -> list[str]:
    """z-scores of the true functions; raw parameters have mirror modes and mean little."""
    z = (target - values.mean(axis=(0, 1))) / values.std(axis=(0, 1))
    return [
        f"bias: true ln n(M | environment) lies {np.sqrt(np.mean(z**2)):.2f} (rms) and "
        f"{np.abs(z).max():.2f} (largest) standard deviations from the mean, {z.size} functions"
    ]


def _mean_density(problem: JointProblem, draws: JointDraws) -> np.ndarray:
    """Posterior mean of 1 + delta, from up to 40 draws."""
    chains, num = draws.white_noise.shape[:2]
    some = [(c, d) for c in range(chains) for d in range(0, num, max(1, chains * num // 40))]
    total = np.zeros(problem.lpt.grid.shape)
    for c, d in some:
        total += 1 + np.asarray(_density(problem, draws, c, d))
    return total / len(some)


def _density(problem: JointProblem, draws: JointDraws, chain: int, draw: int) -> jax.Array:
    """Overdensity of a draw, with its own cosmology."""
    inferred = {name: float(values[chain, draw]) for name, values in draws.cosmology.items()}
    cosmology = replace(problem.cosmology, **inferred)
    return density(jnp.asarray(draws.white_noise[chain, draw], float), problem.lpt, cosmology)


def _fill(file: h5py.File, config: JointConfig, draws: JointDraws) -> None:
    file.attrs.update({**versions(), "configuration": to_toml(config)})
    for name in _COUNTS:
        file.attrs[name] = getattr(draws, name)
    for name in ("params", "white_noise"):
        file.create_dataset(name, data=getattr(draws, name))
    for name, values in draws.cosmology.items():
        file.create_dataset(name, data=values)
    file["white_noise"].attrs["dims"] = json.dumps(["chain", "draw", "x", "y", "z"])

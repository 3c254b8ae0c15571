"""What a joint inference leaves: draws, a summary in words and numbers, and a picture."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np

from halo_mdn.files import replace_file
from halo_mdn.identified import identified_functions
from halo_mdn.io.exchange import Exchange
from halo_mdn.joint.chains import JointDraws
from halo_mdn.joint.figure import write_figure
from halo_mdn.joint.problem import JointProblem
from halo_mdn.joint.recovery import Mixing, Recovery, measure_recovery, mixing
from halo_mdn.joint.settings import JointConfig, as_text
from halo_mdn.lpt import density, linear_field
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
    replace_file(folder / "joint.h5", lambda path: _write_draws(path, config, draws))


def write_report(
    folder: Path, problem: JointProblem, content: Exchange, draws: JointDraws, text: str,
    recovery: Recovery | None,
) -> None:  # fmt: skip
    """Write the summary and, where the truth is known, the figure."""
    replace_file(folder / "summary.txt", lambda path: path.write_text(text, encoding="utf-8"))
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
            path, recovery, truth=truth, mean=mean, density=_mean_density(problem, draws),
            counts=counts, box_size=problem.lpt.grid.box_size[0],
        ),
    )  # fmt: skip


def _cost_line(name: str, mixed: Mixing, draws: JointDraws) -> str:
    worst, typical = (draws.num_gradients / ess for ess in (mixed.min_ess, mixed.median_ess))
    return (
        f"{name}: worst R-hat {mixed.worst_rhat:.3f}, ESS {mixed.min_ess:.0f} (smallest) "
        f"{mixed.median_ess:.0f} (median); gradients per effective draw "
        f"{worst:.0f} and {typical:.0f}"
    )


def _function_values(problem: JointProblem, draws: JointDraws) -> np.ndarray:
    """ln n(M | environment) of every draw, in environments of the last field of a chain."""
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
        f"worst R-hat of a mode {recovery.worst_rhat.max():.3f}, of power or r(k) of draws in a "
        f"shell {recovery.summary_rhat.max():.3f}; gradients per effective draw of a mode "
        f"{draws.num_gradients / np.median(recovery.ess):.0f} (median shell), "
        f"{draws.num_gradients / recovery.ess.min():.0f} (worst shell)",
        "   k [h/Mpc]   r(k)  expected  draws   var z   ESS  R-hat: worst mode, summaries",
    ]
    columns = zip(*recovery[:8], strict=True)
    for k, r, expected, single, variance, ess, rhat, summary in columns:
        lines.append(
            f"   {k:9.3f}  {r:5.3f}  {expected:8.3f}  {single:5.3f}  {variance:6.3f}  {ess:4.0f}"
            f"  {rhat:5.3f}  {summary:5.3f}"
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


def _mean_density(problem: JointProblem, draws: JointDraws) -> np.ndarray:
    """Posterior mean of 1 + delta, from up to 40 draws."""
    flat = draws.white_noise.reshape(-1, *draws.white_noise.shape[2:])
    total = np.zeros(problem.lpt.grid.shape)
    some = flat[:: max(1, len(flat) // 40)]
    for noise in some:
        total += 1 + np.asarray(density(jnp.asarray(noise), problem.lpt, problem.cosmology))
    return total / len(some)


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

"""All chains of a joint inference, side by side: warm-up in stages, then sampling."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from halo_mdn.config.joint_schema import JointSampler
from halo_mdn.joint.beginning import Beginning
from halo_mdn.joint.coordinates import JointCoordinates, Position
from halo_mdn.joint.problem import JointProblem
from halo_mdn.joint.samplers import Updates, advance, sampler_of
from halo_mdn.sampling.nuts.interruption import Interruption
from halo_mdn.threads import in_threads

_FEWEST = 4  # draws, for R-hat of two halves
NUM_STAGES = 3  # of the warm-up: between two of them the coordinates follow the draws


class JointDraws(NamedTuple):
    """Draws of all chains, and what they cost.

    Attributes
    ----------
    white_noise : array (chain, draw, M0, M1, M2), single precision
    params : array (chain, draw, P)
    cosmology : dict of arrays (chain, draw)
    start_gradients, warmup_gradients, num_gradients : int
        Gradients of the forward model, over all chains.
    accept_prob, divergences
        Of the sampling phase.
    seconds : float
        Wall time of all of it.
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


def draw_chains(
    key: Array, problem: JointProblem, beginnings: Sequence[Beginning], settings: JointSampler,
    *, began: float, say: Callable[[str], None],
) -> JointDraws:  # fmt: skip
    """Run all chains, each on a thread of its own, in step.

    Chains share their coordinates, which come from the draws of all of them. Of each stage of
    the warm-up the first third does not count.

    Parameters
    ----------
    key : jax.random key
    problem : JointProblem
    beginnings : sequence of Beginning
        One per chain.
    settings : JointSampler
    began : float
        Of the run, by ``time.monotonic``.
    say : callable
        Takes a line about every chunk.
    """
    walk = _Walk(problem, settings, beginnings, began, say)
    per_stage = -(-settings.num_warmup // (NUM_STAGES * settings.chunk_size))
    warmup: list[Updates] = []
    for stage, stage_key in enumerate(jax.random.split(key, NUM_STAGES)):
        walk.restart(stage_key, num_updates=per_stage * settings.chunk_size * settings.thinning)
        stage_draws = [walk.advance(f"warm-up {stage + 1}/{NUM_STAGES}") for _ in range(per_stage)]
        if stage < NUM_STAGES - 1:
            walk.adapt(_joined(stage_draws))
        warmup += stage_draws
    draws = _joined(_sampled(walk))
    return JointDraws(
        white_noise=draws.white_noise,
        params=draws.params,
        cosmology=draws.cosmology,
        start_gradients=sum(b.num_gradients for b in beginnings),
        warmup_gradients=walk.tuning_gradients + int(sum(c.num_gradients.sum() for c in warmup)),
        num_gradients=int(draws.num_gradients.sum()),
        accept_prob=float(np.mean(draws.accept_prob)),
        divergences=int(draws.diverging.sum()),
        seconds=time.monotonic() - began,
    )


def _sampled(walk: _Walk) -> list[Updates]:
    """Chunks of draws, until there are enough or time is up; Ctrl-C asks for what there is."""
    settings, chunks = walk.settings, list[Updates]()
    with Interruption() as interruption:
        for i in range(-(-settings.num_samples // settings.chunk_size)):
            num_draws = (i + 1) * settings.chunk_size
            chunks.append(walk.advance(f"{num_draws}/{settings.num_samples}"))
            late = time.monotonic() - walk.began > 60 * settings.max_minutes
            if (late or interruption.requested) and num_draws >= _FEWEST:
                break
    if interruption.requested:
        walk.say(f"interrupted: reporting the {num_draws} draws so far")
    return chunks


class _Walk:
    """Where all chains are, and in which coordinates."""

    def __init__(
        self, problem: JointProblem, settings: JointSampler, beginnings: Sequence[Beginning],
        began: float, say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.problem, self.settings, self.say, self.began = problem, settings, say, began
        self.coordinates: JointCoordinates = beginnings[0].coordinates
        self.positions: list[Position] = [
            self.coordinates.to_position(b.white_noise, b.params)
            | {f"{name}_unit": jnp.zeros(()) for name, _ in problem.free_cosmology}
            for b in beginnings
        ]
        self.states: list[Any] = []
        self.calls = self.tuning_gradients = 0

    def restart(self, key: Array, *, num_updates: int) -> None:
        """Begin a stage of the warm-up at the positions."""
        given = list(zip(jax.random.split(key, len(self.positions)), self.positions, strict=True))
        sampler = sampler_of(self.settings.method)
        arguments = (self.coordinates, self.problem, self.settings, num_updates)
        self.states = in_threads(lambda pair: sampler.start(*pair, *arguments), given)
        self.tuning_gradients += sampler.tuning_gradients * num_updates * len(given)

    def advance(self, phase: str) -> Updates:
        """Some draws of all chains, (chain, draw, ...)."""
        self.calls += 1
        # The first two calls may compile: for the first states, and for what they become.
        results = in_threads(
            lambda state: jax.block_until_ready(
                advance(state, self.coordinates, self.problem, self.settings)
            ),
            self.states,
            compiles=self.calls <= 2,
        )
        self.states = [state for state, _ in results]
        draws = jax.tree.map(
            lambda *x: np.stack([np.asarray(y) for y in x]), *(d for _, d in results)
        )
        accepted = f"acceptance {draws.accept_prob.mean():.2f}, "
        self.say(
            f"{phase}: {draws.num_gradients.mean():.0f} gradients per draw, "
            f"{'' if np.isnan(draws.accept_prob).all() else accepted}"
            f"{draws.diverging.sum()} divergent, {time.monotonic() - self.began:.0f} s"
        )
        return draws

    def adapt(self, draws: Updates) -> None:
        """Coordinates that fit the draws, and the last ones as positions in them."""
        late = draws.params.shape[1] // 3
        field_slopes, bias_slopes = (
            np.concatenate(x[:, late:]) for x in (draws.field_slopes, draws.bias_slopes)
        )
        self.coordinates = self.coordinates.adapted(field_slopes, bias_slopes)
        self.positions = [
            self.coordinates.to_position(
                jnp.asarray(draws.white_noise[chain, -1], dtype=float),
                jnp.asarray(draws.params[chain, -1]),
            )
            | {
                f"{name}_unit": jnp.asarray((draws.cosmology[name][chain, -1] - mean) / scale)
                for name, (mean, scale) in self.problem.free_cosmology
            }
            for chain in range(len(self.positions))
        ]


def _joined(chunks: Sequence[Updates]) -> Updates:
    return jax.tree.map(lambda *x: np.concatenate(x, axis=1), *chunks)

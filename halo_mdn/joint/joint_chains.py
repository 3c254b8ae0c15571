"""All chains of a joint inference, side by side: warm-up in stages, then sampling."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from halo_mdn.config.joint_schema import JointSampler
from halo_mdn.field.fourier import shell_power
from halo_mdn.joint.beginning import Beginning, as_arrays
from halo_mdn.joint.coordinates import BIAS, FIELD, JointCoordinates
from halo_mdn.joint.followed import followed, live_values
from halo_mdn.joint.joint_density import JointDensity
from halo_mdn.joint.joint_kernels import Arguments, DrawState, kernel_of, slopes_of, step_of
from halo_mdn.progress import Progress
from halo_mdn.sampling.nuts.chains import Chains, Rows, extended
from halo_mdn.sampling.nuts.checkpoint import (
    CheckpointError,
    load_checkpoint,
    plain_arrays,
    restored,
    save_checkpoint,
)
from halo_mdn.sampling.nuts.convergence import Convergence, convergence
from halo_mdn.sampling.nuts.interruption import Interruption
from halo_mdn.sampling.nuts.stretches import go

NUM_STAGES = 3  # of the warm-up: between two of them the coordinates follow the draws
# May differ between the two halves of a resumed run without changing a single draw.
FREE_SETTINGS = ("num_samples", "max_minutes")
_FEWEST = 4  # draws, for R-hat of two halves
_SHARE_OF_SAVING = 0.05  # of the wall time: the draws so far may be gigabytes
_STATS = (
    "energy", "num_steps", "accept_prob", "diverging", "bias_diverging", "potential_energy",
    "step_size",
)  # fmt: skip


class JointDraws(NamedTuple):
    """Draws of all chains, and what they cost.

    Attributes
    ----------
    white_noise : array (chain, draw, M0, M1, M2), single precision
    params : array (chain, draw, P)
    cosmology : dict of arrays (chain, draw)
    field_power, field_mode : arrays (chain, draw, S) and (chain, draw, S, part)
        As :func:`halo_mdn.joint.followed.followed` has them.
    stats : dict of arrays (chain, draw)
        As in :class:`halo_mdn.sampling.nuts.draws.Draws`, and ``bias_diverging``.
    start_gradients, warmup_gradients, num_gradients : int
        Gradients of the forward model, over all chains.
    wall_time_s : float
        Of all of it, earlier sessions of a resumed run included.
    """

    white_noise: np.ndarray
    params: np.ndarray
    cosmology: dict[str, np.ndarray]
    field_power: np.ndarray
    field_mode: np.ndarray
    stats: dict[str, np.ndarray]
    start_gradients: int
    warmup_gradients: int
    num_gradients: int
    wall_time_s: float


def draw_chains(
    key: Array, density: JointDensity, find_beginnings: Callable[[], list[Beginning]],
    settings: JointSampler, *, checkpoint: Path, fingerprint: Mapping[str, Any],
    progress: Callable[[Progress], None], resume: bool = False,
) -> JointDraws:  # fmt: skip
    """Run all chains, each on a thread of its own, in step.

    Chains share their coordinates, which come from the draws of all of them. Of each stage of
    the warm-up the first third does not count.

    Parameters
    ----------
    key : jax.random key
    density : JointDensity
    find_beginnings : callable
        Returns one beginning per chain; not called on resuming.
    settings : JointSampler
    checkpoint : Path
        The file to save the state to.
    fingerprint : mapping
        What else must be the same on resuming; settings of the sampler are always compared.
    progress : callable
        Called about once a second.
    resume : bool
        Go on from the checkpoint.

    Raises
    ------
    Interrupted
        After Ctrl-C or SIGTERM, once the checkpoint is written.
    CheckpointError
        If the checkpoint to resume from is missing, damaged or of another run.
    """
    began = time.monotonic()
    own = {k: v for k, v in asdict(settings).items() if k not in FREE_SETTINGS}
    fingerprint = {**{f"setting {k}": v for k, v in own.items()}, **fingerprint}
    saved = load_checkpoint(checkpoint, fingerprint) if resume else None
    beginnings = find_beginnings() if saved is None else Beginning.stored(saved)
    walk = _Walk(key, density, beginnings, settings, checkpoint, fingerprint, began)
    if saved is None:
        walk.save()
    else:
        walk.restore(saved)
    with Interruption() as interruption:
        go(walk, progress, interruption)
    walk.save()
    return walk.result()


class _Walk:
    """Where all chains are, in which coordinates, and what they drew in this phase."""

    def __init__(
        self, key: Array, density: JointDensity, beginnings: Sequence[Beginning],
        settings: JointSampler, checkpoint: Path, fingerprint: Mapping[str, Any], began: float,
    ) -> None:  # fmt: skip
        self.density, self.beginnings, self.settings = density, list(beginnings), settings
        self.checkpoint, self.fingerprint, self.clock = checkpoint, fingerprint, began
        chunk = settings.chunk_size  # stages, and the kept draws, are of whole chunks
        self.per_stage = chunk * -(-settings.num_warmup // (NUM_STAGES * chunk))
        self.warmup = NUM_STAGES * self.per_stage
        self.total = self.warmup + chunk * -(-settings.num_samples // chunk)
        self.stage_keys = jax.random.split(key, NUM_STAGES)
        self.coordinates: JointCoordinates = beginnings[0].coordinates(density)
        self.chains = Chains(
            lambda: kernel_of(settings),
            record=_record,
            args=(self.coordinates, density),
            keys=self._keys(0),
            latent=self._latent([(b.white_noise, b.params, {}) for b in beginnings]),
            num_warmup=self.per_stage * settings.thinning,
            capacity=settings.chunk_size,
            chain_method="parallel",
        )
        self.rows: Rows = {}  # of this stage of the warm-up, or of the kept draws
        self.done = self.stage = self.warmup_gradients = 0
        self.seconds_before, self.saving, self.saved_at = 0.0, 0.0, -np.inf
        self.latest: Convergence | None = None

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.clock

    @property
    def in_phase(self) -> int:
        """Draws in this stage of the warm-up, or kept ones."""
        return self.done - self.stage * self.per_stage

    @property
    def phase_length(self) -> int:
        return self.per_stage if self.stage < NUM_STAGES else self.total - self.warmup

    def finished(self) -> bool:
        late = self.seconds > 60 * self.settings.max_minutes
        return self.done >= self.total or (late and self.done >= self.warmup + _FEWEST)

    def to_chunk_end(self) -> int:
        chunk = self.settings.chunk_size
        return chunk - self.in_phase % chunk

    def at_chunk_end(self) -> bool:
        return self.in_phase % self.settings.chunk_size == 0

    def advance(self, count: int) -> None:
        rows = self.chains.advance(count)
        self.rows = extended(self.rows, rows, self.in_phase, self.phase_length)
        self.done += count
        if self.stage < NUM_STAGES and self.in_phase == self.per_stage:
            self.next_phase()

    def next_phase(self) -> None:
        """Begin a stage of the warm-up in coordinates that fit the last one, or keep draws."""
        self.warmup_gradients += int(self.rows["num_steps"].sum())
        if self.stage < NUM_STAGES - 1:
            late = self.per_stage // 3
            slopes = (self.rows[name][:, late:] for name in ("field_slopes", "bias_slopes"))
            self.coordinates = self.coordinates.adapted(*(np.concatenate(list(x)) for x in slopes))
            latent = self._latent([self._last(c) for c in range(len(self.beginnings))])
            arguments = (self.coordinates, self.density)
            self.chains.restart(arguments, self._keys(self.stage + 1), latent)
        self.stage, self.rows = self.stage + 1, {}

    def look(self, *, leaving: bool) -> None:
        if self.stage == NUM_STAGES and self.rows:
            self.latest = convergence(live_values(self.rows, self.in_phase))
        if leaving or time.monotonic() - self.saved_at > self.saving / _SHARE_OF_SAVING:
            self.save()

    def report(self, phase: Literal["start"] | None = None) -> Progress:
        warming = self.stage < NUM_STAGES
        rows = {k: x[:, : self.in_phase] for k, x in self.rows.items()} if self.in_phase else {}
        left = self.seconds * (self.total / self.done - 1) if self.done else None
        longest = 60 * self.settings.max_minutes - self.seconds
        return Progress(
            phase=phase or ("warmup" if warming else "sampling"),
            done=self.done if warming else self.done - self.warmup,
            total=self.warmup if warming else self.total - self.warmup,
            step_size=float(rows["step_size"][:, -1].mean()) if rows else 0.0,
            divergences=int(rows["diverging"].sum()) if rows else 0,
            num_gradients=int(rows["num_steps"].sum()) if rows else 0,
            seconds_elapsed=self.seconds,
            seconds_left=None if left is None else max(0.0, min(left, longest)),
            worst_rhat=self.latest.worst_rhat if self.latest else None,
            min_ess=self.latest.min_ess if self.latest else None,
        )

    def save(self) -> None:
        began = time.monotonic()
        numbers = {name: getattr(self, name) for name in ("done", "stage", "warmup_gradients")}
        arrays = {
            **self.chains.export_states(),
            **plain_arrays(self.coordinates, "coordinates"),
            **as_arrays(self.beginnings),
            **{f"rows_{name}": x[:, : self.in_phase] for name, x in self.rows.items()},
            **{name: np.array(x) for name, x in {**numbers, "seconds": self.seconds}.items()},
        }
        save_checkpoint(self.checkpoint, arrays, self.fingerprint)
        self.saved_at = time.monotonic()
        self.saving = self.saved_at - began

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from what `save` kept."""
        self.done, self.stage, self.warmup_gradients = (
            int(arrays[name]) for name in ("done", "stage", "warmup_gradients")
        )
        if self.done > self.total:
            kept = self.done - self.warmup
            raise CheckpointError(
                f"{self.checkpoint} already holds {kept} kept draws per chain, more than the "
                f"{self.total - self.warmup} asked for; raise num_samples to at least {kept}."
            )
        try:
            self.coordinates = restored(self.coordinates, arrays, "coordinates")
            self.chains.args = (self.coordinates, self.density)
            self.chains.import_states(dict(arrays))
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"{self.checkpoint} does not fit this run: {error}.") from error
        stored = {k.removeprefix("rows_"): x for k, x in arrays.items() if k.startswith("rows_")}
        if stored:
            self.rows = extended({}, stored, 0, self.phase_length)
        self.seconds_before = float(arrays["seconds"])

    def result(self) -> JointDraws:
        rows = {name: x[:, : self.in_phase] for name, x in self.rows.items()}
        free = [name for name, _ in self.density.problem.free_cosmology]
        return JointDraws(
            **{n: rows[n] for n in ("white_noise", "params", "field_power", "field_mode")},
            cosmology={name: rows[name] for name in free},
            stats={name: rows[name] for name in _STATS},
            start_gradients=sum(int(b.num_gradients) for b in self.beginnings),
            warmup_gradients=self.warmup_gradients,
            num_gradients=int(rows["num_steps"].sum()),
            wall_time_s=self.seconds,
        )

    def _keys(self, stage: int) -> Array:
        return jax.random.split(self.stage_keys[stage], len(self.beginnings))

    def _last(self, chain: int) -> tuple[np.ndarray, np.ndarray, dict[str, Array]]:
        """The last draw of a chain: white noise, parameters, and units of its cosmology."""
        problem = self.density.problem
        cosmology = {name: self.rows[name][chain, -1] for name, _ in problem.free_cosmology}
        units = problem.units_of(cosmology)
        return self.rows["white_noise"][chain, -1], self.rows["params"][chain, -1], units

    def _latent(
        self, points: Sequence[tuple[np.ndarray, np.ndarray, dict[str, Array]]]
    ) -> dict[str, Array]:
        """Positions of all chains, with a leading axis, in the present coordinates."""
        each = [
            self.coordinates.to_position(jnp.asarray(noise, float), jnp.asarray(params))
            | self.density.elsewhere()
            | units
            for noise, params, units in points
        ]
        return jax.tree.map(lambda *x: jnp.stack(x), *each)


def _record(state: DrawState, args: Arguments) -> dict[str, Array]:
    """What is kept of a draw."""
    coordinates, density = args
    inner, position = state.inner, state.inner.z
    found = density.values(coordinates, position)
    field_slope, bias_slopes = slopes_of(inner)
    log_det = coordinates.field.log_det(position[FIELD])
    log_det = log_det + coordinates.bias.log_det(position[BIAS])
    return {
        "white_noise": found["white_noise"].astype(jnp.float32),
        "params": found["params"],
        **{name: found[name] for name, _ in density.problem.free_cosmology},
        **followed(found["white_noise"]),
        "field_slopes": shell_power(field_slope),
        "bias_slopes": bias_slopes.T @ bias_slopes / len(bias_slopes),
        "energy": inner.energy,
        "potential_energy": inner.potential_energy + log_det,
        "step_size": step_of(inner),
        **state.cost._asdict(),
    }

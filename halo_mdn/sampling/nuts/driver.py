"""NUTS in chunks: one compiled program, bounded memory, live diagnostics, exact resuming."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from halo_mdn.progress import Progress
from halo_mdn.sampling.coordinates.bijections import Coordinates, Whitened, name_of, whitened_in
from halo_mdn.sampling.nuts.chains import Rows, extended
from halo_mdn.sampling.nuts.checkpoint import (
    CheckpointError,
    fingerprint_of,
    load_checkpoint,
    save_checkpoint,
)
from halo_mdn.sampling.nuts.convergence import Convergence, convergence
from halo_mdn.sampling.nuts.draws import Draws
from halo_mdn.sampling.nuts.interruption import Interruption
from halo_mdn.sampling.nuts.program import Monitor, Program, bind, identity_of, make_chains
from halo_mdn.sampling.nuts.settings import NutsSettings
from halo_mdn.sampling.nuts.stretches import go
from halo_mdn.sampling.start.found import Start

logger = logging.getLogger(__name__)

# May differ between the two halves of a resumed run without changing a single draw.
FREE_SETTINGS = ("num_samples", "chunk_size", "target_ess", "target_rhat")
_DAMAGED = "it was changed or is damaged: delete it and start afresh without resuming"


def run_nuts(
    model: Callable,
    model_args: Sequence[Any],
    *,
    start: Start | None,
    key: jax.Array,
    settings: NutsSettings | None = None,
    coordinates: Coordinates | None = None,
    site: str = "params",
    checkpoint: Path | None = None,
    fingerprint: Mapping[str, Any] | None = None,
    monitor: Callable[[jax.Array], jax.Array] | None = None,
    progress: Callable[[Progress], None] | None = None,
    resume: bool = False,
    program: Program | None = None,
) -> Draws:
    """Draw from the posterior of a NumPyro model with the No-U-Turn sampler.

    Parameters
    ----------
    model
        NumPyro model; its only latent site is the vector ``site``, on all of R^P.
    model_args
        Its positional arguments. Pytrees of arrays enter the compiled program as arguments;
        everything else (such as a `NeuralBias`) is fixed in it.
    start
        Chain starts and covariance, from `find_start`. May be None when resuming.
    key
        Random key; the same key gives the same draws, those of `numpyro.infer.MCMC`.
    settings
        Lengths, adaptation, chain method; the defaults if left out.
    coordinates
        Sample in these coordinates, whitened at the start if ``settings.whiten`` says so.
    site
        Name of the latent site.
    checkpoint
        File to save the state to after every chunk.
    fingerprint
        What else must be the same on resuming, for example file names and hashes of the data;
        settings, key, start and the arrays in ``model_args`` are always compared.
    monitor
        Maps parameters (P,) to an array of functions of them, whose R-hat and effective sample
        size are followed. A callable that is a pytree keeps its arrays out of the program.
    progress
        Called about once a second, and at every change of phase.
    resume
        Go on from the checkpoint if there is one.
    program
        Give the same `Program` to several runs to compile once for all of them.

    Returns
    -------
    Draws

    Raises
    ------
    Interrupted
        After Ctrl-C or SIGTERM, once the checkpoint is written.
    CheckpointError
        If the checkpoint to resume from is damaged or belongs to another run.
    ValueError
        If the start does not fit the settings.
    """
    settings = settings or NutsSettings()
    saved = checkpoint if resume and checkpoint is not None and checkpoint.is_file() else None
    if start is None:
        if saved is None:
            raise CheckpointError(
                f"There is nothing to resume from at {checkpoint}; give a start, or run without "
                "resuming."
            )
        start = stored_start(saved)
    if saved is not None:
        _check_stored_start(start, settings, saved)
    _check_start(start, settings)
    run = _Run(
        model,
        model_args,
        start,
        key,
        settings,
        coordinates,
        site,
        checkpoint,
        fingerprint,
        monitor,
        program or Program(),
    )
    if saved is not None:
        run.restore(saved)
    with Interruption() as interruption:
        if run.done == 0:
            run.save()
        go(run, progress or (lambda report: None), interruption)
    return run.result()


class _Run:
    """One run: the chains, what they have drawn so far, and the clock."""

    def __init__(
        self,
        model: Callable,
        model_args: Sequence[Any],
        start: Start,
        key: jax.Array,
        settings: NutsSettings,
        coordinates: Coordinates | None,
        site: str,
        checkpoint: Path | None,
        fingerprint: Mapping[str, Any] | None,
        monitor: Callable[[jax.Array], jax.Array] | None,
        program: Program,
    ) -> None:
        self.settings, self.start, self.checkpoint = settings, start, checkpoint
        self.total = settings.num_warmup + settings.num_samples
        if settings.whiten:
            location, covariance = start.location, start.inverse_mass
            coordinates = (
                Whitened.at(location, covariance)
                if coordinates is None
                else whitened_in(coordinates, location, covariance)
            )
        self.monitor = Monitor(monitor) if monitor is not None else None
        arrays, bound = bind(model, model_args)
        self.fingerprint = {
            **{f"setting {k}": v for k, v in asdict(settings).items() if k not in FREE_SETTINGS},
            "model arguments": fingerprint_of(arrays),
            "start": fingerprint_of((start.position, start.location, start.inverse_mass)),
            "coordinates": name_of(coordinates),
            "key": fingerprint_of(jax.random.key_data(key)),
            **(fingerprint or {}),
        }
        self.chains = make_chains(
            bound,
            arrays,
            start,
            key,
            settings,
            coordinates,
            site,
            program,
            identity_of(model, model_args, settings, coordinates, site),
        )
        self.rows: Rows = {}
        self.done = 0
        self.seconds_before = 0.0
        self.clock = time.monotonic()
        self.latest: Convergence | None = None
        self.stopped_early = False

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.clock

    def finished(self) -> bool:
        return self.done >= self.total or self.reached_target()

    def advance(self, count: int) -> None:
        self.append(self.chains.advance(count))

    def look(self, *, leaving: bool) -> None:
        self.follow_convergence()
        self.save()

    def to_chunk_end(self) -> int:
        """Draws until the next checkpoint: every chunk, and the ends of both phases."""
        warmup, chunk = self.settings.num_warmup, self.settings.chunk_size
        begin, end = (0, warmup) if self.done < warmup else (warmup, self.total)
        return min(chunk - (self.done - begin) % chunk, end - self.done)

    def at_chunk_end(self) -> bool:
        warmup, chunk = self.settings.num_warmup, self.settings.chunk_size
        in_phase = self.done if self.done <= warmup else self.done - warmup
        return in_phase % chunk == 0 or self.done in (warmup, self.total)

    def append(self, rows: Rows) -> None:
        """Move new draws into arrays that were made once for the whole run."""
        if self.monitor is not None:
            rows["monitored"] = self.monitor(rows["params"])
        self.rows = extended(self.rows, rows, self.done, self.total)
        self.done += rows["params"].shape[1]

    def follow_convergence(self) -> None:
        if self.monitor is not None and self.done > self.settings.num_warmup:
            kept = self.rows["monitored"][:, self.settings.num_warmup : self.done]
            self.latest = convergence(kept)

    def reached_target(self) -> bool:
        """Whether the target is met, asked at ends of chunks only so that pace plays no part."""
        target, latest = self.settings.target_ess, self.latest
        if target is None or latest is None or not self.at_chunk_end():
            return False
        self.stopped_early = (
            latest.min_ess >= target and latest.worst_rhat <= self.settings.target_rhat
        )
        return self.stopped_early

    def report(self, phase: Literal["start"] | None = None) -> Progress:
        warmup = self.settings.num_warmup
        sampling = self.done >= warmup and phase is None and self.done > warmup
        begin, end = (warmup, self.total) if sampling else (0, warmup)
        rows = {k: v[:, begin : self.done] for k, v in self.rows.items()}
        return Progress(
            phase=phase or ("sampling" if sampling else "warmup"),
            done=self.done - begin,
            total=end - begin,
            step_size=float(np.mean(rows["step_size"][:, -1])) if self.done else float("nan"),
            divergences=int(rows["diverging"].sum()) if self.done else 0,
            num_gradients=int(rows["num_steps"].sum()) if self.done else 0,
            seconds_elapsed=self.seconds,
            seconds_left=self.seconds * (self.total / self.done - 1) if self.done else None,
            worst_rhat=self.latest.worst_rhat if self.latest else None,
            min_ess=self.latest.min_ess if self.latest else None,
        )

    def save(self) -> None:
        if self.checkpoint is None:
            return
        start = {f"start_{k}": np.asarray(v) for k, v in self.start.arrays().items()}
        rows = {f"rows_{name}": x[:, : self.done] for name, x in self.rows.items()}
        clock = {"done": np.array(self.done), "seconds": np.array(self.seconds)}
        arrays = {**self.chains.export_states(), **start, **rows, **clock}
        save_checkpoint(self.checkpoint, arrays, self.fingerprint)

    def restore(self, checkpoint: Path) -> None:
        arrays = load_checkpoint(checkpoint, self.fingerprint)
        try:
            done, seconds = int(arrays["done"]), float(arrays["seconds"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{checkpoint} has no clock ({error}); {_DAMAGED}.") from None
        if done < 0:
            raise CheckpointError(f"{checkpoint} holds {done} draws per chain; {_DAMAGED}.")
        if done > self.total:
            raise CheckpointError(
                f"{checkpoint} already holds {done} draws per chain, warm-up included, more "
                f"than the {self.total} asked for; raise num_samples to at least "
                f"{done - self.settings.num_warmup}."
            )
        try:
            self.chains.import_states(arrays)
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"{checkpoint} does not fit this run: {error}.") from error
        stored = {k[len("rows_") :]: v for k, v in arrays.items() if k.startswith("rows_")}
        self.check_rows(stored, done, checkpoint)
        if stored:
            if self.monitor is not None:
                stored["monitored"] = self.monitor(stored["params"])
            else:
                stored.pop("monitored", None)
            self.append(stored)
        self.seconds_before = seconds
        self.follow_convergence()
        logger.info("resumed from %s after %d of %d draws", checkpoint, done, self.total)

    def check_rows(self, rows: Rows, done: int, checkpoint: Path) -> None:
        """Refuse draws that no run can have stored."""
        wanted = (self.settings.num_chains, done)
        odd = [name for name, x in rows.items() if x.shape[:2] != wanted]
        if odd or (done > 0) != bool(rows):
            raise CheckpointError(
                f"{checkpoint} says {done} draws of {wanted[0]} chains and does not hold them "
                f"({', '.join(odd) or 'no draws'}); {_DAMAGED}."
            )
        numbers = [
            *(x for name, x in rows.items() if name != "monitored"),
            *self.chains.positions(),
        ]
        if not all(np.isfinite(x).all() for x in numbers):
            raise CheckpointError(f"{checkpoint} holds draws that are not numbers; {_DAMAGED}.")

    def result(self) -> Draws:
        warmup = self.settings.num_warmup
        rows = {k: v[:, : self.done] for k, v in self.rows.items() if k != "monitored"}
        params = rows.pop("params")
        stats = {**rows, "tree_depth": np.log2(rows["num_steps"]).astype(int) + 1}
        return Draws(
            params=params[:, warmup:],
            stats={name: x[:, warmup:] for name, x in stats.items()},
            warmup_params=params[:, :warmup],
            warmup_stats={name: x[:, :warmup] for name, x in stats.items()},
            inverse_mass=self.chains.inverse_mass(),
            wall_time_s=self.seconds,
            num_gradients=int(stats["num_steps"][:, warmup:].sum()),
            num_warmup_gradients=int(stats["num_steps"][:, :warmup].sum()),
            stopped_early=self.stopped_early,
        )


def _check_start(start: Start, settings: NutsSettings) -> None:
    if len(start.position) != settings.num_chains:
        raise ValueError(
            f"the start holds {len(start.position)} chains, the settings ask for "
            f"{settings.num_chains}; make the start with num_chains={settings.num_chains}."
        )
    if not np.all(np.isfinite(start.position)):
        raise ValueError("a chain start is not finite; make the start with find_start.")


def _check_stored_start(start: Start, settings: NutsSettings, checkpoint: Path) -> None:
    num_chains = len(start.position)
    if num_chains != settings.num_chains:
        raise CheckpointError(
            f"{checkpoint} belongs to another run: it has {num_chains} chains, num_chains is "
            f"{settings.num_chains} now. Restore that, or start afresh without resuming."
        )
    if not all(np.isfinite(x).all() for x in (start.position, start.location, start.inverse_mass)):
        raise CheckpointError(f"{checkpoint} holds a start that is not finite; {_DAMAGED}.")


def stored_start(checkpoint: Path) -> Start:
    """The start that a checkpoint holds; raises CheckpointError if it cannot be read."""
    arrays = load_checkpoint(checkpoint)
    try:
        return Start.from_arrays(
            {k[len("start_") :]: v for k, v in arrays.items() if k.startswith("start_")}
        )
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{checkpoint} holds no start ({error}); it is damaged.") from error

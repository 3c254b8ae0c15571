"""A whole run: from validated inputs to a diagnosed posterior in a folder."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from pathlib import Path

import jax
import numpy as np
import xarray as xr
from jax.tree_util import Partial

from halo_mdn.config import RunConfig, to_toml
from halo_mdn.errors import InputError, NotFinite
from halo_mdn.fitting.folder import POSTERIOR, RunFolder
from halo_mdn.fitting.inputs import Inputs, attributes, fingerprint
from halo_mdn.likelihood.compressed import Compressed, compress
from halo_mdn.likelihood.fixed_field import FixedFieldLikelihood
from halo_mdn.posterior import summary as diagnostics
from halo_mdn.posterior.compression import record_compression
from halo_mdn.posterior.container import container_of
from halo_mdn.posterior.mode_report import record_modes
from halo_mdn.predictions.fitted_data import FittedData
from halo_mdn.predictions.identified import IdentifiedFunctions
from halo_mdn.progress import Display, duration
from halo_mdn.report import REPORT, figures, write_report
from halo_mdn.report.terminal import closing_table
from halo_mdn.sampling import (
    CheckpointError,
    Coordinates,
    Draws,
    LogPosterior,
    Start,
    StartError,
    agrees_with,
    coordinates_for,
    find_start,
    modes_of_chains,
    run_nuts,
    stored_start,
    typical_points,
)

logger = logging.getLogger(__name__)


def fit(
    config: RunConfig, inputs: Inputs, folder: RunFolder, *, display: Display, resume: bool = False
) -> diagnostics.Summary:
    """Sample the posterior, diagnose it and write the results.

    Parameters
    ----------
    config : RunConfig
    inputs : Inputs
        From `prepare`.
    folder : RunFolder
        Where results and the checkpoint go.
    display : Display
        Where progress and results are shown.
    resume : bool
        Go on from the folder's checkpoint.

    Raises
    ------
    Interrupted
        After Ctrl-C or SIGTERM, with a checkpoint written.
    CheckpointError
        If the checkpoint belongs to another run.
    """
    began = time.monotonic()
    data = FittedData.of(inputs.bias, inputs.data.delta, inputs.data.halos)
    exact = data.log_likelihood
    start = start_of(config, inputs, exact, folder.checkpoint, display, resume=resume)
    wanted = config.sampler.likelihood == "compressed"
    compressed = compress_at(start, exact, display) if wanted else None
    sampled = exact if compressed is None else compressed.log_likelihood
    monitor = Partial(IdentifiedFunctions.constrained, data.functions)
    coordinates = coordinates_for(
        LogPosterior(exact, 1.0, inputs.bias), start.location, start.inverse_mass, start.position
    )
    draws = sample(
        config,
        inputs,
        sampled,
        start,
        coordinates,
        monitor,
        folder.checkpoint,
        display,
        resume=resume,
    )
    display.say(f"\nSampled in {duration(draws.wall_time_s)}; computing diagnostics")
    posterior = container_of(
        data,
        draws,
        attrs={
            **attributes(config, inputs),
            "likelihood": "exact" if compressed is None else "compressed",
        },
        max_tree_depth=inputs.settings.max_tree_depth,
        predictive_draws=config.output.predictive_draws,
        seed=config.seed,
    )
    if compressed is not None:
        posterior = record_compression(posterior, exact, compressed, draws.params)
    posterior = with_modes(posterior, exact, sampled, start, draws, monitor)
    summary = diagnostics.summarise(posterior)
    with folder.staged() as stage:
        (stage / "config.toml").write_text(to_toml(config), encoding="utf-8")
        summary.write_text(stage / "summary.txt")
        summary.write_csv(stage / "diagnostics.csv")
        diagnostics.write(posterior, stage / POSTERIOR)
        if config.output.figures:
            figures.write_figures(posterior, stage)
            write_report(posterior, stage / REPORT, name=folder.path.name)
        names = sorted(part.name for part in stage.iterdir())
    display.say(f"\n{summary.verdict.to_text()}\n\n{closing_table(posterior, summary)}\n")
    display.say(f"Wrote, {duration(time.monotonic() - began)} after the start")
    for name in names:
        display.say(f"  {folder.path / name}")
    return summary


def start_of(
    config: RunConfig,
    inputs: Inputs,
    log_likelihood: FixedFieldLikelihood,
    checkpoint: Path,
    display: Display,
    *,
    resume: bool,
) -> Start:
    """Where to start: as the checkpoint says, or newly found.

    Raises
    ------
    CheckpointError
        If the checkpoint is missing, damaged, or of a model with other parameters.
    InputError
        If no start has a finite posterior.
    """
    if resume:
        start = stored_start(checkpoint)
        if len(start.location) != inputs.bias.num_params:
            raise CheckpointError(
                f"{checkpoint} belongs to another run: it has {len(start.location)} parameters, "
                f"this model {inputs.bias.num_params}. Restore that model, or start afresh without "
                "resuming."
            )
        return start
    display.say("\nLooking for the best starting points")
    try:
        start = find_start(
            log_likelihood,
            inputs.bias,
            jax.random.split(jax.random.PRNGKey(config.seed))[0],
            num_chains=inputs.settings.num_chains,
            **asdict(config.start),
        )
    except NotFinite as error:
        raise InputError(str(error)) from None
    display.say(start.description)
    return start


def compress_at(
    start: Start, log_likelihood: FixedFieldLikelihood, display: Display
) -> Compressed | None:
    """The compressed likelihood around a start, or none if there is no good one; announced."""
    posterior = LogPosterior(log_likelihood, 1.0, log_likelihood.bias)
    try:
        compressed = compress(log_likelihood, start.location, typical_points(posterior, start))
    except InputError as error:
        display.say(f"Sampling the exact likelihood: {error}")
        return None
    num_voxels = log_likelihood.features.shape[1]
    display.say(
        f"Sampling a compressed likelihood: {compressed.num_nodes:,} nodes for {num_voxels:,} "
        f"voxels, ln L off by a constant and {compressed.error_sd:.2g} nats; the exact one is "
        "checked at the end"
    )
    return compressed


def sample(
    config: RunConfig,
    inputs: Inputs,
    log_likelihood: FixedFieldLikelihood,
    start: Start,
    coordinates: Coordinates,
    monitor: Partial,
    checkpoint: Path,
    display: Display,
    *,
    resume: bool,
) -> Draws:
    """Run NUTS, watching the convergence of the functions of ``monitor``."""
    try:
        return run_nuts(
            inputs.model,
            (inputs.bias, log_likelihood),
            start=start,
            key=jax.random.split(jax.random.PRNGKey(config.seed))[1],
            settings=inputs.settings,
            coordinates=coordinates,
            checkpoint=checkpoint,
            fingerprint=fingerprint(config, inputs),
            monitor=monitor,
            progress=display.update,
            resume=resume,
        )
    except StartError as error:
        raise InputError(
            f"{error}: the search for a start has failed; raise start.num_starts (it is "
            f"{config.start.num_starts}), and check with `inspect` that halos and field belong "
            "together"
        ) from error


def with_modes(
    posterior: xr.DataTree,
    exact: FixedFieldLikelihood,
    sampled: FixedFieldLikelihood,
    start: Start,
    draws: Draws,
    monitor: Partial,
) -> xr.DataTree:
    """The container with the modes of start and chains, where they can be known.

    They cannot for a model of the user's own with other priors: its density is not known here.
    """
    bias = exact.bias
    target = LogPosterior(exact, 1.0, bias)
    if not agrees_with(LogPosterior(sampled, 1.0, bias), draws):
        logger.info("the model file has another density than its settings say: no modes are told")
        return posterior
    try:
        modes = modes_of_chains(target, start.modes, draws.params)
        return record_modes(posterior, modes, draws.params, monitor)
    except (NotFinite, np.linalg.LinAlgError) as error:  # no reason to lose the draws
        logger.warning("the modes could not be told apart: %s", error)
        return posterior

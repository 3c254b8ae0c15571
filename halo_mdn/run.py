"""A whole run: from validated inputs to a diagnosed posterior in a folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import xarray as xr
from jax.tree_util import Partial

import halo_mdn as hm
from halo_mdn import diagnostics, figures
from halo_mdn.alignment import compare_placements
from halo_mdn.bias import Bias
from halo_mdn.closing_table import closing_table
from halo_mdn.config import RunConfig, config_hash, to_json, to_toml
from halo_mdn.errors import InputError
from halo_mdn.fitted import bias_of
from halo_mdn.identified import IdentifiedFunctions, identified_functions
from halo_mdn.io import RunData, file_hash, load_data
from halo_mdn.mode_report import record_modes
from halo_mdn.model_files import find_model_file, load_model
from halo_mdn.progress import Display, duration
from halo_mdn.report import REPORT, write_report
from halo_mdn.run_folder import POSTERIOR, RunFolder
from halo_mdn.sampling import (
    Draws,
    LogPosterior,
    NutsSettings,
    agrees_with,
    coordinates_at,
    find_start,
    modes_of_chains,
    run_nuts,
    stored_start,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """What a run needs, validated: nothing has been compiled yet."""

    model: Callable[..., None]
    bias: Bias
    settings: NutsSettings
    data: RunData


def prepare(config: RunConfig) -> Inputs:
    """Load and validate everything that a configuration names.

    Raises
    ------
    InputError
        If a setting, the model file or the data are wrong.
    """
    data = load_data(config.data)
    bias = bias_of(config)
    data.halos.grid.domain_shape(bias._size)  # refuses small grids
    try:
        settings = NutsSettings(**asdict(config.sampler))
    except ValueError as error:
        raise InputError(f"[sampler]: {error}") from None
    return Inputs(load_model(config.model.name), bias, settings, data)


def describe(config: RunConfig, inputs: Inputs, folder: RunFolder, *, device: str) -> str:
    """What is about to be fitted, in a few lines."""
    data, bias, settings = inputs.data, inputs.bias, inputs.settings
    grid, halos = data.halos.grid, data.halos
    voxels = " x ".join(map(str, grid.shape))
    sides = " x ".join(f"{side:g}" for side in dict.fromkeys(grid.box_size))
    dropped = f", {data.num_dropped:,} below it dropped" if data.num_dropped else ""
    floor = f", floor {bias.density_floor:g} on 1 + delta" if bias.density_floor else ""
    catalogues = f" in {halos.num_catalogues} catalogues" if halos.num_catalogues > 1 else ""
    lines = {
        "field": f"{config.data.field}: {voxels} voxels, {sides} Mpc/h, {grid.boundary}{floor}",
        "halos": f"{halos.num_halos:,}{catalogues} above {bias.mass_threshold:g} Msun/h{dropped}",
        "model": f"{config.model.name}: {bias.num_params} parameters, "
        f"Normal(0, {bias.prior_scale:g}) priors",
        "sampler": f"NUTS, {settings.num_chains} chains, {settings.num_warmup} warm-up and "
        f"{settings.num_samples} kept draws each, seed {config.seed}",
        "device": device,
        "results": f"{folder.path}",
    }
    text = [f"{name:8} {text}" for name, text in lines.items()]
    return "\n".join(text + [f"note     {note}" for note in data.notes])


def misalignment(inputs: Inputs) -> str:
    """A sentence if halos would clearly follow the field better in another placement, else ""."""
    data = inputs.data
    comparison = compare_placements(data.delta, data.halos, inputs.bias.density_floor)
    return comparison.in_words() if comparison.better else ""


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
    bias, data = inputs.bias, inputs.data
    began = time.monotonic()
    draws = sample(config, inputs, folder.checkpoint, display, resume=resume)
    display.say(f"\nSampled in {duration(draws.wall_time_s)}; computing diagnostics")
    posterior = diagnostics.build(
        bias,
        draws,
        data.delta,
        data.halos,
        attrs=attributes(config, inputs),
        max_tree_depth=inputs.settings.max_tree_depth,
        predictive_draws=config.output.predictive_draws,
        seed=config.seed,
    )
    posterior = with_modes(posterior, inputs, draws, folder.checkpoint)
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


def sample(
    config: RunConfig, inputs: Inputs, checkpoint: Path, display: Display, *, resume: bool
) -> Draws:
    """Find where to start, then run NUTS."""
    bias, data = inputs.bias, inputs.data
    start_key, nuts_key = jax.random.split(jax.random.PRNGKey(config.seed))
    log_likelihood = hm.fixed_field_likelihood(bias, data.delta, data.halos)
    functions = identified_functions(bias, data.delta, data.halos)
    start = None
    if not resume:
        display.say("\nLooking for the best starting points")
        try:
            start = find_start(
                log_likelihood,
                bias,
                start_key,
                num_chains=inputs.settings.num_chains,
                **asdict(config.start),
            )
        except ValueError as error:
            raise InputError(str(error)) from None
        display.say(start.description)
    return run_nuts(
        inputs.model,
        (bias, log_likelihood),
        start=start,
        key=nuts_key,
        settings=inputs.settings,
        coordinates=coordinates_at(log_likelihood),
        checkpoint=checkpoint,
        fingerprint=fingerprint(config, inputs),
        monitor=Partial(IdentifiedFunctions.constrained, functions),
        progress=display.update,
        resume=resume,
    )


def with_modes(
    posterior: xr.DataTree, inputs: Inputs, draws: Draws, checkpoint: Path
) -> xr.DataTree:
    """The container with the modes of start and chains, where they can be known.

    They cannot for a model of the user's own with other priors: its density is not known here.
    """
    bias, data = inputs.bias, inputs.data
    target = LogPosterior(hm.fixed_field_likelihood(bias, data.delta, data.halos), 1.0, bias)
    if not agrees_with(target, draws):
        return posterior
    functions = identified_functions(bias, data.delta, data.halos)
    monitored = Partial(IdentifiedFunctions.constrained, functions)
    try:
        modes = modes_of_chains(target, stored_start(checkpoint).modes, draws.params)
        return record_modes(posterior, modes, draws.params, monitored)
    except ValueError as error:  # no reason to lose the draws
        logger.warning("the modes could not be told apart: %s", error)
        return posterior


def fingerprint(config: RunConfig, inputs: Inputs) -> dict[str, Any]:
    """What must be the same for a checkpoint to be resumed, beside what the sampler compares."""
    return {
        **{f"content of {name}": file_hash(path) for name, path in inputs.data.files.items()},
        "content of the model file": file_hash(find_model_file(config.model.name)),
        "precision": config.runtime.precision,
        "seed": config.seed,
    }


def attributes(config: RunConfig, inputs: Inputs) -> dict[str, Any]:
    """Where the posterior comes from: settings, input files with their hashes, conventions."""
    known = inputs.data.settings
    files = {**inputs.data.files, "model": find_model_file(config.model.name)}
    return {
        "seed": config.seed,
        "config": to_json(config),
        "config_sha256": config_hash(config),
        "input_files": {name: path.name for name, path in files.items()},
        "input_hashes": {name: file_hash(path) for name, path in files.items()},
        "data_notes": list(inputs.data.notes),
        "redshift": "not given" if known.redshift is None else known.redshift,
        "mass_definition": known.mass_definition or "not given",
        "cosmology": known.cosmology or "not given",
    }

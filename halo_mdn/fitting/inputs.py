"""What a run works with, validated, and what it says about itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from halo_mdn.bias.base import Bias
from halo_mdn.config import RunConfig, config_hash, to_json
from halo_mdn.config.model_files import bias_of, find_model_file, load_model
from halo_mdn.fitting.folder import RunFolder
from halo_mdn.halos.alignment import compare_placements
from halo_mdn.io import RunData, file_hash, load_data
from halo_mdn.sampling import NutsSettings


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
    bias = bias_of(config)
    data = load_data(config.data)
    bias.domain(data.halos.grid)  # refuses small grids
    return Inputs(load_model(config.model.name), bias, config.sampler.nuts, data)


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
        "model": f"{config.model.name}: {bias.num_params} parameters, {_prior_text(bias)} priors",
        "sampler": f"NUTS, {settings.num_chains} chains, {settings.num_warmup} warm-up and "
        f"{settings.num_samples} kept draws each, {config.sampler.likelihood} likelihood, "
        f"seed {config.seed}",
        "device": device,
        "results": f"{folder.path}",
    }
    text = [f"{name:8} {text}" for name, text in lines.items()]
    return "\n".join(text + [f"note     {note}" for note in data.notes])


def _prior_text(bias: Bias) -> str:
    kinds = set(zip(*bias.prior, strict=True))
    return "Normal({:g}, {:g})".format(*kinds.pop()) if len(kinds) == 1 else "Normal"


def misalignment(inputs: Inputs) -> str:
    """A sentence if halos do not follow the field as given, in another placement or in none."""
    data = inputs.data
    comparison = compare_placements(data.delta, data.halos, inputs.bias.density_floor)
    return "" if comparison.aligned else comparison.in_words()


def warnings_of(inputs: Inputs) -> tuple[str, ...]:
    """What is odd about the data, a sentence each."""
    found = misalignment(inputs)
    return inputs.data.warnings + ((found,) if found else ())


def fingerprint(config: RunConfig, inputs: Inputs) -> dict[str, Any]:
    """What must be the same for a checkpoint to be resumed, beside what the sampler compares."""
    return {
        **{f"content of {name}": file_hash(path) for name, path in inputs.data.files.items()},
        "content of the model file": file_hash(find_model_file(config.model.name)),
        "likelihood": config.sampler.likelihood,
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
        "data_notes": [*inputs.data.notes, *inputs.data.warnings],
        "redshift": "not given" if known.redshift is None else known.redshift,
        "mass_definition": known.mass_definition or "not given",
        "cosmology": known.cosmology or "not given",
    }

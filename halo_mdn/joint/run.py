"""What a joint inference works with, validated, and its draws."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from halo_mdn.bias.mock_params import MOCK_PARAMS
from halo_mdn.bias.neural import NeuralBias
from halo_mdn.config.joint_schema import JointConfig, JointData
from halo_mdn.config.model_files import find_model_file, load_model
from halo_mdn.config.run_file import config_hash, to_json
from halo_mdn.errors import InputError
from halo_mdn.field.cosmology import Cosmology, check_cosmology
from halo_mdn.field.grid import Grid
from halo_mdn.field.lpt import Lpt
from halo_mdn.halos.catalogue import HaloCatalogue, not_below
from halo_mdn.halos.placed import place_halos
from halo_mdn.io import file_hash
from halo_mdn.io.formats.exchange import Exchange, read_exchange
from halo_mdn.io.load import check_threshold
from halo_mdn.io.overdensity import no_overdensity
from halo_mdn.io.plausible import Box, complaint_of
from halo_mdn.joint.beginning import Beginning, begin
from halo_mdn.joint.joint_chains import JointDraws, draw_chains
from halo_mdn.joint.joint_density import JointDensity, check_sites
from halo_mdn.joint.problem import FreeCosmology, JointProblem
from halo_mdn.mocks.universe import as_exchange, make_mock
from halo_mdn.progress import Progress
from halo_mdn.sampling.nuts.checkpoint import fingerprint_of
from halo_mdn.threads import in_threads

_COSMOLOGY = ("omega_m", "omega_b", "h", "n_s", "sigma8")


@dataclass(frozen=True)
class JointInputs:
    """What a joint inference needs, validated.

    Attributes
    ----------
    density : JointDensity
        The model of the model file, and the problem it is given.
    content : Exchange
        The file or mock that the halos come from.
    files : dict of str to Path
        What was read.
    """

    density: JointDensity
    content: Exchange
    files: dict[str, Path]

    @property
    def problem(self) -> JointProblem:
        """Halos, forward model and priors."""
        return self.density.problem


def prepare(config: JointConfig) -> JointInputs:
    """Load and validate everything that a configuration names.

    Raises
    ------
    InputError
        If the model file, the data or a setting is unusable.
    """
    model = load_model(config.model.name, "joint")
    bias = NeuralBias(
        mass_threshold=config.data.mass_threshold, density_floor=config.data.density_floor
    )
    cosmology = Cosmology(**{name: getattr(config.cosmology, name) for name in _COSMOLOGY})
    check_cosmology(cosmology)
    content = _content(config, bias, cosmology)
    _check(content, config.data)
    stated = content.known_redshift
    lpt = _lpt(config, content.grid, config.lpt.redshift if stated is None else stated)
    catalogue = HaloCatalogue.from_positions(
        content.position, content.mass, content.grid, config.data.mass_threshold
    )
    problem = JointProblem(
        bias=bias,
        lpt=lpt,
        halos=place_halos(catalogue, bias.domain(content.grid)),
        cosmology=cosmology,
        free_cosmology=_free_cosmology(config),
        precision=config.lpt.precision,  # type: ignore[arg-type]
    )
    density = JointDensity(model, problem)
    check_sites(density)
    files = {"model": find_model_file(config.model.name, "joint")}
    if config.data.file:
        files["data"] = Path(config.data.file)
    return JointInputs(density, content, files)


def draw(
    config: JointConfig, inputs: JointInputs, checkpoint: Path,
    progress: Callable[[Progress], None], *, resume: bool = False,
) -> JointDraws:  # fmt: skip
    """Start and run all chains, each on its own thread.

    Parameters
    ----------
    config : JointConfig
    inputs : JointInputs
        From `prepare`.
    checkpoint : Path
        The file to save the state to.
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
    begin_key, scatter_key, key = jax.random.split(jax.random.key(config.seed), 3)
    num_chains, start = config.sampler.num_chains, config.start

    def find_beginnings() -> list[Beginning]:
        params = scattered_params(scatter_key, inputs.problem.bias, start.scatter, num_chains)
        steps = {"num_steps": start.field_steps, "newton_steps": start.newton_steps}
        return in_threads(
            lambda pair: begin(pair[0], inputs.density, pair[1], **steps),
            list(zip(jax.random.split(begin_key, num_chains), params, strict=True)),
        )

    return draw_chains(
        key,
        inputs.density,
        find_beginnings,
        config.sampler,
        checkpoint=checkpoint,
        fingerprint=fingerprint(config, inputs),
        progress=progress,
        resume=resume,
    )


def fingerprint(config: JointConfig, inputs: JointInputs) -> dict[str, Any]:
    """What must be the same for a checkpoint to be resumed, beside what the sampler compares."""
    problem = inputs.problem
    return {
        "content of the model file": file_hash(inputs.files["model"]),
        "halos and cosmology": fingerprint_of(problem),
        "bias": repr(problem.bias),
        "forward model": f"{problem.lpt!r}, {problem.precision}",
        "free cosmology": repr(problem.free_cosmology),
        **{f"start {name}": value for name, value in asdict(config.start).items()},
        "precision": config.runtime.precision,
        "seed": config.seed,
    }


def attributes(config: JointConfig, inputs: JointInputs) -> dict[str, Any]:
    """Where the posterior comes from: settings, input files with their hashes, conventions."""
    content = inputs.content
    return {
        "seed": config.seed,
        "run": "joint",
        "config": to_json(config),
        "config_sha256": config_hash(config),
        "input_files": {name: path.name for name, path in inputs.files.items()},
        "input_hashes": {name: file_hash(path) for name, path in inputs.files.items()},
        "data_notes": differences(config, content),
        "redshift": inputs.problem.lpt.redshift,
        "mass_definition": content.mass_definition or "not given",
        "cosmology": {name: getattr(config.cosmology, name) for name in _COSMOLOGY},
    }


def differences(config: JointConfig, content: Exchange) -> list[str]:
    """Where the settings are not those that the file says it was made with, a sentence each."""
    lpt = content.settings.get("lpt", {})
    pairs = [
        (f"cosmology.{name}", value, getattr(config.cosmology, name, None))
        for name, value in _stated_cosmology(content).items()
    ]
    pairs += [(f"lpt.{k}", lpt.get(k), getattr(config.lpt, k)) for k in ("order", "supersampling")]
    return [
        f"{name} is {ours:g}, the file was made with {theirs:g}"
        for name, theirs, ours in pairs
        if theirs is not None and ours is not None and not np.isclose(theirs, ours, rtol=1e-3)
    ]


def scattered_params(key: Array, bias: NeuralBias, scatter: float, num_chains: int) -> Array:
    """First bias parameters of all chains, (C, P), around those of the mock.

    A kernel weight acts on all voxels of its shell: the same scatter on each would, for 26
    neighbours, turn the sign of the response to large waves, and with it that of the field.
    """
    scale = np.full(bias.num_params, scatter)
    scale[: bias.basis.num_weights] /= np.sum(bias.basis.coefficients != 0, axis=1)
    noise = jax.random.normal(key, (num_chains, bias.num_params))
    return jnp.asarray(np.array(MOCK_PARAMS) + scale * np.asarray(noise))


def _content(config: JointConfig, bias: NeuralBias, cosmology: Cosmology) -> Exchange:
    if config.data.file:
        return read_exchange(Path(config.data.file))
    settings = config.mock
    grid = Grid((settings.cells,) * 3, (settings.box_size,) * 3)
    lpt = _lpt(config, grid, config.lpt.redshift)
    mock = make_mock(
        settings.seed, lpt, cosmology=cosmology, bias=bias, params=np.array(MOCK_PARAMS)
    )
    return as_exchange(mock)


def _stated_cosmology(content: Exchange) -> dict[str, float]:
    if "cosmology" in content.settings:
        return dict(content.settings["cosmology"])
    try:
        stated = json.loads(content.provenance.get("cosmology") or "{}")
    except ValueError:
        return {}  # a name, or words
    numbers = stated.items() if isinstance(stated, dict) else ()
    return {name: value for name, value in numbers if isinstance(value, float | int)}


def _check(content: Exchange, data: JointData) -> None:
    """A cube, with halos above the threshold and none missing there."""
    if len(set(content.grid.shape)) > 1 or len(set(content.grid.box_size)) > 1:
        raise InputError(
            f"the field has {content.grid.shape} cells in {content.grid.box_size} Mpc/h: joint "
            "inference needs a cube with as many cells on each side"
        )
    if not content.is_plain:
        raise InputError(
            f"{data.file} states a patch, a region, a completeness map or errors of masses: joint "
            "inference needs a periodic box of mean density with every halo and its exact mass"
        )
    if complaint := no_overdensity(content.delta, periodic=True):
        raise InputError(f"the field in {data.file} {complaint}")
    check_threshold(content.mass_threshold, data.mass_threshold, Path(data.file))
    if not content.mass.size:
        return
    mass = not_below(content.mass, data.mass_threshold)
    if mass.min() < data.mass_threshold:
        raise InputError(
            f"the lightest halo has {content.mass.min():.4g} Msun/h, below data.mass_threshold = "
            f"{data.mass_threshold:.4g}: lower it, or leave lighter halos out of the file"
        )
    box = Box(content.box_size)
    if complaint := complaint_of(content.position, mass, data.mass_threshold, box):
        raise InputError(f"{data.file or 'the mock'}: {complaint}")


def _lpt(config: JointConfig, grid: Grid, redshift: float) -> Lpt:
    return Lpt(
        grid,
        redshift=redshift,
        order=config.lpt.order,  # type: ignore[arg-type]
        supersampling=config.lpt.supersampling,
    )


def _free_cosmology(config: JointConfig) -> FreeCosmology:
    values = vars(config.cosmology)
    return tuple(
        (name, (values[name], values[f"{name}_width"]))
        for name in ("sigma8", "omega_m")
        if values[f"{name}_width"] > 0
    )

"""A joint inference from settings to draws."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from halo_mdn.bias.mock_params import MOCK_PARAMS
from halo_mdn.bias.neural import NeuralBias
from halo_mdn.config.joint_schema import JointConfig, JointData
from halo_mdn.errors import InputError
from halo_mdn.field.cosmology import Cosmology, check_cosmology
from halo_mdn.field.grid import Grid
from halo_mdn.field.lpt import Lpt
from halo_mdn.halos.catalogue import HaloCatalogue
from halo_mdn.io.formats.exchange import Exchange, read_exchange
from halo_mdn.io.load import check_threshold
from halo_mdn.joint.beginning import begin
from halo_mdn.joint.joint_chains import JointDraws, draw_chains
from halo_mdn.joint.problem import FreeCosmology, JointProblem
from halo_mdn.joint.samplers import check_sampler
from halo_mdn.mocks.universe import as_exchange, make_mock
from halo_mdn.threads import in_threads


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
    _check(content, config.data)
    stated = content.known_redshift
    lpt = _lpt(config, content.grid, config.lpt.redshift if stated is None else stated)
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


def draw(config: JointConfig, problem: JointProblem, say: Callable[[str], None]) -> JointDraws:
    """Start and run all chains, each on its own thread.

    Raises
    ------
    InputError
        If the sampler cannot do what is asked for.
    """
    check_sampler(config.sampler)
    began = time.monotonic()
    begin_key, scatter_key, key = jax.random.split(jax.random.key(config.seed), 3)
    num_chains, start = config.sampler.num_chains, config.start
    params = scattered_params(scatter_key, problem.bias, start.scatter, num_chains)
    beginnings = in_threads(
        lambda pair: begin(
            pair[0],
            problem,
            pair[1],
            num_steps=start.field_steps,
            newton_steps=start.newton_steps,
        ),
        list(zip(jax.random.split(begin_key, num_chains), params, strict=True)),
    )
    say(f"{num_chains} chains started, {time.monotonic() - began:.0f} s")
    return draw_chains(key, problem, beginnings, config.sampler, began=began, say=say)


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
    check_threshold(content.mass_threshold, data.mass_threshold, Path(data.file))
    if content.mass.size and content.mass.min() < data.mass_threshold * (1 - 1e-9):
        raise InputError(
            f"the lightest halo has {content.mass.min():.4g} Msun/h, below data.mass_threshold = "
            f"{data.mass_threshold:.4g}: lower it, or leave lighter halos out of the file"
        )


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

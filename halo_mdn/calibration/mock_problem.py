"""What is calibrated: a prior, a field, a sampler, and the quantities whose ranks are taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from math import log

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import logsumexp

from halo_mdn.bias.base import Bias
from halo_mdn.config import RunConfig
from halo_mdn.errors import InputError
from halo_mdn.field.cosmology import Cosmology
from halo_mdn.field.density import check_density
from halo_mdn.field.grid import Grid
from halo_mdn.field.lpt import Lpt, density
from halo_mdn.fitting.inputs import prepare
from halo_mdn.halos.catalogue import HaloCatalogue
from halo_mdn.halos.mass_observation import MassObservation
from halo_mdn.likelihood.definition import definition
from halo_mdn.likelihood.fixed_field import FixedFieldLikelihood, fixed_field_likelihood
from halo_mdn.mocks.simulation import simulate
from halo_mdn.predictions.identified import IdentifiedFunctions, identified_functions
from halo_mdn.sampling import NutsSettings

RANKED = 99  # draws among which a truth is ranked: 100 possible ranks
CAPACITY = 4096  # catalogues are padded to multiples of it, so that shapes rarely change


@dataclass(frozen=True)
class Problem:
    """Everything that the fits of a calibration share.

    Attributes
    ----------
    seed : int
        With the index of a fit, it decides all random numbers of the fit.
    completeness : array (N0, N1, N2) or None
        Of the run's own field; none on a mock field.
    functions : IdentifiedFunctions
        Chosen once, from a catalogue drawn at the mean of the prior.
    """

    seed: int
    model: Callable[..., None]
    bias: Bias
    grid: Grid
    delta: np.ndarray
    completeness: np.ndarray | None
    observation: MassObservation
    functions: IdentifiedFunctions
    settings: NutsSettings
    num_starts: int

    def catalogue(self, key: Array, params: np.ndarray) -> FixedFieldLikelihood:
        """The likelihood of a catalogue drawn with these parameters, padded."""
        halos = simulate(
            key,
            self.bias,
            params,
            self.delta,
            self.grid,
            completeness=self.completeness,
            observation=self.observation,
        )
        return _likelihood(self.bias, self.delta, padded(halos))

    def quantities(self, log_l: FixedFieldLikelihood, params: np.ndarray) -> np.ndarray:
        """What is ranked, shape (D, Q), for parameters (D, P); named by `names`."""
        values = _quantities(self.functions, log_l, jnp.asarray(params))
        return np.concatenate([params, np.asarray(values, dtype=float)], axis=1)

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters, then ``ln n(M | environment)``, the expected number of halos, and ln L."""
        pairs = list(product(self.functions.environment, np.exp(self.functions.log_mass)))
        chosen = [pairs[i] for i in np.asarray(self.functions.index)]
        functions = [f"ln n({environment}, M={mass:.2g})" for environment, mass in chosen]
        return (*parameter_names(self.bias), *functions, "ln expected number", "ln L")


def make_problem(config: RunConfig, cells: int) -> Problem:
    """The calibration of a run file.

    Parameters
    ----------
    config : RunConfig
        Prior, network, mass errors, sampler and seed are those of the run.
    cells : int
        Per side of a mock field with voxels of the run's size; 0 for the run's own field.

    Raises
    ------
    InputError
        If a setting or the data are wrong, or too few draws are kept.
    """
    inputs = prepare(config)
    data, bias, settings = inputs.data, inputs.bias, inputs.settings
    if settings.num_chains * settings.num_samples < RANKED or settings.target_ess is not None:
        raise InputError(
            f"{settings.num_chains} chains of {settings.num_samples} draws, target_ess "
            f"{settings.target_ess}: expected at least {RANKED} draws in all and no target_ess"
        )
    if config.sampler.likelihood != "exact":
        raise InputError("calibration is of the exact likelihood: give --sampler.likelihood exact")
    grid, delta, completeness = data.halos.grid, data.delta, data.halos.completeness
    if cells:
        grid, delta = _mock_field(cells, grid, config.seed, data.settings.redshift or 0.0)
        completeness = None
    check_density(delta, grid.shape, bias.density_floor)
    bias.domain(grid)  # refuses small grids
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    typical = simulate(
        key,
        bias,
        bias.prior[0],
        delta,
        grid,
        completeness=completeness,
        observation=data.halos.observation,
    )
    return Problem(
        seed=config.seed,
        model=inputs.model,
        bias=bias,
        grid=grid,
        delta=delta,
        completeness=completeness,
        observation=data.halos.observation,
        functions=identified_functions(bias, delta, typical),
        # Several fits run side by side, so the chains of each follow one another.
        settings=replace(settings, chain_method="sequential"),
        num_starts=config.start.num_starts,
    )


def padded(halos: HaloCatalogue) -> HaloCatalogue:
    """The same catalogue with halos that are not selected, up to a multiple of `CAPACITY`."""
    missing = max(CAPACITY, -(-halos.num_halos // CAPACITY) * CAPACITY) - halos.num_halos
    at_threshold = np.full(missing, log(halos.mass_threshold))
    return replace(
        halos,
        log_mass=np.concatenate([halos.log_mass, at_threshold]),
        voxel=np.pad(halos.voxel, ((0, missing), (0, 0))),
        selected=np.pad(halos.selected, (0, missing)),
        position=None,
    )


def parameter_names(bias: Bias) -> tuple[str, ...]:
    """Names of the parameters in the order of the vector, such as ``mean_biases[1]``."""
    names = []
    for block, shape in bias.block_shapes.items():
        labels = [bias.coords[dim] for dim in bias.block_dims[block]]
        # Axes of length one say nothing.
        told = [label for label, size in zip(labels, shape, strict=True) if size > 1]
        for index in product(*told):
            names.append(f"{block}[{','.join(map(str, index))}]" if index else block)
    return tuple(names)


def _mock_field(cells: int, like: Grid, seed: int, redshift: float) -> tuple[Grid, np.ndarray]:
    sides = tuple(cells * size for size in like.voxel_size)
    grid = Grid((cells,) * 3, sides)  # type: ignore[arg-type]
    lpt = Lpt(grid, redshift=redshift)
    noise = jax.random.normal(jax.random.key(seed), lpt.noise_shape, dtype=jnp.result_type(float))
    return replace(grid, boundary=like.boundary), np.asarray(density(noise, lpt, Cosmology()))


@partial(jax.jit, static_argnums=0)
def _likelihood(bias: Bias, delta: np.ndarray, halos: HaloCatalogue) -> FixedFieldLikelihood:
    return fixed_field_likelihood(bias, delta, halos)


@jax.jit
def _quantities(
    functions: IdentifiedFunctions, log_l: FixedFieldLikelihood, params: Array
) -> Array:
    threshold = log(log_l.bias.mass_threshold)

    def of_draw(params: Array) -> Array:
        mass_function = log_l.bias.mass_function(params, log_l.features)
        log_lambda = log_l.observation.log_integral(mass_function, threshold, threshold)
        log_expected = logsumexp(log_lambda, b=log_l.weight) + log(log_l.grid.voxel_volume)
        # By the definition: what ranks the draws shall not share errors with what made them.
        others = jnp.stack([log_expected, definition(log_l, params)])
        return jnp.append(functions.constrained(params), others)

    return jax.lax.map(of_draw, params)

"""The joint density as a model file writes it, in any coordinates, and given the field.

The model file is the only place where a prior or a likelihood is written. What samplers and the
search for a start see is this one model with NumPyro's handlers around it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.handlers import seed, substitute, trace
from numpyro.infer.util import log_density

from halo_mdn.errors import InputError
from halo_mdn.joint.coordinates import BIAS, FIELD, JointCoordinates, Position
from halo_mdn.joint.problem import JointProblem
from halo_mdn.likelihood.fixed_field import FixedFieldLikelihood
from halo_mdn.sampling.coordinates.bijections import change_coordinates

JointModel = Callable[[JointProblem], None]

# NumPyro keeps its effect handlers on one global stack: one thread at a time may run a model.
_TRACING = threading.RLock()


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class JointDensity:
    """The density that a model file writes for a problem; a pytree.

    Attributes
    ----------
    model : callable
        Takes the problem. It samples ``white_noise``, ``params`` and, for each free parameter of
        the cosmology, ``NAME_unit``; it names the overdensity ``delta`` and those parameters
        ``NAME`` by ``numpyro.deterministic``.
    problem : JointProblem
    """

    model: JointModel = field(metadata={"static": True})
    problem: JointProblem

    def __call__(self, coordinates: JointCoordinates, position: Position) -> Array:
        """Log posterior density of a position, up to a constant; all its coordinates are real."""
        with _TRACING:
            value, _ = log_density(joint_model, (coordinates, self), {}, position)
        # Where LPT leaves an empty cell the density is impossible, not undefined.
        return jnp.where(jnp.isnan(value), -jnp.inf, value)

    def values(self, coordinates: JointCoordinates, position: Position) -> dict[str, Array]:
        """All that the model names, at a position: white noise, parameters, delta, cosmology."""
        with _TRACING:
            model = substitute(joint_model, data=position)
            found = trace(model).get_trace(coordinates, self)
        return {name: site["value"] for name, site in found.items() if "value" in site}

    def delta(self, sites: dict[str, Array]) -> Array:
        """The overdensity that the model makes of values of its own sites."""
        return _delta_of(self, sites)

    def given_field(self, coordinates: JointCoordinates, position: Position) -> GivenField:
        """The density of the bias alone, with field and cosmology held where they are."""
        found = _field_of(self, coordinates, position)
        others = {name: x for name, x in position.items() if name not in (FIELD, BIAS)}
        return GivenField(self.model, self.problem.at_field(found["delta"]), {**others, **found})

    def elsewhere(self) -> Position:
        """Where coordinates beside field and bias begin: the middle of their priors."""
        return {f"{name}_unit": jnp.zeros(()) for name, _ in self.problem.free_cosmology}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GivenField:
    """The same density as a function of the bias parameters (P,), all else held; a pytree.

    Attributes
    ----------
    model : callable
    problem : JointProblem
        At the field ``held["delta"]``, so that the fast likelihood of a fixed field applies.
    held : dict of arrays
        Values of all other sites.
    """

    model: JointModel = field(metadata={"static": True})
    problem: JointProblem
    held: dict[str, Array]

    @property
    def log_likelihood(self) -> FixedFieldLikelihood:
        """Of the field that is held."""
        assert self.problem.fixed is not None
        return self.problem.fixed

    def __call__(self, params: Array) -> Array:
        with _TRACING:
            sites = {**self.held, "params": params}
            value, _ = log_density(self.model, (self.problem,), {}, sites)
        return value


def joint_model(coordinates: JointCoordinates, density: JointDensity) -> None:
    """The model of the file in other coordinates."""
    model = change_coordinates(density.model, "params")
    change_coordinates(model, "white_noise")(coordinates.field, coordinates.bias, density.problem)


def check_sites(density: JointDensity) -> None:
    """Make sure that a model file names what joint inference looks for; nothing is computed.

    Raises
    ------
    InputError
        If it samples something else, or does not name what is looked for.
    """
    free = [name for name, _ in density.problem.free_cosmology]
    sampled, named = {"white_noise", "params", *(f"{name}_unit" for name in free)}, {"delta", *free}
    found: dict[str, set[str]] = {"sample": set(), "deterministic": set()}

    def look(problem: JointProblem) -> None:
        for name, site in trace(seed(density.model, jax.random.key(0))).get_trace(problem).items():
            if site["type"] in found and not site.get("is_observed"):
                found[site["type"]].add(name)

    with _TRACING:
        jax.eval_shape(look, density.problem)
    for what, expected, got in (
        ("samples", sampled, found["sample"]),
        ("names by numpyro.deterministic", named, found["deterministic"] & named),
    ):
        if got != expected:
            raise InputError(
                f"the joint model {what} {_listed(got)}, expected {_listed(expected)}: keep these "
                "names of models/joint_field.py"
            )


@jax.jit
def _field_of(
    density: JointDensity, coordinates: JointCoordinates, position: Position
) -> dict[str, Array]:
    """White noise and overdensity; nothing else is computed."""
    found = density.values(coordinates, position)
    return {name: found[name] for name in ("white_noise", "delta")}


@jax.jit
def _delta_of(density: JointDensity, sites: dict[str, Array]) -> Array:
    with _TRACING:
        found = trace(substitute(density.model, data=sites)).get_trace(density.problem)
    delta: Array = found["delta"]["value"]
    return delta


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"

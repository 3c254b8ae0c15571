"""What one client of the likelihood server can ask for, and what the server remembers of it."""

from __future__ import annotations

import json
from dataclasses import replace
from threading import Lock
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from halo_mdn.bias.base import Bias
from halo_mdn.clients.halo_mdn_client import (
    AT_FIELD,
    BAD_INPUT,
    DESCRIBE,
    EVALUATE,
    FAILED,
    SET_FIELD,
    SIMULATE,
)
from halo_mdn.errors import InputError
from halo_mdn.halos.catalogue import HaloCatalogue
from halo_mdn.halos.placed import Halos, place_halos
from halo_mdn.likelihood.adjoint import adjoint
from halo_mdn.likelihood.fixed_field import FixedFieldLikelihood, fixed_field_likelihood
from halo_mdn.mocks.simulation import simulate
from halo_mdn.server.protocol import Layout, Refusal, Request
from halo_mdn.version import __version__

Payload = list[np.ndarray | bytes]

_FEWEST = 4096  # halos that a mock is padded to, and to this times powers of two

_COMPUTING = Lock()  # one evaluation at a time: each uses all cores, and memory stays bounded


class Session:
    """The likelihood as one client sees it: its catalogue, and the field it sent last.

    Parameters
    ----------
    bias : Bias
    halos : HaloCatalogue
        Replaced, for this session alone, by the mock that the client asks for.
    """

    def __init__(self, bias: Bias, halos: HaloCatalogue) -> None:
        self._bias = bias
        self._catalogue = replace(halos, position=None)
        self._halos: Halos = self._catalogue
        self._delta: np.ndarray | None = None
        self._at_field: FixedFieldLikelihood | None = None
        self.layout = Layout(bias.num_params, halos.grid.shape)

    def answer(self, request: Request) -> Payload:
        """The payload of the reply.

        Raises
        ------
        Refusal
            If the request holds unusable values, or the result is not a number.
        """
        if request.params is not None and not np.isfinite(request.params).all():
            bad = int((~np.isfinite(request.params)).sum())
            raise Refusal(BAD_INPUT, f"{bad} of {request.params.size} parameters are not finite")
        actions = {
            DESCRIBE: self._describe,
            EVALUATE: self._evaluate,
            SET_FIELD: self._set_field,
            AT_FIELD: self._evaluate_at_field,
            SIMULATE: self._simulate,
        }
        try:
            with _COMPUTING:
                return actions[request.operation](request)
        except InputError as error:
            raise Refusal(BAD_INPUT, str(error)) from error
        except (MemoryError, RuntimeError) as error:  # JAX ran out of memory, or lost its device
            raise Refusal(FAILED, f"{type(error).__name__}: {error}") from error

    def _describe(self, request: Request) -> Payload:
        return [json.dumps(description(self._bias, self._catalogue)).encode()]

    def _evaluate(self, request: Request) -> Payload:
        assert request.params is not None and request.delta is not None
        result = adjoint(self._bias, request.params, request.delta, self._halos)
        return _checked(result.value, result.params_cot, result.delta_cot)

    def _set_field(self, request: Request) -> Payload:
        assert request.delta is not None
        self._at_field = fixed_field_likelihood(self._bias, request.delta, self._halos)
        self._delta = request.delta
        return []

    def _evaluate_at_field(self, request: Request) -> Payload:
        if self._at_field is None:
            raise Refusal(BAD_INPUT, "this connection has sent no field yet: send one first")
        value, gradient = _value_and_gradient(
            self._at_field, jnp.asarray(request.params, dtype=float)
        )
        return _checked(value, gradient)

    def _simulate(self, request: Request) -> Payload:
        assert request.params is not None and request.delta is not None
        if request.seed is None or request.seed >= 2**32:
            raise Refusal(BAD_INPUT, f"the seed is {request.seed}, expected less than 2^32")
        mock = simulate(
            jax.random.key(request.seed),
            self._bias,
            request.params,
            request.delta,
            self._catalogue.grid,
            completeness=self._catalogue.completeness,
            observation=self._catalogue.observation,
        )
        self._catalogue = replace(mock, position=None)
        placed = place_halos(self._catalogue, self._bias.domain(mock.grid))
        self._halos = placed.padded(padded_length(len(placed.voxel)))
        self._at_field = None
        assert mock.position is not None
        return [np.column_stack([mock.position, mock.mass]).astype("<f8")]


def padded_length(num_halos: int) -> int:
    """To how many halos a mock is padded: the least power of two times 4096 that holds them.

    What is compiled for one number of halos, 3 s and 32 MiB, serves all mocks of that length.
    """
    length = _FEWEST
    while length < num_halos:
        length *= 2
    return length


def description(bias: Bias, halos: HaloCatalogue) -> dict[str, Any]:
    """What a client is told of the likelihood."""
    return {
        "num_params": bias.num_params,
        "params": {name: list(shape) for name, shape in bias.block_shapes.items()},
        "shape": list(halos.grid.shape),
        "box_size": list(halos.grid.box_size),
        "boundary": halos.grid.boundary,
        "num_halos": halos.num_halos,
        "num_catalogues": halos.num_catalogues,
        "mass_threshold": bias.mass_threshold,
        "density_floor": bias.density_floor,
        "prior_mean": bias.prior_mean,
        "prior_scale": bias.prior_scale,
        "precision": str(jnp.result_type(float)),
        "version": __version__,
    }


@jax.jit
def _value_and_gradient(log_l: FixedFieldLikelihood, params: Array) -> tuple[Array, Array]:
    return jax.value_and_grad(lambda at: log_l(at))(params)


def _checked(value: Array, *gradients: Array) -> Payload:
    """As float64 arrays; ln L may be -inf, but nothing may be NaN."""
    arrays = [np.asarray(part, dtype="<f8").ravel() for part in (value, *gradients)]
    if np.isnan(arrays[0]).any() or not all(np.isfinite(part).all() for part in arrays[1:]):
        raise Refusal(FAILED, "ln L or its gradient is not a number at these parameters")
    return list(arrays)

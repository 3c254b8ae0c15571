"""Mock universes: initial conditions, their density and its halos, all from one seed."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from halo_mdn.bias.neural import NeuralBias
from halo_mdn.field.cosmology import Cosmology, check_cosmology
from halo_mdn.field.lpt import Lpt, density
from halo_mdn.halos.catalogue import HaloCatalogue
from halo_mdn.io.formats.exchange import Exchange
from halo_mdn.mocks.simulation import simulate
from halo_mdn.provenance import versions


@dataclass(frozen=True)
class MockUniverse:
    """A universe of which everything is known.

    Attributes
    ----------
    white_noise : array ``lpt.noise_shape``
        The initial conditions.
    delta : array ``lpt.grid.shape``
        Overdensity at the redshift of ``lpt``.
    halos : HaloCatalogue
        Drawn from the bias model with ``params``.
    """

    seed: int
    lpt: Lpt
    cosmology: Cosmology
    bias: NeuralBias
    params: np.ndarray
    white_noise: np.ndarray
    delta: np.ndarray
    halos: HaloCatalogue


def make_mock(
    seed: int,
    lpt: Lpt,
    *,
    cosmology: Cosmology,
    bias: NeuralBias,
    params: ArrayLike,
) -> MockUniverse:
    """Draw a mock universe; the same seed and settings give the same one.

    Raises
    ------
    InputError
        If the cosmology is impossible, the density has empty cells (raise
        ``lpt.supersampling``), or the parameters predict absurdly many halos.
    """
    check_cosmology(cosmology)
    noise_key, halo_key = jax.random.split(jax.random.key(seed))
    white_noise = jax.random.normal(noise_key, lpt.noise_shape, dtype=jnp.result_type(float))
    delta = density(white_noise, lpt, cosmology)
    halos = simulate(halo_key, bias, params, delta, lpt.grid)
    return MockUniverse(
        seed=seed,
        lpt=lpt,
        cosmology=cosmology,
        bias=bias,
        params=np.asarray(params, dtype=float),
        white_noise=np.asarray(white_noise),
        delta=np.asarray(delta),
        halos=halos,
    )


def as_exchange(mock: MockUniverse, **provenance: str) -> Exchange:
    """The content of an exchange file; ``provenance`` is added to the versions."""
    lpt, position = mock.lpt, mock.halos.position
    assert position is not None  # simulate gives positions
    settings = {
        "seed": mock.seed,
        "lpt": {
            "order": lpt.order,
            "redshift": lpt.redshift,
            "supersampling": lpt.supersampling,
            "modes": list(lpt.noise_shape),
        },
        "cosmology": {name: float(value) for name, value in asdict(mock.cosmology).items()},
        "bias": asdict(mock.bias),
    }
    return Exchange(
        delta=mock.delta,
        box_size=lpt.grid.box_size,
        position=position,
        mass=mock.halos.mass,
        redshift=lpt.redshift,
        mass_definition=(
            "drawn from the bias model; the default parameters describe FoF b=0.2 halos"
        ),
        mass_threshold=mock.halos.mass_threshold,
        params=mock.params,
        white_noise=mock.white_noise,
        settings=settings,
        provenance={**versions(), **provenance},
    )

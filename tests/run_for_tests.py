"""A small fit with known draws, for the tests of what comes after the sampling."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import jax
import numpy as np
import xarray as xr

import halo_mdn as hm
from halo_mdn.posterior import summary as diagnostics
from halo_mdn.sampling.nuts.draws import Draws

TRUTH = np.array(
    [0.6, 0.05, 0.02, 0.01, 1.0, 1.2, 0.5, -1.0, -3.0, 0.6, 0.5, -1.0, 0.5, 0.05, 0.0, -6.2, -6.5]
)


class Fit(NamedTuple):
    """A mock with its truth."""

    bias: hm.NeuralBias
    grid: hm.Grid
    delta: np.ndarray
    halos: hm.HaloCatalogue
    log_l: hm.FixedFieldLikelihood


@cache
def mock_fit(boundary: str = "periodic", size: int = 8) -> Fit:
    """Halos drawn from the model on a log-normal field of 4 Mpc/h voxels."""
    bias, grid = hm.NeuralBias(), hm.Grid((size,) * 3, (4.0 * size,) * 3, boundary)
    noise = np.random.default_rng(3).normal(size=grid.shape)
    smooth = sum(np.roll(noise, shift, axis) for axis in range(3) for shift in (-1, 0, 1)) / 3
    delta = np.expm1(0.6 * smooth - 0.18)
    halos = hm.simulate(jax.random.key(5), bias, TRUTH, delta, grid)
    return Fit(bias, grid, delta, halos, hm.fixed_field_likelihood(bias, delta, halos))


def independent_draws(
    num_chains: int = 4, num_draws: int = 400, *, scale: float = 0.01, seed: int = 0
) -> Draws:
    """Draws around the truth as a perfect sampler would give them."""
    random = np.random.default_rng(seed)
    shape = (num_chains, num_draws)
    noise = random.normal(size=(*shape, len(TRUTH)))
    params, potential = TRUTH + scale * noise, 0.5 * (noise**2).sum(axis=-1)
    stats = {
        "energy": potential + random.gamma(len(TRUTH) / 2, size=shape),
        "num_steps": np.full(shape, 7),
        "tree_depth": np.full(shape, 3),
        "accept_prob": random.uniform(0.7, 1.0, size=shape),
        "diverging": np.zeros(shape, dtype=bool),
        "potential_energy": potential,
        "step_size": np.full(shape, 0.4),
    }
    return Draws(
        params=params,
        stats=stats,
        warmup_params=params[:, :0],
        warmup_stats={},
        inverse_mass=np.tile(np.eye(len(TRUTH)), (num_chains, 1, 1)),
        wall_time_s=2.0,
        num_gradients=7 * num_chains * num_draws,
        num_warmup_gradients=1000,
        stopped_early=False,
    )


def posterior_of(draws: Draws, fit: Fit | None = None, **options: object) -> xr.DataTree:
    """The container of some draws."""
    fit = fit or mock_fit()
    return diagnostics.build(fit.bias, draws, fit.delta, fit.halos, **options)  # type: ignore[arg-type]


@cache
def good_posterior() -> xr.DataTree:
    """The container of independent draws."""
    return posterior_of(independent_draws(), attrs={"seed": 7, "config": "{}", "redshift": None})

"""Every test runs in float64 with strict JAX settings; a small universe to test on."""

from __future__ import annotations

import os
from collections.abc import Iterator

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import halo_mdn as hm

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_enable_compilation_cache", False)  # nothing survives a test


@pytest.fixture(scope="module", autouse=True)
def _without_programs_of_other_files() -> Iterator[None]:
    """Drop what a file has compiled once it is through.

    Every compiled program keeps dozens of memory maps; Linux allows a process 65,530 of them, and
    XLA aborts beyond.
    """
    yield
    jax.clear_caches()


# A mass function like that of a simulation: some 250 halos in the small box below.
REALISTIC = jnp.array(
    [0.4, 0.03, 0.02, 0.01, 0.5, 1.2, 0.9, 0.9, -1.8, 0.1, 0.3, -1.2, 0.8, 0.02, 0.05, -6.4, -7.2]
)


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(20)


@pytest.fixture
def bias() -> hm.NeuralBias:
    return hm.NeuralBias()


@pytest.fixture
def params() -> jax.Array:
    return REALISTIC


@pytest.fixture(params=["periodic", "interior"])
def grid(request: pytest.FixtureRequest) -> hm.Grid:
    return hm.Grid((8, 9, 10), (32.0, 36.0, 40.0), request.param)


@pytest.fixture
def delta() -> np.ndarray:
    """A log-normal field of unit variance in its logarithm."""
    return np.exp(np.random.default_rng(3).normal(size=(8, 9, 10)) - 0.5) - 1


@pytest.fixture
def halos(
    key: jax.Array, bias: hm.NeuralBias, params: jax.Array, delta: np.ndarray, grid: hm.Grid
) -> hm.HaloCatalogue:
    return hm.simulate(key, bias, params, delta, grid)

"""Tiny and huge widths and amplitudes: the fast path is right, or leaves it to the definition."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import log

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import halo_mdn as hm
from halo_mdn.bias.neural import smallest_width
from halo_mdn.likelihood.definition import definition
from halo_mdn.likelihood.table import cubics
from halo_mdn.likelihood.table import evaluate as fast
from halo_mdn.likelihood.table.fallback import by_definition

SHAPE = (6, 8, 10)
AMPLITUDES, WIDTHS = slice(7, 9), slice(15, 17)  # the biases of these heads; slopes are 13 and 14
NETWORK = np.array(
    [0.3, 0.05, 0.02, 0.01, 0.2, 2.6, 2.2, -4.4, -5.1, 0.05, 0.35, -0.4, 0.5, 0, 0, -6.5, -7.1]
)
BOTH, SECOND = [0, 1], [1]


@pytest.fixture(scope="module")
def problem() -> tuple[jax.Array, hm.HaloCatalogue]:
    rng = np.random.default_rng(4)
    delta = jnp.asarray(np.exp(0.8 * rng.normal(size=SHAPE)) - 1)
    voxel, log_mass = rng.integers(0, SHAPE, size=(60, 3)), rng.exponential(0.8, size=60)
    grid = hm.Grid(SHAPE, (24.0, 32.0, 40.0))
    return delta, hm.HaloCatalogue.from_voxels(voxel, log(2e12) + log_mass, grid)


@pytest.fixture(scope="module")
def both_ways(problem):
    """ln L and its gradients in parameters and field: of the fast paths, and of the definition."""
    delta, halos = problem
    bias = hm.NeuralBias()
    log_l = hm.fixed_field_likelihood(bias, delta, halos)
    by_table = jax.jit(partial(fast.value_and_grad, definition))
    plain = jax.jit(
        jax.value_and_grad(
            lambda p, d: definition(hm.fixed_field_likelihood(bias, d, halos), p), argnums=(0, 1)
        )
    )

    def evaluate(params: np.ndarray):
        value, grad = by_table(log_l, params)
        at = hm.adjoint(bias, params, delta, halos)
        wanted, (of_params, of_field) = plain(params, delta)
        return (
            (value, wanted), (at.value, wanted), (grad, of_params), (at.params_cot, of_params),
            (at.delta_cot, of_field),
        )  # fmt: skip

    return evaluate


def check(pairs, tolerance: float = 1e-9) -> None:
    for got, wanted in pairs:
        scale = float(np.max(np.abs(wanted)))
        assert np.max(np.abs(got - wanted)) <= tolerance * scale or np.all(got == wanted)
        assert not np.any(np.isnan(got))


@pytest.mark.parametrize("which", [BOTH, SECOND], ids=["both", "second"])
@pytest.mark.parametrize(
    "width",
    [1e-3, 1e-7, 1e-15, 1e-30, 1e-50, 6e-52, 5.3e-52, 5e-52, 1e-52, 1e-60, 1e-86]
    + [30.0, 1e3, 1e8, 1e90],
)
def test_widths_of_any_size(both_ways, which: list[int], width: float) -> None:
    params = NETWORK.copy()
    before_softplus = width if width > 30 else log(np.expm1(width)) if width > 1e-9 else log(width)
    params[WIDTHS][which] = before_softplus - log(1e3)
    check(both_ways(jnp.asarray(params)))


@pytest.mark.parametrize("which", [BOTH, SECOND], ids=["both", "second"])
@pytest.mark.parametrize("log_amplitude", [-1e4, -709.5, -640.0, 50.0, 1e9])
def test_amplitudes_of_any_size(both_ways, which: list[int], log_amplitude: float) -> None:
    params = NETWORK.copy()
    params[5:7] = 0
    params[AMPLITUDES][which] = log_amplitude - log(1e-3)
    check(both_ways(jnp.asarray(params)))


@pytest.mark.parametrize("width", [0.01, 0.02, 0.04])
def test_halos_that_only_a_faint_component_reaches(both_ways, width: float) -> None:
    """The faint one's amplitude is 0 as a float, and the other's density at the halos as well."""
    params = NETWORK.copy()
    params[5:7] = 0
    params[AMPLITUDES][1] = -1e4
    params[WIDTHS][0] = log(np.expm1(width)) - log(1e3)
    check(both_ways(jnp.asarray(params)))


def test_the_smallest_width_is_what_the_page_says() -> None:
    assert smallest_width(jnp.float64) == pytest.approx(5.3e-52, rel=0.01)


@pytest.mark.parametrize("shift", [2e-4, -1e-4])
def test_a_step_between_two_panels_is_seen(problem, shift: float) -> None:
    """No node of the table lies there: all panels are smooth, and sums over voxels are wrong."""
    delta, halos = problem
    bias = hm.NeuralBias(components=1)
    log_l = hm.fixed_field_likelihood(bias, delta, halos)
    t = jnp.asarray(np.random.default_rng(0).uniform(-2, 3, log_l.features.shape[1]))
    table = cubics.make_table(jnp.asarray(-2.0), jnp.asarray(3.0), [])
    edge = float(table.nodes[37].min() + table.nodes[36].max()) / 2
    t = t.at[:3].set(jnp.asarray([-2.0, 3.0, edge + shift / 2]))
    where = np.logaddexp(0, edge + shift)  # the mean passes the threshold, in a width of 1e-12
    params = np.array([*NETWORK[:5], 0.5, -5, 1.0, -where, 0, log(1e-12) - log(1e3)])
    log_l = replace(log_l, halos=log_l.halos.take(np.arange(0)))
    at, trusted = fast.from_table(log_l, jnp.asarray(params), t, t[:0])
    right = by_definition(log_l, jnp.asarray(params), t, t[:0])[0]
    assert abs(float(at.value / right) - 1) > 1e-6 and not trusted


def test_no_jump_is_seen_where_there_is_none() -> None:
    """Kinks at edges and stretches without a width are no steps."""
    low, high = jnp.asarray(-2.0), jnp.asarray(3.0)
    table = cubics.make_table(low, high, [jnp.asarray(x) for x in (-np.inf, 0.4, 0.4, np.inf)])
    values = jnp.exp(table.nodes) + jnp.maximum(table.nodes - 0.4, 0)
    counts = jnp.ones((len(table.nodes), cubics.CELLS))
    assert cubics.jump_at_edges(counts, values) < 1e-14
    assert cubics.jump_at_edges(counts, values + (table.nodes > 0.4)) > 1e-5

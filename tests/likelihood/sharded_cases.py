"""Run by test_sharding.py in processes of their own: several devices against one.

    python sharded_cases.py '{"processes": 1, "index": 0, "port": 0}' CASE...

prints one JSON object: for each case the relative differences to a single device. The number of
devices is that of XLA_FLAGS.
"""

from __future__ import annotations

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np

import halo_mdn as hm
from halo_mdn.likelihood.devices.likelihood import sharded_adjoint, sharded_likelihood
from halo_mdn.likelihood.devices.slabs import shard_catalogue, shard_field, slab_mesh

REALISTIC = np.array(
    [0.3, 0.05, 0.02, 0.01, 0.2, 2.6, 2.2, -4.4, -5.1, 0.05, 0.35, -0.4, 0.5, 0.08, 0.05]
    + [-6.5, -7.1]
)
SHARP = 10 * np.random.default_rng(1).normal(size=17)  # the table cannot follow these
FULL = np.full(17, 1e3)  # ln L = -inf
SHAPE = (12, 6, 8)


def problem(boundary="periodic", catalogues=1, masked=False, **settings):
    """A model, a log-normal field and halos of random places and masses."""
    rng = np.random.default_rng(3)
    delta = np.exp(0.8 * rng.normal(size=SHAPE)) - 1
    voxel = rng.integers(0, SHAPE, size=(catalogues, 200, 3))
    log_mass = np.log(2e12) + rng.exponential(0.8, size=(catalogues, 200))
    coverage = rng.uniform(0.2, 1, size=SHAPE)
    coverage[:4] = 0  # nothing is observed on the first device
    halos = hm.HaloCatalogue.from_voxels(
        voxel if catalogues > 1 else voxel[0],
        log_mass if catalogues > 1 else log_mass[0],
        hm.Grid(SHAPE, tuple(4.0 * n for n in SHAPE), boundary),
        completeness=coverage if masked else None,
    )
    return hm.NeuralBias(**settings), delta, halos


def difference(actual, expected) -> float:
    """Largest difference, relative to the largest number; gathers what is on other processes."""
    if not actual.is_fully_addressable:
        actual = jax.jit(lambda a: a, out_shardings=actual.sharding.update(spec=()))(actual)
    actual, expected = np.asarray(actual), np.asarray(expected)
    if np.isinf(expected).any():
        return 0.0 if np.array_equal(actual, expected) else np.inf
    return float(np.max(np.abs(actual - expected)) / np.max(np.abs(expected)))


def compare(bias, params, delta, halos, devices, function=sharded_adjoint) -> dict[str, float]:
    """The adjoint on so many devices against one."""
    mesh = slab_mesh(jax.devices()[:devices])
    field, sharded = shard_field(delta, mesh), shard_catalogue(halos, mesh)
    expected = hm.adjoint(bias, params, delta, halos)
    out = function(bias, params, field, sharded)
    assert out.delta_cot.sharding.is_equivalent_to(field.sharding, 3)
    pairs = zip(out._fields, out, expected, strict=True)
    return {name: difference(a, b) for name, a, b in pairs}


def compare_fixed(bias, params, delta, halos, devices) -> dict[str, float]:
    """The likelihood of a fixed field and its gradient on so many devices against one."""
    sharded = shard_catalogue(halos, slab_mesh(jax.devices()[:devices]))
    actual = jax.value_and_grad(sharded_likelihood(bias, delta, sharded))(jnp.asarray(params))
    one = hm.fixed_field_likelihood(bias, delta, halos)
    expected = jax.value_and_grad(one)(jnp.asarray(params))
    pairs = zip(("value", "gradient"), actual, expected, strict=True)
    return {f"fixed {name}": difference(a, b) for name, a, b in pairs}


def periodic():
    setting = problem("periodic", catalogues=2, masked=True)
    return compare(setting[0], REALISTIC, *setting[1:], 4)


def interior():
    bias, delta, halos = problem("interior")
    each = {"table": REALISTIC, "definition": SHARP, "infinite": FULL}
    results = {name: compare(bias, p, delta, halos, 2) for name, p in each.items()}
    return {f"{name} {k}": v for name, result in results.items() for k, v in result.items()}


def network():
    """What the fast path does not know; an unobserved slab, and a kernel as long as a slab."""
    bias, delta, halos = problem(
        "interior", masked=True, kernel_size=(3, 1, 3), multipoles=(0, 2), hidden_layers=(3,)
    )
    blocks = bias.unpack(0.2 * np.random.default_rng(0).normal(size=bias.num_params))
    params = bias.pack({**blocks, "width_biases": np.array([-6.5, -7.1])})
    fixed = compare_fixed(bias, params, delta, halos, 4)
    return compare(bias, params, delta, halos, 4) | fixed


def long_kernel():
    bias, delta, halos = problem("interior", kernel_size=(5, 1, 1), components=1)
    params = np.concatenate([REALISTIC[:5][[0, 1, 2, 4]], [2.6, -4.4, 0.05, -0.4, 0.08, -6.5]])
    traced = jax.jit(sharded_adjoint, static_argnums=0)
    return compare(bias, params, delta, halos, 2, traced)


def across_processes():
    """Small, because every process compiles it."""
    bias, delta, halos = problem(kernel_size=(3, 1, 1), components=1, ordering="softplus")
    params = np.concatenate([REALISTIC[[0, 1, 4]], [2.6, -4.4, 0.05, -0.4, 0.08, -6.5]])
    return compare(bias, params, delta, halos, 4)


def fixed():
    bias, delta, halos = problem("periodic")
    return compare_fixed(bias, REALISTIC, delta, halos, 4)


def curvature():
    """Second derivatives against differences of the gradient; several chains against one."""
    bias, delta, halos = problem()
    log_l = sharded_likelihood(bias, delta, shard_catalogue(halos, slab_mesh()))
    params, direction = jnp.asarray(REALISTIC), jnp.linspace(-1, 1, 17)
    _, actual = jax.jvp(jax.grad(log_l), (params,), (direction,))
    step = 1e-4 * direction
    forth, back = jax.grad(log_l)(params + step), jax.grad(log_l)(params - step)
    chains = jnp.stack([params, params + step])
    value, gradient = jax.vmap(jax.value_and_grad(log_l))(chains)
    return {
        "hessian": difference(actual, (forth - back) / 2e-4),
        "chains": difference(value[1], log_l(params + step)),
        "chains gradient": difference(gradient[1], forth),
    }


def bad_field():
    """Cells that only one device sees."""
    bias, delta, halos = problem()
    delta[-1, 0, 0] = -1
    mesh = slab_mesh()
    try:
        sharded_adjoint(bias, REALISTIC, shard_field(delta, mesh), shard_catalogue(halos, mesh))
    except hm.InputError as error:
        return {} if "1 of 576 density cells" in str(error) else {str(error): np.inf}
    return {"no error": np.inf}


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_numpy_rank_promotion", "raise")
    if settings["processes"] > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        address = f"localhost:{settings['port']}"
        jax.distributed.initialize(address, settings["processes"], settings["index"])
    print(json.dumps({name: globals()[name]() for name in sys.argv[2:]}))

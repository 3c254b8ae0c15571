"""``python -m benchmarks.joint``: what a gradient of joint inference costs, and how far it leads.

At the true initial conditions and bias of a mock: processor time of the parts of a gradient, the
scale of each shell that its slope tells, and the energy error of trajectories in
those scales.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from halo_mdn.bias.mock_params import MOCK_PARAMS
from halo_mdn.config.joint_schema import JointConfig, LptSettings, MockSettings
from halo_mdn.field.fourier import shell_power
from halo_mdn.field.lpt import density, displacement
from halo_mdn.joint.coordinates import BIAS, FIELD, JointCoordinates, ShellScaled
from halo_mdn.joint.joint_density import JointDensity
from halo_mdn.joint.run import prepare
from halo_mdn.sampling.coordinates.bijections import Composed, Whitened

_LENGTH = 1.8  # of a trajectory, in units of the scales
_VOXEL = 3.90625  # Mpc/h, for which the mock's bias was measured


def milliseconds(function: Callable[..., Any], *arguments: Any, rounds: int = 10) -> float:
    """Least processor time of a call, after one that compiles."""
    compiled = jax.jit(function)
    jax.block_until_ready(compiled(*arguments))
    times = []
    for _ in range(rounds):
        start = time.process_time()
        jax.block_until_ready(compiled(*arguments))
        times.append(time.process_time() - start)
    return 1e3 * min(times)


def main() -> None:
    """Measure and write to standard output."""
    jax.config.update("jax_enable_x64", True)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.joint", description=__doc__)
    parser.add_argument("--cells", type=int, default=16, help="per side")
    cells = parser.parse_args().cells
    config = JointConfig(
        mock=MockSettings(cells=cells, box_size=_VOXEL * cells),
        lpt=LptSettings(precision="float32"),
    )
    inputs = prepare(config)
    problem, content = inputs.problem, inputs.content
    noise, params = jnp.asarray(content.white_noise), jnp.array(MOCK_PARAMS)
    unit = Whitened(jnp.zeros_like(params), jnp.eye(len(params)))
    plain = JointCoordinates(ShellScaled.unit(noise.shape), Composed(unit, unit))

    def log_density(
        coordinates: JointCoordinates, density: JointDensity, field: jax.Array
    ) -> jax.Array:
        return density(coordinates, {FIELD: field, BIAS: params})

    both = jax.jit(jax.value_and_grad(log_density, argnums=2))
    power = np.asarray(shell_power(both(plain, inputs.density, noise)[1]))
    scaled = plain._replace(field=plain.field.at_slopes(power))
    say = sys.stdout.write
    say(f"{problem.halos.voxel.size} halos, {cells}^3 cells; processor time in ms\n")
    single = noise.astype(problem.precision)
    given = inputs.density.given_field(plain, {FIELD: noise, BIAS: params})

    def of_displacements(w: jax.Array) -> jax.Array:
        return jnp.sum(jnp.stack(displacement(w, problem.lpt, problem.cosmology)) ** 2)

    def of_density(w: jax.Array) -> jax.Array:
        return jnp.sum(density(w, problem.lpt, problem.cosmology) ** 2)

    parts = {
        "displacements": (jax.grad(of_displacements), single),
        "density": (jax.grad(of_density), single),
        "all": (jax.value_and_grad(log_density, argnums=2), plain, inputs.density, noise),
        "bias at a fixed field": (jax.value_and_grad(lambda p, given: given(p)), params, given),
    }  # fmt: skip
    for name, (function, *arguments) in parts.items():
        say(f"  gradient, {name}: {milliseconds(function, *arguments):.1f}\n")
    say(f"scales by shell: {np.round(np.asarray(scaled.field.scale), 3).tolist()}\n")
    for step in (0.03, 0.06, 0.1, 0.2):
        errors = [
            energy_error(both, scaled, inputs.density, noise, step, seed) for seed in (1, 2, 3)
        ]
        say(f"step {step}, length {_LENGTH}: energy off by {np.round(errors, 2).tolist()}\n")


def energy_error(
    value_and_slope: Callable, coordinates: JointCoordinates, density: JointDensity,
    noise: jax.Array, step: float, seed: int,
) -> float:  # fmt: skip
    """Change of the energy over leapfrog steps from a random momentum, along one length."""
    x = coordinates.field.to_latent(noise)
    p = jax.random.normal(jax.random.key(seed), x.shape)
    value, slope = value_and_slope(coordinates, density, x)
    before = 0.5 * jnp.sum(p**2) - value
    for _ in range(round(_LENGTH / step)):
        p = p + 0.5 * step * slope
        x = x + step * p
        value, slope = value_and_slope(coordinates, density, x)
        p = p + 0.5 * step * slope
    return float(0.5 * jnp.sum(p**2) - value - before)


if __name__ == "__main__":
    main()

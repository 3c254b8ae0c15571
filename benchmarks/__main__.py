"""``python -m benchmarks``: how fast the likelihood is, as a markdown table.

Times on a shared machine mean little; the ratios are taken within one run, call by call.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import halo_mdn as hm
from benchmarks import notebook
from benchmarks.timing import Timing, compare, counting_compilations, ratio
from halo_mdn.likelihood.compressed import compress

# A real mass function, for which the notebook's formulas neither overflow nor underflow.
PARAMS = np.array(
    [0.3, 0.05, 0.02, 0.01, 0.2, 2.6, 2.2, -4.4, -5.1, 0.05, 0.35, -0.4, 0.5, 0.08, 0.05]
    + [-6.5, -7.1]
)
BIAS = hm.NeuralBias()


def example(size: int, num_halos: int) -> tuple[np.ndarray, hm.HaloCatalogue]:
    """A smooth log-normal field in voxels of 3.9 Mpc/h, and halos of random places and masses."""
    rng = np.random.default_rng(size)
    gauss = rng.normal(size=(size,) * 3)
    for axis in range(3):
        gauss = gauss + np.roll(gauss, 1, axis)
    gauss *= 0.8 / gauss.std()
    grid = hm.Grid((size,) * 3, (3.90625 * size,) * 3)
    voxel = rng.integers(0, size, size=(num_halos, 3))
    log_mass = np.log(2e12) + rng.exponential(0.8, size=num_halos)
    return np.exp(gauss - 0.32) - 1, hm.HaloCatalogue.from_voxels(voxel, log_mass, grid)


def fixed_field(size: int, num_halos: int, rounds: int) -> dict[str, Timing]:
    """Value and gradient in the parameters."""
    delta, halos = example(size, num_halos)
    log_l = hm.fixed_field_likelihood(BIAS, delta, halos)
    params, delta = jnp.asarray(PARAMS), jnp.asarray(delta)
    functions = {
        "notebook": (jax.value_and_grad(notebook.log_likelihood), (params, delta, halos)),
        "halo_mdn": (jax.value_and_grad(lambda p, log_l: log_l(p)), (params, log_l)),
    }
    return compare(functions, rounds)


def compressed(size: int, num_halos: int, rounds: int) -> dict[str, Timing]:
    """Value and gradient in the parameters, with the field reduced to nodes."""
    delta, halos = example(size, num_halos)
    log_l = hm.fixed_field_likelihood(BIAS, delta, halos)
    trials = PARAMS + 0.01 * np.random.default_rng(0).normal(size=(6, len(PARAMS)))
    small = compress(log_l, PARAMS, trials, tolerance=0.3).log_likelihood
    params, delta = jnp.asarray(PARAMS), jnp.asarray(delta)
    functions = {
        "notebook": (jax.value_and_grad(notebook.log_likelihood), (params, delta, halos)),
        "halo_mdn": (jax.value_and_grad(lambda p, log_l: log_l(p)), (params, small)),
    }
    return compare(functions, rounds)


def adjoint(size: int, num_halos: int, rounds: int) -> dict[str, Timing]:
    """Value and gradients in the field and the parameters."""
    delta, halos = example(size, num_halos)
    params, delta = jnp.asarray(PARAMS), jnp.asarray(delta)
    both = jax.value_and_grad(notebook.log_likelihood, argnums=(0, 1))
    functions = {
        "notebook": (both, (params, delta, halos)),
        "halo_mdn": (partial(hm.adjoint, BIAS), (params, delta, halos)),
    }
    return compare(functions, rounds)


def rows(options: argparse.Namespace) -> Iterator[list[str]]:
    """The rows of the table, one measurement each."""
    cases = [(64, n) for n in options.halos] + [(n, 35_000) for n in options.grids]
    whats = {"fixed field": fixed_field, "compressed": compressed, "adjoint": adjoint}
    for what, measure in whats.items():
        for size, num_halos in cases:
            if what == "compressed" and size < 64:
                continue  # not worth it
            rounds = max(3, int(options.rounds * (64 / size) ** 3)) if size > 64 else options.rounds
            timings = measure(size, num_halos, rounds)
            ours = timings["halo_mdn"]
            yield [
                what,
                f"{size}^3",
                f"{num_halos:,}",
                f"{timings['notebook'].milliseconds:.1f}",
                f"{ours.milliseconds:.1f}",
                f"{ratio(timings, 'notebook', 'halo_mdn'):.1f}",
                f"{1e6 * ours.milliseconds / size**3:.1f}",
                f"{ours.memory / 8 / size**3:.1f}",
                f"{ours.compile_s:.1f}",
            ]


def compilations() -> str:
    """How many programs a thousand evaluations with new parameters compile."""
    delta, halos = example(16, 1000)
    log_l = hm.fixed_field_likelihood(BIAS, delta, halos)
    evaluate = jax.jit(jax.value_and_grad(lambda p, log_l: log_l(p)))
    with counting_compilations() as seconds:
        for i in range(1000):
            evaluate(PARAMS + 1e-3 * i, log_l)
    return f"A thousand evaluations compiled {len(seconds)} program(s), {sum(seconds):.1f} s."


def report(options: argparse.Namespace) -> Iterator[str]:
    """The lines of the report."""
    yield f"jax {jax.__version__}, {jax.default_backend()} ({platform.machine()}), float64"
    yield ""
    header = ["what", "grid", "halos", "notebook [ms]", "halo_mdn [ms]", "times faster"]
    header += ["ns per voxel", "extra memory [fields]", "compile [s]"]
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows(options):
        yield "| " + " | ".join(row) + " |"
    yield ""
    yield compilations()


def main() -> None:
    """Measure and write the table to standard output, and to a file when asked."""
    jax.config.update("jax_enable_x64", True)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--grids", type=int, nargs="*", default=[16, 32, 128])
    parser.add_argument("--halos", type=int, nargs="*", default=[1_000, 35_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=20, help="calls of each at 64^3 and below")
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    lines = []
    for line in report(options):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        lines.append(line)
    if options.output is not None:
        options.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

"""`run_inference.py calibrate [RUN.toml]`: is the truth where the posterior says it is?"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from halo_mdn.calibration import Series, results_of, run_series, write_results
from halo_mdn.cli.parser import add_setting_flags, configured
from halo_mdn.config import RunConfig
from halo_mdn.config.runtime import set_up_jax
from halo_mdn.config.shipped import find_run_file
from halo_mdn.errors import INTERRUPTED, InputError
from halo_mdn.fitting.folder import output_folder
from halo_mdn.fitting.lock import locked
from halo_mdn.progress import Display, counted

DEFAULT_RUN = "calibrate"
_NUMBERS = {
    "fits": (200, 2, "truths to draw and fit"),
    "cells": (16, 0, "cells per side of the mock field, voxels as in the run; 0: the run's field"),
    "workers": (2, 1, "processes"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run file, how many fits on which field, and every setting."""
    parser.description = (
        "Simulation-based calibration: draw parameters from the prior of a run file and a halo "
        "catalogue with them, fit it with the run's sampler, and rank the truth among the draws; "
        "many times. If everything is right, the ranks are uniform."
    )
    parser.add_argument(
        "run_file",
        nargs="?",
        default=DEFAULT_RUN,
        metavar="RUN.toml",
        help=f"run file, or the name of a shipped one (default: {DEFAULT_RUN})",
    )
    for name, (default, _, text) in _NUMBERS.items():
        parser.add_argument(
            f"--{name}", type=int, default=default, help=f"{text} (default: {default})"
        )
    parser.add_argument("--resume", action="store_true", help="make the fits that are missing")
    parser.add_argument("--overwrite", action="store_true", help="throw earlier fits away")
    add_setting_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Make the fits and write what they say; the exit code is 0 whatever that is."""
    for name, (_, least, _) in _NUMBERS.items():
        if getattr(arguments, name) < least:
            raise InputError(f"--{name} is {getattr(arguments, name)}, expected at least {least}")
    run_file = find_run_file(arguments.run_file)
    config = configured(run_file, arguments)
    folder = output_folder(config, run_file)
    series = Series(config, arguments.cells, arguments.fits, folder / "fits")
    device = set_up_jax(config.runtime)
    display = Display()
    with locked(folder):
        series.begin(resume=arguments.resume, overwrite=arguments.overwrite)
        display.say(_description(series, arguments.workers, device))
        try:
            problem, fits = run_series(series, arguments.workers, _progress(display))
        except KeyboardInterrupt:
            display.say("\nInterrupted: finished fits are kept, give --resume to go on")
            return INTERRUPTED
        results = results_of(problem.names, fits)
        display.say(f"\n{results.to_text()}")
        for path in write_results(results, folder):
            display.say(f"wrote {path}")
    return 0


def _description(series: Series, workers: int, device: str) -> str:
    config: RunConfig = series.config
    field = f"a mock field of {series.cells}^3 voxels" if series.cells else config.data.field
    return (
        f"{series.num} fits on {field}, seed {config.seed}, {config.sampler.num_chains} chains of "
        f"{config.sampler.num_warmup} + {config.sampler.num_samples} draws, {workers} processes; "
        f"{device}"
    )


def _progress(display: Display) -> Callable[[int, int], None]:
    began, reported = time.monotonic(), list[int]()

    def show(done: int, total: int) -> None:
        reported.append(done)
        made, seconds = done - reported[0], time.monotonic() - began
        display.update(counted("fits", done, total, seconds, made))

    return show

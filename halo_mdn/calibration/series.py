"""All fits of a calibration, on one process or several; each is kept as soon as it is there."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
from collections.abc import Callable, Generator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from halo_mdn.calibration.fits import Fit, read_fits, run_fit, write_fit
from halo_mdn.calibration.mock_problem import Problem, make_problem
from halo_mdn.config import RunConfig
from halo_mdn.config.model_files import find_model_file
from halo_mdn.config.runtime import set_up_jax
from halo_mdn.errors import InputError
from halo_mdn.files import write_file
from halo_mdn.io import file_hash
from halo_mdn.io.load import load_data
from halo_mdn.sampling import Interrupted, Program
from halo_mdn.sampling.nuts.interruption import Interruption

SERIES = "series.json"


@dataclass(frozen=True)
class Series:
    """Which fits there shall be; it travels to the worker processes.

    Attributes
    ----------
    config : RunConfig
    cells : int
        See `make_problem`.
    num : int
    folder : Path
        Where the fits are kept, one file each.
    """

    config: RunConfig
    cells: int
    num: int
    folder: Path

    @property
    def identity(self) -> str:
        """What decides the fits, as JSON; their number does not."""
        tables = asdict(self.config)
        tables["output"] = {}
        tables["runtime"] = {"precision": self.config.runtime.precision}
        files = load_data(self.config.data).files | {
            "model": find_model_file(self.config.model.name)
        }
        hashes = {name: file_hash(path) for name, path in files.items()}
        return json.dumps({"cells": self.cells, "files": hashes, **tables}, sort_keys=True)

    def begin(self, *, resume: bool, overwrite: bool) -> None:
        """Make the folder, or make sure that the fits in it belong to this series.

        Raises
        ------
        InputError
            If there are fits that are neither to be resumed nor to be overwritten, or none to
            resume, or they are those of other settings or data.
        """
        known = self.folder / SERIES
        if overwrite and not resume:
            shutil.rmtree(self.folder, ignore_errors=True)
        elif known.exists() and not resume:
            raise InputError(
                f"{self.folder} holds fits already: give --resume to go on with them, or "
                "--overwrite to start again"
            )
        if resume:
            if not known.exists():
                raise InputError(f"there is nothing to resume: {known} does not exist")
            if known.read_text(encoding="utf-8") != self.identity:
                raise InputError(
                    f"the fits in {self.folder} were made with other settings or data: restore "
                    "those, or give --overwrite to start again"
                )
        write_file(known, self.identity)


def run_series(
    series: Series, workers: int, report: Callable[[int, int], None]
) -> tuple[Problem, list[Fit]]:
    """Make the fits that are missing, and return the problem and all fits.

    Parameters
    ----------
    series : Series
    workers : int
        Processes; with 1, this one makes the fits itself.
    report : function (fits there, fits wanted)

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C or SIGTERM, once the processes have ended; finished fits are kept.
    """
    there = {fit.index for fit in read_fits(series.folder, series.num)}
    missing = [index for index in range(series.num) if index not in there]
    done = len(there)
    report(done, series.num)
    problem, _ = _prepared(series)  # first of all, so that mistakes are found here
    with Interruption() as interruption:
        makers = _here(series, missing) if workers == 1 else _spread(series, missing, workers)
        with closing(makers):
            for made in makers:
                if made:
                    done += made
                    report(done, series.num)
                if interruption.requested and done < series.num:
                    raise KeyboardInterrupt
    return problem, read_fits(series.folder, series.num)


def _here(series: Series, indices: list[int]) -> Generator[int, None, None]:
    for index in indices:
        try:
            _make(series, index)
        except Interrupted:  # the sampler has taken the signal
            raise KeyboardInterrupt from None
        yield 1


def _spread(series: Series, indices: list[int], workers: int) -> Generator[int, None, None]:
    """How many fits have come to an end, about once a second."""
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    rest, pending = list(indices), set[Future[None]]()
    try:
        while rest or pending:
            # One fit per process at a time, so that not many are under way when it is to end.
            while rest and len(pending) < workers:
                pending.add(pool.submit(_make_in_worker, series, rest.pop(0)))
            ended, pending = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in ended:
                future.result()
            yield len(ended)
    except Interrupted:
        raise KeyboardInterrupt from None
    except BrokenProcessPool:
        raise InputError(
            f"a worker process died, perhaps for lack of memory: finished fits are in "
            f"{series.folder}, go on with --resume and fewer --workers"
        ) from None
    finally:
        if pending:  # stopped early; a file is complete or not there, so nothing can be torn
            for child in multiprocessing.active_children():
                child.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def _make(series: Series, index: int) -> None:
    problem, program = _prepared(series)
    write_fit(run_fit(problem, index, program), series.folder)


def _make_in_worker(series: Series, index: int) -> None:
    _set_up_worker(series)
    _make(series, index)


@cache
def _set_up_worker(series: Series) -> None:
    # Ctrl-C reaches all processes; the first one decides what happens, between two fits.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_up_jax(series.config.runtime)


@cache
def _prepared(series: Series) -> tuple[Problem, Program]:
    return make_problem(series.config, series.cells), Program()

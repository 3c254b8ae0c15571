"""The files of a calibration: ranks as CSV and arrays, and the picture."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from halo_mdn.calibration.mock_problem import RANKED
from halo_mdn.calibration.rank_figure import rank_figure
from halo_mdn.calibration.rank_results import Results
from halo_mdn.files import replace_file, write_file


def write_results(results: Results, folder: Path) -> list[Path]:
    """Write ``calibration.png``, ``.txt``, ``.csv`` and ``.npz``, and ``fits.csv``."""
    text, figure = results.to_text(), rank_figure(results)
    table = [
        list(vars(results.quantities[0])),
        *(list(vars(q).values()) for q in results.quantities),
    ]
    kept = ("index", "num_halos", "converged", "worst_rhat", "min_ess", "num_divergent",
            "num_gradients", "seconds", "failure")  # fmt: skip
    rows = [list(kept), *([getattr(fit, name) for name in kept] for fit in results.fits)]
    names = np.array([q.name for q in results.quantities])
    arrays = {"rank": results.ranks, "quantity": names, "num_draws": np.array(RANKED)}
    for name in ("truth", "mean", "sd"):
        arrays[name] = np.stack([getattr(fit, name) for fit in results.fits if not fit.failure])
    arrays["index"] = np.array([fit.index for fit in results.fits if not fit.failure])
    return [
        replace_file(folder / "calibration.png", lambda part: figure.savefig(part, format="png")),
        write_file(folder / "calibration.txt", text),
        replace_file(folder / "calibration.csv", lambda part: _write_csv(part, table)),
        replace_file(folder / "fits.csv", lambda part: _write_csv(part, rows)),
        replace_file(folder / "calibration.npz", lambda part: _write_npz(part, arrays)),
    ]


def _write_csv(path: Path, rows: list[list]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)


def _write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]

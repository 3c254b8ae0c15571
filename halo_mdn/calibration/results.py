"""What the ranks of a calibration say: a table, a sentence, files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from halo_mdn.calibration.figure import rank_figure
from halo_mdn.calibration.fits import LEAST_ESS, RHAT, Fit
from halo_mdn.calibration.problem import RANKED
from halo_mdn.calibration.ranks import band, below, p_value
from halo_mdn.errors import InputError
from halo_mdn.files import replace_file

LEVEL = 0.95  # of the bands
ALARM = 0.05  # chance that a right machine is called wrong, all quantities together


@dataclass(frozen=True)
class Quantity:
    """One line of the table.

    Attributes
    ----------
    p : float
        Of uniform ranks, simultaneous over the whole distribution.
    outside : bool
        Whether the ranks leave the 95 % band somewhere.
    within_50, within_90 : float
        Share of truths inside the central 50 and 90 % of their posterior.
    mean_rank : float
        In units of the number of draws: 0.5 if there is no bias.
    width : float
        Median posterior standard deviation over the scatter of the truths: 1 if data say nothing.
    """

    name: str
    p: float
    outside: bool
    within_50: float
    within_90: float
    mean_rank: float
    width: float


@dataclass(frozen=True)
class Results:
    """A calibration's outcome; made by `results_of`.

    Attributes
    ----------
    ranks : array (N, Q) of int
        Of the fits that did not fail, converged or not.
    """

    fits: tuple[Fit, ...]
    quantities: tuple[Quantity, ...]
    ranks: np.ndarray

    @property
    def smallest_p(self) -> float:
        """The smallest p-value times the number of quantities (Bonferroni), at most 1."""
        return min(1.0, len(self.quantities) * min(q.p for q in self.quantities))

    @property
    def unconverged(self) -> tuple[Fit, ...]:
        """Fits that failed or did not converge."""
        return tuple(fit for fit in self.fits if not fit.converged)

    @property
    def verdict(self) -> str:
        """One sentence."""
        worst = min(self.quantities, key=lambda q: q.p)
        outside, num = sum(q.outside for q in self.quantities), len(self.quantities)
        bad = self.smallest_p < ALARM
        opening = "Miscalibrated" if bad else "No sign of miscalibration"
        return (
            f"{opening}: over {len(self.ranks)} fits, {outside} of {num} quantities leave their "
            f"{100 * LEVEL:g} % band ({(1 - LEVEL) * num:.1f} expected by chance), and the least "
            f"likely ranks, those of {worst.name}, have p = {worst.p:.2g} "
            f"({self.smallest_p:.2g} corrected for {num} quantities); "
            f"{len(self.unconverged)} fits did not converge."
        )

    def to_text(self) -> str:
        """Verdict, table and the fits that did not converge."""
        head = ("p", "50 %", "90 %", "mean rank", "width")
        lines = [self.verdict, "", f"{'':28}" + "".join(f"{name:>10}" for name in head)]
        for q in self.quantities:
            numbers = (q.p, q.within_50, q.within_90, q.mean_rank, q.width)
            mark = "  outside" if q.outside else ""
            lines.append(f"{q.name:28}" + "".join(f"{x:10.3f}" for x in numbers) + mark)
        lines += ["", *_about_fits(self)]
        return "\n".join(lines) + "\n"


def results_of(names: Sequence[str], fits: Sequence[Fit]) -> Results:
    """Test the ranks of all quantities; fits that did not converge are in, those without draws not.

    Raises
    ------
    InputError
        If fewer than two fits have draws.
    """
    usable = [fit for fit in fits if not fit.failure]
    if len(usable) < 2:
        raise InputError(
            f"{len(usable)} of {len(fits)} fits have draws, expected at least 2; the first says: "
            f"{fits[0].complaint if fits else 'nothing'}"
        )
    ranks, truths = (np.stack([getattr(fit, x) for fit in usable]) for x in ("rank", "truth"))
    sd = np.stack([fit.sd for fit in usable])
    inside = band(len(ranks), RANKED, LEVEL)
    counts = below(ranks, RANKED)
    out = (counts < inside.lower[:, None]) | (counts > inside.upper[:, None])
    # A rank stands for a value between neighbouring draws: its middle, in units of the whole.
    place = (ranks + 0.5) / (RANKED + 1)
    quantities = [
        Quantity(
            name=name,
            p=p_value(ranks[:, q], RANKED),
            outside=bool(out[:, q].any()),
            within_50=float(np.mean(np.abs(place[:, q] - 0.5) < 0.25)),
            within_90=float(np.mean(np.abs(place[:, q] - 0.5) < 0.45)),
            mean_rank=float(np.mean(place[:, q])),
            width=float(np.median(sd[:, q]) / np.std(truths[:, q], ddof=1)),
        )
        for q, name in enumerate(names)
    ]
    return Results(tuple(fits), tuple(quantities), ranks)


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
        replace_file(folder / "calibration.txt", lambda part: part.write_text(text, "utf-8")),
        replace_file(folder / "calibration.csv", lambda part: _write_csv(part, table)),
        replace_file(folder / "fits.csv", lambda part: _write_csv(part, rows)),
        replace_file(folder / "calibration.npz", lambda part: _write_npz(part, arrays)),
    ]


def _about_fits(results: Results) -> list[str]:
    fits, bad = results.fits, results.unconverged
    seconds = np.median([fit.seconds for fit in fits])
    divergent = sum(fit.num_divergent for fit in fits)
    halos = np.quantile([fit.num_halos for fit in fits], [0, 0.5, 1]).astype(int)
    lines = [
        f"{len(fits)} fits of {halos[0]:,} to {halos[2]:,} halos (median {halos[1]:,}), "
        f"{divergent} divergences, {seconds:.1f} s of processor time (median).",
        f"Did not converge (R-hat above {RHAT:g} or fewer than {LEAST_ESS:g} effective draws of "
        f"some quantity): {len(bad) or 'none'}",
    ]
    lines += [f"  fit {fit.index}: {fit.complaint}" for fit in bad]
    good = [fit for fit in fits if fit.converged]
    if bad and len(good) > 1:
        alone = results_of([q.name for q in results.quantities], good)
        lines.append(
            f"The {len(good)} others alone: smallest p, corrected, {alone.smallest_p:.2g}; "
            f"{sum(q.outside for q in alone.quantities)} quantities outside their band."
        )
    return lines


def _write_csv(path: Path, rows: list[list]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)


def _write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]

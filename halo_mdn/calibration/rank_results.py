"""What the ranks of a calibration say: a table, a sentence, files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from halo_mdn.calibration.fits import LEAST_ESS, RHAT, Fit
from halo_mdn.calibration.mock_problem import RANKED
from halo_mdn.calibration.ranks import band, below, p_value
from halo_mdn.errors import InputError
from halo_mdn.text_table import aligned

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
        table: list[tuple[str, ...]] = [("", "p", "50 %", "90 %", "mean rank", "width", "")]
        for q in self.quantities:
            numbers = (q.p, q.within_50, q.within_90, q.mean_rank, q.width)
            cells = (f"{x:.3f}" for x in numbers)
            table.append((q.name, *cells, "outside" if q.outside else ""))
        return "\n".join([self.verdict, "", *aligned(table), "", *_about_fits(self)]) + "\n"


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

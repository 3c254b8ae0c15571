"""Which model predicts halos best: leave-one-sub-box-out, and a second realisation.

Halos in neighbouring voxels share their environment, so sub-boxes are left out, not halos. A model
is scored by its expected log predictive density (elpd), the log of the posterior mean of the
likelihood of a sub-box that was not fitted, summed over sub-boxes. Models are compared by the
differences of their sub-boxes: what is hard for all of them drops out, and the standard error of
the total is ``sqrt(B) std(difference of a sub-box)`` for B sub-boxes (Vehtari, Gelman & Gabry 2017,
Statistics and Computing 27, 1413). It takes sub-boxes as independent and one set of them as all
there is to learn from: on one N-body box it does not know the scatter between universes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from halo_mdn.errors import InputError
from halo_mdn.posterior.leave_one_out import leave_one_out
from halo_mdn.posterior.pareto import RELIABLE
from halo_mdn.posterior.reopened import is_joint
from halo_mdn.posterior.summary import summarise

_SAME = ("delta_sha256", "halos_sha256", "mass_threshold", "boundary")


@dataclass(frozen=True)
class Elpd:
    """Log predictive density of each sub-box, (B,), and of all together."""

    blocks: np.ndarray

    @property
    def total(self) -> float:
        """Sum over sub-boxes, in nats."""
        return float(np.sum(self.blocks))

    def below(self, best: Elpd) -> tuple[float, float]:
        """By how much it is worse than another: the difference, at most 0 if that is the best, and
        its standard error, from the differences of sub-boxes."""
        difference = self.blocks - best.blocks
        spread = np.std(difference, ddof=1) if len(difference) > 1 else np.nan
        return float(np.sum(difference)), float(np.sqrt(len(difference)) * spread)


@dataclass(frozen=True)
class Score:
    """What is known of one model.

    Attributes
    ----------
    name : str
        Of its run.
    num_params : int
    grade : str
        Verdict on its sampling: a posterior that is not to be trusted is not to be compared.
    loo : Elpd
        Each sub-box left out.
    effective_params : float
    pareto_k : array (B,)
    second : Elpd or None
        On a second realisation.
    """

    name: str
    num_params: int
    grade: str
    loo: Elpd
    effective_params: float
    pareto_k: np.ndarray
    second: Elpd | None = None

    @property
    def num_unreliable(self) -> int:
        """Sub-boxes whose left-out score cannot be relied on."""
        return int(np.sum(~(self.pareto_k <= RELIABLE)))


def score(name: str, posterior: xr.DataTree, second: np.ndarray | None = None) -> Score:
    """Score a fitted model.

    Parameters
    ----------
    name : str
    posterior : xarray.DataTree
        A container of :mod:`halo_mdn.posterior.container`.
    second : array (B,), optional
        From :func:`halo_mdn.posterior.second_realisation.second_realisation`.
    """
    summary = summarise(posterior)
    blocks = posterior["log_likelihood"].to_dataset()["poisson_process"]
    observed = posterior["constant_data"].to_dataset()["block_volume"].values > 0
    left_out = leave_one_out(blocks.isel(block=np.flatnonzero(observed)))
    return Score(
        name=name,
        num_params=sum(row.kind == "parameter" for row in summary.rows),
        grade=summary.verdict.grade,
        loo=Elpd(left_out.elpd),
        effective_params=left_out.effective_params,
        pareto_k=left_out.pareto_k,
        second=None if second is None else Elpd(second),
    )


def ranking(scores: Sequence[Score]) -> list[Score]:
    """Best first: by the second realisation where there is one, else by leaving out."""
    return sorted(scores, key=lambda s: -(s.second or s.loo).total)


def check_same_data(posteriors: Mapping[str, xr.DataTree]) -> None:
    """Refuse to compare models of different halos.

    Raises
    ------
    InputError
        Naming the first two runs that differ, and in what.
    """
    (first, one), *others = posteriors.items()
    for name, other in posteriors.items():
        if is_joint(other):
            raise InputError(
                f"{name} is a joint inference: models can be compared on one given field only, "
                "leave it out"
            )
    for name, other in posteriors.items():
        if "block_volume" not in other["constant_data"].to_dataset():
            raise InputError(f"{name} was fitted by an earlier version: fit it again")
    for name, other in others:
        for attribute in _SAME:
            if one.attrs.get(attribute) != other.attrs.get(attribute):
                raise InputError(
                    f"{first} and {name} differ in {attribute}: models can be compared on the same "
                    "data only, fit both to the same field and halos"
                )
        check_same_blocks(first, _blocks(one), name, _blocks(other))


def check_same_blocks(first: str, one: np.ndarray, name: str, other: np.ndarray) -> None:
    """Refuse models that use different parts of the data.

    Parameters
    ----------
    first, name : str
        Names of the models.
    one, other : array (2, B)
        Volume and number of halos of each sub-box.

    Raises
    ------
    InputError
        If they differ: with an interior boundary, larger kernels leave out more.
    """
    if one.shape != other.shape or not np.allclose(one, other, rtol=1e-6):
        raise InputError(
            f"{first} uses {one[1].sum():.0f} halos in {one[0].sum():.6g} (Mpc/h)^3 and {name} "
            f"{other[1].sum():.0f} in {other[0].sum():.6g}: mask the border that the larger kernel "
            "leaves out with data.completeness, and fit both again"
        )


def remarks(scores: Sequence[Score]) -> list[str]:
    """What has to be said beside the numbers."""
    lines = []
    for s in scores:
        if s.grade == "do not use":
            lines.append(
                f"{s.name}: its sampling did not converge ({s.grade}), so its scores may move."
            )
        if s.num_unreliable:
            advice = (
                "score a second realisation with --second"
                if s.second is None
                else ("rely on the second realisation")
            )
            lines.append(
                f"{s.name}: {s.num_unreliable} of {len(s.pareto_k)} sub-boxes have Pareto "
                f"k > {RELIABLE} (largest {np.max(s.pareto_k):.2f}), so its left-out score is not "
                f"reliable: {advice}."
            )
    return lines + [line for name in ("loo", "second") for line in _undecided(scores, name)]


def _undecided(scores: Sequence[Score], criterion: str) -> list[str]:
    if any(getattr(s, criterion) is None for s in scores):
        return []
    best = max(scores, key=lambda s: getattr(s, criterion).total)
    close = []
    for s in scores:
        difference, error = getattr(s, criterion).below(getattr(best, criterion))
        if s is not best and abs(difference) < 2 * error:
            close.append(s.name)
    what = {"loo": "left out sub-boxes", "second": "the second realisation"}[criterion]
    if not close:
        return []
    return [f"On {what}, {', '.join(close)} within 2 standard errors of {best.name}: a tie."]


def _blocks(posterior: xr.DataTree) -> np.ndarray:
    volume = posterior["constant_data"].to_dataset()["block_volume"].values
    return np.stack([volume, posterior["observed_data"].to_dataset()["halos_by_block"].values])

"""Can this posterior be trusted, and what to do next: the decision, separate from the numbers.

The *identified functions* decide: ln n(M | environment) where there are halos, and expected numbers
of halos. Raw weights of the network may sit in mirror modes that describe the same function, so a
bad R-hat of a weight is explained but does not condemn a run. Thresholds of R-hat and ESS are those
of Vehtari et al. 2021, that of E-BFMI the customary 0.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from halo_mdn.posterior.compression import CompressionFindings
from halo_mdn.posterior.mode_report import ModeFindings

Grade = Literal["trust", "use with care", "do not use"]

RHAT, RHAT_CARE = 1.01, 1.05
ESS, ESS_CARE = 400.0, 100.0
EBFMI = 0.3
SATURATION = 0.05  # fraction of trajectories cut off at the largest tree depth
DIVERGENT_CARE = 0.001  # fraction of divergent draws up to which a posterior is usable with care
MISSING_CARE = 0.1  # weight of modes without a chain up to which it is usable with care
_LEAST_DRAWS = 50  # per chain: with fewer, R-hat and ESS themselves say nothing


@dataclass(frozen=True)
class Row:
    """Diagnostics of one scalar.

    Attributes
    ----------
    label : str
        Name with coordinates, such as ``kernel_weights[0, centre]``.
    kind : {"parameter", "function"}
    decides : bool
        False for a function where the data have too few halos to pin it down.
    mean, sd, mcse : float
        Posterior mean, standard deviation, and Monte Carlo standard error of the mean.
    rhat, ess_bulk, ess_tail : float
        Rank-normalised split R-hat and effective sample sizes; NaN where they cannot be had.
    moved : bool
        Whether every chain took more than one value, all of them finite.
    index : tuple of int
        Where the scalar sits in its variable.
    prior_sensitivity, likelihood_sensitivity : float
        From :mod:`halo_mdn.posterior.prior_sensitivity`; NaN where unknown.
    """

    label: str
    kind: str
    decides: bool
    mean: float
    sd: float
    mcse: float
    rhat: float
    ess_bulk: float
    ess_tail: float
    moved: bool = True
    index: tuple[int, ...] = ()
    prior_sensitivity: float = math.nan
    likelihood_sensitivity: float = math.nan

    @property
    def ess(self) -> float:
        """The smaller of bulk and tail effective sample size; 0 where one is unknown."""
        return min(_or(self.ess_bulk, 0.0), _or(self.ess_tail, 0.0))

    def passes(self, rhat: float = RHAT, ess: float = ESS) -> bool:
        """Whether both thresholds hold; False where a number is unknown."""
        return self.moved and self.rhat <= rhat and self.ess_bulk >= ess and self.ess_tail >= ess


@dataclass(frozen=True)
class RunStatistics:
    """What belongs to a run as a whole.

    Attributes
    ----------
    num_chains, num_draws : int
        Chains, and kept draws of each.
    num_divergences : int
        Divergent draws of all chains.
    ebfmi : tuple of float
        Energy Bayesian fraction of missing information of each chain.
    saturation : float
        Fraction of trajectories that were cut off at the largest tree depth.
    acceptance, mean_steps : float
        Mean acceptance rate, and gradients per draw.
    log_posterior : tuple of float
        Mean log-posterior density of each chain.
    num_gradients : int
        Gradient evaluations, warm-up included; 0 where unknown.
    wall_time_s : float
        Wall-clock time of the sampling.
    stopped_early : bool
        Whether the run ended because its target effective sample size was reached.
    """

    num_chains: int
    num_draws: int
    num_divergences: int
    ebfmi: tuple[float, ...]
    saturation: float
    acceptance: float
    mean_steps: float
    log_posterior: tuple[float, ...]
    num_gradients: int
    wall_time_s: float
    stopped_early: bool = False

    @property
    def least_ebfmi(self) -> float:
        """The smallest E-BFMI of the chains; NaN where one is unknown."""
        return math.nan if any(map(math.isnan, self.ebfmi)) else min(self.ebfmi, default=math.nan)

    def lines(self) -> list[str]:
        """The statistics as readable lines."""
        ebfmi = ", ".join(f"{value:.2f}" for value in self.ebfmi)
        return [
            f"{self.num_chains} chains x {self.num_draws} draws, "
            f"{self.num_divergences} divergences, acceptance {self.acceptance:.2f}, "
            f"{self.mean_steps:.0f} gradients per draw",
            f"E-BFMI {ebfmi}{self._saturated()}",
        ]

    def _saturated(self) -> str:
        if math.isnan(self.saturation):  # trajectories of a fixed length
            return ""
        return f"; {100 * self.saturation:.1f} % of trajectories at the largest depth"


@dataclass(frozen=True)
class Verdict:
    """What to make of a run.

    Attributes
    ----------
    grade : {"trust", "use with care", "do not use"}
    sentence : str
        One sentence, numbers included.
    advice : tuple of str
        What to do next, most important first; explanations of what looks bad but is not.
    """

    grade: Grade
    sentence: str
    advice: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the posterior can be trusted without reservation."""
        return self.grade == "trust"

    def to_text(self) -> str:
        """The sentence, and one line per advice."""
        return "\n".join([self.sentence, *(f"  - {line}" for line in self.advice)])


def verdict(
    rows: tuple[Row, ...],
    run: RunStatistics,
    *,
    modes: ModeFindings | None = None,
    compression: CompressionFindings | None = None,
    remark: str | None = None,
) -> Verdict:
    """Judge a run by its identified functions.

    Parameters
    ----------
    rows : tuple of Row
        From :func:`halo_mdn.posterior.summary.table`. Without functions, the parameters decide.
    run : RunStatistics
    modes : ModeFindings, optional
        Which modes there are, and which of them the chains saw.
    compression : CompressionFindings, optional
        How far a compressed likelihood was from the exact one.
    remark : str, optional
        What else there is to say about the predictions; it does not change the grade.

    Returns
    -------
    Verdict
    """
    deciding = tuple(row for row in rows if row.kind == "function" and row.decides)
    subject = "identified functions" if deciding else "parameters"
    deciding = deciding or tuple(row for row in rows if row.kind == "parameter")
    problems = _problems(deciding, run, subject)
    advice = _advice(deciding, rows, run) + ((remark,) if remark else ())
    trouble = modes.problem() if modes is not None else None
    if modes is not None and trouble is not None:
        problems, advice = [trouble, *problems], modes.advice() + advice
    offset = compression.problem() if compression is not None else None
    if offset is not None:
        problems = [offset, *problems]
        advice = ("Set sampler.likelihood to exact.", *advice)
    grade = _grade(deciding, run, problems)
    if compression is not None and compression.hopeless:
        grade = "do not use"
    if modes is not None and modes.missing > MISSING_CARE and not modes.doubtful.any():
        grade = "do not use"
    if grade == "trust":
        opening = "Trust the sampling, not every prediction" if remark else "Trust this posterior"
        return Verdict(grade, f"{opening}: {_evidence(deciding, run, subject)}.", advice)
    opening = {
        "use with care": "Use this posterior with care",
        "do not use": "Do not use this posterior",
    }[grade]
    return Verdict(grade, f"{opening}: {'; '.join(problems)}.", advice)


def _grade(deciding: tuple[Row, ...], run: RunStatistics, problems: list[str]) -> Grade:
    if not problems:
        return "trust"
    usable = (
        bool(deciding)
        and run.num_chains >= 2
        and run.num_draws >= _LEAST_DRAWS
        and all(row.passes(RHAT_CARE, ESS_CARE) for row in deciding)
        and run.num_divergences <= DIVERGENT_CARE * run.num_chains * run.num_draws
        and run.least_ebfmi > EBFMI / 2
    )
    return "use with care" if usable else "do not use"


def _problems(deciding: tuple[Row, ...], run: RunStatistics, subject: str) -> list[str]:
    """What keeps the run from being trusted, worst first, as clauses of a sentence."""
    problems = []
    if run.num_chains < 2:
        problems.append("one chain alone cannot show that it converged")
    if run.num_draws < _LEAST_DRAWS:
        problems.append(f"{run.num_draws} draws per chain are too few to judge it")
    if not deciding:
        problems.append("it holds no quantity that could be judged")
    stuck = [row for row in deciding if not row.moved]
    if stuck:
        few = f"{len(stuck)} of {len(deciding)} {subject}"
        problems.append(f"a chain never moved, or left the finite numbers, in {few}")
    failing = [row for row in deciding if row.moved and not row.passes()]
    if failing and run.num_chains >= 2 and run.num_draws >= _LEAST_DRAWS:
        worst = max(failing, key=_badness)
        problems.append(
            f"{len(failing)} of {len(deciding)} {subject} have not converged "
            f"(worst {worst.label}: R-hat {worst.rhat:.3f}, ESS {worst.ess:.0f})"
        )
    if run.num_divergences:
        total = run.num_chains * run.num_draws
        problems.append(f"{run.num_divergences} of {total} draws diverged")
    if math.isnan(run.least_ebfmi):
        problems.append("the energy of a chain is unknown")
    elif run.least_ebfmi <= EBFMI:
        problems.append(f"E-BFMI is {run.least_ebfmi:.2f}, below {EBFMI}")
    if run.saturation > SATURATION:
        problems.append(f"{100 * run.saturation:.0f} % of the trajectories were cut off")
    return problems


def _evidence(deciding: tuple[Row, ...], run: RunStatistics, subject: str) -> str:
    rhat, ess = max(row.rhat for row in deciding), min(row.ess for row in deciding)
    return (
        f"all {len(deciding)} {subject} have R-hat <= {math.ceil(1e3 * rhat) / 1e3:.3f} and "
        f"effective sample sizes >= {math.floor(ess)}, without divergences, from "
        f"{run.num_chains} chains of {run.num_draws} draws"
    )


def _advice(
    deciding: tuple[Row, ...], rows: tuple[Row, ...], run: RunStatistics
) -> tuple[str, ...]:
    lines = []
    functions_pass = bool(deciding) and all(row.passes() for row in deciding)
    if run.num_chains < 2:
        lines.append("Run at least 2 chains, better 4, from different starts.")
    if run.num_draws < _LEAST_DRAWS:
        lines.append("Draw more: at least a few hundred per chain.")
    if any(not row.moved for row in deciding):
        lines.append("Look at the start and the step size: a chain that stays put rejects all.")
    apart = _far_apart(run)
    if not functions_pass and apart:
        lines.append(apart)
    elif not functions_pass and run.num_chains >= 2:
        lines.append(_run_longer(deciding, run))
    if run.num_divergences:
        lines.append("Raise target_accept (0.9 to 0.99) so that the divergences disappear.")
    if math.isnan(run.least_ebfmi):
        lines.append("Without finite energies E-BFMI cannot be had: draw more, from another start.")
    if run.least_ebfmi <= EBFMI:
        lines.append("Low E-BFMI: warm up longer, so that the mass matrix fits the posterior.")
    if run.saturation > SATURATION:
        lines.append("Raise max_tree_depth or warm up longer: trajectories were cut short.")
    return tuple(lines + _about_parameters(rows, functions_pass))


def _far_apart(run: RunStatistics) -> str | None:
    """Chains whose log-posterior differs by more than sampling noise are in different modes."""
    known = [value for value in run.log_posterior if math.isfinite(value)]
    if len(known) < 2 or max(known) - min(known) < 10:
        return None
    worst = run.log_posterior.index(min(known))
    return (
        f"The chains are in different modes: the mean log-posterior of chain {worst} is "
        f"{max(known) - min(known):.0f} below the best. Make more starts, or warm up longer; more "
        "draws will not help."
    )


def _run_longer(deciding: tuple[Row, ...], run: RunStatistics) -> str:
    least = min((row.ess for row in deciding), default=0.0)
    if least < 10:
        return "Warm up longer and draw several times more: there are hardly any independent draws."
    draws = 100 * math.ceil(max(1.2, 1.2 * ESS / least) * run.num_draws / 100)
    return f"Draw more: about num_samples = {draws}, judged by the slowest quantity."


def _about_parameters(rows: tuple[Row, ...], functions_pass: bool) -> list[str]:
    parameters = [row for row in rows if row.kind == "parameter"]
    bad = [row for row in parameters if not row.passes()]
    if not bad or not functions_pass or len(parameters) == len(rows):
        return []
    worst = max(bad, key=_badness)
    return [
        f"{len(bad)} of {len(parameters)} raw parameters have not converged (worst "
        f"{worst.label}: R-hat {worst.rhat:.2f}) although the functions have: different weights, "
        "in mirror modes or along a degeneracy, describe the same n(M | delta). Use the functions; "
        "do not interpret single weights."
    ]


def _badness(row: Row) -> tuple[float, float]:
    return (_or(row.rhat, math.inf), -row.ess)


def _or(value: float, default: float) -> float:
    return default if math.isnan(value) else value

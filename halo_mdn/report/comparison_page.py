"""A comparison of models as text, CSV, figure and one HTML page."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np
from matplotlib.figure import Figure

from halo_mdn.files import write_file
from halo_mdn.posterior.comparison import Elpd, Score, ranking, remarks
from halo_mdn.posterior.pareto import RELIABLE
from halo_mdn.provenance import versions
from halo_mdn.report.html import TEMPLATE, section_html
from halo_mdn.report.sections import Picture, ReportTable, Section
from halo_mdn.report.style import CHAIN_COLOURS
from halo_mdn.text_table import aligned

_HEAD = ("model", "parameters", "elpd left out", "difference", "its error", "p_loo",
         f"k > {RELIABLE}", "sampling")  # fmt: skip
_SECOND = ("elpd second", "difference", "its error")


def write_comparison(scores: Sequence[Score], folder: Path, *, second: str = "") -> list[Path]:
    """Write ``comparison.txt``, ``.csv``, ``.png`` and ``.html``, each atomically.

    Parameters
    ----------
    scores : sequence of Score
    folder : Path
        Made if missing.
    second : str
        What the second realisation was read from, for the page.
    """
    contents = {
        "txt": comparison_text(scores) + "\n",
        "csv": comparison_csv(scores),
        "html": comparison_html(scores, second=second),
    }
    picture = io.BytesIO()
    comparison_figure(scores).savefig(picture, format="png", dpi=120)
    data = {form: text.encode("utf-8") for form, text in contents.items()}
    data["png"] = picture.getvalue()
    return [write_file(folder / f"comparison.{form}", content) for form, content in data.items()]


def comparison_text(scores: Sequence[Score]) -> str:
    """The ranking as an aligned table, with what has to be said about it."""
    lines = aligned([_head(scores), *_rows(scores)])
    return "\n".join([*lines, "", *remarks(scores)]).rstrip()


def comparison_csv(scores: Sequence[Score]) -> str:
    """The ranking at full precision, best first."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = ["rank", "model", "num_params", "sampling", "elpd_loo", "elpd_loo_difference",
             "elpd_loo_difference_se", "p_loo", "largest_pareto_k", "num_pareto_k_above_0.7",
             "elpd_second", "elpd_second_difference", "elpd_second_difference_se"]  # fmt: skip
    writer.writerow(names)
    for rank, s in enumerate(ranking(scores), start=1):
        loo = (s.loo.total, *s.loo.below(_best(scores, "loo")))
        reliability = (s.effective_params, float(np.max(s.pareto_k)), s.num_unreliable)
        second: tuple[object, ...] = ("", "", "")
        if s.second is not None:
            second = (s.second.total, *s.second.below(_best(scores, "second")))
        writer.writerow([rank, s.name, s.num_params, s.grade, *loo, *reliability, *second])
    return stream.getvalue()


def comparison_figure(scores: Sequence[Score]) -> Figure:
    """Differences with their standard errors, and Pareto k of every sub-box."""
    ranked = ranking(scores)[::-1]
    places = np.arange(len(ranked))
    figure = Figure(figsize=(10, 1.6 + 0.45 * len(ranked)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    looks = {"loo": ("o", 0.1, "sub-boxes left out"), "second": ("s", -0.1, "second realisation")}
    for colour, (criterion, (mark, shift, label)) in zip(
        CHAIN_COLOURS, looks.items(), strict=False
    ):
        if getattr(ranked[0], criterion) is None:
            continue
        best = _best(scores, criterion)
        values = np.array([getattr(s, criterion).below(best) for s in ranked])
        left.errorbar(values[:, 0], places + shift, xerr=values[:, 1], marker=mark, color=colour,
                      linestyle="none", markersize=5, label=label)  # fmt: skip
    left.axvline(0, color="0.4", linewidth=0.8, linestyle="--")
    left.set(xlabel="elpd below the best  (nats, one standard error of the difference)")
    left.set_yticks(places, labels=[s.name for s in ranked])
    left.legend(frameon=False, fontsize=9)
    for place, s in zip(places, ranked, strict=True):
        right.plot(s.pareto_k, np.full(len(s.pareto_k), place), "|", color=CHAIN_COLOURS[0])
    right.axvline(RELIABLE, color=CHAIN_COLOURS[1], linewidth=1, label="not reliable beyond")
    right.set(xlabel="Pareto k of each sub-box")
    right.legend(frameon=False, fontsize=9)
    return figure


def comparison_html(scores: Sequence[Score], *, second: str = "") -> str:
    """The comparison as one page that opens offline."""
    best, said = ranking(scores)[0], remarks(scores)
    scored = f"a second realisation ({second})" if second else "sub-boxes left out"
    bad = any(s.grade == "do not use" for s in scores)
    section = Section(
        "Which model predicts halos best?",
        ["The score is the expected log predictive density (elpd) in nats, summed over sub-boxes: "
         "higher is better. Left-out scores are Pareto-smoothed importance sampling, one sub-box "
         "at a time; they need Pareto k below 0.7. Differences are to the best model of each "
         "column, with the standard error of the difference, paired by sub-box. The error takes "
         "sub-boxes as independent and does not know how universes scatter.",
         "p_loo is by how much sub-boxes are predicted worse when left out: about the number of "
         "parameters that the data determine."],
        [Picture("comparison", lambda: comparison_figure(scores),
                 "Differences to the best model, and Pareto k of every sub-box.")],
        [ReportTable(_head(scores), _rows(scores))],
    )  # fmt: skip
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=f"Comparison of {len(scores)} models",
        fitted=escape(f"{len(best.loo.blocks)} sub-boxes, the same halos for all"),
        grade="use-with-care" if bad or said else "trust",
        grade_words=escape(f"best on {scored}"),
        verdict=escape(best.name),
        advice="".join(f"<li>{escape(line)}</li>" for line in said),
        tiles="",
        links='<a href="#s0">Ranking</a>',
        sections=section_html(0, section),
        made=escape(versions()["created_at"]),
    )


def _head(scores: Sequence[Score]) -> tuple[str, ...]:
    return (*_HEAD, *(_SECOND if scores[0].second is not None else ()))


def _rows(scores: Sequence[Score]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for s in ranking(scores):
        loo = _numbers(s.loo, _best(scores, "loo"))
        second = () if s.second is None else _numbers(s.second, _best(scores, "second"))
        bad = f"{s.num_unreliable} of {len(s.pareto_k)}"
        rest = (f"{s.effective_params:.1f}", bad, s.grade)
        rows.append((s.name, str(s.num_params), *loo, *rest, *second))
    return rows


def _numbers(elpd: Elpd, best: Elpd) -> tuple[str, str, str]:
    difference, error = elpd.below(best)
    return (f"{elpd.total:.1f}", f"{difference:.1f}", f"{error:.1f}")


def _best(scores: Sequence[Score], criterion: str) -> Elpd:
    return max((getattr(s, criterion) for s in scores), key=lambda elpd: elpd.total)

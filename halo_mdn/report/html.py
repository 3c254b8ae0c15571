"""The report as one HTML file: nothing is loaded from elsewhere, so that it opens offline."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import NamedTuple

import numpy as np
import xarray as xr

from halo_mdn.files import write_file
from halo_mdn.posterior import counts as count_checks
from halo_mdn.posterior.summary import Summary, summarise
from halo_mdn.report.sections import Picture, ReportTable, Section, sections

REPORT = "report.html"
_DPI = 120
TEMPLATE = Path(__file__).parent / "template.html"


class Content(NamedTuple):
    """What a report says: the verdict and its numbers, and the sections after them."""

    summary: Summary
    sections: Sequence[Section]


def content_of(posterior: xr.DataTree) -> Content:
    """What is said about a fit."""
    summary = summarise(posterior)
    return Content(summary, sections(posterior, summary))


def write_report(
    posterior: xr.DataTree, path: str | Path, *, name: str = "", content: Content | None = None
) -> Path:
    """Write the report, atomically.

    Parameters
    ----------
    posterior : xarray.DataTree
        From :func:`halo_mdn.posterior.summary.build` or :func:`halo_mdn.posterior.summary.read`.
    path : path
        Such as ``runs/NAME/report.html``.
    name : str
        Of the run, for the heading.
    content : Content, optional
        What to say; that of a fit by default.
    """
    page = report_html(posterior, name=name, content=content)
    return write_file(Path(path), page)


def write_pictures(content: Content, folder: str | Path) -> list[Path]:
    """Write every figure of a report to a folder, as PNG and as PDF."""
    paths = []
    for section in content.sections:
        for picture in section.pictures:
            for form in ("png", "pdf"):
                data = _rendered(picture, form)
                path = Path(folder) / f"{picture.name}.{form}"
                paths.append(write_file(path, data))
    return paths


def report_html(posterior: xr.DataTree, *, name: str = "", content: Content | None = None) -> str:
    """The report as text; arguments as :func:`write_report`."""
    summary, parts = content or content_of(posterior)
    grade, words = _grade(posterior, summary)
    links = "".join(f'<a href="#s{i}">{escape(s.title)}</a>' for i, s in enumerate(parts))
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(f"Halo bias: {name}" if name else "Halo bias"),
        fitted=escape(_fitted(posterior)),
        grade=grade.replace(" ", "-"),
        grade_words=escape(words),
        verdict=escape(summary.verdict.sentence),
        advice="".join(f"<li>{escape(line)}</li>" for line in summary.verdict.advice),
        tiles="".join(_tile(number, text) for number, text in _tiles(summary)),
        links=links,
        sections="\n".join(section_html(i, section) for i, section in enumerate(parts)),
        made=escape(str(posterior.attrs.get("created_at", ""))),
    )


def _grade(posterior: xr.DataTree, summary: Summary) -> tuple[str, str]:
    """The colour of the verdict, and its words: a well sampled wrong model is not green."""
    grade = summary.verdict.grade
    if summary.verdict.ok and count_checks.misfit(posterior) is not None:
        return "use with care", "sampled well, but the model misses some of the data"
    return grade, grade


def _fitted(posterior: xr.DataTree) -> str:
    constant, attrs = posterior["constant_data"].to_dataset(), posterior.attrs
    voxels = " x ".join(str(int(n)) for n in constant["grid_shape"].values)
    sides = " x ".join(f"{side:g}" for side in dict.fromkeys(constant["box_size"].values.tolist()))
    redshift = attrs.get("redshift")
    at = f", redshift {redshift}" if redshift not in (None, "", "not given") else ""
    threshold = f"{float(attrs['mass_threshold']):.3g}"
    return (
        f"{int(attrs['num_halos']):,} halos above {threshold} Msun/h on {voxels} voxels, "
        f"{sides} Mpc/h{at}; masses: {attrs.get('mass_definition') or 'definition not given'}"
    )


def _tiles(summary: Summary) -> list[tuple[str, str]]:
    run = summary.statistics
    deciding = [row for row in summary.rows if row.kind == "function" and row.decides]
    rhat = max([row.rhat for row in deciding], default=np.nan)
    return [
        (f"{rhat:.3f}", "worst R-hat of a function (at most 1.01)"),
        (f"{summary.least_ess:,.0f}", "least effective draws of a function (at least 400)"),
        (f"{run.num_divergences:,}", "divergent draws (none)"),
        (f"{run.least_ebfmi:.2f}", "least E-BFMI (above 0.3)"),
        (f"{run.num_chains} x {run.num_draws:,}", "chains x draws"),
        (f"{run.wall_time_s:,.0f} s", f"sampling, {run.num_gradients:,} gradients"),
    ]


def _tile(number: str, text: str) -> str:
    return f'<div class="tile"><b>{escape(number)}</b><span>{escape(text)}</span></div>'


def section_html(index: int, section: Section) -> str:
    text = "".join(f"<p>{escape(paragraph)}</p>" for paragraph in section.text)
    pictures = "".join(_picture(picture) for picture in section.pictures)
    tables = "".join(_table(table) for table in section.tables)
    return (
        f'<section id="s{index}"><h2>{escape(section.title)}</h2>{text}'
        f'<div class="pictures">{pictures}</div>{tables}</section>'
    )


def _picture(picture: Picture) -> str:
    data = base64.b64encode(_rendered(picture, "png")).decode("ascii")
    kind = "wide" if picture.wide else "half"
    caption = escape(picture.caption)
    return (
        f'<figure class="{kind}"><img alt="{caption}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _rendered(picture: Picture, form: str) -> bytes:
    stream = io.BytesIO()
    with np.errstate(all="ignore"):  # of absurd draws, which the verdict speaks about
        picture.make().savefig(stream, format=form, dpi=_DPI)
    return stream.getvalue()


def _table(table: ReportTable) -> str:
    head = _row(table.head, "th")
    body = "".join(_row(row, "td") for row in table.rows)
    html = f'<div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'
    if table.folded:
        return f"<details><summary>{escape(table.title)}</summary>{html}</details>"
    return html


def _row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

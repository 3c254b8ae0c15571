"""What the report says: sections of prose, figures and tables, all from the container."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from halo_mdn.posterior import counts as count_checks
from halo_mdn.posterior import prior_sensitivity as power_scaling
from halo_mdn.posterior.summary import Summary
from halo_mdn.report import checks, figures, sampling
from halo_mdn.report.reference import reference_mass_function


@dataclass(frozen=True)
class Picture:
    """A figure with its caption; `name` is a file name, `wide` figures take a whole line."""

    name: str
    make: Callable[[], Figure]
    caption: str
    wide: bool = True


@dataclass(frozen=True)
class ReportTable:
    """A table; the first column is left-aligned. A folded one opens on a click."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs, pictures and tables."""

    title: str
    text: Sequence[str]
    pictures: Sequence[Picture] = ()
    tables: Sequence[ReportTable] = ()


def sections(posterior: xr.DataTree, summary: Summary) -> list[Section]:
    """All sections after the verdict, in order."""
    parts = [learned(posterior), biased(posterior), described(posterior)]
    parts += [sampled(posterior, summary), prior(summary)]
    return [*parts, parameters(posterior, summary), origin(posterior)]


def learned(posterior: xr.DataTree) -> Section:
    """The halo mass function, by environment and in the whole box."""
    reference = reference_mass_function(posterior)
    known = reference is not None
    rows = []
    for name in ("halos_by_mass", "halos_total"):
        for check in count_checks.count_checks(posterior, name):
            span = f"{check.low:,.0f} to {check.high:,.0f}"
            numbers = (f"{check.observed:,}", f"{check.expected:,.1f}", span)
            rows.append((check.label, *numbers, f"{check.deviation:+.1f}"))
    compared = (
        " The dashed line is the mass function of Tinker et al. (2008), 200 times the mean "
        "density, for the cosmology of the run: a reference that was not fitted, and whose halos "
        "are defined otherwise where the catalogue is not one of spherical overdensity."
        if known
        else " No reference is drawn: the run does not state a cosmology that it could be made for."
    )
    return Section(
        "What the halos do",
        ["How many halos of which mass live where, and how well the model says so. Bands and "
         "intervals are posterior; error bars of the data are 68 % Poisson intervals."],
        [Picture("mass_function", lambda: figures.mass_function_figure(posterior),
                 "Halo mass function by the density of the surroundings, and observed over "
                 "expected numbers. Triangles point to values outside of the frame."),
         Picture("box", lambda: checks.box_figure(posterior, reference),
                 "Halo mass function of the whole box." + compared)],
        [ReportTable(("mass, Msun/h", "observed", "predicted", "95 % of predictions",
                "deviation / sigma"), rows)],
    )  # fmt: skip


def biased(posterior: xr.DataTree) -> Section:
    """Linear bias and, where the model has one, the kernel."""
    has_kernel = "kernel_weights" in posterior["posterior"].to_dataset()
    draws = posterior["posterior_predictive"].to_dataset()["linear_bias"]
    kernel = Picture(
        "kernel",
        lambda: checks.kernel_figure(posterior),
        "Profile of the kernel: posterior median and 95 % interval.",
        wide=False,
    )
    bins = [str(label) for label in draws["mass_bin"].values]
    flat = draws.values.reshape(-1, len(bins))
    low, middle, high = checks.quantiles(flat, 0.025, 0.5, 0.975)
    rows = [
        (label, f"{m:.3f}", f"{a:.3f} to {b:.3f}")
        for label, m, a, b in zip(bins, middle, low, high, strict=True)
    ]
    return Section(
        "Bias, and how far the halos look",
        ["The linear bias is b1 = d ln N(M) / d eps, the response of the number of halos in a "
         "mass bin to a change 1 + delta -> exp(eps) (1 + delta) of all voxels alike, exactly, by "
         "automatic differentiation of the network. It equals the large-scale bias where a long "
         "mode does nothing else to the density of a voxel; it is a property of this field at "
         "this voxel size.",
         *(_KERNEL if has_kernel else ())],
        [Picture("linear_bias", lambda: checks.bias_figure(posterior),
                 "Linear bias by mass: posterior median and 95 % interval; horizontal bars are "
                 "the mass bins, the last one being open.", wide=False),
         *((kernel,) if has_kernel else ())],
        [ReportTable(("mass, Msun/h", "b1", "95 % interval"), rows)],
    )  # fmt: skip


def described(posterior: xr.DataTree) -> Section:
    """Data against predictions in space."""
    observed = posterior["observed_data"].to_dataset()["halos_by_block"].values
    draws = posterior["posterior_predictive"].to_dataset()["halos_by_block"].values
    draws = draws.reshape(-1, len(observed))
    mean = np.maximum(draws.mean(axis=0), 1e-300)
    chi2 = float(((observed - mean) ** 2 / mean).mean())
    typical = ((draws - mean) ** 2 / mean).mean(axis=1)
    low, high = np.quantile(typical, [0.025, 0.975])
    chance = float((typical >= chi2).mean())
    word = "within" if low <= chi2 <= high else "above" if chi2 > high else "below"
    size = posterior["posterior_predictive"].to_dataset().sizes["replicate"]
    return Section(
        "Does the model describe the data?",
        [f"Around the prediction, the numbers of halos in the {len(observed)} sub-boxes have a "
         f"mean squared deviation of {chi2:.2f} in units of the predicted number; catalogues from "
         f"the model have {low:.2f} to {high:.2f} (95 %), and {100 * chance:.0f} % have more. "
         f"The data are {word} that range. Values above it mean scatter beyond Poisson, or "
         "structure that the model does not know; then intervals are too narrow.",
         f"Bands of the clustering statistics are the central 68 % and 95 % of {size} catalogues "
         "drawn from the posterior. Voxels are not deconvolved, from data and predictions alike."],
        [Picture("slice", lambda: figures.slice_figure(posterior),
                 "A slab through the middle of the box: density, expected and observed halos."),
         Picture("blocks", lambda: checks.block_figure(posterior),
                 "Counts in sub-boxes and in cells of other sizes, against predictions."),
         Picture("power", lambda: checks.power_figure(posterior),
                 "Clustering of the halos, and their correlation with the density.")],
    )  # fmt: skip


def sampled(posterior: xr.DataTree, summary: Summary) -> Section:
    """How the sampler did."""
    rows = [_diagnostics(row) for row in summary.rows if row.kind == "function"]
    return Section(
        "How well it was sampled",
        ["Identified functions, ln n(M | environment) and expected numbers of halos, decide: the "
         "raw weights of the network may sit in mirror modes that describe the same function. "
         "Where chains agree, their rank histograms are flat. Quantities marked * lie beyond the "
         "data and do not decide.",
         *summary.statistics.lines(),
         *([summary.compression] if summary.compression else []),
         *summary.modes],
        [Picture("traces", lambda: figures.trace_figure(posterior),
                 "The functions that mix worst: draws of each chain, and their ranks."),
         Picture("energy", lambda: figures.energy_figure(posterior),
                 "Energies and their changes. Changes much narrower than energies (E-BFMI below "
                 "0.3) mean that the tails are explored too slowly."),
         Picture("ess", lambda: sampling.ess_figure(posterior),
                 "Effective sample sizes (the smaller of bulk and tail) of ln n as the run goes "
                 "on; in a healthy run they grow steadily.")],
        [ReportTable(_HEAD, rows, f"Diagnostics of {len(rows)} identified functions", folded=True)],
    )  # fmt: skip


def prior(summary: Summary) -> Section:
    """How much the prior matters."""
    sentences = power_scaling.sentences(summary.rows)
    if not sentences:
        return Section("Prior or data?", ["Not known: log prior and likelihood are not finite."])
    decisive = [row for row in summary.rows if row.decides]
    rows = [
        (row.label, f"{row.prior_sensitivity:.3f}", f"{row.likelihood_sensitivity:.3f}")
        for row in sorted(decisive, key=lambda row: (row.kind, -row.prior_sensitivity))
    ]
    return Section(
        "Prior or data?",
        ["If the prior were a little stronger or weaker, would the answer change? The sensitivity "
         "is the distance by which a marginal moves when prior or likelihood are raised to a power "
         "near 1, per doubling of the power (Kallioinen et al. 2024, Stat. Comput. 34, 57). Below "
         f"{power_scaling.SENSITIVE} the prior does not matter. Single weights may depend on it "
         "where a scale or a unit of the network is open; functions should not.",
         *sentences],
        tables=[ReportTable(("quantity", "sensitivity to prior", "to likelihood"), rows,
                      f"Sensitivities of {len(rows)} quantities", folded=True)],
    )  # fmt: skip


def parameters(posterior: xr.DataTree, summary: Summary) -> Section:
    """All parameters in pairs."""
    rows = [_diagnostics(row) for row in summary.rows if row.kind == "parameter"]
    names, _ = sampling.parameter_columns(posterior)
    first = (
        f" The first {sampling.MOST_PARAMETERS} of {len(names)}."
        if len(names) > sampling.MOST_PARAMETERS
        else ""
    )
    return Section(
        "The parameters",
        ["For completeness: single weights of a network mean little, and several sets of them "
         "describe the same halos. w: kernel, b: its bias; A, a: weights and biases of the "
         "amplitudes; B, \u03b2: of the means; C, c: of the widths; indices count components "
         "(or shells, from the centre outwards) from 0. All are dimensionless."],
        [Picture("corner", lambda: sampling.corner_figure(posterior),
                 "Marginals, one colour per chain, and densities of pairs of all chains." + first)],
        [ReportTable(_HEAD, rows, f"Diagnostics of {len(rows)} parameters", folded=True)],
    )  # fmt: skip


def origin(posterior: xr.DataTree) -> Section:
    """Settings, provenance and citation."""
    attrs = dict(posterior.attrs)
    settings = [(name, _plain(value)) for name, value in _flatten(_json(attrs.pop("config", "")))]
    rows = [(str(name).replace("_", " "), _plain(_json(value))) for name, value in attrs.items()]
    return Section(
        "Where this comes from, and how to cite it",
        ["Cite the paper that introduced the model, Charnock, Lavaux, Wandelt, Sarma Boruah, "
         "Jasche and Hudson (2020), Neural physical engines for inferring the halo mass "
         "distribution function, MNRAS 494, 50, arXiv:1909.06379; the sampler, Hoffman and Gelman "
         "(2014), JMLR 15, 1593, in NumPyro, Phan, Pradhan and Jankowiak (2019), arXiv:1912.11554; "
         "the diagnostics, Vehtari et al. (2021), Bayesian Analysis 16, 667; and this software, "
         f"halo_mdn {attrs.get('creation_library_version', '')} (CITATION.cff).",
         "Every number and picture here was made from posterior.nc beside this file, and "
         "`run_inference.py report FOLDER` makes them again."],
        tables=[ReportTable(("setting", "value"), settings, "Settings of the run", folded=True),
                ReportTable(("attribute", "value"), rows,
                            "Provenance: versions, seeds, hashes, inputs", folded=True)],
    )  # fmt: skip


_KERNEL = (
    "The kernel says from how far away the density matters: the share of each shell of cells in "
    "the response to a uniform change, signs kept and normalised to absolute values of sum one, so "
    "that the scale and the mirror image, which cannot be told apart, drop out.",
)
_HEAD = ("quantity", "mean", "sd", "MCSE", "R-hat", "bulk ESS", "tail ESS")


def _diagnostics(row: Any) -> tuple[str, ...]:
    label = row.label + ("" if row.decides else " *")
    numbers = (f"{row.mean:.5g}", f"{row.sd:.3g}", f"{row.mcse:.2g}", f"{row.rhat:.3f}")
    return (label, *numbers, f"{row.ess_bulk:.0f}", f"{row.ess_tail:.0f}")


def _json(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        return value


def _flatten(tree: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(tree, dict):
        return [(prefix.rstrip("."), tree)] if prefix else []
    return [pair for key, value in tree.items() for pair in _flatten(value, f"{prefix}{key}.")]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return "none" if value is None else str(value)

"""What a joint inference says for itself: numbers against the truth, and its report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import xarray as xr

from halo_mdn.joint.recovery import Recovery, recovery_of
from halo_mdn.joint.recovery_figure import recovery_figure
from halo_mdn.posterior.field_mixing import FieldMixing, field_mixing
from halo_mdn.posterior.summary import Summary, summarise
from halo_mdn.report.html import Content
from halo_mdn.report.sections import (
    Picture,
    ReportTable,
    Section,
    origin,
    parameters,
    sampled,
)

_COLUMNS = ("k [h/Mpc]", "r(k)", "expected", "draws", "R-hat of draws' r", "var z")


def summarise_joint(posterior: xr.DataTree) -> Summary:
    """Diagnostics and verdict as of any run, and how well field and bias are recovered."""
    summary = summarise(posterior)
    lines = [*summary.field, _gradients(posterior), *_bias_lines(posterior)]
    recovery = recovery_of(posterior)
    if recovery is not None:
        lines += _recovery_lines(recovery)
    return replace(summary, field=tuple(lines))


def joint_content(posterior: xr.DataTree) -> Content:
    """What the report of a joint inference says."""
    summary = summarise_joint(posterior)
    mixing = field_mixing(summary.rows, posterior)
    assert mixing is not None
    parts = [_field_section(posterior, summary, mixing), sampled(posterior, summary)]
    return Content(summary, [*parts, parameters(posterior, summary), origin(posterior)])


def _gradients(posterior: xr.DataTree) -> str:
    attrs = posterior.attrs
    alone = int(posterior["sample_stats"].to_dataset()["bias_diverging"].sum())
    return (
        f"gradients of the forward model: start {attrs['num_start_gradients']}, warm-up "
        f"{attrs['num_warmup_gradients']}, sampling {attrs['num_sampling_gradients']}; divergent "
        f"trajectories of the bias alone: {alone}, refused"
    )


def _recovery_lines(recovery: Recovery) -> list[str]:
    lines = [
        f"field against the truth: variance of z {np.mean(recovery.z**2):.3f} over "
        f"{recovery.z.size} mode parts",
        "k [h/Mpc]   r(k)  expected  draws  R-hat of draws' r   var z",
    ]
    for k, r, expected, single, rhat, variance in zip(*recovery[:6], strict=True):
        lines.append(
            f"{k:9.3f}  {r:5.3f}  {expected:8.3f}  {single:5.3f}  {rhat:17.3f}  {variance:6.3f}"
        )
    return lines


def _bias_lines(posterior: xr.DataTree) -> list[str]:
    """z-scores of the true functions; raw parameters have mirror modes and mean little."""
    constant = posterior["constant_data"].to_dataset()
    if "true_log_intensity" not in constant:
        return []
    draws = posterior["posterior"].to_dataset()["log_intensity"]
    here = draws["supported"].values
    values, target = draws.values[..., here], constant["true_log_intensity"].values[here]
    z = (target - values.mean(axis=(0, 1))) / values.std(axis=(0, 1))
    return [
        f"bias: true ln n(M | environment) lies {np.sqrt(np.mean(z**2)):.2f} (rms) and "
        f"{np.abs(z).max():.2f} (largest) standard deviations from the mean, {z.size} functions"
    ]


def _field_section(posterior: xr.DataTree, summary: Summary, mixing: FieldMixing) -> Section:
    recovery = recovery_of(posterior)
    pictures, tables = [], [_mixing_table(mixing)]
    if recovery is not None:
        pictures.append(
            Picture(
                "recovery",
                lambda: recovery_figure(posterior, recovery, mixing),
                "Above, by shells of wavenumbers: correlation with the true phases, residuals in "
                "units of the posterior's width, effective draws. Below, one plane of voxels.",
            )
        )
        rows = [tuple(f"{x:.3f}" for x in row) for row in zip(*recovery[:6], strict=True)]
        tables.append(ReportTable(_COLUMNS, rows))
    words = [line for line in summary.field if not line.startswith((" ", "k [h/Mpc]"))]
    return Section("The initial conditions", words, pictures, tables)


def _mixing_table(mixing: FieldMixing) -> ReportTable:
    head = ("k [h/Mpc]", "ESS of a mode", "R-hat: worst mode", "R-hat: power")
    rows = [
        (f"{k:.3f}", f"{ess:.0f}", f"{rhat:.3f}", f"{power:.3f}")
        for k, ess, rhat, power in zip(*mixing, strict=True)
    ]
    return ReportTable(head, rows)

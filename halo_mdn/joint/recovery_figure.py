"""One picture of a joint inference: phases, residuals, and the field beside the truth."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm

from halo_mdn.joint.recovery import Recovery
from halo_mdn.posterior.field_mixing import FieldMixing
from halo_mdn.report.style import BLUE, GREEN, VERMILION

_DATA, _MODEL, _OTHER = BLUE, VERMILION, GREEN


def recovery_figure(posterior: xr.DataTree, recovery: Recovery, field: FieldMixing) -> Figure:
    """Phases and residuals by shell, and one plane of voxels of truth, mean and halos.

    Parameters
    ----------
    posterior : xarray.DataTree
        From :func:`halo_mdn.joint.joint_container.build_joint`, with the truth.
    recovery : Recovery
    field : FieldMixing
    """
    constant = posterior["constant_data"].to_dataset()
    counts = posterior["observed_data"].to_dataset()["halos_by_voxel"].values
    truth, mean = (constant[f"{name}_linear_field"].values for name in ("true", "mean"))
    box_size = float(constant["box_size"].values[0])
    figure = Figure(figsize=(15, 7.5), layout="constrained")
    (phases, variance, scores, cost), maps = figure.subplots(2, 4)
    _phases(phases, recovery)
    _variance(variance, recovery)
    _scores(scores, recovery)
    _effective_draws(cost, field)
    largest = np.percentile(np.abs(truth), 99)
    signed = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}
    panels = (
        ("true initial density (linear)", truth, signed),
        ("posterior mean of it", mean, signed),
        (
            "log10(1 + delta), posterior mean",
            np.log10(constant["mean_density"].values),
            {"cmap": "viridis"},
        ),
        ("halos per voxel", counts, {"cmap": "gray_r", "vmax": np.percentile(counts, 99.5)}),
    )
    for axes, (title, values, style) in zip(maps, panels, strict=True):
        # One plane of voxels, as averages over more would hide what is not recovered.
        image = axes.imshow(
            values[:, :, values.shape[2] // 2].T, origin="lower",
            extent=(0, box_size, 0, box_size), **style,
        )  # fmt: skip
        axes.set(title=title, xlabel="x [Mpc/h]", ylabel="y [Mpc/h]")
        figure.colorbar(image, ax=axes, shrink=0.75)
    return figure


def _phases(axes: Axes, recovery: Recovery) -> None:
    k = recovery.wavenumber
    axes.plot(k, recovery.correlation, "o-", color=_DATA, label="posterior mean")
    axes.plot(k, recovery.expected_correlation, "--", color=_MODEL, label="expected if calibrated")
    axes.plot(k, recovery.draw_correlation, ".:", color=_OTHER, label="single draws")
    axes.axhline(0.9, color="0.7", lw=0.8)
    axes.set(xlabel="k [h/Mpc]", ylabel="r(k) with the true phases", ylim=(-0.1, 1.05))
    axes.legend(fontsize=8)


def _variance(axes: Axes, recovery: Recovery) -> None:
    axes.plot(recovery.wavenumber, recovery.z_variance, "o-", color=_DATA)
    modes = np.bincount(recovery.z_shell)[1:]
    error = np.sqrt(2 * 2 / modes)  # parts come in pairs of conjugate modes on one plane only
    axes.fill_between(recovery.wavenumber, 1 - error, 1 + error, color="0.85")
    axes.set(xlabel="k [h/Mpc]", ylabel="variance of z per shell", ylim=(0, 2.5))


def _scores(axes: Axes, recovery: Recovery) -> None:
    x = np.linspace(-4, 4, 81)
    axes.hist(recovery.z, bins=list(x[::2]), density=True, color=_DATA, alpha=0.5)
    axes.plot(x, norm.pdf(x), color="k", lw=1)
    axes.set(xlabel="z of all modes", ylabel="density", title=f"std {recovery.z.std():.3f}")


def _effective_draws(axes: Axes, field: FieldMixing) -> None:
    axes.plot(field.wavenumber, field.ess, "o-", color=_DATA)
    axes.set(xlabel="k [h/Mpc]", ylabel="effective draws per mode (median)")
    axes.set_ylim(bottom=0)

"""One picture of a joint inference: phases, residuals, and the field beside the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm

from halo_mdn.joint.recovery import Recovery

_DATA, _MODEL, _OTHER = "#0072B2", "#D55E00", "#009E73"  # Okabe & Ito


def write_figure(
    path: Path, recovery: Recovery, *, truth: np.ndarray, mean: np.ndarray, spread: np.ndarray,
    counts: np.ndarray, box_size: float,
) -> None:  # fmt: skip
    """Draw and save the picture.

    Parameters
    ----------
    truth, mean, spread : array (N, N, N)
        1 + delta of the truth; posterior mean and standard deviation of it.
    counts : array (N, N, N)
        Halos per voxel.
    box_size : float
        In Mpc/h.
    """
    figure = Figure(figsize=(13, 7.5), layout="constrained")
    top = figure.subplots(2, 4)
    _phases(top[0, 0], recovery)
    _variance(top[0, 1], recovery)
    _scores(top[0, 2], recovery)
    _cost(top[0, 3], recovery)
    middle = truth.shape[2] // 2
    limits = np.log10(np.percentile(truth[:, :, middle], [1, 99.5]))
    titles = ("truth, log10(1 + delta)", "posterior mean", "posterior std / mean", "halos")
    panels = (np.log10(truth), np.log10(mean), spread / mean, counts)
    for axes, title, panel in zip(top[1], titles, panels, strict=True):
        low, high = limits if title in titles[:2] else (0, np.percentile(panel[:, :, middle], 99.5))
        image = axes.imshow(
            panel[:, :, middle].T, origin="lower", extent=(0, box_size, 0, box_size),
            cmap="viridis" if title != "halos" else "gray_r", vmin=low, vmax=high,
        )  # fmt: skip
        axes.set(title=title, xlabel="x [Mpc/h]", ylabel="y [Mpc/h]")
        figure.colorbar(image, ax=axes, shrink=0.75)
    figure.savefig(path, dpi=110)


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


def _cost(axes: Axes, recovery: Recovery) -> None:
    axes.plot(recovery.wavenumber, recovery.ess, "o-", color=_DATA)
    axes.set(xlabel="k [h/Mpc]", ylabel="effective draws per mode (median)")
    axes.set_ylim(bottom=0)

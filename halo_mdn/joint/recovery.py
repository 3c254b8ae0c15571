"""How well initial conditions are recovered, and at what cost."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin

from halo_mdn.joint.coordinates import shells_of, weights_of

_MODES_PER_SHELL = 40  # whose effective sample size is measured


class Recovery(NamedTuple):
    """The recovered field by shells of wavenumbers; all arrays have shape (S,).

    Attributes
    ----------
    wavenumber
        Middle of the shell in h/Mpc.
    correlation
        Of the posterior mean of the white noise with the truth, r(k).
    expected_correlation
        What it would be if the truth were a draw of another chain: the calibrated value.
    draw_correlation
        Of single draws with the truth, on average.
    z_variance
        Mean square of (truth - mean) / (standard deviation) over the modes of the shell, real and
        imaginary parts; 1 if calibrated.
    ess
        Median effective sample size of modes of the shell.
    worst_rhat
        Largest split R-hat of those modes.
    summary_rhat
        Larger split R-hat of two functions of the shell: power, and correlation with the truth.
    z
        (truth - mean) / (standard deviation) of every mode below the Nyquist frequency, flat.
    z_shell
        Shell of each of them.
    """

    wavenumber: np.ndarray
    correlation: np.ndarray
    expected_correlation: np.ndarray
    draw_correlation: np.ndarray
    z_variance: np.ndarray
    ess: np.ndarray
    worst_rhat: np.ndarray
    summary_rhat: np.ndarray
    z: np.ndarray
    z_shell: np.ndarray


def measure_recovery(draws: np.ndarray, truth: np.ndarray, box_size: float) -> Recovery:
    """Compare draws of the white noise with the truth.

    Parameters
    ----------
    draws : array (chains, draws, N, N, N)
    truth : array (N, N, N)
    box_size : float
        In Mpc/h.
    """
    num = truth.shape[0]
    modes = np.fft.rfftn(draws, axes=(2, 3, 4)) / np.sqrt(truth.size)
    target = np.fft.rfftn(truth) / np.sqrt(truth.size)
    shell = shells_of(truth.shape)
    shells = range(1, (num + 1) // 2)
    mean = modes.mean(axis=(0, 1))
    others = _mean_of_others(modes)
    chains = range(len(modes))
    thinned = modes[:, :: max(1, modes.shape[1] // 20)]
    rows = []
    z, z_shell = [], []
    for s in shells:
        inside = shell == s
        parts = _real_parts(modes[:, :, inside])
        scores = (_real_parts(target[inside]) - parts.mean(axis=(0, 1))) / parts.std(axis=(0, 1))
        some = parts[:, :, :: max(1, parts.shape[2] // _MODES_PER_SHELL)]
        rows.append(
            (
                2 * np.pi / box_size * s,
                _correlation(mean, target, inside),
                np.mean([_correlation(d, others[c], inside) for c in chains for d in thinned[c]]),
                np.mean([_correlation(d, target, inside) for c in chains for d in thinned[c]]),
                np.mean(scores**2),
                np.median(effective_sample_size(some)),
                np.max(split_gelman_rubin(some)),
                np.max(split_gelman_rubin(_summaries(modes, target, inside))),
            )
        )
        z.append(scores)
        z_shell.append(np.full(len(scores), s))
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return Recovery._make([*columns, np.concatenate(z), np.concatenate(z_shell)])


class Mixing(NamedTuple):
    """Convergence of a set of scalar functions: effective sample sizes and split R-hat."""

    min_ess: float
    median_ess: float
    worst_rhat: float


def mixing(values: np.ndarray) -> Mixing:
    """Convergence of functions with draws of shape (chains, draws, functions)."""
    moving = values[..., values.std(axis=(0, 1)) > 0]
    ess = effective_sample_size(moving)
    rhat = np.max(split_gelman_rubin(moving))
    return Mixing(float(np.min(ess)), float(np.median(ess)), float(rhat))


def _mean_of_others(modes: np.ndarray) -> np.ndarray:
    """Mean of the other chains for each chain; of the other half where there is one chain."""
    if len(modes) == 1:
        half = modes.shape[1] // 2
        return modes[:, half:].mean(axis=1)
    each = modes.mean(axis=1)
    return (each.sum(axis=0) - each) / (len(each) - 1)


def _summaries(modes: np.ndarray, target: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Power of every draw in a shell and its correlation with the truth, (chain, draw, 2)."""
    weight, truth = weights_of(_shape(target))[inside], target[inside]
    draws = modes[:, :, inside]
    power = np.sum(weight * np.abs(draws) ** 2, axis=-1)
    cross = np.sum(weight * (draws * truth.conj()).real, axis=-1)
    return np.stack([power, cross / np.sqrt(power * np.sum(weight * np.abs(truth) ** 2))], -1)


def _shape(modes: np.ndarray) -> tuple[int, int, int]:
    """Shape of the field whose ``rfftn`` has this shape; its axes are even."""
    return (modes.shape[0], modes.shape[1], 2 * (modes.shape[2] - 1))


def _real_parts(modes: np.ndarray) -> np.ndarray:
    """Real and imaginary parts, side by side along the last axis.

    Below the Nyquist frequency no imaginary part vanishes.
    """
    return np.concatenate([modes.real, modes.imag], axis=-1)


def _correlation(left: np.ndarray, right: np.ndarray, inside: np.ndarray) -> float:
    weight = weights_of(_shape(left))[inside]
    a, b = left[inside], right[inside]
    cross = np.sum(weight * (a * b.conj()).real)
    return float(cross / np.sqrt(np.sum(weight * abs(a) ** 2) * np.sum(weight * abs(b) ** 2)))

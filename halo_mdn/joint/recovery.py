"""How well the initial conditions are recovered, where the truth is known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from halo_mdn.field.fourier import shells_of, weights_of
from halo_mdn.quiet_arviz import arviz_module, quiet

_DRAWS = 20  # of a chain, for averages over single draws


class Recovery(NamedTuple):
    """The recovered field by shells of wavenumbers; all arrays but the last two are (S,).

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
    correlation_rhat
        R-hat of that.
    z_variance
        Mean square of (truth - mean) / (standard deviation) over the modes of the shell, real and
        imaginary parts; 1 if calibrated.
    z
        (truth - mean) / (standard deviation) of every mode below the Nyquist frequency, flat.
    z_shell
        Shell of each of them.
    """

    wavenumber: np.ndarray
    correlation: np.ndarray
    expected_correlation: np.ndarray
    draw_correlation: np.ndarray
    correlation_rhat: np.ndarray
    z_variance: np.ndarray
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
    inside, shell, weight = _modes_below_nyquist(truth.shape)
    modes = _transformed(draws, inside)
    target = _transformed(truth[None, None], inside)[0, 0]
    own, others = _apart(modes)
    rows, z, z_shell = [], [], []
    for s in range(1, shell.max() + 1):
        here = shell == s
        drawn, true, heavy = modes[:, :, here], target[here], weight[here]
        parts = _real_parts(drawn)
        scores = (_real_parts(true) - parts.mean(axis=(0, 1))) / parts.std(axis=(0, 1))
        singles = _correlation(drawn, true, heavy)
        rows.append(
            (
                2 * np.pi / box_size * s,
                _correlation(drawn.mean(axis=(0, 1)), true, heavy),
                np.mean(_correlation(own[..., here], others[:, None, here], heavy)),
                np.mean(singles),
                _rhat(singles),
                np.mean(scores**2),
            )
        )
        z.append(scores)
        z_shell.append(np.full(len(scores), s))
    columns = np.array(rows, dtype=float).T
    return Recovery._make([*columns, np.concatenate(z), np.concatenate(z_shell)])


def recovery_of(posterior: xr.DataTree) -> Recovery | None:
    """That of the container of a joint inference; None where the truth is not known."""
    constant = posterior["constant_data"].to_dataset()
    if "true_white_noise" not in constant:
        return None
    draws = posterior["posterior"].to_dataset()["white_noise"].values
    box_size = float(constant["box_size"].values[0])
    return measure_recovery(draws, constant["true_white_noise"].values, box_size)


def _rhat(values: np.ndarray) -> float:
    """Of a scalar with draws (C, D)."""
    with quiet():
        found = arviz_module().rhat(xr.Dataset({"r": (("chain", "draw"), values)}), method="rank")
    return float(found["r"])


def _modes_below_nyquist(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which modes of ``rfftn`` lie in whole shells, their shells, and their weights."""
    shell = shells_of(shape)
    inside = (shell > 0) & (shell < (shape[0] + 1) // 2)
    return inside, shell[inside], weights_of(shape)[inside]


def _transformed(draws: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Modes of each draw, (chain, draw, mode), of unit variance for white noise."""
    unit = 1 / np.sqrt(np.prod(draws.shape[2:]))
    return np.array([[unit * np.fft.rfftn(draw)[inside] for draw in chain] for chain in draws])


def _apart(modes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Some draws of each chain, and the mean of the other chains.

    Where there is one chain, its first half stands for a chain and its second for the others.
    """
    if len(modes) == 1:
        half = modes.shape[1] // 2
        own, others = modes[:, :half], modes[:, half:].mean(axis=1)
    else:
        each = modes.mean(axis=1)
        own, others = modes, (each.sum(axis=0) - each) / (len(each) - 1)
    return own[:, :: max(1, own.shape[1] // _DRAWS)], others


def _real_parts(modes: np.ndarray) -> np.ndarray:
    """Real and imaginary parts, side by side along the last axis.

    Below the Nyquist frequency no imaginary part vanishes.
    """
    return np.concatenate([modes.real, modes.imag], axis=-1)


def _correlation(left: np.ndarray, right: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Of two fields, over the last axis, which is that of the modes."""

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.sum(weight * (a * b.conj()).real, axis=-1)

    result: np.ndarray = product(left, right) / np.sqrt(product(left, left) * product(right, right))
    return result

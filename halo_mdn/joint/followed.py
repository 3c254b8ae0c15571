"""What is followed of the field while it is sampled: power, and some modes, of every shell."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array

from halo_mdn.field.fourier import shell_power, shells_of

PARTS = 20  # real or imaginary parts of modes that are followed in each shell
_LIVE = 4  # of them, while a run goes on


def num_shells(shape: tuple[int, ...]) -> int:
    """Shells below the Nyquist frequency, without the mean of the field."""
    return (shape[0] + 1) // 2 - 1


def wavenumbers(shape: tuple[int, ...], box_size: float) -> np.ndarray:
    """Middle of each of those shells in h/Mpc, (S,)."""
    return 2 * np.pi / box_size * np.arange(1, num_shells(shape) + 1)


def followed(white_noise: Array) -> dict[str, Array]:
    """``field_power`` (S,) and ``field_mode`` (S, PARTS) of white noise, of unit scale.

    The parts are the same in each draw, and evenly spread over the modes of a shell.
    """
    shape = white_noise.shape
    modes = jnp.fft.rfftn(white_noise).ravel() / np.sqrt(white_noise.size / 2)
    shell, last = shells_of(shape).ravel(), num_shells(shape)
    parts = []
    for s in range(1, last + 1):
        here = modes[np.flatnonzero(shell == s)]
        values = jnp.concatenate([here.real, here.imag])
        parts.append(values[np.linspace(0, len(values) - 1, PARTS).astype(int)])
    power = shell_power(white_noise)[1 : last + 1]
    return {"field_power": power, "field_mode": jnp.stack(parts)}


def live_values(rows: dict[str, np.ndarray], num_draws: int) -> np.ndarray:
    """The values of first draws (C, D, Q) whose convergence is shown while a run goes on."""
    power, modes = (rows[name][:, :num_draws] for name in ("field_power", "field_mode"))
    some = modes[..., :: PARTS // _LIVE]
    return np.concatenate([power, some.reshape(*power.shape[:2], -1)], axis=-1)

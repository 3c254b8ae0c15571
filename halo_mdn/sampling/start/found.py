"""Where chains start and with which covariance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from halo_mdn.sampling.start.modes import Modes

_MODE = "mode_"


class StartError(ValueError):
    """No chain can begin where the start says."""


@dataclass(frozen=True)
class Start:
    """Starting points of chains and the covariance for the first mass matrix.

    Parameters
    ----------
    position
        First parameters of each chain, shape (chain, P).
    location
        Parameters at the best optimum, shape (P,).
    inverse_mass
        Positive definite covariance of the parameters there, shape (P, P).
    log_posterior
        Log-posterior that each optimisation reached, best first, shape (num_starts,).
    description
        What was done, in one or two sentences.
    modes
        The distinct modes among those optima, heaviest first, if they were told apart.
    """

    position: np.ndarray
    location: np.ndarray
    inverse_mass: np.ndarray
    log_posterior: np.ndarray
    description: str
    modes: Modes | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """All fields as arrays."""
        own = {name: np.asarray(x) for name, x in vars(self).items() if name != "modes"}
        modes = self.modes.arrays() if self.modes is not None else {}
        return {**own, **{f"{_MODE}{name}": array for name, array in modes.items()}}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Start:
        """The inverse of `arrays`."""
        text = str(arrays["description"])
        rest = {name: array for name, array in arrays.items() if name != "description"}
        found = {name: rest.pop(name) for name in list(rest) if name.startswith(_MODE)}
        modes = {name.removeprefix(_MODE): array for name, array in found.items()}
        return cls(**rest, description=text, modes=Modes.from_arrays(modes) if modes else None)

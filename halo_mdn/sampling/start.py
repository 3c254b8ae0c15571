"""Where chains start and with which covariance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


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
    """

    position: np.ndarray
    location: np.ndarray
    inverse_mass: np.ndarray
    log_posterior: np.ndarray
    description: str

    def arrays(self) -> dict[str, np.ndarray]:
        """All fields as arrays."""
        return {name: np.asarray(value) for name, value in vars(self).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Start:
        """The inverse of `arrays`."""
        text = str(arrays["description"])
        rest = {name: array for name, array in arrays.items() if name != "description"}
        return cls(**rest, description=text)

"""Which modes a posterior has, which of them the chains saw, and whether they moved between them.

Modes that describe the same functions (a mirror image, swapped labels) count as one thing here: a
chain in either represents both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
import xarray as xr

from halo_mdn.sampling.start.modes import MATTERS, Modes, nearest_mode, same_function

VISITED = 0.0025  # share of the draws: fewer may be tails of another mode, told apart wrongly
FEW_MOVES = 20  # between modes; with fewer, shares of draws say nothing about weights


@dataclass(frozen=True)
class ModeFindings:
    """Modes of a posterior and its draws.

    Attributes
    ----------
    weight : array (K,)
        Share of each mode in the posterior, by Laplace approximation, heaviest first.
    log_posterior : array (K,)
        Log-posterior at the summits.
    doubtful : array (K,) of bool
        Whether the approximation is only a guess.
    same_as : array (K,) of int
        The heaviest mode with the same functions.
    draws : array (C, K) of int
        Draws of each chain in each mode.
    moves : int
        How often a chain went from one mode to another of other functions.
    """

    weight: np.ndarray
    log_posterior: np.ndarray
    doubtful: np.ndarray
    same_as: np.ndarray
    draws: np.ndarray
    moves: int

    @property
    def seen(self) -> np.ndarray:
        """Whether draws represent each mode, shape (K,)."""
        return np.isin(self.same_as, self._visited)

    @property
    def missing(self) -> float:
        """Weight of the modes that no chain represents."""
        return float(self.weight[~self.seen].sum())

    @property
    def unmixed(self) -> bool:
        """Whether chains are in modes of different functions and hardly moved between them."""
        return len(self._visited) > 1 and self.moves < FEW_MOVES

    @property
    def _visited(self) -> np.ndarray:
        """The heaviest modes of the functions that a fair share of the draws describes."""
        return np.flatnonzero(self._share >= VISITED)

    @property
    def _share(self) -> np.ndarray:
        return self._group(self.draws.sum(axis=0) / max(self.draws.sum(), 1))

    def problem(self) -> str | None:
        """What keeps the posterior from being trusted, as a clause, if anything."""
        if self.missing > MATTERS:
            rough = ", roughly" if self.doubtful.any() else ""
            return (
                f"no chain represents {np.sum(~self.seen)} of {len(self.weight)} modes, with "
                f"{100 * self.missing:.2g} % of the posterior{rough}"
            )
        if self.unmixed:
            return (
                f"the chains are in {len(self._visited)} modes of different functions and moved "
                f"between them {self.moves} times"
            )
        return None

    def advice(self) -> tuple[str, ...]:
        """What to do about it."""
        if self.missing > MATTERS:
            return ("Raise num_chains: every mode that matters gets a chain.",)
        if not self.unmixed:
            return ()
        light = [g for g in self._visited if self._group(self.weight)[g] < MATTERS]
        if light and not self.doubtful.any():
            chains = np.flatnonzero(np.isin(self.same_as[self.draws.argmax(axis=1)], light))
            return (
                f"{_chains(chains)} lie in modes that hold less than {100 * MATTERS:g} % of the "
                "posterior: make more starts, or leave these chains out.",
            )
        weights = self._group(self.weight)
        told = "; ".join(
            f"mode {g}: {self._share[g]:.2g} of the draws, weight {weights[g]:.2g}"
            for g in self._visited
        )
        return (
            f"Weigh the draws of each mode by its weight over its share ({told}); "
            "sample_stats.mode says which draws are whose.",
        )

    def _group(self, values: np.ndarray) -> np.ndarray:
        """Sums over modes of the same functions, at the heaviest of them."""
        return np.bincount(self.same_as, weights=values, minlength=len(values))

    def lines(self) -> list[str]:
        """One line, or one per mode."""
        if len(self.weight) == 1:
            return [f"One mode was found, and all {len(self.draws)} chains are in it."]
        head = f"{len(self.weight)} modes were found; weights are Laplace approximations."
        moved = f"Chains moved {self.moves} times between modes of different functions."
        return [head, *(self._line(k) for k in range(len(self.weight))), moved]

    def _line(self, k: int) -> str:
        inside = np.flatnonzero(self.draws[:, k] > 0)
        same = f", same functions as mode {self.same_as[k]}" if self.same_as[k] != k else ""
        rough = ", rough: not a clean Gaussian maximum" if self.doubtful[k] else ""
        seen = _chains(inside) if len(inside) else "no chain"
        return (
            f"mode {k}: weight {self.weight[k]:.3g}, log-posterior {self.log_posterior[k]:.1f}, "
            f"{seen}{same}{rough}"
        )


def _chains(chains: np.ndarray) -> str:
    return f"chain{'s' if len(chains) > 1 else ''} {', '.join(map(str, chains))}"


def record_modes(
    posterior: xr.DataTree,
    modes: Modes,
    params: np.ndarray,
    functions: Callable[[jax.Array], jax.Array],
) -> xr.DataTree:
    """The container with the modes in ``constant_data`` and the mode of each draw.

    Parameters
    ----------
    posterior
        From :func:`halo_mdn.posterior.container.build`.
    modes
    params
        The draws (C, D, P).
    functions
        Maps parameters (P,) to what the data pin down.
    """
    known = {
        "mode_params": (("mode", "parameter"), modes.params),
        "mode_log_posterior": (("mode",), modes.log_posterior),
        "mode_log_mass": (("mode",), modes.log_mass),
        "mode_weight": (("mode",), modes.weight),
        "mode_doubtful": (("mode",), modes.doubtful),
        "mode_same_as": (("mode",), same_function(modes, functions)),
    }
    posterior = posterior.copy()
    constant = posterior["constant_data"].to_dataset()
    posterior["constant_data"] = xr.DataTree(constant.assign(known))
    stats = posterior["sample_stats"].to_dataset()
    labels = (("chain", "draw"), nearest_mode(modes, params))
    posterior["sample_stats"] = xr.DataTree(stats.assign(mode=labels))
    return posterior


def mode_findings(posterior: xr.DataTree) -> ModeFindings | None:
    """What a container says about modes; None if nothing was recorded."""
    if "mode" not in posterior["sample_stats"] or "constant_data" not in posterior.children:
        return None
    constant = posterior["constant_data"].to_dataset()
    labels = posterior["sample_stats"].to_dataset()["mode"].values
    num, same_as = constant.sizes["mode"], constant["mode_same_as"].values
    group = same_as[labels]
    return ModeFindings(
        weight=constant["mode_weight"].values,
        log_posterior=constant["mode_log_posterior"].values,
        doubtful=constant["mode_doubtful"].values.astype(bool),
        same_as=same_as,
        draws=np.stack([np.bincount(chain, minlength=num) for chain in labels]),
        moves=int(np.sum(group[:, 1:] != group[:, :-1])),
    )

"""What a compressed likelihood did to a posterior: importance weights under the exact one.

A run that sampled a compressed likelihood (:mod:`halo_mdn.likelihood.compressed`) evaluates the
exact one at some of its draws. If the log ratio of the two hardly varies, the draws are draws of
the exact posterior; where it varies, Pareto-smoothed importance weights tell whether they could be
weighted to be (k below 0.7).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from halo_mdn.likelihood.compressed import Compressed
from halo_mdn.likelihood.fixed_field import FixedFieldLikelihood
from halo_mdn.posterior.pareto import RELIABLE, smoothed_log_weights
from halo_mdn.predictions.expected_counts import evaluate

GROUP = "compression_check"
CHECKED = 200  # draws, about
NEGLIGIBLE = 0.3  # nats: so little spread shifts no mean by more than that in posterior widths


@dataclass(frozen=True)
class CompressionFindings:
    """How far the sampled posterior is from the exact one.

    Attributes
    ----------
    num_nodes : int
        That took the place of the voxels.
    spread : float
        Standard deviation of ``ln L exact - ln L compressed`` over the draws.
    pareto_k : float
        Of the importance weights of the exact posterior.
    ess_fraction : float
        Effective sample size of the weights over the number of draws.
    num_draws : int
    """

    num_nodes: int
    spread: float
    pareto_k: float
    ess_fraction: float
    num_draws: int

    def problem(self) -> str | None:
        """What keeps the posterior from being trusted, as a clause, if anything."""
        if self.spread <= NEGLIGIBLE:
            return None
        weights = f"importance weights have Pareto k {self.pareto_k:.2f}"
        return f"the compressed likelihood is off by {self.spread:.2g} nats ({weights})"

    @property
    def hopeless(self) -> bool:
        """Whether the draws are too far from the exact posterior even to be weighted."""
        return not self.spread <= NEGLIGIBLE and not self.pareto_k <= RELIABLE

    def line(self) -> str:
        """The findings in a sentence."""
        return (
            f"The field was compressed to {self.num_nodes:,} nodes. At {self.num_draws} draws the "
            f"exact ln L differs by a constant and {self.spread:.2g} nats (one standard "
            f"deviation); importance weights: Pareto k {self.pareto_k:.2f}, effective sample size "
            f"{100 * self.ess_fraction:.0f} %."
        )


def record_compression(
    posterior: xr.DataTree, exact: FixedFieldLikelihood, compressed: Compressed, params: np.ndarray
) -> xr.DataTree:
    """The container with both log-likelihoods at about 200 draws, evenly spaced.

    Parameters
    ----------
    posterior
        From :func:`halo_mdn.posterior.container.build`.
    exact, compressed
    params
        The draws (C, D, P).
    """
    thinned = np.arange(params.shape[1])[:: max(1, params.shape[0] * params.shape[1] // CHECKED)]
    some = params[:, thinned]
    values = {
        "exact": (("chain", "draw"), evaluate(exact, some)),
        "compressed": (("chain", "draw"), evaluate(compressed.log_likelihood, some)),
    }
    posterior = posterior.copy()
    coords = {"chain": np.arange(params.shape[0]), "draw": thinned}
    dataset = xr.Dataset(values, coords, {"num_nodes": compressed.num_nodes})
    posterior[GROUP] = xr.DataTree(dataset)
    return posterior


def compression_findings(posterior: xr.DataTree) -> CompressionFindings | None:
    """What a container says about compression; None for a run with the exact likelihood."""
    if GROUP not in posterior.children:
        return None
    dataset = posterior[GROUP].to_dataset()
    log_ratio = (dataset["exact"] - dataset["compressed"]).values.ravel()
    finite = np.all(np.isfinite(log_ratio))
    log_weight, pareto_k = smoothed_log_weights(log_ratio) if finite else (np.zeros(1), np.inf)
    ess = 1 / np.sum(np.exp(2 * log_weight)) if finite else 0.0
    return CompressionFindings(
        num_nodes=int(dataset.attrs["num_nodes"]),
        spread=float(np.std(log_ratio)) if finite else np.inf,
        pareto_k=float(pareto_k),
        ess_fraction=float(ess / len(log_ratio)),
        num_draws=len(log_ratio),
    )

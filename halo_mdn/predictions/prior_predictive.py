"""What the prior says before any data: parameters, and the catalogues that they give."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import jax
import numpy as np

from halo_mdn.bias.normal_prior import draw_params
from halo_mdn.likelihood.fixed_field import FixedFieldLikelihood
from halo_mdn.predictions.expected_counts import evaluate, expected_counts, observed_counts
from halo_mdn.predictions.poisson import poisson_numbers
from halo_mdn.text_table import aligned

QUANTILES = (0.025, 0.16, 0.5, 0.84, 0.975)


@dataclass(frozen=True)
class PriorPredictive:
    """Numbers of halos above masses, under the prior and in the data.

    Attributes
    ----------
    mass : array (M,)
        Msun/h, from the threshold up.
    quantiles : array (M, 5)
        Of the number of halos of a catalogue, Poisson noise included, at `QUANTILES`.
    observed : array (M,) of int
    num_draws : int
    """

    mass: np.ndarray
    quantiles: np.ndarray
    observed: np.ndarray
    num_draws: int

    def to_text(self) -> str:
        """A table, one line per mass."""
        table = [["above Msun/h", *(f"{100 * q:.3g} %" for q in QUANTILES), "data"]]
        for mass, row, seen in zip(self.mass, self.quantiles, self.observed, strict=True):
            table.append([f"{mass:.3g}", *map(_number, row), _number(seen)])
        return "\n".join(aligned(table))


def prior_predictive(
    log_l: FixedFieldLikelihood, seed: int, num_draws: int = 500, num_masses: int = 9
) -> PriorPredictive:
    """Numbers of halos of catalogues whose parameters are drawn from the prior.

    Parameters
    ----------
    log_l : FixedFieldLikelihood
        Holds the field, its selection and the observed halos.
    seed : int
    num_draws : int
        Catalogues.
    num_masses : int
        Masses, each twice the one before, from the threshold up.
    """
    param_key, count_key = jax.random.split(jax.random.key(seed))
    params = draw_params(log_l.bias, param_key, num_draws)
    log_mass = log(log_l.bias.mass_threshold) + log(2) * np.arange(num_masses)
    label = np.zeros(log_l.features.shape[1], dtype=int)
    per_bin = evaluate(expected_counts(log_l, label, log_mass), params[None])[0, :, 0]
    random = np.random.default_rng(np.asarray(jax.random.key_data(count_key)).ravel())
    counts = _above(poisson_numbers(random, per_bin))
    return PriorPredictive(
        mass=np.exp(log_mass),
        quantiles=np.quantile(counts, QUANTILES, axis=0, method="inverted_cdf").T,
        observed=_above(observed_counts(log_l, label, log_mass)[0]),
        num_draws=num_draws,
    )


def _above(per_bin: np.ndarray) -> np.ndarray:
    return np.cumsum(per_bin[..., ::-1], axis=-1)[..., ::-1]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value < 1e7 else f"{value:.1e}"

"""The neural bias model of Charnock et al. (2020): a density field and its halos, 17 parameters."""

from __future__ import annotations

import numpyro
import numpyro.distributions as dist

import halo_mdn as hm


def model(bias: hm.NeuralBias, log_likelihood: hm.FixedFieldLikelihood) -> None:
    """Normal priors, Normal(0, 10) by default, and the Poisson process; the field is fixed."""
    params = numpyro.sample("params", dist.Normal(*bias.prior).to_event(1))
    numpyro.factor("poisson_process", log_likelihood(params))

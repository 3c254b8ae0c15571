"""The neural bias model of Charnock et al. (2020): a density field and its halos, 17 parameters."""

from __future__ import annotations

import numpyro
import numpyro.distributions as dist

import halo_mdn as hm


def model(bias: hm.NeuralBias, log_likelihood: hm.FixedFieldLikelihood) -> None:
    """Normal(0, 10) priors and the Poisson process of the halos; the density field is fixed."""
    prior = dist.Normal(0, bias.prior_scale).expand([bias.num_params]).to_event(1)
    params = numpyro.sample("params", prior)
    numpyro.factor("poisson_process", log_likelihood(params))

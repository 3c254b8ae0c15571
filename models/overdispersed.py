"""The neural bias with numbers of halos that scatter more than a Poisson process: one parameter."""

from __future__ import annotations

import numpyro
import numpyro.distributions as dist

import halo_mdn as hm

Bias = hm.OverdispersedBias  # settings of the neural bias; its last parameter is the dispersion


def model(bias: hm.OverdispersedBias, log_likelihood: hm.FixedFieldLikelihood) -> None:
    """Normal(0, 10) priors and the gamma-Poisson mixture of the halos; the field is fixed."""
    params = numpyro.sample("params", dist.Normal(*bias.prior).to_event(1))
    numpyro.factor("negative_binomial", log_likelihood(params))

"""The truncated power law of Neyrinck et al. (2014) and one mass function: a classical baseline."""

from __future__ import annotations

import numpyro
import numpyro.distributions as dist

import halo_mdn as hm

Bias = hm.TruncatedPowerLaw  # its equations, and what the six unit-scale parameters mean


def model(bias: hm.TruncatedPowerLaw, log_likelihood: hm.FixedFieldLikelihood) -> None:
    """Normal(0, 1) priors and the Poisson process of the halos; the density field is fixed."""
    params = numpyro.sample("params", dist.Normal(*bias.prior).to_event(1))
    numpyro.factor("poisson_process", log_likelihood(params))

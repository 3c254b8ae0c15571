"""Initial conditions and bias together, from halos alone; sigma8 and Omega_m as an option."""

from __future__ import annotations

from dataclasses import replace

import numpyro
import numpyro.distributions as dist

from halo_mdn.joint.problem import JointProblem


def model(problem: JointProblem) -> None:
    """Unit white noise, Normal bias parameters, LPT in between, Poisson process of halos."""
    flat = dist.Normal(0, 1).expand(problem.lpt.noise_shape)
    white_noise = numpyro.sample("white_noise", flat.to_event(3))
    params = numpyro.sample("params", dist.Normal(*problem.bias.prior).to_event(1))
    cosmology = problem.cosmology
    for name, (mean, scale) in problem.free_cosmology:
        unit = numpyro.sample(f"{name}_unit", dist.Normal(0, 1))
        value = numpyro.deterministic(name, mean + scale * unit)
        cosmology = replace(cosmology, **{name: value})
    delta = numpyro.deterministic("delta", problem.density(white_noise, cosmology))
    numpyro.factor("poisson_process", problem.log_likelihood(params, delta))

"""Initial conditions and bias together, from halos alone; sigma8 and Omega_m as an option."""

from __future__ import annotations

from dataclasses import replace

import numpyro
import numpyro.distributions as dist

from halo_mdn.field.lpt import density
from halo_mdn.joint.problem import JointProblem
from halo_mdn.likelihood.adjoint import with_adjoint


def model(problem: JointProblem) -> None:
    """Unit white noise, Normal bias parameters, LPT in between, Poisson process of halos."""
    shape, bias = problem.lpt.noise_shape, problem.bias
    white_noise = numpyro.sample("white_noise", dist.Normal(0, 1).expand(shape).to_event(3))
    params = numpyro.sample("params", dist.Normal(*bias.prior).to_event(1))
    cosmology = problem.cosmology
    for name, (mean, scale) in problem.free_cosmology:
        unit = numpyro.sample(f"{name}_unit", dist.Normal(0, 1))
        cosmology = replace(cosmology, **{name: mean + scale * unit})
    delta = density(white_noise.astype(problem.precision), problem.lpt, cosmology)
    log_l = with_adjoint(bias, params, delta.astype(params.dtype), problem.halos)
    numpyro.factor("poisson_process", log_l)

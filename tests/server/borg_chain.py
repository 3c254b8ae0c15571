"""Runs inside BORG's own environment, driven by test_borg.py: measures, and judges nothing.

Usage: python borg_chain.py SOCKET RESULTS.npz, with the folder of the clients on PYTHONPATH.
"""

from __future__ import annotations

import sys

import aquila_borg as borg
import numpy as np
from halo_mdn_borg import METRIC, PARAMS, BiasSampler, HaloLikelihood
from halo_mdn_client import Likelihood

N, L = 16, 64.0
SHAPE = (N, N, N)
PARAMETERS = np.array(
    [0.4, 0.03, 0.02, 0.01, 0.5, 1.2, 0.9, 0.9, -1.8, 0.1, 0.3, -1.2, 0.8, 0.02, 0.05, -6.4, -7.2]
)


def make_chain(gravity=None, *, shape=SHAPE, side=L):
    """BORG's chain from unit white noise in Fourier space to the density at z = 0."""
    box = borg.forward.BoxModel()
    box.L, box.N = (side,) * 3, shape
    chain = borg.forward.ChainForwardModel(box)
    chain.addModel(borg.forward.models.HermiticEnforcer(box))
    chain.addModel(borg.forward.models.Primordial(box, 0.1))
    chain.addModel(borg.forward.models.EisensteinHu(box))
    # Particles on a grid twice as fine: fewer leave cells empty, where delta is -1.
    lpt = (gravity or borg.forward.models.Borg2Lpt)(box, ai=0.1, af=1.0, supersampling=2)
    chain.addModel(lpt)
    chain.setCosmoParams(borg.cosmo.CosmologicalParameters())
    return chain, lpt


def fourier(white):
    """Unit white noise as BORG wants it."""
    return np.fft.rfftn(white) / N**1.5


def to_white(gradient):
    """The transpose of `fourier`, for gradients over the half space."""
    half = gradient.copy()
    half[:, :, 1 : N // 2] *= 0.5
    return np.fft.irfftn(half, s=SHAPE, axes=(0, 1, 2)) * N**1.5


def without_lost_modes(white):
    """Take out the modes whose gradient BORG's HermiticEnforcer sets to zero."""
    modes = np.fft.rfftn(white)
    modes[N // 2, :, 0] = modes[N // 2, :, N // 2] = 0
    return np.fft.irfftn(modes, s=SHAPE, axes=(0, 1, 2))


def derivatives(function, gradient, at, direction, step):
    """The derivative along a direction by central differences and by the gradient."""
    difference = function(at + step * direction) - function(at - step * direction)
    return difference / (2 * step), np.sum((np.conj(gradient) * direction).real)


def energy_errors(likelihood, white, random, steps, length):
    """Energy errors of leapfrog trajectories of one length, for several step sizes."""
    momentum = without_lost_modes(random.normal(size=SHAPE))
    errors = []
    for num_steps in steps:
        step, at, p = length / num_steps, white.copy(), momentum.copy()
        start = likelihood.logLikelihood(fourier(at)) + 0.5 * np.sum(at**2) + 0.5 * np.sum(p**2)
        for index in range(num_steps + 1):
            kick = step if 0 < index < num_steps else 0.5 * step
            grad = to_white(likelihood.gradientLikelihood(fourier(at))) + at
            p = p - kick * without_lost_modes(grad)
            if index < num_steps:
                at = at + step * p
        end = likelihood.logLikelihood(fourier(at)) + 0.5 * np.sum(at**2) + 0.5 * np.sum(p**2)
        errors.append(end - start)
    return errors


def cloud_in_cell(lpt, offset):
    """The overdensity of BORG's own particles; a value lies at (index + offset) cells."""
    position = np.zeros((lpt.getNumberOfParticles(), 3))
    lpt.getParticlePositions(position)
    cell = position / L * N - offset
    first = np.floor(cell).astype(int)
    part = cell - first
    count = np.zeros(SHAPE)
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(corner, part, 1 - part), axis=1)
        np.add.at(count, tuple(((first + corner) % N).T), weight)
    return count / count.mean() - 1


def message_of(action):
    try:
        action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def measure(socket):
    results = {}
    random = np.random.default_rng(1)
    server = Likelihood(socket)
    chain, lpt = make_chain()
    likelihood = HaloLikelihood(chain, server, PARAMETERS)
    state = borg.likelihood.MarkovState(1)
    likelihood.initializeLikelihood(state)
    likelihood.setupDefaultParameters(state, 0)
    likelihood.updateMetaParameters(state)
    results["state_params"] = np.array(state[PARAMS])

    # Through BORG's compiled side, which calls our methods.
    white = random.normal(size=SHAPE)
    s_hat = fourier(white)
    results["value"] = likelihood.logLikelihood(s_hat)
    results["gradient"] = gradient = likelihood.gradientLikelihood(s_hat)
    likelihood.commitAuxiliaryFields(state)
    results["density"] = np.array(state["BORG_final_density"])
    results["particles_at_corners"] = cloud_in_cell(lpt, 0.0)
    results["particles_at_centres"] = cloud_in_cell(lpt, 0.5)

    # The same through a second chain, by hand.
    chain_2, _ = make_chain()
    chain_2.setAdjointRequired(True)
    delta, by_hand = np.zeros(SHAPE), np.zeros_like(gradient)
    chain_2.forwardModel_v2(s_hat)
    chain_2.getDensityFinal(delta)
    answer = server.evaluate(PARAMETERS, delta)
    results["served_value"], results["delta_cot"] = answer.value, answer.delta_cot
    chain_2.adjointModel_v2(-answer.delta_cot)
    chain_2.getAdjointModel(by_hand)
    results["delta"], results["by_hand"] = delta, by_hand

    # Differences: CIC has kinks, so steps are short, and rounding is what remains.
    directions = [fourier(without_lost_modes(random.normal(size=SHAPE))) for _ in range(5)]
    results["gradient_norm"] = np.sqrt(np.sum(np.abs(gradient) ** 2))
    results["direction_norm"] = np.sqrt(np.sum(np.abs(directions[0]) ** 2))
    results["differences"] = [
        derivatives(likelihood.logLikelihood, gradient, s_hat, d, 1e-6) for d in directions
    ]
    real = white / N**1.5 * (N / L) ** 3
    results["real_value"] = likelihood.logLikelihoodReal(real)
    real_gradient = likelihood.gradientLikelihoodReal(real)
    results["real_differences"] = [
        derivatives(
            likelihood.logLikelihoodReal,
            real_gradient,
            real,
            np.fft.irfftn(d, s=SHAPE, axes=(0, 1, 2)) * (N / L) ** 3,
            1e-6,
        )
        for d in directions
    ]

    # Mock data of this field, then Hamiltonian trajectories through BORG's chain.
    likelihood.generateMockData(s_hat, state)
    results["mock_value"] = likelihood.logLikelihood(s_hat)
    # Long enough that the error of smooth motion is larger than the noise of CIC's kinks.
    results["energy_errors"] = [
        energy_errors(likelihood, white, np.random.default_rng(seed), (4, 8, 16), 0.8)
        for seed in range(4)
    ]

    # The bias parameters beside the field.
    sampler = BiasSampler(likelihood, num_adapt=20)
    sampler.initialize(state)
    likelihood.commitAuxiliaryFields(state)
    chain_of_params = []
    for _ in range(30):
        sampler.sample(state)
        chain_of_params.append(np.array(state[PARAMS]))
    results["chain"] = chain_of_params
    results["likelihood_params"] = likelihood.params
    results["metric"] = np.array(state[METRIC])

    # Mistakes are told, not computed with.
    smaller, _ = make_chain(shape=(8, 8, 8))
    longer, _ = make_chain(side=65.0)
    results["messages"] = [
        message_of(lambda: HaloLikelihood(smaller, server, PARAMETERS)),
        message_of(lambda: HaloLikelihood(longer, server, PARAMETERS)),
        message_of(lambda: HaloLikelihood(chain, server, PARAMETERS[:5])),
        message_of(lambda: likelihood.logLikelihood(s_hat * np.nan)),
    ]
    return results


if __name__ == "__main__":
    borg.console().setVerboseLevel(0)
    np.savez(sys.argv[2], **measure(sys.argv[1]))

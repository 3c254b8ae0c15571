"""A stand-in for the parts of `aquila_borg` that our files use, for where BORG is not installed.

It keeps BORG's conventions: compiled code that calls a likelihood's methods by name, states that
hand out arrays to be filled in place, a forward model with an adjoint, signs of minus ln L.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np


class BaseLikelihood:
    def __init__(self, forward_model, shape, side):
        self._shape_given, self._side_given = tuple(shape), tuple(side)
        self._model = forward_model

    def getForwardModel(self):
        return self._model

    def logLikelihood(self, field):
        name = "logLikelihoodComplex" if np.iscomplexobj(field) else "logLikelihoodReal"
        return getattr(self, name)(field, False)

    def gradientLikelihood(self, field):
        name = "gradientLikelihoodComplex" if np.iscomplexobj(field) else "gradientLikelihoodReal"
        return getattr(self, name)(field)


class PyBaseSampler:
    def __init__(self):
        self.ready = True


class MarkovState(dict):
    def newArray1d(self, name, size, in_mcmc=False):
        self._new(name, (size,), in_mcmc)

    def newArray3d(self, name, n0, n1, n2, in_mcmc=False):
        self._new(name, (n0, n1, n2), in_mcmc)

    def _new(self, name, shape, in_mcmc):
        if name in self:
            raise KeyError(name)
        self[name] = np.full(shape, np.nan)


class LogNormalChain:
    """A smooth forward model: delta = exp(x - 1/2) - 1 with x = irfftn(s_hat N^1.5)."""

    def __init__(self, shape, side, *, planes=None):
        self.box = SimpleNamespace(N=tuple(shape), L=tuple(side))
        self.planes = shape[0] if planes is None else planes
        self.num_runs = 0

    def getBoxModel(self):
        return self.box

    getOutputBoxModel = getBoxModel

    def getMPISlice(self):
        return (0, self.planes, *self.box.N[1:])

    def setAdjointRequired(self, flag):
        self.taped = flag

    def setCosmoParams(self, cosmology):
        self.cosmology = cosmology

    def forwardModel_v2(self, s_hat):
        self.num_runs += 1
        scale = np.prod(self.box.N) ** 0.5
        self.delta = np.exp(0.5 * np.fft.irfftn(s_hat, s=self.box.N, axes=(0, 1, 2)) * scale) - 1

    def getDensityFinal(self, out):
        out[...] = self.delta

    def adjointModel_v2(self, gradient):
        assert self.taped
        scale = np.prod(self.box.N) ** 0.5
        self.back = np.fft.rfftn(gradient * 0.5 * (1 + self.delta)) * scale / np.prod(self.box.N)
        self.back[:, :, 1 : (self.box.N[2] + 1) // 2] *= 2  # modes that stand for two

    def getAdjointModel(self, out):
        out[...] = self.back


def module() -> ModuleType:
    borg = ModuleType("aquila_borg")
    borg.likelihood = SimpleNamespace(BaseLikelihood=BaseLikelihood, MarkovState=MarkovState)
    borg.samplers = SimpleNamespace(PyBaseSampler=PyBaseSampler)
    return borg


def install(monkeypatch, clients: str) -> None:
    """Let the files of `clients` be imported with this stand-in, until the test ends."""
    monkeypatch.setitem(sys.modules, "aquila_borg", module())
    monkeypatch.syspath_prepend(clients)
    for name in ("halo_mdn_borg", "halo_mdn_client"):
        monkeypatch.delitem(sys.modules, name, raising=False)

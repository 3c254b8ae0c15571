"""The halo likelihood inside BORG: a likelihood of the density field, and a sampler of its bias.

This file stands alone beside ``halo_mdn_client.py``; it needs NumPy and ``aquila_borg``. The
numbers come from a likelihood server in another process. As everywhere in BORG, energies and
gradients are those of **minus** ln L.

    import aquila_borg as borg
    from halo_mdn_borg import BiasSampler, HaloLikelihood

    likelihood = HaloLikelihood(chain, Likelihood("run.sock"), params)
    sampler = BiasSampler(likelihood)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import aquila_borg as borg
import numpy as np
from halo_mdn_client import FAILED, Evaluation, Likelihood, ServerError

DENSITY = "BORG_final_density"
PARAMS = "halo_bias_params"
METRIC = "halo_bias_metric"
ADAPTATION = "halo_bias_adaptation"


class HaloLikelihood(borg.likelihood.BaseLikelihood):  # type: ignore[misc,name-defined]
    """Minus ln L of the served halo catalogue as a BORG likelihood.

    It holds no prior: BORG's density sampler adds that of the field, :class:`BiasSampler` that of
    the bias parameters.

    Parameters
    ----------
    forward_model : BORGForwardModel
        From initial conditions to the overdensity. ``HermiticEnforcer`` comes first in the chain.
    server : Likelihood
        A connection to a likelihood server whose grid and box are those of the density.
    params : array (P,)
        Bias parameters to start with.
    seed : int
        Of mock catalogues.

    Raises
    ------
    ValueError
        If grid or box differ from the server's, or the field is spread over several MPI ranks.
    """

    def __init__(
        self, forward_model: Any, server: Likelihood, params: Any, *, seed: int = 0
    ) -> None:
        box = forward_model.getBoxModel()
        super().__init__(
            forward_model, np.array(box.N, dtype=np.uint64), np.array(box.L, dtype=np.float64)
        )
        _check_boxes(forward_model, server)
        self.server = server
        self.start = np.array(params, dtype=np.float64)
        if self.start.shape != (server.num_params,):
            raise ValueError(f"params has shape {self.start.shape}, not ({server.num_params},)")
        self.params = self.start.copy()
        self._forward = forward_model
        self._cell_volume = float(np.prod(np.array(box.L) / np.array(box.N)))
        self._seed = seed
        self._last: tuple[np.ndarray, np.ndarray, Evaluation] | None = None
        self._density = np.zeros(server.shape)

    def initializeLikelihood(self, state: Any) -> None:
        """Make room for the bias parameters and the density in the chain's state."""
        _allocate(state, PARAMS, (self.server.num_params,), in_mcmc=True)
        _allocate(state, DENSITY, self.server.shape, in_mcmc=True)
        state[PARAMS][:] = self.params

    def setupDefaultParameters(self, state: Any, catalog: int = 0) -> None:
        """Put the bias parameters to their start."""
        state[PARAMS][:] = self.start
        self.params = self.start.copy()

    def updateMetaParameters(self, state: Any) -> None:
        """Take the bias parameters from the state."""
        self.params = np.array(state[PARAMS])

    def updateCosmology(self, cosmology: Any) -> None:
        """Hand new cosmological parameters to the forward model."""
        self._forward.setCosmoParams(cosmology)

    def generateMockData(self, s_hat: np.ndarray, state: Any) -> None:
        """Replace the halos of this connection by a mock drawn from the field of ``s_hat``."""
        self.updateMetaParameters(state)
        self.server.simulate(self.params, self.density_of(s_hat), self._seed)
        self._last = None
        self.commitAuxiliaryFields(state)

    def commitAuxiliaryFields(self, state: Any) -> None:
        """Put the density that was computed last into the state."""
        state[DENSITY][:] = self._density

    def logLikelihoodComplex(self, s_hat: np.ndarray, gradientIsNext: bool = False) -> float:
        """Minus ln L of initial conditions in Fourier space, shape (N0, N1, N2/2 + 1)."""
        return -self._evaluate(s_hat).value

    def gradientLikelihoodComplex(self, s_hat: np.ndarray) -> np.ndarray:
        """The gradient of minus ln L, of the shape of ``s_hat``."""
        result = self._evaluate(s_hat)  # also runs the forward model, whose tape is needed
        gradient = np.zeros(s_hat.shape, dtype=np.complex128)
        self._forward.adjointModel_v2(-result.delta_cot)
        self._forward.getAdjointModel(gradient)
        return gradient

    def logLikelihoodReal(self, s: np.ndarray, gradientIsNext: bool = False) -> float:
        """Minus ln L of initial conditions in real space, shape (N0, N1, N2)."""
        return self.logLikelihoodComplex(self._fourier(s), gradientIsNext)

    def gradientLikelihoodReal(self, s: np.ndarray) -> np.ndarray:
        """The gradient of minus ln L, of the shape of ``s``.

        Through Fourier space: BORG's own adjoint of a chain with ``HermiticEnforcer`` is that of
        complex input, and wrong for real input.
        """
        half = self.gradientLikelihoodComplex(self._fourier(s))
        half[:, :, 1 : (s.shape[2] + 1) // 2] *= 0.5  # modes that stand for their mirror image too
        return np.fft.irfftn(half, s=s.shape, axes=(0, 1, 2)) * s.size * self._cell_volume

    def density_of(self, initial: np.ndarray) -> np.ndarray:
        """The overdensity that the forward model makes of initial conditions."""
        self._forward.setAdjointRequired(True)
        self._forward.forwardModel_v2(initial)
        self._forward.getDensityFinal(self._density)
        return self._density

    def _evaluate(self, initial: np.ndarray) -> Evaluation:
        """Ask the server, unless it was asked the same before: BORG wants value, then gradient."""
        delta = self.density_of(initial)
        if self._last is not None:
            params, field, result = self._last
            if np.array_equal(params, self.params) and np.array_equal(field, delta):
                return result
        result = self.server.evaluate(self.params, delta)
        self._last = (self.params.copy(), delta.copy(), result)
        return result

    def _fourier(self, s: np.ndarray) -> np.ndarray:
        """BORG's Fourier transform: the integral over the box, cells as volume elements."""
        return np.fft.rfftn(s) * self._cell_volume


class BiasSampler(borg.samplers.PyBaseSampler):  # type: ignore[misc,name-defined]
    """Hamiltonian Monte Carlo of the bias parameters at the chain's current density field.

    The target is ln L plus the Normal prior that the server names. The metric
    is the Hessian of the target, taken during the first ``num_adapt`` calls, in which the step
    size is tuned as well; both are fixed afterwards, and saved with the chain's state.

    Parameters
    ----------
    likelihood : HaloLikelihood
    num_moves : int
        Trajectories per call.
    max_steps : int
        The number of leapfrog steps is uniform between 1 and this.
    num_adapt : int
        Calls that tune the sampler; leave their samples out.
    seed : int
    """

    def __init__(
        self,
        likelihood: HaloLikelihood,
        *,
        num_moves: int = 1,
        max_steps: int = 20,
        num_adapt: int = 100,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._likelihood = likelihood
        self._num_moves, self._max_steps = num_moves, max_steps
        self._num_adapt, self._seed = num_adapt, seed

    def initialize(self, state: Any) -> None:
        """Make room for the tuning in the chain's state."""
        num_params = self._likelihood.server.num_params
        _allocate(state, METRIC, (num_params * num_params,), in_mcmc=False)
        _allocate(state, ADAPTATION, (2,), in_mcmc=False)  # calls so far, log step size
        state[ADAPTATION][:] = (0, np.log(0.3))

    restore = initialize  # BORG fills the arrays with what it saved after this call

    def sample(self, state: Any) -> None:
        """Metropolis-corrected trajectories: changes the bias parameters in the state."""
        likelihood = self._likelihood
        likelihood.server.set_field(self._density(state))
        params = np.array(state[PARAMS])
        calls, log_step = state[ADAPTATION]
        calls = int(calls)
        if calls in {0, self._num_adapt // 10, self._num_adapt // 3, 2 * self._num_adapt // 3}:
            state[METRIC][:] = whitening(self._potential, params).ravel()
        transform = np.array(state[METRIC]).reshape(params.size, params.size)
        random = np.random.default_rng([self._seed, calls])  # so that a restart goes on alike
        for _ in range(self._num_moves):
            # Step sizes over a factor of 4: some places are far stiffer than others.
            step = np.exp(log_step - random.uniform(0, np.log(4)))
            move = trajectory(self._potential, params, transform, step, self._max_steps, random)
            params = move.params
            if calls < self._num_adapt:
                log_step += (move.accept_prob - 0.8) / (1 + calls) ** 0.6
        state[ADAPTATION][:] = (calls + 1, log_step)
        state[PARAMS][:] = params
        likelihood.updateMetaParameters(state)

    def _density(self, state: Any) -> np.ndarray:
        try:
            initial = state["s_hat_field"]
        except KeyError:
            return state[DENSITY]
        return self._likelihood.density_of(initial)

    def _potential(self, params: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the log posterior of the parameters at the server's field, and its gradient."""
        server = self._likelihood.server
        precision = np.asarray(server.info["prior_scale"], dtype=float) ** -2
        offset = params - np.asarray(server.info["prior_mean"], dtype=float)
        if not np.isfinite(params).all():
            return np.inf, np.zeros_like(params)
        try:
            result = server.at_field(params)
        except ServerError as error:
            if error.status != FAILED:
                raise
            return np.inf, np.zeros_like(params)  # too far out for ln L to be a number
        value = -result.value + 0.5 * float(np.sum(precision * offset**2))
        return value, -result.params_cot + precision * offset


class Move(NamedTuple):
    """Where a trajectory ended, after the Metropolis step, and with which probability it would."""

    params: np.ndarray
    accept_prob: float
    energy_error: float


def trajectory(
    potential: Callable[[np.ndarray], tuple[float, np.ndarray]],
    params: np.ndarray,
    transform: np.ndarray,
    step: float,
    max_steps: int,
    random: np.random.Generator,
) -> Move:
    """A leapfrog trajectory in coordinates x with params = start + transform x, and unit mass."""
    value, gradient = potential(params)
    if not np.isfinite(value):
        raise ValueError("ln L is not finite at the bias parameters: start from others")
    momentum = random.normal(size=params.size)
    energy = value + 0.5 * momentum @ momentum
    at = params
    with np.errstate(over="ignore", invalid="ignore"):  # a diverging trajectory is rejected
        for _ in range(random.integers(1, max_steps + 1)):
            momentum = momentum - 0.5 * step * (transform.T @ gradient)
            at = at + step * (transform @ momentum)
            value, gradient = potential(at)
            momentum = momentum - 0.5 * step * (transform.T @ gradient)
        error = float(value + 0.5 * momentum @ momentum - energy)
    accept_prob = float(np.exp(min(0.0, -error))) if np.isfinite(error) else 0.0
    accepted = random.uniform() < accept_prob
    return Move(at if accepted else params, accept_prob, error)


def whitening(
    potential: Callable[[np.ndarray], tuple[float, np.ndarray]],
    params: np.ndarray,
    step: float = 1e-4,
) -> np.ndarray:
    """A matrix W with ``W W^T`` the inverse of the Hessian, by differences of the gradient.

    Curvatures enter by their magnitude, so that W exists away from a maximum too.
    """
    rows = []
    for direction in np.eye(params.size):
        right, left = (potential(params + sign * step * direction)[1] for sign in (1, -1))
        rows.append((right - left) / (2 * step))
    hessian = 0.5 * (np.array(rows) + np.array(rows).T)
    curvature, axes = np.linalg.eigh(hessian)
    smallest = max(1e-2, 1e-12 * np.abs(curvature).max())  # no less than the prior's of width 10
    return axes / np.sqrt(np.maximum(np.abs(curvature), smallest))


def _allocate(state: Any, name: str, shape: tuple[int, ...], *, in_mcmc: bool) -> None:
    try:
        state[name]
    except KeyError:
        make = state.newArray1d if len(shape) == 1 else state.newArray3d
        make(name, *shape, in_mcmc)


def _check_boxes(forward_model: Any, server: Likelihood) -> None:
    start, local, *_ = forward_model.getMPISlice()
    box, out = forward_model.getBoxModel(), forward_model.getOutputBoxModel()
    if (start, local) != (0, box.N[0]):
        raise ValueError(
            f"this MPI rank holds {local} of {box.N[0]} planes: the kernel needs the neighbours "
            "of every voxel, so run BORG on one rank"
        )
    if tuple(out.N) != server.shape:
        raise ValueError(f"BORG's density has the grid {tuple(out.N)}, the server {server.shape}")
    if not np.allclose(out.L, server.info["box_size"], rtol=1e-9):
        raise ValueError(
            f"BORG's box has the sides {tuple(out.L)} Mpc/h, the server's {server.info['box_size']}"
        )

"""Other samplers on the same posterior: does the answer depend on who sampled it?

NUTS and microcanonical Hamiltonian Monte Carlo (Robnik, De Luca, Silverstein & Seljak 2023, JMLR
24, 311; with the Metropolis test of Robnik, Cohn-Gordon & Seljak 2025, arXiv:2503.01707), both of
blackjax (``pip install 'halo-mdn[samplers]'``), see nothing but a log-density of a flat vector. The
second shares neither its dynamics nor its adaptation with NumPyro's NUTS.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from numpyro.diagnostics import effective_sample_size
from numpyro.infer.util import log_density

from halo_mdn.errors import InputError
from halo_mdn.sampling.coordinates.bijections import LATENT_SUFFIX, Coordinates, change_coordinates
from halo_mdn.sampling.nuts.program import bind


def flat_log_density(
    model: Callable,
    model_args: Sequence[Any],
    *,
    coordinates: Coordinates | None = None,
    site: str = "params",
) -> Partial:
    """The log-density of a NumPyro model as a function of one flat vector.

    Parameters
    ----------
    model
        Its only latent site is the vector ``site``, on all of R^P.
    model_args
        Its positional arguments, as for `halo_mdn.sampling.run_nuts`.
    coordinates
        The vector is then the latent one, and the log-determinant of the Jacobian is included.
    site
        Name of the latent site.

    Returns
    -------
    Partial
        Maps (P,) to a scalar, priors with their constants; a pytree of the arrays in
        ``model_args`` and ``coordinates``, which jitted functions take as an argument.
    """
    arrays, bound = bind(model, model_args)
    if coordinates is not None:
        bound, arrays = change_coordinates(bound, site), (coordinates, *arrays)
        site = site + LATENT_SUFFIX

    def density(arrays: tuple, vector: Array) -> Array:
        return jnp.asarray(log_density(bound, arrays, {}, {site: vector})[0])

    return Partial(density, arrays)


def draw_nuts(
    key: Array,
    density: Partial,
    start: Array,
    *,
    num_warmup: int = 500,
    num_samples: int = 1000,
    target_accept: float = 0.9,
) -> np.ndarray:
    """Draws of blackjax's NUTS, with its window adaptation of a dense mass matrix.

    Parameters
    ----------
    key
        Random key.
    density
        From `flat_log_density`, or any pytree that maps (P,) to a scalar.
    start
        First position of each chain, shape (C, P).
    num_warmup, num_samples
        Draws per chain that adapt, and that are kept.
    target_accept
        Acceptance to which the step size is adapted.

    Returns
    -------
    array (C, num_samples, P)

    Raises
    ------
    InputError
        If blackjax is not installed.
    """
    blackjax = _blackjax()

    def chain(density: Partial, key: Array, position: Array) -> Array:
        warmup_key, key = jax.random.split(key)
        warmup = blackjax.window_adaptation(
            blackjax.nuts,
            density,
            is_mass_matrix_diagonal=False,
            target_acceptance_rate=target_accept,
        )
        (state, tuned), _ = warmup.run(warmup_key, position, num_steps=num_warmup)
        kernel = blackjax.nuts(density, **tuned)

        def draw(state: Any, key: Array) -> tuple[Any, Array]:
            state, _ = kernel.step(key, state)
            return state, state.position

        return jax.lax.scan(draw, state, jax.random.split(key, num_samples))[1]

    return _each_chain(chain, density, key, start)


def draw_microcanonical(
    key: Array,
    density: Partial,
    start: Array,
    *,
    num_warmup: int = 2000,
    num_samples: int = 1000,
    thinning: int = 10,
    target_accept: float = 0.9,
) -> np.ndarray:
    """Draws of microcanonical Hamiltonian Monte Carlo with a Metropolis test: exact, like NUTS.

    It has no mass matrix here: give it coordinates in which the posterior is about standard.

    Parameters
    ----------
    key, density, start, num_samples, target_accept
        As for `draw_nuts`.
    num_warmup
        Trajectories that tune the step size; a trajectory has two steps on average.
    thinning
        Trajectories per draw that is kept.

    Returns
    -------
    array (C, num_samples, P)

    Raises
    ------
    InputError
        If blackjax is not installed.
    """
    blackjax = _blackjax()
    dynamic = blackjax.mcmc.adjusted_mclmc_dynamic
    kernel = dynamic.build_kernel(dynamic.make_random_trajectory_length_fn(True))

    def chain(density: Partial, key: Array, position: Array) -> Array:
        first_key, tune_key, key = jax.random.split(key, 3)
        state, tuned, _ = blackjax.adjusted_mclmc_find_L_and_step_size(
            kernel,
            density,
            num_steps=num_warmup,
            state=dynamic.init(position, density, first_key),
            rng_key=tune_key,
            target=target_accept,
            frac_tune1=0.5,
            frac_tune2=0.5,
            diagonal_preconditioning=False,
        )
        step = partial(
            kernel,
            logdensity_fn=density,
            step_size=tuned.step_size,
            integration_steps_params=(tuned.L / tuned.step_size,),
        )

        def draw(state: Any, key: Array) -> tuple[Any, Array]:
            keys = jax.random.split(key, thinning)
            state, _ = jax.lax.scan(lambda state, key: (step(key, state)[0], None), state, keys)
            return state, state.position

        return jax.lax.scan(draw, state, jax.random.split(key, num_samples))[1]

    return _each_chain(chain, density, key, start)


def _each_chain(chain: Callable, density: Partial, key: Array, start: Array) -> np.ndarray:
    # One after another: batched chains would all pay for the longest trajectory, and for both
    # branches of every condition in the likelihood.
    @jax.jit
    def chains(density: Partial, keys: Array, start: Array) -> Array:
        return jax.lax.map(lambda given: chain(density, *given), (keys, start))

    start = jnp.asarray(start)
    return np.asarray(chains(density, jax.random.split(key, len(start)), start))


class Agreement(NamedTuple):
    """How far two sets of draws are apart, in combined Monte Carlo standard errors.

    Attributes
    ----------
    mean, sd
        Differences of posterior means and standard deviations, shape (Q,).
    """

    mean: np.ndarray
    sd: np.ndarray

    @property
    def worst(self) -> float:
        """The largest of all in size: two to four for some tens of quantities that agree."""
        return float(np.max(np.abs([self.mean, self.sd])))


def agreement(one: np.ndarray, other: np.ndarray) -> Agreement:
    """Compare draws of the same quantities by two samplers, each (C, D, Q)."""
    results = [_moments(np.asarray(draws, dtype=float)) for draws in (one, other)]
    (mean, mean_error, sd, sd_error), (mean_2, mean_error_2, sd_2, sd_error_2) = results
    return Agreement(
        mean=(mean - mean_2) / np.hypot(mean_error, mean_error_2),
        sd=(sd - sd_2) / np.hypot(sd_error, sd_error_2),
    )


def _moments(draws: np.ndarray) -> tuple[np.ndarray, ...]:
    """Means and standard deviations with their Monte Carlo errors, each (Q,)."""
    mean, sd = draws.mean(axis=(0, 1)), draws.std(axis=(0, 1))
    square = (draws - mean) ** 2
    mean_error = sd / np.sqrt(effective_sample_size(draws))
    # The variance is the mean of the squares; half its relative error is that of its root.
    variance_error = square.std(axis=(0, 1)) / np.sqrt(effective_sample_size(square))
    return mean, mean_error, sd, variance_error / (2 * sd)


def _blackjax() -> Any:
    try:
        return importlib.import_module("blackjax")
    except ImportError:
        raise InputError(
            "this sampler needs blackjax, which is not installed: pip install 'halo-mdn[samplers]'"
        ) from None

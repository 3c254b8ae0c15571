"""What NUTS compiles: chains of a model in some coordinates, and functions that follow them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import NUTS, init_to_value
from numpyro.infer.hmc import HMCState

from halo_mdn.sampling.coordinates.bijections import (
    LATENT_SUFFIX,
    Coordinates,
    change_coordinates,
    name_of,
)
from halo_mdn.sampling.nuts.chains import Chains
from halo_mdn.sampling.nuts.settings import NutsSettings
from halo_mdn.sampling.start.found import Start


class Program:
    """What `run_nuts` compiled, for further runs of the same model on other data.

    It is used again where model, settings and the arguments that are no data are the same, the
    chains are not vectorized, and coordinates are used (without them, the first mass matrix is part
    of the program). Arrays of other shapes make it compile again. One run at a time.
    """

    def __init__(self) -> None:
        self._identity: tuple[Any, ...] | None = None
        self._chains: Chains | None = None

    def chains(
        self,
        identity: tuple[Any, ...] | None,
        make: Callable[[], Chains],
        args: Sequence[Any],
        keys: jax.Array,
        latent: dict[str, jax.Array],
    ) -> Chains:
        """The chains of an earlier run begun anew, or new ones (always, if identity is None)."""
        if self._chains is not None and identity is not None and identity == self._identity:
            self._chains.restart(args, keys, latent)
            return self._chains
        self._identity, self._chains = identity, make()
        return self._chains


def identity_of(
    model: Callable,
    model_args: Sequence[Any],
    settings: NutsSettings,
    coordinates: Coordinates | None,
    site: str,
) -> tuple[Any, ...] | None:
    """What two runs must share to share a program; None if they cannot."""
    if coordinates is None or settings.chain_method == "vectorized":
        return None
    fixed = tuple(arg for arg in model_args if not _is_data(arg))
    shared = {k: v for k, v in asdict(settings).items() if k not in ("num_samples", "target_ess")}
    return name_of(coordinates), model, site, fixed, shared


class Monitor:
    """Functions of the parameters for all new draws, in blocks of one size: one compilation."""

    BLOCK = 64

    def __init__(self, function: Callable[[jax.Array], jax.Array]) -> None:
        (self.arrays, self.call) = bind(lambda f, params: f(params), (function,))
        self._compiled = jax.jit(
            lambda arrays, params: jax.vmap(lambda p: self.call(*arrays, p))(params)
        )

    def __call__(self, params: np.ndarray) -> np.ndarray:
        chains, draws, size = params.shape
        flat = params.reshape(-1, size)
        padded = np.concatenate([flat, np.repeat(flat[-1:], -len(flat) % self.BLOCK, axis=0)])
        blocks = padded.reshape(-1, self.BLOCK, size)
        values = np.concatenate([np.asarray(self._compiled(self.arrays, b)) for b in blocks])
        return values[: len(flat)].reshape(chains, draws, -1)


def bind(function: Callable, args: Sequence[Any]) -> tuple[tuple[Any, ...], Callable]:
    """Fix the arguments that are no pytrees of arrays; return the others and the rest."""
    is_data = [_is_data(arg) for arg in args]

    def bound(*rest: Any) -> Any:
        given = iter(rest)
        merged = [next(given) if data else arg for arg, data in zip(args, is_data, strict=True)]
        return function(*merged, *given)

    return tuple(arg for arg, data in zip(args, is_data, strict=True) if data), bound


def _is_data(arg: Any) -> bool:
    return all(isinstance(x, (jax.Array, np.ndarray, float, int)) for x in jax.tree.leaves(arg))


def make_chains(
    model: Callable,
    arrays: tuple[Any, ...],
    start: Start,
    key: jax.Array,
    settings: NutsSettings,
    coordinates: Coordinates | None,
    site: str,
    program: Program,
    identity: tuple[Any, ...] | None,
) -> Chains:
    position = jnp.asarray(start.position)
    args: tuple[Any, ...] = arrays
    latent_site = site
    inverse_mass: jax.Array | None = jnp.asarray(start.inverse_mass)
    if coordinates is not None:
        model, args = change_coordinates(model, site), (coordinates, *arrays)
        latent_site, inverse_mass = site + LATENT_SUFFIX, None
        position = jax.vmap(coordinates.to_latent)(position)
    latent = {latent_site: position}

    def make_kernel() -> NUTS:
        return NUTS(
            model,
            dense_mass=settings.dense_mass,
            adapt_mass_matrix=settings.adapt_mass,
            inverse_mass_matrix=inverse_mass,
            target_accept_prob=settings.target_accept,
            max_tree_depth=settings.max_tree_depth,
            # Only evaluated to find the sites: NumPyro's own first guess may overflow.
            init_strategy=init_to_value(values={latent_site: position[0]}),
        )

    def record(state: HMCState, args: Any) -> dict[str, jax.Array]:
        latent = state.z[latent_site]
        params, log_det = latent, 0.0
        if coordinates is not None:
            params, log_det = args[0].to_params(latent), args[0].log_det(latent)
        return {
            "params": params,
            "energy": state.energy,
            "num_steps": state.num_steps,
            "accept_prob": state.accept_prob,
            "diverging": state.diverging,
            "potential_energy": state.potential_energy + log_det,
            "step_size": state.adapt_state.step_size,
        }

    keys = jax.random.split(key, settings.num_chains) if settings.num_chains > 1 else key[None]

    def make() -> Chains:
        return Chains(
            make_kernel,
            record=record,
            args=args,
            keys=keys,
            latent=latent,
            num_warmup=settings.num_warmup,
            capacity=settings.chunk_size,
            chain_method=settings.chain_method,
        )

    return program.chains(identity, make, args, keys, latent)

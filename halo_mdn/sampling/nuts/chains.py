"""Compiled stretches of NUTS: the same program for every chunk, warm-up and sampling alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from halo_mdn.sampling.nuts.checkpoint import plain_arrays, restored
from halo_mdn.sampling.start.found import StartError
from halo_mdn.threads import in_threads, num_workers

Rows = dict[str, np.ndarray]
State = Any  # of a kernel: a pytree of arrays


class Kernel(Protocol):
    """A transition kernel as NumPyro has them."""

    def init(
        self, rng_key: jax.Array, num_warmup: int, init_params: Any, model_args: Any,
        model_kwargs: dict, /,
    ) -> State:  # fmt: skip
        """The first state of a chain that adapts over ``num_warmup`` draws."""

    def sample(self, state: State, model_args: Any, model_kwargs: dict, /) -> State:
        """The state one draw later."""


class Chains:
    """All chains of one run; advances them by some draws at a time.

    Parameters
    ----------
    make_kernel
        Makes a fresh kernel, such as NUTS.
    record
        What to keep of a state: maps (state of one chain, arguments) to a dict of arrays.
    args
        Model arguments, a pytree of arrays; an argument of the compiled program, not a constant
        in it.
    keys
        One random key per chain.
    latent
        First position of every chain: dict of site to (chain, ...).
    num_warmup
        Draws in which the kernel adapts.
    capacity
        Most draws that one call of `advance` can make; the rows of a call live on the device.
    chain_method
        See `NutsSettings`.
    """

    def __init__(
        self,
        make_kernel: Callable[[], Kernel],
        *,
        record: Callable[[State, Any], dict[str, jax.Array]],
        args: Sequence[Any],
        keys: jax.Array,
        latent: dict[str, jax.Array],
        num_warmup: int,
        capacity: int,
        chain_method: str,
    ) -> None:
        self.kernel = make_kernel()
        self.args = tuple(args)
        self.num_chains = len(keys)
        # One chain is one program, however it was asked for.
        self.batched = chain_method == "vectorized" and self.num_chains > 1
        self.threaded = chain_method == "parallel" and num_workers(self.num_chains) > 1
        self.calls = 0
        self.record = jax.vmap(record, in_axes=(0, None)) if self.batched else record
        self.capacity = capacity
        self.num_warmup = num_warmup
        self.states = self._first_states(keys, latent)
        self._segment = jax.jit(self._make_segment())

    def restart(self, args: Sequence[Any], keys: jax.Array, latent: dict[str, jax.Array]) -> None:
        """Begin anew with other data: the program is kept, and compiled again for new shapes only.

        Parameters as for the class; there are as many keys as before.
        """
        self.args, self.calls = tuple(args), 0
        self.states = self._first_states(keys, latent)

    def advance(self, count: int) -> Rows:
        """Make ``count`` more draws in every chain.

        Parameters
        ----------
        count
            At most the capacity.

        Returns
        -------
        dict
            Recorded values, NumPy arrays of shape (chain, count, ...).
        """
        results = self._map(lambda state: _to_host(self._segment(state, count, self.args)))
        self.states = [state for state, _ in results]
        if self.batched:
            rows = results[0][1]
            return {name: np.swapaxes(x[:count], 0, 1).copy() for name, x in rows.items()}
        names = results[0][1]
        return {name: np.stack([rows[name][:count] for _, rows in results]) for name in names}

    def inverse_mass(self) -> np.ndarray:
        """Adapted inverse mass matrix of each chain, shape (chain, P, P) or (chain, P)."""
        parts = [jax.tree.leaves(s.adapt_state.inverse_mass_matrix)[0] for s in self.states]
        return np.asarray(parts[0]) if self.batched else np.stack([np.asarray(x) for x in parts])

    def positions(self) -> list[np.ndarray]:
        """Where the chains are, in the sampler's coordinates, and their potential energies."""
        leaves = jax.tree.leaves([(state.z, state.potential_energy) for state in self.states])
        return [np.asarray(leaf) for leaf in leaves]

    def export_states(self) -> dict[str, np.ndarray]:
        """The exact state of all chains as plain arrays."""
        return plain_arrays(self.states, "state")

    def import_states(self, arrays: dict[str, np.ndarray]) -> None:
        """Put back what `export_states` returned; raises KeyError or ValueError if it is not."""
        self.states = restored(self.states, arrays, "state")

    def _first_states(self, keys: jax.Array, latent: dict[str, jax.Array]) -> list[State]:
        def first(key: jax.Array, position: dict[str, jax.Array]) -> State:
            try:
                return self.kernel.init(key, self.num_warmup, position, self.args, {})
            except RuntimeError as error:  # NumPyro's word for a density that is not finite
                raise StartError(
                    "the sampler cannot begin: the posterior is not finite where a chain starts, "
                    "in the coordinates that its curvature gives"
                ) from error

        if self.batched:
            return [first(keys, latent)]
        each = [jax.tree.map(lambda x: x[c], latent) for c in range(self.num_chains)]  # noqa: B023
        return [first(keys[c], each[c]) for c in range(self.num_chains)]

    def _make_segment(self) -> Callable[[State, int, Any], tuple[State, Any]]:
        shapes = jax.eval_shape(self.record, self.states[0], self.args)

        def segment(state: State, count: int, args: Any) -> tuple[State, Any]:
            def draw(i: int, carry: tuple[State, Any]) -> tuple[State, Any]:
                state, rows = carry
                state = self.kernel.sample(state, args, {})
                new = self.record(state, args)
                return state, jax.tree.map(lambda row, x: row.at[i].set(x), rows, new)

            empty = jax.tree.map(lambda x: jnp.zeros((self.capacity, *x.shape), x.dtype), shapes)
            return jax.lax.fori_loop(0, count, draw, (state, empty))

        return segment

    def _map(self, function: Callable[[State], Any]) -> list[Any]:
        self.calls += 1
        if not self.threaded:
            return [function(state) for state in self.states]
        # Unlike in one batched program, no chain waits for the longer trajectory of another. The
        # first two calls may compile: for the first states, and for what they become.
        return in_threads(function, self.states, compiles=self.calls <= 2)


def extended(rows: Rows, new: Rows, done: int, total: int) -> Rows:
    """Rows (chain, total, ...) with new ones after the first ``done``; made once, filled in place.

    An empty dict stands for no rows yet.
    """
    if not rows:
        rows = {n: np.zeros((len(x), total, *x.shape[2:]), x.dtype) for n, x in new.items()}
    for name, x in new.items():
        rows[name][:, done : done + x.shape[1]] = x
    return rows


def _to_host(result: tuple[State, Any]) -> tuple[State, Rows]:
    state, rows = result
    return jax.block_until_ready(state), {k: np.asarray(x) for k, x in rows.items()}

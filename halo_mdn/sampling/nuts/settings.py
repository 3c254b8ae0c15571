"""What a NUTS run is told, what it reports on the way, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from halo_mdn.setting_field import setting

ChainMethod = Literal["parallel", "vectorized", "sequential"]
CHAIN_METHODS: tuple[str, ...] = get_args(ChainMethod)


@dataclass(frozen=True)
class NutsSettings:
    """Settings of the No-U-Turn sampler.

    Parameters
    ----------
    num_chains
        Number of independent chains.
    num_warmup, num_samples
        Draws per chain that adapt the sampler (thrown away) and that are kept.
    max_tree_depth
        A trajectory has at most ``2**max_tree_depth - 1`` gradient evaluations.
    target_accept
        Acceptance probability that the step size is adapted to.
    dense_mass
        Adapt the whole covariance instead of its diagonal.
    adapt_mass
        Adapt the mass matrix during warm-up; if not, the covariance of the start is kept. The
        step size is adapted in any case.
    whiten
        Sample in coordinates in which the curvature at the start is the identity. With a dense
        mass matrix this is not only a matter of taste: the regularisation of the adapted mass
        matrix assumes variances of order one.
    chunk_size
        Draws per chain between two checkpoints.
    target_ess, target_rhat
        Stop as soon as every monitored function has at least this bulk and tail effective sample
        size and at most this R-hat. ``target_ess=None`` makes all ``num_samples`` draws.
    chain_method
        ``"parallel"``: one thread per chain; no chain waits for the longer trajectory of another
        (best on a CPU). ``"vectorized"``: all chains in one batched program (best on an
        accelerator; every chain pays for the longest trajectory). ``"sequential"``: one after
        another, in the smallest memory.

    Raises
    ------
    ValueError
        If a setting is out of its range.
    """

    num_chains: int = setting(4, "independent chains", minimum=1)
    num_warmup: int = setting(500, "adaptation steps per chain, not kept", minimum=1)
    num_samples: int = setting(1000, "draws kept per chain", minimum=4)
    max_tree_depth: int = setting(10, "a trajectory has at most 2^this steps", minimum=1)
    target_accept: float = setting(0.8, "acceptance to which the step size is tuned", above=0.0)
    dense_mass: bool = setting(True, "a full mass matrix rather than a diagonal")
    adapt_mass: bool = setting(True, "adapt the mass matrix, rather than keep the start's")
    whiten: bool = setting(True, "sample in coordinates in which the start's curvature is one")
    chunk_size: int = setting(50, "draws between two checkpoints and progress reports", minimum=1)
    target_ess: float | None = setting(
        None, "stop early once every identified function has this effective sample size", above=0.0
    )
    target_rhat: float = setting(
        1.01, "largest R-hat at which target_ess may stop a run", above=1.0
    )
    chain_method: ChainMethod = setting(
        "parallel",
        "parallel: one core per chain; vectorized: best on a GPU; sequential: least memory",
    )

    def __post_init__(self) -> None:
        smallest = {"num_chains": 1, "num_warmup": 0, "num_samples": 1, "chunk_size": 1}
        for name, least in {**smallest, "max_tree_depth": 1}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")
        if not 0.0 < self.target_accept < 1.0:
            raise ValueError(
                f"target_accept must lie between 0 and 1, got {self.target_accept!r}; "
                "0.8 is usual, 0.9 to 0.99 removes divergences."
            )
        if self.chain_method not in CHAIN_METHODS:
            raise ValueError(
                f"chain_method must be one of {', '.join(CHAIN_METHODS)}, "
                f"got {self.chain_method!r}."
            )
        if self.target_ess is not None and not self.target_ess > 0:
            raise ValueError(f"target_ess must be positive or left out, got {self.target_ess!r}.")
        if not self.target_rhat > 1.0:
            raise ValueError(f"target_rhat must exceed 1, got {self.target_rhat!r}.")

"""Settings of joint inference: these dataclasses are its run file, flags and help text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from halo_mdn.config import RuntimeConfig
from halo_mdn.field.cosmology import Cosmology
from halo_mdn.field.lpt import Lpt
from halo_mdn.setting_field import setting, setting_of


@dataclass(frozen=True)
class JointData:
    """The halos: an exchange file, or a mock made on the spot."""

    file: str = setting(
        "", "exchange file; empty: make the mock of the table [mock]", path_suffix=""
    )
    mass_threshold: float = setting(2e12, "smallest halo mass that is modelled, Msun/h", above=0.0)
    density_floor: float = setting(
        0.01,
        "smallest 1 + delta that the bias sees; keeps an empty cell on the way from ending a chain",
        minimum=0.0,
    )


@dataclass(frozen=True)
class MockSettings:
    """The mock, used where no file is given; its bias is the documented one."""

    seed: int = setting(1, "seed of initial conditions and halos", minimum=0)
    cells: int = setting(32, "cells per side", minimum=4)
    box_size: float = setting(125.0, "side of the box, Mpc/h", above=0.0)


@dataclass(frozen=True)
class LptSettings:
    """The forward model of the density."""

    redshift: float = setting(0.0, "used where no file states one", minimum=0.0)
    order: int = setting_of(Lpt, "order")
    supersampling: int = setting_of(Lpt, "supersampling")
    precision: Literal["float64", "float32"] = setting("float64", "of the forward model alone")


@dataclass(frozen=True)
class CosmologySettings:
    """Flat LCDM; each `_width` above 0 frees its parameter, with a Gaussian prior."""

    omega_m: float = setting_of(Cosmology, "omega_m")
    omega_b: float = setting_of(Cosmology, "omega_b")
    h: float = setting_of(Cosmology, "h")
    n_s: float = setting_of(Cosmology, "n_s")
    sigma8: float = setting_of(Cosmology, "sigma8")
    sigma8_width: float = setting(0.0, "prior width of sigma8; 0: fixed", minimum=0.0)
    omega_m_width: float = setting(0.0, "prior width of omega_m; 0: fixed", minimum=0.0)


@dataclass(frozen=True)
class JointModelConfig:
    """The model file: the one place where the joint density is written."""

    name: str = setting(
        "joint_field", "a joint model in models/, or the path of your own copy", path_suffix=".py"
    )


@dataclass(frozen=True)
class JointStart:
    """Where chains start."""

    field_steps: int = setting(80, "Adam steps on the field", minimum=1)
    newton_steps: int = setting(10, "Newton steps on the bias at that field", minimum=1)
    scatter: float = setting(0.05, "scatter of the first bias parameters per chain", minimum=0.0)


@dataclass(frozen=True)
class JointSampler:
    """The sampler."""

    method: Literal["nuts", "blocks"] = setting(
        "blocks",
        "blocks: trajectories of all, in turn with some of the bias alone; nuts: all together",
    )
    num_chains: int = setting(2, "independent chains, each on its own thread", minimum=1)
    num_warmup: int = setting(
        60, "adaptation draws per chain, not kept; rounded up to stages of whole chunks", minimum=1
    )
    num_samples: int = setting(300, "draws kept per chain; rounded up to whole chunks", minimum=4)
    trajectory: int = setting(48, "blocks: steps of an update of all", minimum=1)
    max_tree_depth: int = setting(6, "nuts: a trajectory has at most 2^this steps", minimum=1)
    target_accept: float = setting(
        0.7, "acceptance to which blocks and nuts tune their steps", above=0.0
    )
    thinning: int = setting(1, "updates per kept draw, in the warm-up as well", minimum=1)
    bias_updates: int = setting(16, "blocks: updates of the bias per update of all", minimum=1)
    chunk_size: int = setting(5, "draws between two looks at convergence", minimum=1)
    max_minutes: float = setting(
        60.0, "stop drawing after this time and report; --resume with more goes on", above=0.0
    )


@dataclass(frozen=True)
class JointOutput:
    """Where results go."""

    folder: str = setting(
        "", "folder of the results; empty: beside the run file, named like it", path_suffix=""
    )


@dataclass(frozen=True)
class JointConfig:
    """One run of joint inference."""

    seed: int = setting(0, "seed of the chains", minimum=0)
    data: JointData = field(default_factory=JointData)
    mock: MockSettings = field(default_factory=MockSettings)
    model: JointModelConfig = field(default_factory=JointModelConfig)
    lpt: LptSettings = field(default_factory=LptSettings)
    cosmology: CosmologySettings = field(default_factory=CosmologySettings)
    start: JointStart = field(default_factory=JointStart)
    sampler: JointSampler = field(default_factory=JointSampler)
    output: JointOutput = field(default_factory=JointOutput)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

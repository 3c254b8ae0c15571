"""Every setting of a run: these dataclasses are the run file, the flags and the help text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EXAMPLE = "example"
NOT_PATHS = ("", EXAMPLE, "user", "none")


def setting(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] = (),
    minimum: float | None = None,
    above: float | None = None,
    path_suffix: str | None = None,
) -> Any:
    """A dataclass field that knows its help text and which values it accepts.

    A text that ends with `path_suffix` is a path, made absolute when it is read; "" means always.
    """
    limits = {"choices": tuple(choices), "minimum": minimum, "above": above}
    return field(default=default, metadata={"help": help, "path_suffix": path_suffix, **limits})


@dataclass(frozen=True)
class DataConfig:
    """What is fitted: a density field and one or more halo catalogues in the same box."""

    field: str = setting(
        EXAMPLE,
        "file with the overdensity delta on the grid (.npy, .npz, exchange .h5, BORG's mcmc_*.h5); "
        "'example': the bundled one",
        path_suffix="",
    )
    field_key: str = setting(
        "", "name of the array in a .npz or other HDF5 field; empty if it is the only one"
    )
    field_points: str = setting(
        "auto",
        "where the field's values lie, at centres or at corners (lowest x, y, z) of voxels; auto: "
        "corners for a BORG file, centres for others",
        choices=("auto", "centres", "corners"),
    )
    catalogue: tuple[str, ...] = setting(
        (EXAMPLE,),
        "halo catalogue (.npz, .npy, .csv, .fits, .parquet, .h5, Rockstar .list), or a "
        "list of catalogues that share the field; 'example' for the bundled one",
        path_suffix="",
    )
    position_key: tuple[str, ...] = setting(
        ("position",), "array (halos, 3) of positions, or three columns such as x,y,z"
    )
    mass_key: str = setting("mass", "array or column of halo masses; Mvir in a Rockstar list")
    selected: str = setting(
        "",
        "which halos are used: a boolean array or column of the catalogue, or a .npy file; "
        "distinct: those of a Rockstar list that are no subhalos; empty for all",
        path_suffix=".npy",
    )
    box_size: tuple[float, ...] = setting(
        (),
        "side of the box in Mpc/h, or its three sides; the example and .h5 files know their own",
        above=0.0,
    )
    box_corner: tuple[float, ...] = setting(
        (),
        "x, y, z of the box's lowest corner in the catalogue's positions, Mpc/h; empty: what a "
        "BORG run states, else 0,0,0",
    )
    boundary: str = setting(
        "periodic",
        "periodic for a full simulation box; interior leaves out voxels at the border",
        choices=("periodic", "interior"),
    )
    length_unit: float | None = setting(
        None,
        "what a length of 1 in the file is, in Mpc/h: 0.001 for kpc/h; none: what the file states, "
        "else Mpc/h for catalogues and an error for particles",
        above=0.0,
    )
    mass_unit: float = setting(1.0, "what a mass of 1 in the file is, in Msun/h", above=0.0)
    mass_is_log10: bool = setting(False, "the file holds log10 of the masses in units of mass_unit")
    mass_threshold: float = setting(2e12, "smallest halo mass that is modelled, Msun/h", above=0.0)
    below_threshold: str = setting(
        "error", "what to do with halos below the threshold", choices=("error", "drop")
    )
    density_floor: float = setting(
        0.0, "smallest allowed 1 + delta; 0 means none, and delta <= -1 is an error", minimum=0.0
    )
    completeness: str = setting(
        "",
        "file with the fraction of halos observed per voxel, on the field's grid",
        path_suffix="",
    )
    completeness_key: str = setting("", "name of the array in a .npz completeness file")
    mass_scatter: float = setting(
        0.0, "standard deviation of the error of ln M; 0 for exact masses", minimum=0.0
    )
    threshold_completeness: float = setting(
        1.0, "fraction of halos detected at the threshold, in (0, 1]", above=0.0
    )
    completeness_slope: float = setting(
        1.0, "the missing fraction falls as (M / threshold)^-slope", above=0.0
    )
    redshift: float | None = setting(None, "redshift of field and halos, recorded with the results")
    mass_definition: str = setting("", "such as FoF b=0.2 or 200m, recorded with the results")
    cosmology: str = setting("", "cosmological parameters, recorded with the results")


@dataclass(frozen=True)
class ModelConfig:
    """The model file and the shape of the neural bias; the defaults give the 17 parameters."""

    name: str = setting(
        "neural_bias", "a model in models/, or the path of your own copy (.py)", path_suffix=".py"
    )
    kernel_size: tuple[int, ...] = setting(
        (3,), "voxels per side of the kernel, odd; one number or one per axis", minimum=1
    )
    multipoles: tuple[int, ...] = setting((0,), "multipoles of the kernel, 0 first", minimum=0)
    grouping: str = setting(
        "radius",
        "kernel cells that share a weight: at the same radius, or in one cubic orbit",
        choices=("radius", "orbit"),
    )
    filters: int = setting(1, "number of kernels", minimum=1)
    hidden_layers: tuple[int, ...] = setting((), "widths of hidden layers, such as 4,4", minimum=1)
    components: int = setting(2, "components of the mass mixture", minimum=1)
    ordering: str = setting(
        "relu", "function that keeps the means in order", choices=("relu", "softplus")
    )
    amplitude_offset: float = setting(
        -6.907755278982137, "added to the amplitudes' pre-activation; ln 1e-3"
    )
    width_offset: float = setting(6.907755278982137, "added to the widths' pre-activation; ln 1e3")
    prior_mean: tuple[float, ...] = setting(
        (0.0,), "mean of the Normal prior: one number, or one per parameter"
    )
    prior_scale: tuple[float, ...] = setting(
        (10.0,), "width of the Normal prior: one number, or one per parameter", above=0.0
    )


@dataclass(frozen=True)
class StartConfig:
    """Where the chains start: the best of many optimised starting points."""

    num_starts: int = setting(32, "starting points that are optimised", minimum=1)


@dataclass(frozen=True)
class SamplerConfig:
    """NUTS, the No-U-Turn Sampler."""

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
    likelihood: str = setting(
        "exact",
        "exact; or compressed: the field reduced to some thousand weighted nodes, which is faster, "
        "and checked against the exact one at the end",
        choices=("exact", "compressed"),
    )
    chain_method: str = setting(
        "parallel",
        "parallel: one core per chain; vectorized: best on a GPU; sequential: least memory",
        choices=("parallel", "vectorized", "sequential"),
    )


@dataclass(frozen=True)
class OutputConfig:
    """Where results go."""

    folder: str = setting(
        "", "folder of the results; empty: beside the run file, named like it", path_suffix=""
    )
    figures: bool = setting(True, "draw the figures")
    predictive_draws: int = setting(200, "posterior draws used for predicted counts", minimum=1)


@dataclass(frozen=True)
class RuntimeConfig:
    """The machine: set before anything is computed."""

    platform: str = setting(
        "auto",
        "device to compute on; auto takes a GPU if JAX finds one",
        choices=("auto", "cpu", "gpu", "tpu"),
    )
    precision: str = setting("float64", "floating point numbers", choices=("float64", "float32"))
    compile_cache: str = setting(
        "user",
        "folder that keeps compiled programs; user: in your cache folder; none: keep nothing",
        path_suffix="",
    )


@dataclass(frozen=True)
class RunConfig:
    """One complete run: the content of a run file with all defaults filled in."""

    seed: int = setting(0, "seed of all random numbers", minimum=0)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    start: StartConfig = field(default_factory=StartConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def is_example(path: str | Path) -> bool:
    """Whether a path setting means the bundled example."""
    return str(path) == EXAMPLE

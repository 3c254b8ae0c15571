"""Every setting of a run: these dataclasses are the run file, the flags and the help text."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from halo_mdn.bias.neural import NeuralBias
from halo_mdn.field.kernels import Grouping
from halo_mdn.sampling.nuts.settings import NutsSettings
from halo_mdn.setting_field import numbers_of, setting, setting_of

EXAMPLE = "example"
NOT_PATHS = ("", EXAMPLE, "user", "none")


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
    field_points: Literal["auto", "centres", "corners"] = setting(
        "auto",
        "where the field's values lie, at centres or at corners (lowest x, y, z) of voxels; auto: "
        "corners for a BORG file, centres for others",
    )
    field_is: Literal["delta", "region", "1+delta", "density"] = setting(
        "delta",
        "what the field's values are: delta, of mean 0 in a periodic box; region: delta of a "
        "region that is not of mean density; 1+delta; density: counts or a density in any unit, "
        "divided by its mean",
    )
    catalogue: tuple[str, ...] = setting(
        (EXAMPLE,),
        "halo catalogue (.npz, .npy, .csv, .fits, .parquet, .h5, Rockstar .list), or a "
        "list of catalogues that share the field; 'example' for the bundled one",
        path_suffix="",
    )
    realisations: bool = setting(
        False,
        "several catalogues are independent draws of halos in the same field, each complete "
        "(not parts of one, which are read by naming the first)",
    )
    table: str = setting("", "name (EXTNAME) of the table in a FITS catalogue that has several")
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
    boundary: Literal["auto", "periodic", "interior"] = setting(
        "auto",
        "periodic for a full simulation box; interior leaves out voxels at the border; auto: what "
        "the field's file states, else periodic",
    )
    length_unit: float | None = setting(
        None,
        "what a length of 1 in the file is, in Mpc/h: 0.001 for kpc/h; none: what the file states, "
        "else Mpc/h for catalogues and an error for particles",
        above=0.0,
    )
    mass_unit: float = setting(1.0, "what a mass of 1 in the file is, in Msun/h", above=0.0)
    mass_is_log10: bool = setting(False, "the file holds log10 of the masses in units of mass_unit")
    mass_threshold: float = setting_of(NeuralBias, "mass_threshold")
    below_threshold: Literal["error", "drop"] = setting(
        "error", "what to do with halos below the threshold"
    )
    density_floor: float = setting_of(NeuralBias, "density_floor")
    completeness: str = setting(
        "",
        "file with the fraction of halos observed per voxel, on the field's grid",
        path_suffix="",
    )
    completeness_key: str = setting("", "name of the array in a .npz completeness file")
    mass_scatter: float | None = setting(
        None,
        "standard deviation of the error of ln M, 0 for exact masses; none: what the catalogue's "
        "file states, else 0",
        minimum=0.0,
    )
    threshold_completeness: float | None = setting(
        None,
        "fraction of halos detected at the threshold, in (0, 1]; none: what the file states, or 1",
        above=0.0,
    )
    completeness_slope: float | None = setting(
        None,
        "the missing fraction falls as (M / threshold)^-slope; none: what the file states, else 1",
        above=0.0,
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
    kernel_size: tuple[int, ...] = numbers_of(NeuralBias, "kernel_size")
    multipoles: tuple[int, ...] = setting_of(NeuralBias, "multipoles")
    grouping: Grouping = setting_of(NeuralBias, "grouping")
    first_layer: tuple[float, ...] = setting_of(NeuralBias, "first_layer")
    filters: int = setting_of(NeuralBias, "filters")
    hidden_layers: tuple[int, ...] = setting_of(NeuralBias, "hidden_layers")
    components: int = setting_of(NeuralBias, "components")
    ordering: Literal["relu", "softplus"] = setting_of(NeuralBias, "ordering")
    amplitude_offset: float = setting_of(NeuralBias, "amplitude_offset")
    width_offset: float = setting_of(NeuralBias, "width_offset")
    prior_mean: tuple[float, ...] = numbers_of(NeuralBias, "prior_mean")
    prior_scale: tuple[float, ...] = numbers_of(NeuralBias, "prior_scale")


@dataclass(frozen=True)
class StartConfig:
    """Where the chains start: the best of many optimised starting points."""

    num_starts: int = setting(32, "starting points that are optimised", minimum=1)


@dataclass(frozen=True)
class SamplerConfig(NutsSettings):
    """NUTS, the No-U-Turn Sampler."""

    likelihood: Literal["exact", "compressed"] = setting(
        "exact",
        "exact; or compressed: the field reduced to some thousand weighted nodes, which is faster, "
        "and checked against the exact one at the end",
    )

    @property
    def nuts(self) -> NutsSettings:
        """How to sample, without what is sampled."""
        return NutsSettings(
            **{spec.name: getattr(self, spec.name) for spec in fields(NutsSettings)}
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

    platform: Literal["auto", "cpu", "gpu", "cuda", "rocm", "tpu"] = setting(
        "auto", "device to compute on; auto takes a GPU if JAX finds one; gpu: cuda or rocm"
    )
    precision: Literal["float64", "float32"] = setting("float64", "floating point numbers")
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

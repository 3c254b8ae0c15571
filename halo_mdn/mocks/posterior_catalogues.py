"""Posterior predictive halo catalogues, streamed to files: mocks that carry the bias uncertainty.

Each catalogue has parameters of its own, one draw of the posterior, and is an exact draw of the
Poisson process with them. Catalogue i of a seed is the same whatever the number of catalogues.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import h5py
import jax
import numpy as np
from jax.typing import ArrayLike

from halo_mdn.bias.base import Bias
from halo_mdn.field.grid import Grid
from halo_mdn.files import refuse_existing, write_file, write_hdf5
from halo_mdn.halos.catalogue import HaloCatalogue
from halo_mdn.halos.mass_observation import EXACT, MassObservation
from halo_mdn.io.formats.exchange import (
    FORMAT,
    ORIGIN,
    UNITS,
    field_attributes,
    version_of,
    write_observation,
)
from halo_mdn.io.formats.hdf5 import SHARED_DENSITY
from halo_mdn.mocks.simulation import simulate

SUFFIXES = {"hdf5": ".h5", "text": ".list"}


@dataclass(frozen=True)
class MockField:
    """The density that mocks are drawn on.

    Attributes
    ----------
    delta : array (N0, N1, N2)
        Overdensity at the voxel centres.
    grid : Grid
    redshift : float
        NaN where unknown.
    completeness : array (N0, N1, N2) or None
        Expected observed fraction of the halos.
    observation : MassObservation
        Errors and completeness of the masses.
    field_is : {"delta", "region"}
        ``"region"`` for a periodic field whose mean is not 0.
    """

    delta: np.ndarray
    grid: Grid
    redshift: float = np.nan
    completeness: np.ndarray | None = None
    observation: MassObservation = EXACT
    field_is: Literal["delta", "region"] = "delta"

    @property
    def is_plain(self) -> bool:
        """Whether the box is periodic and of mean density, and every halo seen, with its mass."""
        exact = self.observation.is_exact and self.completeness is None
        return exact and self.grid.boundary == "periodic" and self.field_is == "delta"


@dataclass(frozen=True)
class PosteriorCatalogue:
    """One catalogue, and the draw (chain, draw) of the posterior whose parameters it has."""

    index: int
    chain: int
    draw: int
    params: np.ndarray
    halos: HaloCatalogue


def draw_mocks(
    bias: Bias, params: ArrayLike, field: MockField, *, num: int, seed: int = 0
) -> Iterator[PosteriorCatalogue]:
    """Draw catalogues one after another; nothing is compiled after the first.

    Parameters
    ----------
    bias : Bias
    params : array (C, D, P)
        Posterior draws. All are used once, in random order, before one is used again.
    field : MockField
    num : int
        Number of catalogues.
    seed : int

    Raises
    ------
    InputError
        If the field is unusable or a draw predicts an absurd number of halos.
    """
    params = np.asarray(params)
    order = np.random.default_rng(seed).permutation(params.shape[0] * params.shape[1])
    key, delta = jax.random.PRNGKey(seed), jax.numpy.asarray(field.delta)
    for index in range(num):
        chain, draw = divmod(int(order[index % len(order)]), params.shape[1])
        halos = simulate(
            jax.random.fold_in(key, index),
            bias,
            params[chain, draw],
            delta,
            field.grid,
            completeness=field.completeness,
            observation=field.observation,
        )
        yield PosteriorCatalogue(index, chain, draw, params[chain, draw], halos)


def mock_paths(folder: Path, num: int, form: str) -> list[Path]:
    """The files of `num` mocks in the format ``"hdf5"`` or ``"text"``."""
    digits = max(4, len(str(num - 1)))
    return [folder / f"mock_{index:0{digits}d}{SUFFIXES[form]}" for index in range(num)]


def check_free(folder: Path, num: int, form: str) -> None:
    """Refuse to replace mocks that are there already.

    Raises
    ------
    InputError
        Naming the first such file.
    """
    wanted = mock_paths(folder, num, form)
    wanted += [folder / SHARED_DENSITY] if form == "hdf5" else []
    for path in wanted:
        refuse_existing(path, overwrite=False, instead=", or --output for another folder")


def write_mocks(
    mocks: Iterator[PosteriorCatalogue],
    paths: list[Path],
    field: MockField,
    *,
    mass_definition: str = "",
    provenance: dict[str, str] | None = None,
) -> Iterator[PosteriorCatalogue]:
    """Write each mock as soon as it is drawn, atomically, and pass it on.

    HDF5 files have the exchange format; their density is a link to ``density.h5`` beside them, so
    that it is stored once. Text files have the columns of a Rockstar list that a mock can fill.

    Raises
    ------
    WriteError
        If a file cannot be written; those before it are complete.
    """
    provenance = provenance or {}
    if paths and paths[0].suffix == SUFFIXES["hdf5"]:
        write_hdf5(paths[0].parent / SHARED_DENSITY, lambda file: _fill_density(file, field))
    for path, mock in zip(paths, mocks, strict=True):
        if path.suffix == SUFFIXES["hdf5"]:
            write_hdf5(path, partial(_fill, mock, field, mass_definition, provenance))
        else:
            write_file(path, _as_text(mock, field, mass_definition, provenance))
        yield mock


def _fill_density(file: h5py.File, field: MockField) -> None:
    density = file.create_dataset("density", data=np.asarray(field.delta))
    density.attrs.update(
        {
            "units": UNITS["density"],
            "box_size": np.array(field.grid.box_size),
            "box_size_units": UNITS["position"],
            "redshift": float(field.redshift),
            "mass_assignment": "",
            "origin": ORIGIN,
            "axes": "x, y, z",
            **field_attributes(field.grid.boundary, field.field_is),
        }
    )


def _fill(
    mock: PosteriorCatalogue, field: MockField, mass_definition: str, provenance: dict[str, str],
    file: h5py.File,
) -> None:  # fmt: skip
    numbers = {"mock": mock.index, "chain": mock.chain, "draw": mock.draw}
    file.attrs.update(
        {"format": FORMAT, "format_version": version_of(field), **provenance, **numbers}
    )
    file["density"] = h5py.ExternalLink(SHARED_DENSITY, "/density")
    position = file.create_dataset("halos/position", data=mock.halos.position)
    position.attrs["units"] = UNITS["position"]
    mass = file.create_dataset("halos/mass", data=mock.halos.mass)
    mass.attrs.update({"units": UNITS["mass"], "definition": mass_definition})
    mass.attrs["threshold"] = float(mock.halos.mass_threshold)
    if not field.is_plain:
        write_observation(file["halos"], field.observation, field.completeness)
    file.create_dataset("truth/params", data=mock.params)
    file["truth"].attrs["settings"] = "{}"


def _as_text(
    mock: PosteriorCatalogue, field: MockField, mass_definition: str, provenance: dict[str, str]
) -> str:
    sides = " ".join(f"{side:.6f}" for side in dict.fromkeys(field.grid.box_size))
    known = np.isfinite(field.redshift)
    header = [
        "#ID DescID Mvir X Y Z",
        f"#a = {1 / (1 + field.redshift):.6f}" if known else "#a unknown",
        f"#Box size: {sides} Mpc/h",
        "#Units: Masses in Msun / h",
        "#Units: Positions in Mpc / h (comoving)",
        f"#Mass definition: {mass_definition or 'not given'}",
        f"#Mass threshold: {mock.halos.mass_threshold:.6e} Msun/h",
        f"#Mock {mock.index}: parameters of chain {mock.chain}, draw {mock.draw}",
        *(f"#{name}: {text}" for name, text in provenance.items()),
    ]
    rows = zip(mock.halos.mass.tolist(), np.asarray(mock.halos.position).tolist(), strict=True)
    lines = [f"{i} -1 {m:.6e} {x:.6f} {y:.6f} {z:.6f}" for i, (m, (x, y, z)) in enumerate(rows)]
    return "\n".join([*header, *lines]) + "\n"

"""The exchange format: density, halos and, for mocks, the truth in one HDF5 file.

Every number travels with its unit and convention; ``docs/file_format.md`` lists them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from halo_mdn.errors import InputError
from halo_mdn.field.grid import Grid
from halo_mdn.files import write_hdf5
from halo_mdn.halos.catalogue import as_completeness
from halo_mdn.halos.mass_observation import EXACT, MassObservation
from halo_mdn.io.formats.hdf5 import FORMAT, opened, values_of

VERSION = 1  # of a file whose halos are all that there are, in a periodic box
OBSERVED_VERSION = 2  # of one that says how they were observed: a reader of version 1 refuses it
ORIGIN = "cell centres: value (i, j, k) belongs to ((i + 1/2) L0/N0, (j + 1/2) L1/N1, ...)"
_OBSERVATION = ("scatter", "threshold_completeness", "completeness_slope")
UNITS = {"density": "overdensity", "position": "Mpc/h", "mass": "Msun/h"}


@dataclass(frozen=True)
class Exchange:
    """What an exchange file holds.

    Attributes
    ----------
    delta : array (N0, N1, N2)
        Overdensity at the cell centres.
    box_size : tuple of 3 float
        In Mpc/h.
    position : array (H, 3)
        Of the halos, in Mpc/h.
    mass : array (H,)
        In Msun/h.
    redshift : float
        NaN if it is not known.
    mass_assignment : str
        How particles became the density, such as ``"CIC"``.
    mass_definition : str
        Such as ``"200m"`` or ``"FoF b=0.2"``.
    mass_threshold : float or None
        The catalogue is complete above it, in Msun/h.
    params : array (P,), optional
        True parameters of the bias, of a mock.
    white_noise : array (M0, M1, M2), optional
        True initial conditions, of a mock.
    settings : mapping
        How the truth was made: plain values, stored as JSON.
    provenance : mapping of str to str
        Versions, seed, command.
    boundary : {"periodic", "interior"}
        Interior for a patch, of which the voxels at the border are left out.
    field_is : {"delta", "region"}
        ``"region"`` for a periodic field whose mean is not 0.
    observation : MassObservation
        Errors and completeness of the masses.
    completeness : array (N0, N1, N2), optional
        Fraction of halos observed per voxel.
    """

    delta: np.ndarray
    box_size: tuple[float, float, float]
    position: np.ndarray
    mass: np.ndarray
    redshift: float
    mass_assignment: str = "CIC"
    mass_definition: str = ""
    mass_threshold: float | None = None
    params: np.ndarray | None = None
    white_noise: np.ndarray | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    boundary: Literal["periodic", "interior"] = "periodic"
    field_is: Literal["delta", "region"] = "delta"
    observation: MassObservation = EXACT
    completeness: np.ndarray | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the box is periodic and of mean density, and every halo seen, with its mass."""
        exact = self.observation.is_exact and self.completeness is None
        return exact and self.boundary == "periodic" and self.field_is == "delta"

    @property
    def known_redshift(self) -> float | None:
        """The redshift, or None."""
        return None if np.isnan(self.redshift) else self.redshift

    @property
    def grid(self) -> Grid:
        """The grid of the density."""
        n0, n1, n2 = self.delta.shape
        return Grid((n0, n1, n2), self.box_size, self.boundary)


def write_exchange(path: Path, content: Exchange, *, overwrite: bool = False) -> None:
    """Write an exchange file; it appears complete or not at all.

    Raises
    ------
    InputError
        If arrays disagree or hold NaN, the file exists and ``overwrite`` is not set, or it cannot
        be written.
    """
    path = Path(path)
    _check(content, "the content for " + str(path))
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already: choose another name or allow overwriting")
    write_hdf5(path, lambda file: _write(file, content))


def read_exchange(path: Path) -> Exchange:
    """Read an exchange file.

    Raises
    ------
    InputError
        If it is no such file, a part is missing, or a unit or convention is another than ours.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"cannot read {path}: No such file or directory")
    with opened(path) as file:
        try:
            _check_header(file, path)
            content = _read(file, path)
        except KeyError as error:
            raise InputError(f"{path} is not complete: {error.args[0]}") from None
        _check(content, str(path))
        return content


def _write(file: h5py.File, content: Exchange) -> None:
    file.attrs.update({"format": FORMAT, "format_version": version_of(content)})
    for name, text in content.provenance.items():
        file.attrs[name] = str(text)
    density = file.create_dataset("density", data=np.asarray(content.delta))
    density.attrs.update(
        {
            "units": UNITS["density"],
            "box_size": np.array(content.box_size, dtype=float),
            "box_size_units": UNITS["position"],
            "redshift": float(content.redshift),
            "mass_assignment": content.mass_assignment,
            "origin": ORIGIN,
            "axes": "x, y, z",
        }
    )
    halos = file.create_group("halos")
    position = halos.create_dataset("position", data=np.asarray(content.position, dtype=float))
    position.attrs["units"] = UNITS["position"]
    mass = halos.create_dataset("mass", data=np.asarray(content.mass, dtype=float))
    mass.attrs.update({"units": UNITS["mass"], "definition": content.mass_definition})
    if content.mass_threshold is not None:
        mass.attrs["threshold"] = float(content.mass_threshold)
    if not content.is_plain:
        density.attrs.update(field_attributes(content.boundary, content.field_is))
        write_observation(halos, content.observation, content.completeness)
    if content.params is None and content.white_noise is None:
        return
    truth = file.create_group("truth")
    truth.attrs["settings"] = json.dumps(dict(content.settings), sort_keys=True)
    if content.params is not None:
        truth.create_dataset("params", data=np.asarray(content.params, dtype=float))
    if content.white_noise is not None:
        noise = truth.create_dataset("white_noise", data=np.asarray(content.white_noise))
        noise.attrs["origin"] = ORIGIN


def version_of(content: Any) -> int:
    """The version of a file: 2 where a reader of version 1 would miss what it states."""
    return VERSION if content.is_plain else OBSERVED_VERSION


def field_attributes(boundary: str, field_is: str) -> dict[str, str]:
    """Attributes of the density in a file of version 2."""
    return {"boundary": boundary, "field_is": field_is}


def write_observation(
    halos: h5py.Group, observation: MassObservation, completeness: np.ndarray | None
) -> None:
    """How halos were observed, into the group ``halos`` of a file of version 2."""
    halos["mass"].attrs.update({name: float(getattr(observation, name)) for name in _OBSERVATION})
    if completeness is not None:
        halos.create_dataset("completeness", data=np.asarray(completeness, dtype=float))


def _read(file: h5py.File, path: Path) -> Exchange:
    density, mass = file["density"], file["halos/mass"]
    known = {"format", "format_version"}
    truth = file.get("truth", {})
    box0, box1, box2 = (float(side) for side in density.attrs["box_size"])
    threshold = mass.attrs.get("threshold")
    return Exchange(
        delta=values_of(density, path),
        box_size=(box0, box1, box2),
        position=values_of(file["halos/position"], path),
        mass=values_of(mass, path),
        redshift=float(density.attrs["redshift"]),
        mass_assignment=str(density.attrs["mass_assignment"]),
        mass_definition=str(mass.attrs["definition"]),
        mass_threshold=None if threshold is None else float(threshold),
        params=values_of(truth["params"], path) if "params" in truth else None,
        white_noise=values_of(truth["white_noise"], path) if "white_noise" in truth else None,
        settings=json.loads(truth.attrs["settings"]) if truth else {},
        provenance={name: str(text) for name, text in file.attrs.items() if name not in known},
        **(_read_observed(file, path) if file.attrs["format_version"] > VERSION else {}),
    )


def _read_observed(file: h5py.File, path: Path) -> dict[str, Any]:
    """What a file of version 2 states beyond one of version 1."""
    density, halos = file["density"].attrs, file["halos"]
    stated = {"boundary": str(density["boundary"]), "field_is": str(density["field_is"])}
    allowed = {"boundary": ("periodic", "interior"), "field_is": ("delta", "region")}
    for name, value in stated.items():
        if value not in allowed[name]:
            raise InputError(f"density in {path} has {name} {value!r}, expected {allowed[name]}")
    numbers = {name: float(halos["mass"].attrs[name]) for name in _OBSERVATION}
    seen = values_of(halos["completeness"], path) if "completeness" in halos else None
    return {**stated, "observation": MassObservation(**numbers), "completeness": seen}


def _check_header(file: h5py.File, path: Path) -> None:
    if file.attrs.get("format") != FORMAT:
        raise InputError(
            f"{path} is an HDF5 file, but not a {FORMAT} file: name its datasets in "
            "data.field_key, or in data.position_key and data.mass_key"
        )
    version = int(file.attrs["format_version"])
    if version not in (VERSION, OBSERVED_VERSION):
        raise InputError(
            f"{path} has format version {version}, this program reads {VERSION} and "
            f"{OBSERVED_VERSION}"
        )
    wanted = {
        "density": ("units", UNITS["density"]),
        "halos/position": ("units", UNITS["position"]),
        "halos/mass": ("units", UNITS["mass"]),
    }
    for name, (key, expected) in wanted.items():
        found = file[name].attrs[key]
        if found != expected:
            raise InputError(f"{name} in {path} has {key} {found!r}, expected {expected!r}")
    if file["density"].attrs["origin"] != ORIGIN:
        raise InputError(
            f"density in {path} has origin {file['density'].attrs['origin']!r}, expected {ORIGIN!r}"
        )


def _check(content: Exchange, where: str) -> None:
    delta, position, mass = (np.asarray(a) for a in (content.delta, content.position, content.mass))
    if delta.ndim != 3:
        raise InputError(f"{where}: the density has shape {delta.shape}, expected three axes")
    if mass.ndim != 1 or position.shape != (len(mass), 3):
        raise InputError(
            f"{where}: positions have shape {position.shape} and masses {mass.shape}, expected "
            "(halos, 3) and (halos,)"
        )
    arrays = {"density": delta, "position": position, "mass": mass}
    arrays |= {n: np.asarray(a) for n in ("params", "white_noise")
               if (a := getattr(content, n)) is not None}  # fmt: skip
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputError(f"{where}: {name} holds NaN or infinite values")
    if not (mass > 0).all():
        raise InputError(f"{where}: a halo mass is not positive, expected Msun/h")
    grid = content.grid
    grid.voxel_of(position)
    if content.completeness is not None:
        as_completeness(content.completeness, grid)

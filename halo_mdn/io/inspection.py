"""What is in data files, and do halos lie on their field: the report of `inspect`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py

from halo_mdn.config import DataConfig, is_example
from halo_mdn.errors import InputError
from halo_mdn.halos.alignment import compare_placements
from halo_mdn.io.example import path_of, with_example_values
from halo_mdn.io.field_file import read_field, stored_field
from halo_mdn.io.formats import hdf5
from halo_mdn.io.halo_file import read_halos
from halo_mdn.io.listing import describe_field, describe_halos
from halo_mdn.io.load import load_data, with_stated
from halo_mdn.io.particles import open_particles

_FEW = 5  # datasets that are proposed


def roles_of(name: str, data: DataConfig, *, has_field: bool = False) -> DataConfig:
    """Settings in which a file is the field, the catalogue, or both; "" stands for none.

    Parameters
    ----------
    name : str
        The file.
    data : DataConfig
        How to read it.
    has_field : bool
        Whether `data` names a field already, on which the file's halos shall lie.

    Raises
    ------
    InputError
        If it can be read as neither.
    """
    if is_example(name):
        return data
    path = Path(name)
    no_field = _complaint(lambda: stored_field(replace(data, field=name)))
    no_halos = _complaint(lambda: read_halos(path, data))
    if no_halos and has_field:
        raise InputError(no_halos)
    if no_field and no_halos and not hdf5.is_hdf5(path):
        raise InputError(f"as a field: {no_field}; as a catalogue: {no_halos}")
    return replace(
        data,
        field=data.field if has_field else "" if no_field else name,
        catalogue=() if no_halos else (name,),
    )


def report_of(data: DataConfig, path: Path) -> list[str]:
    """What field, halos or particles are like, and whether the halos lie on the field, as lines.

    Parameters
    ----------
    data : DataConfig
        From :func:`roles_of`, or of a run file.
    path : Path
        The file, read as particles where it is neither field nor catalogue.

    Raises
    ------
    InputError
        If data cannot be read or do not belong together.
    """
    if not data.field and not data.catalogue:
        return _describe_particles(path, data)
    lines: list[str] = []
    complaint = ""
    notes: tuple[str, ...] = ()
    if data.field:
        data = with_example_values(data)
        field = stored_field(data)
        complaint = _complaint(lambda: read_field(data))
        field = field if complaint else read_field(data)
        data = with_stated(data, field, path_of(data.field))
        lines += describe_field(field, data)
        lines += [f"           it cannot be used: {complaint}"] if complaint else []
        notes += field.notes
    num_halos = 0
    for name in data.catalogue:
        table = read_halos(path_of(name), data)
        lines += describe_halos(table, data)
        notes += table.notes
        num_halos += len(table.mass)
        data = replace(data, mass_threshold=max(data.mass_threshold, table.mass_threshold or 0.0))
    lines += [f"note       {note}" for note in notes]
    if data.field and not complaint and num_halos and data.box_size:
        above = (1 + field.delta)[field.delta > -1]  # empty voxels are no reason not to look
        floor = data.density_floor or float(above.min(initial=1.0))
        dropping = replace(data, below_threshold="drop", density_floor=floor)
        loaded = load_data(dropping, refuse=False)
        lines += [f"note       {note}" for note in loaded.notes if note not in notes]
        lines += [f"warning    {warning}" for warning in loaded.warnings]
        lines.append(compare_placements(loaded.delta, loaded.halos, floor).in_words())
    return lines


def _describe_particles(path: Path, data: DataConfig) -> list[str]:
    if hdf5.layout(path) != hdf5.SNAPSHOT:
        return _describe_unread(path, data)
    source = open_particles(path, data)
    num = "unknown number" if source.num_particles is None else f"{source.num_particles:,}"
    return [
        f"particles  {num} in {len(source.arrays)} files, box of {source.box_size[0]:g} Mpc/h, "
        f"a length of 1 is {source.length_unit:g} Mpc/h, redshift {source.redshift}",
        *(f"note       {note}" for note in source.notes),
    ]


def _describe_unread(path: Path, data: DataConfig) -> list[str]:
    """Why the datasets that settings name cannot be read, or which could be named."""
    usual = DataConfig()
    lines = []
    if data.field_key:
        field = _complaint(lambda: stored_field(replace(data, field=str(path))))
        lines.append(f"density    cannot be read: {field}")
    if (data.position_key, data.mass_key) != (usual.position_key, usual.mass_key):
        halos = _complaint(lambda: read_halos(path, data))
        lines.append(f"halos      cannot be read: {halos}")
    if lines:
        return lines
    positions: list[str] = []
    others: list[str] = []
    with hdf5.opened(path) as file:
        for name, part in hdf5.members(file, path):
            if isinstance(part, h5py.Dataset) and part.dtype.kind == "f":
                (positions if part.ndim == 2 and part.shape[1] == 3 else others).append(name)
    text = (
        "neither a density nor halos, unless the settings name its datasets: "
        "--data.field_key, or --data.position_key"
    )
    text += f" ({', '.join(positions[:_FEW])})" if positions else ""
    text += " and --data.mass_key"
    return [text + (f" ({', '.join(others[:_FEW])})" if others else "")]


def _complaint(read: Callable[[], object]) -> str:
    """What reading says is wrong; empty if nothing is."""
    try:
        read()
    except InputError as error:
        return str(error)
    return ""

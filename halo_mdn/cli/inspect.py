"""`run_inference.py inspect FILE`: what is in a data file, and do halos lie on their field?"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from halo_mdn.cli.parser import add_setting_flags, given_settings
from halo_mdn.config import DataConfig, is_example, load_config
from halo_mdn.config.shipped import find_run_file
from halo_mdn.errors import InputError
from halo_mdn.halos.alignment import compare_placements
from halo_mdn.io import load_data
from halo_mdn.io.example import path_of, with_example_values
from halo_mdn.io.field_file import read_field
from halo_mdn.io.formats import hdf5
from halo_mdn.io.halo_file import read_halos
from halo_mdn.io.listing import describe_field, describe_halos, listing
from halo_mdn.io.load import with_stated
from halo_mdn.io.particles import open_particles
from halo_mdn.progress import Display


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file, the field it shall fit, and the settings of data."""
    parser.description = (
        "Say what is in a data file (shapes, ranges, units, and which conventions were found or "
        "assumed) and, where there are both a field and halos, whether the halos lie on the field: "
        "counts in voxels are correlated with ln(1 + delta) as they are, shifted by half a voxel "
        "and by one, and with axes swapped and reversed."
    )
    parser.add_argument("file", metavar="FILE", help="a data file, a run file (.toml), or: example")
    parser.add_argument("--field", metavar="FILE", help="density field on which halos shall lie")
    add_setting_flags(parser, only="data")


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; the exit code is 0 whatever that is."""
    display = Display()
    is_run_file = arguments.file.endswith(".toml")
    path = find_run_file(arguments.file) if is_run_file else path_of(arguments.file)
    given = given_settings(arguments)
    if arguments.field:
        given["data.field"] = arguments.field
    if is_run_file:
        data = load_config(path, given).data
    else:
        display.say(str(arguments.file))
        for line in listing(path):
            display.say(f"  {line}")
        data = _roles(
            arguments.file, load_config(None, given).data, has_field=bool(arguments.field)
        )
    for line in _report(data, path):
        display.say(line)
    return 0


def _roles(name: str, data: DataConfig, *, has_field: bool) -> DataConfig:
    """Settings in which the file is the field, the catalogue, or both; "" stands for none."""
    if is_example(name):
        return data
    path = Path(name)
    no_field = _complaint(lambda: read_field(replace(data, field=name)))
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


def _report(data: DataConfig, path: Path) -> list[str]:
    lines: list[str] = []
    if not data.field and not data.catalogue:
        if hdf5.layout(path) != hdf5.SNAPSHOT:
            return [
                "neither a density nor halos, unless the settings name its datasets: "
                "data.field_key, or data.position_key and data.mass_key"
            ]
        source = open_particles(path, data)
        num = "unknown number" if source.num_particles is None else f"{source.num_particles:,}"
        return [
            f"particles  {num} in {len(source.arrays)} files, box of {source.box_size[0]:g} Mpc/h, "
            f"a length of 1 is {source.length_unit:g} Mpc/h, redshift {source.redshift}",
            *(f"note       {note}" for note in source.notes),
        ]
    notes: tuple[str, ...] = ()
    if data.field:
        data = with_example_values(data)
        field = read_field(data)
        data = with_stated(data, field, path_of(data.field))
        lines += describe_field(field, data)
        notes += field.notes
    num_halos = 0
    for name in data.catalogue:
        table = read_halos(path_of(name), data)
        lines += describe_halos(table, data)
        notes += table.notes
        num_halos += len(table.mass)
        data = replace(data, mass_threshold=max(data.mass_threshold, table.mass_threshold or 0.0))
    lines += [f"note       {note}" for note in notes]
    if data.field and num_halos and data.box_size:
        above = (1 + field.delta)[field.delta > -1]  # empty voxels are no reason not to look
        floor = data.density_floor or float(above.min(initial=1.0))
        loaded = load_data(replace(data, below_threshold="drop", density_floor=floor))
        lines += [f"note       {note}" for note in loaded.notes if note not in notes]
        lines.append(compare_placements(loaded.delta, loaded.halos, floor).in_words())
    return lines


def _complaint(read: Callable[[], object]) -> str:
    """What reading says is wrong; empty if nothing is."""
    try:
        read()
    except InputError as error:
        return str(error)
    return ""

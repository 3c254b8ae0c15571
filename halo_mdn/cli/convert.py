"""`run_inference.py convert OUT.h5`: any data that we read, or particles, as an exchange file."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from halo_mdn.cli.parser import add_setting_flags, configured, given_settings
from halo_mdn.config import DataConfig, RuntimeConfig, is_example, load_config
from halo_mdn.config.runtime import set_up_jax
from halo_mdn.config.shipped import find_run_file
from halo_mdn.errors import InputError
from halo_mdn.files import refuse_existing
from halo_mdn.io.conversion import as_exchange, density_of_particles
from halo_mdn.io.example import path_of, with_example_values
from halo_mdn.io.field_file import read_field
from halo_mdn.io.formats.exchange import write_exchange
from halo_mdn.io.halo_file import read_halos
from halo_mdn.io.load import with_stated
from halo_mdn.progress import Display


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file to write, what it is made from, and the settings of data."""
    parser.description = (
        "Write a density field and its halos into one exchange file, whatever their formats, with "
        "units and conventions checked and stated. The settings are those of [data] in a run file. "
        "Without a catalogue the file holds the density alone. Particles become a density by "
        "cloud-in-cell assignment, with values at the centres of voxels."
    )
    parser.add_argument("output", metavar="OUT.h5", help="the file to write")
    parser.add_argument("--run", metavar="RUN.toml", help="run file whose [data] is converted")
    parser.add_argument(
        "--particles",
        metavar="FILE",
        help="make the density from particles: .npy, .npz or a Gadget or AREPO snapshot (.hdf5)",
    )
    parser.add_argument(
        "--cells", metavar="NUMBER", help="cells per side of that density: one number or three"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    add_setting_flags(parser, only="data")


def run(arguments: argparse.Namespace) -> int:
    """Read, check and write."""
    path = Path(arguments.output)
    if path.suffix not in (".h5", ".hdf5"):
        raise InputError(f"the file to write is {path}, expected a name that ends in .h5")
    refuse_existing(path, overwrite=arguments.overwrite)
    data = _settings(arguments)
    if not arguments.run and "data.mass_threshold" not in given_settings(arguments):
        data = _with_stated_threshold(data)
    set_up_jax(RuntimeConfig())
    display = Display()
    if arguments.particles:
        field = density_of_particles(Path(arguments.particles), _cells(arguments.cells), data)
        source = Path(arguments.particles)
        # These two spoke of the particles.
        data = replace(data, field="", length_unit=None, position_key=DataConfig().position_key)
    else:
        data = with_example_values(data)
        field, source = read_field(data), path_of(data.field)
    command = " ".join(["run_inference.py", *sys.argv[1:]])
    content, notes = as_exchange(field, with_stated(data, field, source), source, command=command)
    write_exchange(path, content, overwrite=arguments.overwrite)
    for note in notes:
        display.say(f"note: {note}")
    cells = " x ".join(map(str, content.delta.shape))
    density = 1 + content.delta
    display.say(
        f"{cells} cells, {content.box_size[0]:g} Mpc/h, 1 + delta from {density.min():.3g} to "
        f"{density.max():.3g}, {len(content.mass):,} halos; wrote {path}"
    )
    return 0


def _settings(arguments: argparse.Namespace) -> DataConfig:
    given = given_settings(arguments)
    if arguments.run:
        data = configured(find_run_file(arguments.run), arguments).data
    elif "data.field" in given or arguments.particles:
        # Defaults mean the example: it is converted only if somebody names it.
        data = load_config(None, {"data.catalogue": "", **given}).data
    else:
        raise InputError("nothing to convert: give --data.field, --particles or --run")
    if arguments.particles and "data.field" in given:
        raise InputError("--particles makes the field: leave out --data.field")
    if bool(arguments.particles) != bool(arguments.cells):
        raise InputError("--particles and --cells belong together: give both or neither")
    if len(data.catalogue) > 1:
        raise InputError("an exchange file holds one catalogue: convert one at a time")
    return data


def _with_stated_threshold(data: DataConfig) -> DataConfig:
    """The threshold that the catalogue states: the default one is the example's."""
    for name in data.catalogue:
        if is_example(name):
            continue
        stated = read_halos(path_of(name), data).mass_threshold
        if stated is None:
            raise InputError(
                f"{name} does not state above which mass it is complete: give "
                "--data.mass_threshold, in Msun/h"
            )
        data = replace(data, mass_threshold=stated)
    return data


def _cells(text: str) -> tuple[int, int, int]:
    try:
        numbers = [int(number) for number in text.split(",")]
        first, second, third = numbers * 3 if len(numbers) == 1 else numbers
    except ValueError:
        raise InputError(f"--cells is {text!r}, expected a number or three: 64,64,64") from None
    return (first, second, third)

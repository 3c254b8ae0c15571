"""`run_inference.py inspect FILE`: what is in a data file, and do halos lie on their field?"""

from __future__ import annotations

import argparse

from halo_mdn.cli.parser import add_setting, add_setting_flags, configured, given_settings
from halo_mdn.config import load_config
from halo_mdn.config.shipped import find_run_file
from halo_mdn.io.example import path_of
from halo_mdn.io.inspection import report_of, roles_of
from halo_mdn.io.listing import listing
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
    if arguments.field:
        add_setting(arguments, "data.field", arguments.field)
    given = given_settings(arguments)
    if is_run_file:
        data = configured(path, arguments).data
    else:
        display.say(str(arguments.file))
        for line in listing(path):
            display.say(f"  {line}")
        data = roles_of(
            arguments.file, load_config(None, given).data, has_field=bool(arguments.field)
        )
    for line in report_of(data, path):
        display.say(line)
    return 0

"""`run_inference.py joint RUN.toml`: initial conditions and bias together."""

from __future__ import annotations

import argparse
from pathlib import Path

from halo_mdn.cli.parser import add_setting_flags, given_settings
from halo_mdn.config import load_settings
from halo_mdn.config.joint_schema import JointConfig
from halo_mdn.config.runtime import set_up_jax
from halo_mdn.config.shipped import find_run_file, is_installed
from halo_mdn.errors import InputError
from halo_mdn.joint.results import RESULTS, report, write_draws, write_report
from halo_mdn.joint.run import differences, draw, prepare
from halo_mdn.progress import Display


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run file and every setting."""
    parser.description = (
        "Infer the initial conditions and the bias parameters together from halos alone, with "
        "Lagrangian perturbation theory in between; sigma8 and Omega_m as an option."
    )
    parser.add_argument(
        "run_file", nargs="?", default="joint", metavar="RUN.toml", help="run file (default: joint)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results")
    add_setting_flags(parser, schema=JointConfig)


def run(arguments: argparse.Namespace) -> int:
    """Sample, and write draws, summary and figure."""
    run_file = find_run_file(arguments.run_file)
    config = load_settings(JointConfig, run_file, given_settings(arguments))
    folder = _folder(config, run_file, overwrite=arguments.overwrite)
    device = set_up_jax(config.runtime)
    display = Display()
    problem, content = prepare(config)
    display.say(
        f"{problem.halos.num_halos:,} halos, {problem.lpt.noise_shape[0]}^3 cells of white noise, "
        f"{problem.bias.num_params} bias parameters; {config.sampler.method}; {device}"
    )
    for difference in differences(config, content):
        display.say(f"note: {difference}")
    draws = draw(config, problem, display.say)
    write_draws(folder, config, draws)
    found = report(problem, content, draws)
    display.say(found.text.rstrip())
    write_report(folder, problem, content, draws, found)
    display.say(f"wrote {folder}")
    return 0


def _folder(config: JointConfig, run_file: Path, *, overwrite: bool) -> Path:
    parent = Path("runs") if is_installed(run_file) else run_file.parent
    folder = Path(config.output.folder or parent / run_file.stem)
    existing = [name for name in RESULTS if (folder / name).exists()]
    if existing and not overwrite:
        raise InputError(
            f"{folder} already holds results ({', '.join(existing)}): give --overwrite to replace "
            "them, or --output.folder for another folder"
        )
    return folder

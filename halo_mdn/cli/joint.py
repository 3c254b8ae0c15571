"""`run_inference.py joint RUN.toml`: initial conditions and bias together."""

from __future__ import annotations

import argparse
import logging

from halo_mdn.cli.parser import add_setting_flags, given_settings
from halo_mdn.config import load_settings
from halo_mdn.config.joint_schema import JointConfig
from halo_mdn.config.runtime import set_up_jax
from halo_mdn.config.shipped import find_run_file
from halo_mdn.fitting.folder import claim_folder
from halo_mdn.joint.results import infer
from halo_mdn.joint.run import differences, prepare
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
    parser.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint of an unfinished run"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the results of an earlier run"
    )
    add_setting_flags(parser, schema=JointConfig)


def run(arguments: argparse.Namespace) -> int:
    """Sample and write the results; the exit code is 0 once they are there."""
    run_file = find_run_file(arguments.run_file)
    config = load_settings(JointConfig, run_file, given_settings(arguments))
    folder = claim_folder(config, run_file, resume=arguments.resume, overwrite=arguments.overwrite)
    device = set_up_jax(config.runtime)
    inputs, display = prepare(config), Display()
    problem = inputs.problem
    display.say(
        f"{problem.halos.voxel.size:,} halos, {problem.lpt.noise_shape[0]}^3 cells of white noise, "
        f"{problem.bias.num_params} bias parameters; {config.sampler.method}; {device}"
    )
    for difference in differences(config, inputs.content):
        display.say(f"note: {difference}")
    with folder.locked(), display.following(logging.getLogger("halo_mdn")):
        infer(config, inputs, folder, display=display, resume=arguments.resume)
    return 0

"""`run_inference.py prior RUN.toml`: the catalogues that the prior gives, beside the data."""

from __future__ import annotations

import argparse

from halo_mdn.cli.parser import add_setting_flags, configured
from halo_mdn.config.model_files import bias_of
from halo_mdn.config.runtime import set_up_jax
from halo_mdn.config.shipped import find_run_file
from halo_mdn.errors import InputError
from halo_mdn.io import load_data
from halo_mdn.likelihood.fixed_field import fixed_field_likelihood
from halo_mdn.predictions.prior_predictive import prior_predictive
from halo_mdn.progress import Display


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run file, how many draws and every setting."""
    parser.description = (
        "Draw parameters from the prior of a run file and show how many halos their catalogues "
        "have above each mass, on the run's field, beside the run's halos. Nothing is fitted."
    )
    parser.add_argument(
        "run_file", metavar="RUN.toml", help="run file, or the name of a shipped one"
    )
    parser.add_argument("--num", type=int, default=500, help="catalogues (default: 500)")
    add_setting_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the table."""
    if arguments.num < 1:
        raise InputError(f"--num is {arguments.num}, expected at least 1")
    config = configured(find_run_file(arguments.run_file), arguments)
    set_up_jax(config.runtime)
    data, bias = load_data(config.data), bias_of(config)
    log_l = fixed_field_likelihood(bias, data.delta, data.halos)
    table = prior_predictive(log_l, config.seed, arguments.num)
    Display().say(
        f"Halos per catalogue: quantiles of {table.num_draws} draws of the prior, and the data\n\n"
        f"{table.to_text()}"
    )
    return 0

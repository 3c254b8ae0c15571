"""`run_inference.py serve RUN.toml --socket PATH`: answer outside samplers."""

from __future__ import annotations

import argparse
from argparse import SUPPRESS
from pathlib import Path

from halo_mdn.cli.parser import add_setting_flags, configured
from halo_mdn.config.runtime import set_up_jax
from halo_mdn.config.shipped import find_run_file
from halo_mdn.errors import InputError
from halo_mdn.fitting.inputs import prepare
from halo_mdn.progress import Display, duration
from halo_mdn.sampling.nuts.interruption import Interruption
from halo_mdn.server import LikelihoodServer
from halo_mdn.server.server import FRAME_SECONDS, IDLE_SECONDS, listening

_LONGEST_TIMEOUT = 10**7  # four months; a socket takes no more than about 10^9 seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run file, the socket and every setting."""
    parser.description = (
        "Serve ln L and its gradients with respect to the density field and the parameters over a "
        "Unix socket, to samplers in other processes and languages. The run file gives the "
        "catalogue, the grid and the model; the density field in it is read for its grid alone."
    )
    parser.add_argument(
        "run_file", metavar="RUN.toml", help="run file, or the name of a shipped one"
    )
    parser.add_argument("--socket", required=True, metavar="PATH", help="the socket to make")
    parser.add_argument(
        "--max_clients",
        type=int,
        default=16,
        metavar="NUMBER",
        help="clients at the same time (default: 16)",
    )
    parser.add_argument(
        "--idle_timeout",
        type=float,
        default=IDLE_SECONDS,
        metavar="SECONDS",
        help=f"a client may be silent between requests for so long (default: {IDLE_SECONDS:g})",
    )
    parser.add_argument(
        "--frame_timeout",
        type=float,
        default=FRAME_SECONDS,
        metavar="SECONDS",
        help="a first request must begin, any request must be sent and a reply taken within so "
        f"long (default: {FRAME_SECONDS:g})",
    )
    # As it was spelled before.
    parser.add_argument("--max-clients", type=int, default=SUPPRESS, help=SUPPRESS)
    add_setting_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM, which end it with exit code 0."""
    if arguments.max_clients < 1:
        raise InputError(f"--max_clients is {arguments.max_clients}, expected at least 1")
    for name in ("idle_timeout", "frame_timeout"):
        if not 0 < (seconds := getattr(arguments, name)) <= _LONGEST_TIMEOUT:
            raise InputError(
                f"--{name} is {seconds:g}, expected seconds above 0 and at most {_LONGEST_TIMEOUT}"
            )
    config = configured(find_run_file(arguments.run_file), arguments)
    device = set_up_jax(config.runtime)
    inputs = prepare(config)
    bias, halos = inputs.bias, inputs.data.halos
    display = Display()
    server = LikelihoodServer(
        bias,
        halos,
        max_clients=arguments.max_clients,
        frame_seconds=arguments.frame_timeout,
        idle_seconds=arguments.idle_timeout,
    )
    with listening(Path(arguments.socket)) as listener, Interruption() as interruption:
        voxels = " x ".join(map(str, halos.grid.shape))
        display.say(
            f"{halos.num_halos:,} halos on {voxels} voxels, {bias.num_params} parameters, {device}"
        )
        display.say(f"compiled in {duration(server.warm_up())}")
        display.say(f"serving on {arguments.socket}; stop with Ctrl-C or SIGTERM")
        server.serve(listener, lambda: interruption.requested)
    display.say("stopped")
    return 0

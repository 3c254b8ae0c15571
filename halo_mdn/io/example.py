"""The bundled example: where it is and what is known about it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from halo_mdn.config.schema import DataConfig, is_example
from halo_mdn.errors import InputError


def example_path() -> Path:
    """The file with the bundled N-body halos and their LPT density field."""
    return Path(__file__).parent.parent / "data" / "example_nbody.npz"


def path_of(name: str) -> Path:
    """The file that a setting names: a path, or ``"example"``."""
    return example_path() if is_example(name) else Path(name)


def example_provenance() -> dict[str, Any]:
    """Where the example comes from: simulation, cosmology, conventions."""
    with np.load(example_path()) as archive:
        return json.loads(str(archive["provenance"]))


def with_example_values(data: DataConfig) -> DataConfig:
    """Fills in what the example knows about its field: box, redshift, cosmology.

    Raises
    ------
    InputError
        If a setting contradicts the example.
    """
    if not is_example(data.field):
        return data
    known = example_provenance()
    side = known["box_size_mpc_h"]
    if any(size != side for size in data.box_size):
        raise InputError(f"data.box_size is {data.box_size}, but the example's box is {side} Mpc/h")
    return replace(
        data,
        box_size=(side,),
        redshift=known["redshift"] if data.redshift is None else data.redshift,
        cosmology=data.cosmology or json.dumps(known["cosmology"]),
    )

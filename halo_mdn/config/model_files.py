"""Finds model files and run files, in a checkout or in an installed package, and loads models."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from halo_mdn.bias.base import Bias
from halo_mdn.bias.neural import NeuralBias
from halo_mdn.config import ModelConfig, RunConfig
from halo_mdn.config.shipped import shipped_folder, shipped_names
from halo_mdn.errors import InputError


def find_model_file(name: str) -> Path:
    """The file of a model: a path that ends in .py, or the name of a shipped model.

    Raises
    ------
    InputError
        If there is no such file.
    """
    path = Path(name) if name.endswith(".py") else shipped_folder("models") / f"{name}.py"
    if not path.is_file():
        names = ", ".join(shipped_names("models", ".py"))
        raise InputError(
            f"there is no model {name!r} ({path}); the shipped ones are: {names}; give a path "
            "ending in .py for your own"
        )
    return path


def load_model(name: str) -> Callable[..., None]:
    """The NumPyro model function ``model`` of a model file.

    Raises
    ------
    InputError
        If the file is missing, cannot be imported, or defines no function ``model``.
    """
    module = _imported(find_model_file(name))
    model: Any = getattr(module, "model", None)
    if not callable(model):
        raise InputError(f"the model file {module.__file__} defines no function 'model'")
    return model


def load_bias(name: str) -> type[Bias]:
    """The class ``Bias`` of a model file; the neural bias if the file defines none.

    Raises
    ------
    InputError
        If the file is missing, cannot be imported, or its ``Bias`` is something else.
    """
    module = _imported(find_model_file(name))
    kind: Any = getattr(module, "Bias", NeuralBias)
    if not (isinstance(kind, type) and issubclass(kind, Bias) and is_dataclass(kind)):
        raise InputError(
            f"'Bias' in the model file {module.__file__} is {kind!r}, expected a dataclass that "
            "inherits from halo_mdn.bias.Bias"
        )
    return kind


def _imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"halo_mdn_model_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks its own module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's own file may raise anything
        raise InputError(
            f"the model file {path} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    return module


def bias_of(config: RunConfig) -> Bias:
    """The bias that a configuration describes: that of its model file, with its settings.

    Raises
    ------
    InputError
        If the model file cannot be loaded, does not know a setting, or one is out of range.
    """
    kind, usual = load_bias(config.model.name), asdict(ModelConfig())
    known = {spec.name for spec in fields(kind) if spec.init}  # type: ignore[arg-type]
    shape = {name: value for name, value in asdict(config.model).items() if name != "name"}
    for name in set(shape) - known:
        if shape[name] != usual[name]:
            raise InputError(
                f"model.{name} is {shape[name]!r}, but the model {config.model.name} has no such "
                "setting: leave it out"
            )
    # A model file may take one number; only those that say so take one per parameter.
    # (Posteriors of version 0.1.0 hold one number.)
    for name in ("prior_mean", "prior_scale"):
        numbers = np.ravel(shape[name])
        shape[name] = float(numbers[0]) if len(numbers) == 1 else tuple(map(float, numbers))
    shape |= {name: getattr(config.data, name) for name in ("mass_threshold", "density_floor")}
    return kind(**{name: value for name, value in shape.items() if name in known})

"""Finds model files and run files, in a checkout or in an installed package, and loads models."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from halo_mdn.bias.base import Bias
from halo_mdn.bias.neural import NeuralBias
from halo_mdn.config import ModelConfig, RunConfig
from halo_mdn.config.shipped import shipped_folder, shipped_names
from halo_mdn.errors import InputError

Kind = Literal["fit", "joint"]
_ARGUMENTS: dict[Kind, tuple[str, ...]] = {
    "fit": ("bias", "log_likelihood"),
    "joint": ("problem",),
}


def find_model_file(name: str, kind: Kind = "fit") -> Path:
    """The file of a model: a path that ends in .py, or the name of a shipped model.

    Raises
    ------
    InputError
        If there is no such file; the models of that kind are then listed.
    """
    path = Path(name) if name.endswith(".py") else shipped_folder("models") / f"{name}.py"
    known = name.endswith(".py") or name in shipped_names("models", ".py")
    if not (known and path.is_file()):
        shipped = [other for other in shipped_names("models", ".py") if _is_shipped(other, kind)]
        raise InputError(
            f"there is no model {name!r} ({path}); the shipped ones are: {', '.join(shipped)}; "
            "give a path ending in .py for your own"
        )
    return path


def load_model(name: str, kind: Kind = "fit") -> Callable[..., None]:
    """The NumPyro model function ``model`` of a model file.

    Parameters
    ----------
    name : str
    kind : {"fit", "joint"}
        A model of a fit takes ``(bias, log_likelihood)``, one of joint inference ``(problem)``.

    Raises
    ------
    InputError
        If the file is missing, cannot be imported, defines no function ``model``, or one of the
        other kind.
    """
    module = _imported(find_model_file(name, kind), kind)
    model: Any = getattr(module, "model", None)
    if not callable(model):
        raise InputError(f"the model file {module.__file__} defines no function 'model'")
    return model


def load_bias(name: str) -> type[Bias]:
    """The class ``Bias`` of a model file; the neural bias if the file defines none.

    Raises
    ------
    InputError
        If the file is missing, cannot be imported, is for joint inference, or its ``Bias`` is
        something else.
    """
    module = _imported(find_model_file(name), "fit")
    kind: Any = getattr(module, "Bias", NeuralBias)
    if not (isinstance(kind, type) and issubclass(kind, Bias) and is_dataclass(kind)):
        raise InputError(
            f"'Bias' in the model file {module.__file__} is {kind!r}, expected a dataclass that "
            "inherits from halo_mdn.bias.Bias"
        )
    return kind


def _imported(path: Path, kind: Kind) -> ModuleType:
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
    other: Kind = "joint" if kind == "fit" else "fit"
    model = getattr(module, "model", None)
    if callable(model) and not _takes(model, kind) and _takes(model, other):
        command = {"fit": "a fit", "joint": "`run_inference.py joint`"}
        raise InputError(
            f"the model file {path} is one for {command[other]}, its model takes "
            f"({', '.join(_ARGUMENTS[other])}): {command[kind]} needs one that takes "
            f"({', '.join(_ARGUMENTS[kind])})"
        )
    return module


def _takes(model: Callable[..., None], kind: Kind) -> bool:
    """Whether a model can be called with the arguments of this kind."""
    try:
        inspect.signature(model).bind(*_ARGUMENTS[kind])
    except TypeError:
        return False
    return True


def _is_shipped(name: str, kind: Kind) -> bool:
    try:
        load_model(name, kind)
    except InputError:
        return False
    return True


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

"""Finds model files and run files, in a checkout or in an installed package, and loads models."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from halo_mdn.bias import Bias
from halo_mdn.errors import InputError
from halo_mdn.network import NeuralBias

_PACKAGE = Path(__file__).parent


def shipped_folder(name: str) -> Path:
    """The folder ``"models"`` or ``"runs"`` that comes with the package.

    A wheel carries it inside the package; a checkout has it at the top.
    """
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def is_installed(path: Path) -> bool:
    """Whether a file lies inside the package, where no results belong."""
    return path.resolve().is_relative_to(_PACKAGE.resolve())


def shipped_names(folder: str, suffix: str) -> list[str]:
    """Names of the files that come with the package, such as ``["neural_bias"]``."""
    return sorted(path.stem for path in shipped_folder(folder).glob(f"*{suffix}"))


def find_run_file(text: str) -> Path:
    """The run file that a command line means: a path, or the name of a shipped run file.

    Raises
    ------
    InputError
        If there is no such file.
    """
    path = Path(text)
    if path.is_file():
        return path
    shipped = shipped_folder("runs") / f"{path.stem}.toml"
    if text in (path.stem, f"{path.stem}.toml", f"runs/{path.stem}.toml") and shipped.is_file():
        return shipped
    names = ", ".join(shipped_names("runs", ".toml"))
    raise InputError(f"there is no run file {text}; the shipped ones are: {names}")


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

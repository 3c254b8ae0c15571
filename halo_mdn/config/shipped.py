"""Finds the models and run files that come with the package, in a checkout or installed."""

from __future__ import annotations

from pathlib import Path

from halo_mdn.errors import InputError

_PACKAGE = Path(__file__).parents[1]


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

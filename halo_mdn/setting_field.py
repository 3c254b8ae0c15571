"""Dataclass fields that are settings of run files and flags: with help text and limits."""

from __future__ import annotations

from dataclasses import field, fields
from typing import Any


def setting(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    above: float | None = None,
    path_suffix: str | None = None,
) -> Any:
    """A dataclass field that knows its help text and which values it accepts.

    Choices are a matter of its type, a ``Literal``. A text that ends with `path_suffix` is a path,
    made absolute when it is read; "" means always.
    """
    limits = {"minimum": minimum, "above": above, "path_suffix": path_suffix}
    return field(default=default, metadata={"help": help, **limits})


def setting_of(owner: type, name: str) -> Any:
    """A field with default, help text and limits of the field `name` of another dataclass."""
    spec = next(spec for spec in fields(owner) if spec.name == name)
    return field(default=spec.default, metadata=spec.metadata)


def numbers_of(owner: type, name: str) -> Any:
    """As :func:`setting_of`, for a field that is one number or several: here always several."""
    spec = next(spec for spec in fields(owner) if spec.name == name)
    several = spec.default if isinstance(spec.default, tuple) else (spec.default,)
    return field(default=several, metadata=spec.metadata)

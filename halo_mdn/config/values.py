"""Checks one value of a run file or a flag against the type of its setting."""

from __future__ import annotations

import math
import tomllib
import types
from dataclasses import Field
from typing import Any, Literal, Union, get_args, get_origin

from halo_mdn.errors import InputError


def check_value(value: Any, kind: Any, spec: Field[Any], where: str) -> Any:
    """The value in its declared type.

    Parameters
    ----------
    value
        As read from TOML.
    kind
        Declared type: bool, int, float, str, a ``Literal`` of texts, ``tuple[X, ...]`` or
        ``X | None``.
    spec
        The dataclass field, whose metadata holds limits.
    where
        Name of the setting for the error message.

    Raises
    ------
    InputError
        If the value has another type or is out of range.
    """
    if is_optional(kind):
        return None if value == "none" else check_value(value, without_none(kind), spec, where)
    if get_origin(kind) is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(check_value(item, get_args(kind)[0], spec, where) for item in items)
    if get_origin(kind) is Literal:
        return _check_choice(value, get_args(kind), where)
    _check_type(value, kind, where)
    value = kind(value)
    _check_range(value, spec, where)
    return value


def parse_text(text: str, kind: Any, where: str) -> Any:
    """The TOML value that a flag's text stands for: ``4``, ``true``, ``x,y,z``, ``[4, 4]``."""
    inner = without_none(kind) if is_optional(kind) else kind
    if is_optional(kind) and text == "none":
        return text
    if inner is str or get_origin(inner) is Literal:
        return text
    if get_origin(inner) is tuple:
        items = [part.strip() for part in text.strip("[]").split(",") if part.strip()]
        return [parse_text(item.strip("\"'"), get_args(inner)[0], where) for item in items]
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        raise InputError(f"{where} is {text!r}, expected {describe(kind)}") from None


def describe(kind: Any) -> str:
    """A type in words."""
    if is_optional(kind):
        return describe(without_none(kind)) + " or none"
    if get_origin(kind) is Literal:
        return " | ".join(get_args(kind))
    if get_origin(kind) is tuple:
        return {int: "whole numbers", float: "numbers", str: "texts"}[get_args(kind)[0]]
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]


def is_optional(kind: Any) -> bool:
    """Whether None is allowed."""
    return get_origin(kind) in (Union, types.UnionType) and type(None) in get_args(kind)


def without_none(kind: Any) -> Any:
    """X of ``X | None``."""
    return next(member for member in get_args(kind) if member is not type(None))


def _check_choice(value: Any, choices: tuple[str, ...], where: str) -> Any:
    _check_type(value, str, where)
    if value not in choices:
        raise InputError(f"{where} is {value!r}, expected one of: {', '.join(choices)}")
    return value


def _check_type(value: Any, kind: Any, where: str) -> None:
    accepted: Any = {bool: bool, int: int, float: (int, float), str: str}[kind]
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{where} is {value!r}, expected {describe(kind)}")


def _check_range(value: Any, spec: Field[Any], where: str) -> None:
    minimum, above = (spec.metadata[name] for name in ("minimum", "above"))
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{where} is {value}, expected a finite number")
    if minimum is not None and value < minimum:
        raise InputError(f"{where} is {value}, expected at least {minimum:g}")
    if above is not None and value <= above:
        raise InputError(f"{where} is {value}, expected more than {above:g}")

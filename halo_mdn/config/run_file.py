"""Reads run files, applies flags on top of them, and writes the resolved configuration back."""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import Field, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from halo_mdn.config.replaced_data import check_threshold_given, superseded
from halo_mdn.config.schema import NOT_PATHS, RunConfig
from halo_mdn.config.values import check_value, parse_text
from halo_mdn.errors import InputError

Schema = TypeVar("Schema")


def settings_of(cls: type = RunConfig, table: str = "") -> Iterator[tuple[str, Any, Field[Any]]]:
    """All settings as ``("table.name", type, field)``, in the order of the schema."""
    kinds = get_type_hints(cls)
    for spec in fields(cls):
        kind = kinds[spec.name]
        if is_dataclass(kind):
            yield from settings_of(kind, f"{spec.name}.")  # type: ignore[arg-type]
        else:
            yield table + spec.name, kind, spec


def load_config(path: Path | None = None, flags: Mapping[str, str] | None = None) -> RunConfig:
    """The configuration of a run.

    Parameters
    ----------
    path : Path or None
        Run file in TOML; None means all defaults. Relative paths in it start at its folder.
    flags : mapping of str to str, optional
        Settings that replace those of the file, as ``{"sampler.num_samples": "500"}``. Relative
        paths in them start at the current folder. Where they name another field or catalogue, what
        the file says of its own is left out.

    Raises
    ------
    InputError
        If the file cannot be read, a key is unknown or a value is wrong, or a flag replaces the
        catalogue and none gives its mass threshold.
    """
    return load_settings(RunConfig, path, flags)


def load_settings(
    schema: type[Schema], path: Path | None = None, flags: Mapping[str, str] | None = None
) -> Schema:
    """As :func:`load_config`, for a run file of another schema."""
    stored, given = _stored(schema, path), _given(schema, flags or {})
    if path:
        check_threshold_given(stored, given)
    left_out = superseded(stored, given)
    kept = {name: value for name, value in stored.items() if name not in left_out}
    return _assemble(schema, kept | given)


def left_out_settings(path: Path, flags: Mapping[str, str]) -> list[str]:
    """Settings of a run file that do not hold, as they speak of data that flags replace."""
    return superseded(_stored(RunConfig, path), _given(RunConfig, flags))


def nearest(name: str, known: list[str]) -> str:
    """The known setting whose name is closest: by the full name, then by the part after the dot."""
    best = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if not best:
        last = {full.rpartition(".")[2]: full for full in reversed(known)}
        best = difflib.get_close_matches(name.rpartition(".")[2], list(last), n=1, cutoff=0.0)
        best = [last[match] for match in best]
    return best[0] if best else known[0]


def to_toml(config: Any) -> str:
    """A configuration as a run file; settings that are None are left out."""
    lines, table = [], ""
    for name, value in _flatten(asdict(config)).items():
        if value is None:
            continue
        if (head := name.rpartition(".")[0]) != table:
            table = head
            lines.append(f"\n[{table}]")
        lines.append(f"{name.rpartition('.')[2]} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def to_json(config: Any) -> str:
    """The configuration as one line of JSON with sorted keys."""
    return json.dumps(asdict(config), sort_keys=True)


def config_hash(config: Any, *, without: tuple[str, ...] = ("output", "runtime")) -> str:
    """SHA-256 of the settings that decide the draws; tables in `without` do not."""
    values = {key: value for key, value in asdict(config).items() if key not in without}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _stored(schema: type, path: Path | None) -> dict[str, Any]:
    """The settings of a run file by full name, checked."""
    values = _flatten(_read_toml(path)) if path else {}
    known = {name: (kind, spec) for name, kind, spec in settings_of(schema)}
    resolved: dict[str, Any] = {}
    for name, value in values.items():
        kind, spec = _find(name, known, f" in {path}")
        value = check_value(value, kind, spec, f"{name} in {path}")
        resolved[name] = _absolute(value, spec, Path(path or ".").parent)
    return resolved


def _given(schema: type, flags: Mapping[str, str]) -> dict[str, Any]:
    """The settings of flags by full name, checked."""
    known = {name: (kind, spec) for name, kind, spec in settings_of(schema)}
    resolved: dict[str, Any] = {}
    for name, text in flags.items():
        kind, spec = _find(name, known, "")
        value = check_value(parse_text(text, kind, f"--{name}"), kind, spec, f"--{name}")
        resolved[name] = _absolute(value, spec, Path.cwd())
    return resolved


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the run file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"the run file {path} is not valid TOML: {error}") from None


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _find(name: str, known: Mapping[str, Any], where: str) -> Any:
    if name in known:
        return known[name]
    tables = {full.partition(".")[0] for full in known if "." in full}
    if name in tables:
        raise InputError(f"{name}{where} is a table of settings, expected [{name}] with entries")
    closest = nearest(name, list(known))
    raise InputError(f"unknown setting {name}{where}; did you mean {closest}?")


def _absolute(value: Any, spec: Field[Any], folder: Path) -> Any:
    if isinstance(value, tuple):
        return tuple(_absolute(item, spec, folder) for item in value)
    suffix = spec.metadata["path_suffix"]
    if suffix is None or value in NOT_PATHS or not value.endswith(suffix):
        return value
    return str((folder / Path(value).expanduser()).resolve())


def _assemble(schema: type[Schema], values: Mapping[str, Any]) -> Schema:
    kinds = get_type_hints(schema)
    parts: dict[str, Any] = {}
    for spec in fields(schema):  # type: ignore[arg-type]
        if is_dataclass(kinds[spec.name]):
            head = f"{spec.name}."
            own = {n.removeprefix(head): v for n, v in values.items() if n.startswith(head)}
            try:
                parts[spec.name] = kinds[spec.name](**own)  # type: ignore[operator]
            except ValueError as error:  # settings that check themselves
                raise InputError(f"[{spec.name}]: {error}") from None
        elif spec.name in values:
            parts[spec.name] = values[spec.name]
    return schema(**parts)

"""The house: imports run one way, and a name means one thing."""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "halo_mdn"

# Every room imports only from those above it; modules at the top of the package come first.
ROOMS = (
    "field",
    "halos",
    "bias",
    "likelihood",
    "sampling",
    "config",
    "io",
    "mocks",
    "predictions",
    "posterior",
    "report",
    "fitting",
    "calibration",
    "joint",
    "clients",
    "server",
    "cli",
)
ENTRY = ("__init__", "launch")  # above all rooms: they may import from any


class Import(NamedTuple):
    """``importer`` takes ``name`` from ``module``; a name is empty where a module is imported."""

    importer: str
    module: str
    name: str


@cache
def modules() -> dict[str, ast.Module]:
    """Syntax trees by module, such as ``field.grid``; a package is ``field.__init__``."""
    paths = sorted(PACKAGE.rglob("*.py"))
    names = [".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in paths]
    return {n: ast.parse(p.read_text("utf-8")) for n, p in zip(names, paths, strict=True)}


def imports_of(module: str, tree: ast.Module) -> list[Import]:
    """What a module imports from this package, also inside of functions."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} has a relative import"
            if node.module and node.module.split(".")[0] == "halo_mdn":
                found += [taken(module, node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            own = [alias.name for alias in node.names if alias.name.split(".")[0] == "halo_mdn"]
            found += [Import(module, resolved(name), "") for name in own]
    return found


def taken(importer: str, source: str, name: str) -> Import:
    as_module = resolved(f"{source}.{name}")
    if as_module in modules():
        return Import(importer, as_module, "")
    return Import(importer, resolved(source), name)


def resolved(dotted: str) -> str:
    """``halo_mdn.field.grid`` as ``field.grid``, ``halo_mdn.field`` as ``field.__init__``."""
    inside = dotted.removeprefix("halo_mdn").removeprefix(".")
    if inside in modules():
        return inside
    return f"{inside}.__init__" if inside else "__init__"


@cache
def all_imports() -> list[Import]:
    return [found for name, tree in modules().items() for found in imports_of(name, tree)]


def floor(module: str) -> int:
    if module in ENTRY:
        return len(ROOMS) + 1
    room, *inside = module.split(".")
    return ROOMS.index(room) + 1 if inside else 0


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Modules that lie on a circle: what is left when all that nothing left imports is gone."""
    left = {name: set(targets) for name, targets in graph.items()}
    while True:
        done = {name for name, targets in left.items() if not targets & set(left)}
        if not done:
            return sorted(left)
        left = {name: targets - done for name, targets in left.items() if name not in done}


def test_every_folder_is_a_room() -> None:
    folders = {name.split(".")[0] for name in modules() if "." in name}
    assert folders == set(ROOMS)


def test_imports_run_one_way() -> None:
    upward = [i for i in all_imports() if floor(i.module) > floor(i.importer)]
    assert not upward


def test_there_are_no_circles() -> None:
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for found in all_imports():
        graph[found.importer].add(found.module)
    assert not circles(graph)


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


def test_private_names_stay_where_they_are() -> None:
    private = [i for i in all_imports() if i.name.startswith("_") and i.name != "__version__"]
    assert not private


def test_private_attributes_belong_to_the_object_itself() -> None:
    """``other._name`` of another object is as private as an import of it."""
    found = []
    for module, tree in modules().items():
        owned = own_private_names(tree)
        found += [
            f"{module}: {ast.unparse(node)}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and node.attr.startswith("_")
            and not node.attr.startswith("__")
            and node.attr not in owned
        ]
    assert not found


def own_private_names(tree: ast.Module) -> set[str]:
    """Private names that a module defines: functions, methods, variables and attributes."""
    owned = {"_asdict", "_replace", "_fields", "_make", "_option_string_actions"}  # of libraries
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            owned.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            owned.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            owned.add(node.attr)
    return owned


def test_the_package_does_not_import_itself_whole() -> None:
    whole = [i for i in all_imports() if i.module == "__init__" and i.importer not in ENTRY]
    assert not [i for i in whole if not i.importer.startswith("clients.")]


@pytest.mark.parametrize("kind", ["modules", "classes"])
def test_a_name_means_one_thing(kind: str) -> None:
    if kind == "modules":
        names = [name.split(".")[-1] for name in modules() if not name.endswith("__init__")]
    else:
        trees = modules().values()
        names = [n.name for t in trees for n in t.body if isinstance(n, ast.ClassDef)]
        names = [name for name in names if not name.startswith("_")]
    assert not [name for name, count in Counter(names).items() if count > 1]

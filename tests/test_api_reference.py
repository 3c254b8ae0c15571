"""docs/api.md is what the docstrings say, of every public name."""

from __future__ import annotations

import ast
import importlib
import runpy
from pathlib import Path

import pytest

import halo_mdn as hm

REFERENCE = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "api_reference.py"))
NAMES = [
    (module, name)
    for module, names in REFERENCE["GROUPS"].values()
    for name in names or REFERENCE["exported"](module)
]


def test_the_page_is_up_to_date() -> None:
    written = REFERENCE["PAGE"].read_text(encoding="utf-8")
    assert written == REFERENCE["page"](), "run python scripts/api_reference.py"


def test_the_page_has_every_name_of_the_package() -> None:
    offered = {name for name, value in vars(hm).items() if callable(value)}
    assert {name for module, name in NAMES if module == "halo_mdn"} == offered


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_a_public_name_exists_and_has_a_docstring(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)
    assert ast.get_docstring(REFERENCE["definition"](module, name)[1])

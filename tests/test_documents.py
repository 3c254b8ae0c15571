"""Every Python block of the README and the guide runs; other pages import what there is."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/guide.md")
ALL_PAGES = [
    path.relative_to(ROOT)
    for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")))
]


def blocks() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        codes = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
        found += [(f"{page}-{i}", code) for i, code in enumerate(codes)]
    return found


@pytest.mark.parametrize("code", [pytest.param(code, id=name) for name, code in blocks()])
@pytest.mark.filterwarnings("default")
def test_python_blocks_run(code: str) -> None:
    exec(compile(code, "document", "exec"), {})


def anchors_of(path: Path) -> set[str]:
    """As they are made from headings: lower case, hyphens, no punctuation."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", ALL_PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    text, missing = (ROOT / page).read_text(encoding="utf-8"), []
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", text):
        path = (ROOT / page).parent / target if target else ROOT / page
        if "://" in target:
            continue
        if not path.exists() or (anchor and anchor not in anchors_of(path)):
            missing.append(f"{target}#{anchor}")
    assert not missing


def test_the_test_command_is_the_one_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = re.search(r"## Test it\s+```sh\n(.*?)\n```", readme, flags=re.DOTALL)
    assert command is not None
    assert command[1] in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


IMPORT = re.compile(r"^\s*from (halo_mdn(?:\.\w+)*) import ([\w, ]+)$", re.MULTILINE)


@pytest.mark.parametrize("page", ALL_PAGES, ids=str)
def test_names_that_a_page_imports_are_there(page: Path) -> None:
    for module, names in IMPORT.findall((ROOT / page).read_text(encoding="utf-8")):
        for name in (name.split(" as ")[0].strip() for name in names.split(",")):
            if not hasattr(importlib.import_module(module), name):
                importlib.import_module(f"{module}.{name}")

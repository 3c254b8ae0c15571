"""Every Python block of the README and the guide runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/guide.md")


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


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]+)\)", text)
    missing = [t for t in targets if "://" not in t and not ((ROOT / page).parent / t).exists()]
    assert not missing


def test_the_test_command_is_the_one_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = re.search(r"## Test it\s+```sh\n(.*?)\n```", readme, flags=re.DOTALL)
    assert command is not None
    assert command[1] in (ROOT / ".ci" / "run").read_text(encoding="utf-8")

"""Deliberate faults: each is another program, and none is in what cannot change a result."""

from __future__ import annotations

import runpy
from pathlib import Path

SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "mutate.py"))
SOURCE = '''
"""A text, with 3 numbers."""
def f(a: int, b: int = 0) -> int:
    if a < b and not a:
        raise ValueError(f"{a + 1}")
    g(a)
    return min(a, -b) + 2 * b
'''


def test_each_fault_is_another_program() -> None:
    faults = list(SCRIPT["faults_of"](SOURCE))
    programs = [changed for _, _, changed in faults]
    for program in programs:
        compile(program, "fault", "exec")
        assert 'f"{a + 1}"' in program or "f'{a + 1}'" in program
        assert "3 numbers" in program and "a: int" in program
    assert len(set(programs)) == len(programs) > 15
    found = {(line, what) for line, what, _ in faults}
    assert {
        (4, "a < b -> a <= b"),
        (4, "a < b and (not a) -> a < b or not a"),
        (4, "not a -> not not a"),
        (6, "g(a) -> None"),
        (7, "2 * b -> 2 / b"),
        (7, "min(a, -b) + 2 * b -> min(a, -b) + 0"),
        (7, "min -> max"),
        (7, "2 -> 3"),
    } <= found


def test_a_module_is_tested_by_the_file_of_its_name() -> None:
    assert SCRIPT["tests_of"](Path("halo_mdn/field/lpt.py")) == Path("tests/field/test_lpt.py")

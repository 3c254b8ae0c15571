"""Do the tests notice a fault? Makes deliberate faults in modules, one at a time, and runs tests.

    python scripts/mutate.py --sample 20 halo_mdn/field/lpt.py
    python scripts/mutate.py halo_mdn/bias/neural.py=tests/bias/test_neural.py,tests/likelihood

A module is tested by the files after `=`, or by `tests/ROOM/test_MODULE.py`. Signs, products,
comparisons, constants, conditions and terms are changed; each fault is "killed" where a test fails
or takes too long, and "survived" where none does. A survivor is a missing test, or a fault that
changes no result. All is done in a temporary copy, in which XLA keeps what it has compiled.
Developers on Linux or macOS; it takes seconds per fault.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPIED = ("halo_mdn", "tests", "models", "runs", "docs", "scripts", "pyproject.toml")
PRELOADED = ("scipy.stats", "jax", "jax.scipy.special", "numpyro", "xarray", "h5netcdf", "pytest")
NO_CACHE = '"jax_enable_compilation_cache", False'  # of tests/conftest.py: the copy has one

OPERATORS: dict[type, type] = {  # what each operator becomes
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.MatMult: ast.Mult, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
COMPARISONS: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE), ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
NAMES = {
    "min": "max", "minimum": "maximum", "argmin": "argmax", "any": "all", "floor": "ceil",
    "sum": "mean", "exp": "expm1", "log": "log1p", "abs": "float", "zeros": "ones",
}  # fmt: skip
LEFT_ALONE = (ast.Raise, ast.Import, ast.ImportFrom, ast.JoinedStr)
NAMES |= {new: old for old, new in NAMES.items() if new not in ("mean", "float")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="+", help="MODULE.py, or MODULE.py=TEST,TEST")
    parser.add_argument("--sample", type=int, default=0, help="faults per module; 0 for all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--timeout", type=float, default=120, help="seconds for the tests")
    given = parser.parse_args()
    sys.dont_write_bytecode = True  # two faults within a second would share a compiled file
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        copy_tree(tree)
        for name in PRELOADED:
            importlib.import_module(name)
        for text in given.modules:
            module, _, tests = text.partition("=")
            files = tests.split(",") if tests else [str(tests_of(Path(module)))]
            judge(tree, module, files, given.sample, given.seed, given.timeout)


def copy_tree(tree: Path) -> None:
    """A working copy, in which XLA may keep what it has compiled from one fault to the next."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tree / name)
    conftest = tree / "tests" / "conftest.py"
    conftest.write_text(conftest.read_text("utf-8").replace(NO_CACHE, NO_CACHE[:-5] + "True"))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(tree / "compiled")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


def tests_of(module: Path) -> Path:
    return Path("tests", *module.parts[1:-1], f"test_{module.name}")


def judge(tree: Path, module: str, files: list[str], sample: int, seed: int, limit: float) -> None:
    """Make the faults of one module, and say of each whether the tests notice it."""
    path = tree / module
    source = path.read_text("utf-8")
    faults = list(faults_of(source))
    if sample and sample < len(faults):
        faults = sorted(random.Random(seed).sample(faults, sample))
    seconds, passed = run_tests(tree, files, 10 * limit)
    if not passed:
        print(f"{module}: its tests fail without any fault: {' '.join(files)}", flush=True)
        return
    print(f"{module}: {len(faults)} faults, tests take {seconds:.0f} s", flush=True)
    survivors = 0
    for line, what, changed in faults:
        path.write_text(changed, "utf-8")
        seconds, passed = run_tests(tree, files, limit)
        survivors += passed
        verdict = "SURVIVED" if passed else "killed"
        print(f"  {module}:{line}: {what}: {verdict} ({seconds:.0f} s)", flush=True)
    path.write_text(source, "utf-8")
    print(f"{module}: {len(faults) - survivors} of {len(faults)} killed", flush=True)


def faults_of(source: str) -> Iterator[tuple[int, str, str]]:
    """The line, a description, and the whole changed source of every fault."""
    tree = ast.parse(source)
    nodes = list(places(tree))
    for index, node in enumerate(nodes):
        for number, _ in enumerate(changes(copy.deepcopy(node))):
            other = copy.deepcopy(tree)
            target = list(places(other))[index]
            before = ast.unparse(target)
            list(changes(target))[number]()
            after = ast.unparse(target)
            if after != before:
                what = f"{textwrap.shorten(before, 70)} -> {textwrap.shorten(after, 70)}"
                yield node.lineno, what, ast.unparse(ast.fix_missing_locations(other))  # type: ignore[attr-defined]


def places(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes that a fault may be in: not annotations, texts of errors, imports."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, LEFT_ALONE):
                yield child
                yield from places(child)


def changes(node: ast.AST) -> Iterator:
    """Functions that each put one fault into a node; see the tables above."""
    if isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in OPERATORS:
        yield lambda: setattr(node, "op", OPERATORS[type(node.op)]())
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub, ast.Mult)):
        neutral = ast.Constant(1 if isinstance(node.op, ast.Mult) else 0)
        yield lambda: setattr(node, "right", neutral)  # the term is gone
    if isinstance(node, ast.Compare):
        for new in COMPARISONS.get(type(node.ops[0]), ()):
            yield lambda new=new: node.ops.__setitem__(0, new())
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        for step in (1, -1):
            yield lambda step=step: setattr(node, "value", node.value + step)
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield lambda: setattr(node, "value", not node.value)
    if isinstance(node, ast.UnaryOp):  # the second of two signs takes the first away
        yield lambda: setattr(node, "operand", ast.UnaryOp(node.op, node.operand))
    for name in ("id", "attr"):
        if getattr(node, name, "") in NAMES:
            yield lambda name=name: setattr(node, name, NAMES[getattr(node, name)])
    if isinstance(node, (ast.If, ast.IfExp)):
        for value in (True, False):
            yield lambda value=value: setattr(node, "test", ast.Constant(value))
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "where" and node.args[2:]:
        yield lambda: node.args.__setitem__(slice(1, 3), node.args[2:0:-1])
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield lambda: setattr(node, "value", ast.Constant(None))  # the call is not made


def run_tests(tree: Path, files: list[str], limit: float) -> tuple[float, bool]:
    """Seconds that the tests took, and whether they passed; in a process that has JAX already."""
    start = time.monotonic()
    child = os.fork()
    if not child:
        os.setsid()
        run_here(tree, files)
    done, status = 0, 1
    while not done and time.monotonic() - start < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.05)
    if not done:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return time.monotonic() - start, bool(done) and status == 0


def run_here(tree: Path, files: list[str]) -> None:
    """Run the tests silently and leave with their exit code; never returns."""
    import pytest

    os.chdir(tree)
    sys.path.insert(0, str(tree))
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    try:
        os._exit(pytest.main(["-x", "-q", "-n", "0", "-p", "no:cacheprovider", *files]))
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()

"""Write docs/api.md from signatures and docstrings: python scripts/api_reference.py

The source is read, not imported, and signatures are copied as they are written there: the page is
the same under every version of Python and JAX, and making it takes no time.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from inspect import cleandoc
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "api.md"
HEAD = """# API reference

Written by `python scripts/api_reference.py` from the docstrings; change those, not this page. For
how the pieces go together, read the [guide](guide.md). In signatures, `Array` is `jax.Array` and
`ArrayLike` is what JAX takes for one, NumPy arrays included.
"""
GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {  # no names: all that the module offers
    "Data": (
        "halo_mdn",
        ("Grid", "HaloCatalogue", "PlacedHalos", "place_halos", "MassObservation", "InputError"),
    ),
    "Models": ("halo_mdn", ("Bias", "NeuralBias", "TruncatedPowerLaw", "OverdispersedBias")),
    "Likelihood and prior": (
        "halo_mdn",
        (
            "fixed_field_likelihood",
            "FixedFieldLikelihood",
            "log_likelihood",
            "log_prior",
            "log_intensity",
            "log_expected",
        ),
    ),
    "Adjoint": ("halo_mdn", ("adjoint", "Adjoint")),
    "Simulation": ("halo_mdn", ("simulate",)),
    "Identified functions": ("halo_mdn", ("identified_functions", "IdentifiedFunctions")),
    "Sampling": ("halo_mdn.sampling", ()),
    "Diagnostics": ("halo_mdn.posterior.summary", ()),
    "Density from initial conditions": (
        "halo_mdn.field.lpt",
        ("Lpt", "linear_field", "density", "displacement"),
    ),
    "Cosmology": (
        "halo_mdn.field.cosmology",
        ("Cosmology", "growth_factor", "second_order_growth", "linear_power"),
    ),
    "Fields split over devices": (
        "halo_mdn.likelihood.devices.slabs",
        ("slab_mesh", "shard_field", "shard_catalogue", "ShardedCatalogue", "check_slabs"),
    ),
    "Likelihood over devices": (
        "halo_mdn.likelihood.devices.likelihood",
        ("sharded_adjoint", "sharded_likelihood", "ShardedLikelihood"),
    ),
}
Definition = ast.FunctionDef | ast.ClassDef


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for title, (module, names) in GROUPS.items():
        parts.append(f"## {title}\n")
        if module != "halo_mdn":
            parts.append(f"Module `{module}`.\n\n{_markdown(_docstring(_tree(module)))}\n")
        parts += [_entry(module, name) for name in names or exported(module)]
    return "\n".join(parts)


def exported(module: str) -> list[str]:
    """Names that a module offers: its ``__all__``, or what it imports as itself."""
    for node in _tree(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    imports = [node for node in _tree(module).body if isinstance(node, ast.ImportFrom)]
    return [alias.name for node in imports for alias in node.names if alias.asname == alias.name]


def definition(module: str, name: str) -> tuple[str, Definition]:
    """Where a name is defined, through any number of imports: module and syntax node."""
    for node in _tree(module).body:
        if isinstance(node, Definition) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom) and name in [a.asname or a.name for a in node.names]:
            return definition(str(node.module), name)
    raise LookupError(f"{module} has no function or class {name}")


def _entry(module: str, name: str) -> str:
    source, node = definition(module, name)
    text = f"### `{module}.{name}`\n\n" + _described(source, node)
    if isinstance(node, ast.ClassDef):
        for method in node.body:
            public = isinstance(method, ast.FunctionDef) and (
                method.name == "__call__" or not method.name.startswith("_")
            )
            if public and _docstring(method):  # without one it does what its base class says
                text += f"\n#### `{name}.{method.name}`\n\n" + _described(source, method)
    return text


def _described(module: str, node: Definition) -> str:
    return f"```python\n{_signature(module, node)}\n```\n\n{_markdown(_docstring(node))}\n"


def _signature(module: str, node: Definition) -> str:
    """The lines of the source before the docstring; of a class, its fields too."""
    lines = _path(module).read_text(encoding="utf-8").splitlines()
    decorators = [x for x in node.decorator_list if not _is_registration(x)]
    parts = [ast.get_source_segment("\n".join(lines), x) for x in decorators]
    head = [f"@{part}" for part in parts] + lines[node.lineno - 1 : node.body[0].lineno - 1]
    if isinstance(node, ast.ClassDef):
        for field in node.body:
            if isinstance(field, ast.AnnAssign) and not ast.unparse(field.target).startswith("_"):
                head.append(_field("\n".join(lines), field))
    indent = " " * node.col_offset
    return dedent("\n".join(indent * line.startswith("@") + line for line in head)).rstrip(":")


def _is_registration(decorator: ast.expr) -> bool:
    return "register_dataclass" in ast.unparse(decorator)


def _field(source: str, field: ast.AnnAssign) -> str:
    """A field with its default, without the help text and limits of a setting."""
    default = field.value
    if isinstance(default, ast.Call) and ast.unparse(default.func) in ("setting", "field"):
        named = [word.value for word in default.keywords if word.arg == "default"]
        default = (default.args or named or [None])[0]
    shown = "" if default is None else f" = {ast.get_source_segment(source, default)}"
    return f"    {field.target.id}: {ast.get_source_segment(source, field.annotation)}{shown}"


def _markdown(text: str) -> str:
    """A NumPy docstring with its sections as lists."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)  # roles such as :func:`name`
    text = re.sub(r"::$", ":", text, flags=re.MULTILINE)
    prose, *sections = re.split(r"^(\w+)\n-{3,}\n", text, flags=re.MULTILINE)
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        shown = f"```pycon\n{body.strip()}\n```" if title == "Examples" else _items(body)
        prose += f"**{title}**\n\n{shown}\n\n"
    return prose.strip()


def _items(body: str) -> str:
    """List items of a section: ``name : type`` at the margin, its description indented."""
    items = []
    for match in re.finditer(r"^(\S.*)\n?((?:[ \n].*\n?)*)", body, flags=re.MULTILINE):
        name, _, kind = match[1].partition(" : ")
        about = re.sub(r"\n+", "\n  ", dedent(match[2]).strip())
        plain = "`" not in name
        head = (f"`{name}`" if plain else name) + (f", *{kind}*" if kind else "")
        items.append(f"- {head}" + (f": {about}" if about else ""))
    return "\n".join(items)


def _docstring(node: ast.AST) -> str:
    text = ast.get_docstring(node, clean=False)  # type: ignore[arg-type]
    return cleandoc(text) if text else ""


def _path(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_path(module).read_text(encoding="utf-8"))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

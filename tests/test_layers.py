"""The architecture, checked: a layer imports only from the layers before it, and modules stay small and quiet."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import mempalace_mcp

PACKAGE = Path(mempalace_mcp.__file__).parent
LAYERS = ("core", "storage", "embedding", "palace", "runtime", "server", "daemon", "cli")
ALLOWED = {layer: set(LAYERS[: position + 1]) for position, layer in enumerate(LAYERS)} | {
    "storage": {"core", "storage"},
    "embedding": {"core", "embedding"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST_FILE = 600
LONGEST_FUNCTION = 60
STANDARD_LIBRARY_ONLY = ("core",)


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", [path for path in MODULES if path.parent != PACKAGE], ids=relative)
def test_a_module_imports_only_from_its_layer_and_those_before_it(path: Path) -> None:
    layer = layer_of(path)
    for name in imports(ast.parse(path.read_text(encoding="utf-8"))):
        parts = name.split(".")
        if parts[0] == "mempalace_mcp" and len(parts) > 1 and parts[1] != "__version__":
            assert parts[1] in ALLOWED[layer], f"{relative(path)} imports {name}"


@pytest.mark.parametrize("path", [path for path in MODULES if layer_of(path) in STANDARD_LIBRARY_ONLY], ids=relative)
def test_the_core_needs_the_standard_library_alone(path: Path) -> None:
    import sys

    for name in imports(ast.parse(path.read_text(encoding="utf-8"))):
        top = name.split(".")[0]
        assert top in sys.stdlib_module_names or top == "mempalace_mcp", f"{relative(path)} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_modules_and_functions_stay_small(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert source.count("\n") <= LONGEST_FILE
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION, f"{node.name} is too long"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_no_module_keeps_mutable_state_or_rebinds_globals(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Global)]
    for statement in tree.body:
        value = getattr(statement, "value", None)
        target = getattr(statement, "target", None) or next(iter(getattr(statement, "targets", [])), None)
        if isinstance(value, ast.Dict | ast.List | ast.Set) and isinstance(target, ast.Name):
            assert target.id.isupper() or target.id.startswith("__"), f"{target.id} looks like shared state"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_every_public_thing_says_what_it_means(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree) or not tree.body, "the module has no docstring"
    for node in tree.body:
        is_tool = isinstance(node, ast.FunctionDef) and path.parent.name == "tools"  # explained by its Tool
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_") and not is_tool:
            assert ast.get_docstring(node), f"{node.name} has no docstring"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_broad_excepts_give_their_reason(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
            passes_on = isinstance(node.body[-1], ast.Raise)
            has_reason = "# " in lines[node.lineno - 1]
            assert not broad or passes_on or has_reason, f"line {node.lineno} catches everything and says not why"

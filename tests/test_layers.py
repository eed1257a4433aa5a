"""The architecture, checked: a layer imports only from the layers before it, and modules stay readable and quiet.

Each test lists all that breaks its rule.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import mempalace_mcp

PACKAGE = Path(mempalace_mcp.__file__).parent
LAYERS = ("core", "storage", "embedding", "palace", "runtime", "server", "daemon", "setup", "cli")
ALLOWED = {layer: set(LAYERS[: position + 1]) for position, layer in enumerate(LAYERS)} | {
    "storage": {"core", "storage"},
    "embedding": {"core", "embedding"},
}
LONGEST_FILE = 600
LONGEST_FUNCTION = 60
N = TypeVar("N", bound=ast.AST)


SQLITE = "mempalace_mcp.storage.sqlite"
POSTGRES = "mempalace_mcp.storage.postgres"
NAMES_POSTGRES = ("runtime/backend.py", "runtime/databases.py", "cli/")
NAMES_SQLITE = {
    "runtime/backend.py": "composes the palace",
    "runtime/databases.py": "composes the palace",
    "cli/doctor.py": "is about files",
    "cli/manage.py": "is about files",
    "cli/restoring.py": "is about files",
}
IMPORTS_SQLITE3 = {
    "core/disk_set.py": "a temporary file",
    "core/foreign_database.py": "databases of other programs",
    "storage/tokenizer.py": "FTS5 in memory",
    "storage/vectors/chroma.py": "Chroma's own database",
    "storage/vectors/manifest.py": "Chroma's own database",
}


@dataclass(frozen=True)
class Module:
    """A file of the package."""

    path: Path

    @property
    def name(self) -> str:
        """Its path within the package."""
        return self.path.relative_to(PACKAGE).as_posix()

    @property
    def layer(self) -> str:
        """Its folder; of the modules beside the folders, their own name."""
        return self.path.relative_to(PACKAGE).parts[0]

    @cached_property
    def source(self) -> str:
        """Its text."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax."""
        return ast.parse(self.source)

    def nodes(self, kind: type[N]) -> Iterator[N]:
        """All nodes of a kind."""
        return (node for node in ast.walk(self.tree) if isinstance(node, kind))

    @property
    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """All functions and methods."""
        yield from self.nodes(ast.FunctionDef)
        yield from self.nodes(ast.AsyncFunctionDef)

    @property
    def imports(self) -> Iterator[str]:
        """The dotted names that it imports."""
        for plain in self.nodes(ast.Import):
            yield from (alias.name for alias in plain.names)
        for node in self.nodes(ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names)


MODULES = [Module(path) for path in sorted(PACKAGE.rglob("*.py"))]


def test_a_module_imports_only_from_its_layer_and_those_before_it() -> None:
    wrong = []
    for module in MODULES:
        for name in module.imports if module.layer in ALLOWED else ():
            package, _, rest = name.partition(".")
            layer = rest.split(".")[0]
            if package == "mempalace_mcp" and layer != "__version__" and layer not in ALLOWED[module.layer]:
                wrong.append(f"{module.name} imports {name}")
    assert not wrong


def test_imports_say_where_a_name_comes_from() -> None:
    assert not [f"{module.name} imports {name}" for module in MODULES for name in module.imports if name[0] == "."]


def test_another_database_can_stand_beside_sqlite() -> None:
    """Others know it by `storage/connection.py` and `storage/database.py`."""
    others = [module for module in MODULES if not module.name.startswith("storage/sqlite/")]
    names = [(module.name, name) for module in others for name in module.imports]
    assert not [each for each in names if each[1].split(".")[0] == "sqlite3" and each[0] not in IMPORTS_SQLITE3]
    assert not [each for each in names if each[1].startswith(SQLITE) and each[0] not in NAMES_SQLITE]


def test_postgres_is_known_where_it_is_composed_alone() -> None:
    """Its library is an extra, and its import takes longer than a palace takes to open."""
    others = [module for module in MODULES if not module.name.startswith("storage/postgres/")]
    names = [(module.name, name) for module in others for name in module.imports]
    assert not [each for each in names if each[1].split(".")[0] == "psycopg"]
    assert not [each for each in names if each[1].startswith(POSTGRES) and not each[0].startswith(NAMES_POSTGRES)]
    own = {name for module in MODULES if module not in others for name in module.imports}
    assert not [name for name in own if name.startswith(SQLITE)]


def test_the_core_needs_the_standard_library_alone() -> None:
    known = sys.stdlib_module_names | {"mempalace_mcp"}
    core = [module for module in MODULES if module.layer == "core"]
    foreign = [f"{module.name} imports {name}" for module in core for name in module.imports]
    assert not [each for each in foreign if each.rpartition(" ")[2].split(".")[0] not in known]


def test_one_module_knows_the_operating_system() -> None:
    known = {"sys.platform", "os.name"}
    assert not [
        f"{module.name}, line {node.lineno}"
        for module in MODULES
        for node in module.nodes(ast.Attribute)
        if ast.unparse(node) in known and module.name != "core/platform.py"
    ]
    assert not [module.name for module in MODULES for name in module.imports if name == "platform"]


def test_modules_and_functions_stay_small() -> None:
    assert not [module.name for module in MODULES if module.source.count("\n") > LONGEST_FILE]
    assert not [
        f"{module.name}: {function.name}"
        for module in MODULES
        for function in module.functions
        if (function.end_lineno or 0) - function.lineno >= LONGEST_FUNCTION
    ]


def test_no_module_keeps_mutable_state_or_rebinds_globals() -> None:
    wrong = [
        f"{module.name}: global {', '.join(node.names)}" for module in MODULES for node in module.nodes(ast.Global)
    ]
    for module in MODULES:
        for statement in module.tree.body:
            if isinstance(getattr(statement, "value", None), ast.Dict | ast.List | ast.Set):
                target = getattr(statement, "target", None) or next(iter(getattr(statement, "targets", [])), None)
                name = target.id if isinstance(target, ast.Name) else "__"
                if not name.isupper() and not name.startswith("__"):
                    wrong.append(f"{module.name}: {name}")
    assert not wrong


def test_modules_classes_and_public_functions_say_what_they_mean() -> None:
    silent = []
    for module in MODULES:
        if module.tree.body and not ast.get_docstring(module.tree):
            silent.append(module.name)
        for node in module.tree.body:
            is_tool = isinstance(node, ast.FunctionDef) and module.path.parent.name == "tools"  # its Tool describes it
            if (
                isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                and node.name[0] != "_"
                and not is_tool
            ):
                silent += [] if ast.get_docstring(node) else [f"{module.name}: {node.name}"]
    assert not silent


def test_broad_excepts_give_their_reason() -> None:
    wrong = []
    for module in MODULES:
        lines = module.source.splitlines()
        for node in module.nodes(ast.ExceptHandler):
            broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
            passes_on = isinstance(node.body[-1], ast.Raise)
            if broad and not passes_on and "# " not in lines[node.lineno - 1]:
                wrong.append(f"{module.name}, line {node.lineno}")
    assert not wrong

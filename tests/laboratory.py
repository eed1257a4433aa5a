"""The package with something changed in it, for programs that a test starts.

A laboratory is a folder from which `python -m mempalace_mcp` imports the package. Its modules are the real ones; some
of them are changed as soon as they are imported, before anybody else sees them. Daemons that such a program starts are
of the same laboratory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mempalace_mcp"

Changes = Mapping[str, Mapping[str, int | float | str] | Callable[[ModuleType], None]]
"""By the name of a module within the package: values of its constants, or a function of `tests/injections.py` that
changes the module."""

_INITIAL = """\
import sys

__path__[:] = [{package!r}]
__version__ = {version!r}
sys.path.append({root!r})

from tests.laboratory import install

install({folder!r}, {constants!r}, {functions!r})
"""


def laboratory(folder: Path, changes: Changes, version: str = "0.1.0") -> Path:
    """Make a laboratory in a folder, and return that: programs are to be started in it."""
    initial = folder / PACKAGE.name / "__init__.py"
    initial.parent.mkdir(parents=True)
    constants = {name: dict(change) for name, change in changes.items() if not callable(change)}
    functions = {name: (change.__module__, change.__name__) for name, change in changes.items() if callable(change)}
    initial.write_text(
        _INITIAL.format(
            package=str(PACKAGE),
            version=version,
            root=str(ROOT),
            folder=str(folder),
            constants=constants,
            functions=functions,
        ),
        encoding="utf-8",
    )
    return folder


def install(
    folder: str, constants: Mapping[str, Mapping[str, object]], functions: Mapping[str, tuple[str, str]]
) -> None:
    """Change the modules in this process, which was started in a laboratory."""
    of_daemons = {"daemon.connector": {"_PACKAGE_ROOT": folder}}
    changed = {f"{PACKAGE.name}.{name}" for name in (*constants, *functions, *of_daemons)}

    def change(module: ModuleType) -> None:
        name = module.__name__.removeprefix(f"{PACKAGE.name}.")
        for constant, value in {**constants.get(name, {}), **of_daemons.get(name, {})}.items():
            getattr(module, constant)  # a constant that is not there any more would change nothing
            setattr(module, constant, value)
        if name in functions:
            where, function = functions[name]
            getattr(import_module(where), function)(module)

    sys.meta_path.insert(0, _Finder(frozenset(changed), change))


class _Finder(MetaPathFinder):
    """Finds the modules that are to be changed."""

    def __init__(self, names: frozenset[str], change: Callable[[ModuleType], None]) -> None:
        self._names = names
        self._change = change

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname in self._names else None
        if spec is not None and spec.loader is not None:
            spec.loader = _ChangingLoader(spec.loader, self._change)
        return spec


class _ChangingLoader(Loader):
    """Loads a module and changes it."""

    def __init__(self, loader: Loader, change: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._change = change

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._change(module)

"""An environment of its own for each client: a virtual environment made by uv, or a folder filled by npm.

A folder that is complete is used again, so the network is needed only for what is new.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.clients.catalogue import FOLDER, Catalogue, Client

DRIVERS = FOLDER / "drivers"
COMPLETE = "complete"


def cache_folder() -> Path:
    """Where environments are kept from one run to the next."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mempalace-mcp" / "clients"


class NotInstalled(Exception):
    """An environment cannot be made here."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where the programs of a client are, and what a process of it needs in its environment."""

    folder: Path
    programs: Path
    variables: Mapping[str, str]


class Environments:
    """Makes them below one folder."""

    def __init__(self, folder: Path, catalogue: Catalogue) -> None:
        self._folder = folder
        self._catalogue = catalogue

    def of(self, client: Client) -> Environment:
        """The client's environment, made now if it is not there.

        Raises:
            NotInstalled: uv or npm is missing or fails.
        """
        if client.kind == "python":
            folder = self._made(client.id, client.install, _fill_by_uv)
            return Environment(folder, folder / "bin", {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"})
        node = self._made("node", [f"node@{self._catalogue.node}"], _fill_by_npm) / "node_modules" / ".bin"

        def fill(folder: Path, install: Sequence[str]) -> None:
            _fill_by_npm(folder, install)
            if client.setup:
                _run([str(node / "node"), *client.setup], cwd=folder)

        folder = self._made(client.id, client.install, fill)
        programs = folder / "node_modules" / ".bin"
        path = os.pathsep.join([str(node), str(programs), os.environ["PATH"]])
        return Environment(folder, programs, {"PATH": path})

    def driver(self, client: Client) -> tuple[list[str], Environment]:
        """The command that starts the client's driver."""
        environment = self.of(client)
        file, *options = client.driver.split()
        if file.endswith(".py"):
            python = environment.programs / "python" if client.kind == "python" else Path(sys.executable)
            return [str(python), str(DRIVERS / file), *options], environment
        for module in DRIVERS.glob("*.mjs"):  # packages are looked for beside the file that imports them
            shutil.copyfile(module, environment.folder / module.name)
        return ["node", str(environment.folder / file), *options], environment

    def _made(self, name: str, install: Sequence[str], fill: Callable[[Path, Sequence[str]], None]) -> Path:
        digest = hashlib.sha256("\n".join([sys.version, *install]).encode()).hexdigest()[:12]
        folder = self._folder / f"{name}-{digest}"
        with _alone(self._folder / f"{name}.lock"):
            if not (folder / COMPLETE).exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                fill(folder, install)
                (folder / COMPLETE).touch()
        return folder


def _fill_by_uv(folder: Path, install: Sequence[str]) -> None:
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        raise NotInstalled("there is no uv: pip install uv")
    _run([uv, "venv", "--quiet", "--python", sys.executable, "--allow-existing", str(folder)])
    _run([uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), *install])


def _fill_by_npm(folder: Path, install: Sequence[str]) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NotInstalled("there is no npm")
    (folder / "package.json").write_text('{"private": true}')
    _run([npm, "install", "--silent", "--no-audit", "--no-fund", "--prefer-offline", "--prefix", str(folder), *install])


def _run(command: Sequence[str], cwd: Path | None = None) -> None:
    finished = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    if finished.returncode:
        raise NotInstalled(f"{' '.join(command)}\n{finished.stdout}{finished.stderr}")


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Several processes may want the same environment."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

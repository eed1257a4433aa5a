"""Run the snippets of docs/clients.md as they stand there, each in the environment of its client.

A comment before a block says what it is: `<!-- file: ID, at: PATH -->` is written below the home folder first, and
`<!-- run: ID, shows: TEXT -->` is run, and must end well and print the text. The addresses and the token in them are
replaced by those of a server that has been started for it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.clients.catalogue import FOLDER, Catalogue
from tests.clients.environments import Environment, Environments
from tests.clients.jobs import ROOM, TEXT, WING
from tests.clients.servers import Server, server

PAGE = FOLDER.parents[1] / "docs" / "clients.md"
ADDRESS = "http://127.0.0.1:8765"
TOKEN = re.compile(r"\bTOKEN\b")
BLOCK = re.compile(r"<!-- (file|run): ([\w.-]+), (?:at|shows): (.+?) -->\n+```(\w+)\n(.*?)```", re.DOTALL)
SECONDS = 120
SUFFIXES = {"python": ".py", "js": ".mjs", "sh": ".sh"}


@dataclass(frozen=True, slots=True)
class Snippet:
    """A block that is run, after the files that it needs were written."""

    client: str
    shows: str
    language: str
    text: str
    files: Mapping[str, str]


def read_snippets(page: Path = PAGE) -> Iterator[Snippet]:
    """Those that say that they are run, in their order."""
    files: dict[str, dict[str, str]] = {}
    for kind, client, about, language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind == "file":
            files.setdefault(client, {})[about] = text
        else:
            yield Snippet(client, about, language, text, files.pop(client, {}))


def run(environments: Environments, catalogue: Catalogue, snippet: Snippet, program: Sequence[str]) -> str | None:
    """What is wrong with it, if anything is.

    Raises:
        NotInstalled: the client cannot be installed here.
    """
    environment = environments.of(catalogue.clients[snippet.client])
    with server(program, "http") as target:
        target.ask("tools/call", name="add_drawer", arguments={"wing": WING, "room": ROOM, "content": TEXT})
        home = target.palace.parent
        for name, text in snippet.files.items():
            file = home / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(_meant(text, target), encoding="utf-8")
        command = _command(snippet, environment, _meant(snippet.text, target), home)
        try:
            finished = subprocess.run(
                command,
                capture_output=True,
                text=True,
                cwd=home,
                env=_variables(environment, target, program),
                timeout=SECONDS,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            return f"it has not ended after {SECONDS} s"
        shown = finished.stdout + finished.stderr
        if finished.returncode or snippet.shows not in shown:
            return f"exit code {finished.returncode}, without {snippet.shows!r}: {shown[-500:]}"
    return None


def _meant(text: str, target: Server) -> str:
    return TOKEN.sub(target.token, text.replace(ADDRESS, target.address))


def _command(snippet: Snippet, environment: Environment, text: str, home: Path) -> list[str]:
    folder = environment.folder if snippet.language == "js" else home  # where its packages are looked for
    file = folder / f"snippet-{home.name}{SUFFIXES[snippet.language]}"
    file.write_text(text, encoding="utf-8")
    starters = {"python": ["python"], "js": ["node"], "sh": ["bash", "-eu"]}
    return [*starters[snippet.language], str(file)]


def _variables(environment: Environment, target: Server, program: Sequence[str]) -> dict[str, str]:
    """A shell in which `mempalace-mcp` is the program; the palace at its usual place is that of the server."""
    usual = target.palace.parent / ".mempalace-mcp"
    usual.mkdir()
    (usual / "palace").symlink_to(target.palace)
    programs = target.palace.parent / "programs"
    programs.mkdir()
    starter = programs / "mempalace-mcp"
    starter.write_text(f'#!/bin/sh\nexec {shlex.join(program)} "$@"\n', encoding="utf-8")
    starter.chmod(0o755)
    return {
        **os.environ,
        **target.variables,
        "HOME": str(target.palace.parent),
        "PATH": f"{programs}{os.pathsep}{environment.variables['PATH']}",
        "MEMPALACE_TOKEN": target.token,
    }

"""Set up real clients, each in a home directory of its own, ask them whether they are connected, and take it back.

    python -m scripts.try_setup             # all of them
    python -m scripts.try_setup codex       # some, by their ids

Needs npm; clients are installed as `scripts.clients` does it. Prints the table of docs/setup.md, and fails if a client
is not connected, or if one of the files that it had before differs after `--undo`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.clients.catalogue import Catalogue, Client
from tests.clients.environments import Environment, Environments, cache_folder

SETUP = (sys.executable, "-m", "mempalace_mcp", "setup")
SECONDS = 180


@dataclass(frozen=True, slots=True)
class Trial:
    """A client, the files that setup changes for it, and how it says itself that it is connected."""

    client: Client
    name: str
    files: Mapping[str, str]
    question: Sequence[str]
    answer: str


def trials(catalogue: Catalogue) -> list[Trial]:
    """The clients that say it without a login, with settings of a user who has some already."""
    known = catalogue.clients
    opencode = Client("opencode", "OpenCode", "node", ["opencode-ai@1.18.33"], "MIT", ())
    claude = {".claude.json": '{"mcpServers": {}}', ".claude/settings.json": '{\n\t"model": "opus"\n}\n'}
    gemini = {".gemini/settings.json": '// mine\n{\n  "ui": {"hideTips": true}\n}\n'}
    codex = {".codex/config.toml": '# mine\nmodel = "x" # why\n', ".codex/hooks.json": "{}"}
    zen = {".config/opencode/opencode.jsonc": '{\n  // mine\n  "$schema": "https://opencode.ai/config.json",\n}\n'}
    return [
        Trial(known["claude-code"], "claude-code", claude, ["claude", "mcp", "list"], "Connected"),
        Trial(known["codex"], "codex", codex, ["codex", "mcp", "list"], "enabled"),
        Trial(known["gemini-cli"], "gemini", gemini, ["gemini", "mcp", "list"], "Connected"),
        Trial(opencode, "opencode", zen, ["opencode", "mcp", "list"], "connected"),
    ]


def run(command: Sequence[str], home: Path, environment: Environment) -> str:
    """What a program prints, in that home directory.

    Raises:
        subprocess.CalledProcessError: it fails.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "CLAUDE", "CODEX"))}
    own = {"HOME": str(home), "GEMINI_CLI_TRUST_WORKSPACE": "true", "PALACE_IDLE_SECONDS": "1"}
    finished = subprocess.run(
        command,
        cwd=home,
        env={**kept, **environment.variables, **own},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=SECONDS,
        check=True,
    )
    return finished.stdout


def is_connected(trial: Trial, environment: Environment) -> tuple[bool, list[str]]:
    """Is it connected after setup, and which of the files differ after undoing that?"""
    with tempfile.TemporaryDirectory(prefix="setup", ignore_cleanup_errors=True) as folder:
        home = Path(folder).resolve()
        for name, text in trial.files.items():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_text(text, encoding="utf-8")
        run([*SETUP, "--yes", "--client", trial.name], home, environment)
        shown = run(trial.question, home, environment)
        run([*SETUP, "--undo"], home, environment)
        differing = [name for name, text in trial.files.items() if (home / name).read_text(encoding="utf-8") != text]
        return "mempalace" in shown and trial.answer in shown, differing


def main() -> int:
    """Try them; the exit code."""
    catalogue = Catalogue.read()
    environments = Environments(cache_folder(), catalogue)
    wanted, failures = sys.argv[1:], 0
    print("| client | version | connected, by its own list | differs after undoing |\n|---|---|---|---|")
    for trial in trials(catalogue):
        if wanted and trial.name not in wanted:
            continue
        connected, differing = is_connected(trial, environments.of(trial.client))
        said = f"`{' '.join(trial.question)}`: {trial.answer if connected else 'not connected'}"
        print(f"| {trial.client.name} | {trial.client.version} | {said} | {', '.join(differing) or 'nothing'} |")
        failures += not connected or bool(differing)
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())

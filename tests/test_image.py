"""The image, as far as it is known without an engine: what it copies, sets, leaves out, and asks about its health."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from mempalace_mcp.core.config import SETTINGS
from mempalace_mcp.core.place import DEFAULT_PALACE
from tests.daemon.support import served

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]
LINES = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8")).splitlines()
COMPOSE = (ROOT / "compose.yaml").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
PROXY = {"http_proxy": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"}
"""What an engine behind a proxy passes on to what it builds and runs; nobody listens there."""

BLOCKER = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
"""


def test_what_is_copied_is_there_and_nothing_else_is_sent() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    sources = [
        word for line in LINES if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    ]
    assert sorted(line[1:] for line in ignored if line.startswith("!")) == sorted(sources)
    assert all((ROOT / source).exists() for source in sources)
    # A fresh clone has nothing that Git leaves out.
    left_out = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()]
    assert not [source for source in sources if any(fnmatch.fnmatch(Path(source).name, line) for line in left_out)]
    assert not any(fnmatch.fnmatch("palace.db", line[1:]) for line in ignored if line.startswith("!"))


def test_the_settings_of_image_and_composition_are_known() -> None:
    known = {setting.variable for setting in SETTINGS}
    dockerfile = "\n".join(LINES)
    for text in (dockerfile, COMPOSE):
        assert set(re.findall(r"\bPALACE_[A-Z_]+", text)) <= known
    assert "PALACE_HOST=0.0.0.0" in dockerfile
    assert re.search(r"^USER [1-9]\d*", dockerfile, re.MULTILINE)
    assert "read_only: true" in COMPOSE
    for variable in ("PALACE_HOST", "PALACE_PORT", "PALACE_ALLOWED_HOSTS", "PALACE_TOKEN"):
        assert variable in OPERATIONS


def test_the_default_palace_of_the_image_is_its_volume(tmp_path: Path) -> None:
    """By a link, not by a setting: `PALACE_URL` alone must be enough to name a palace in PostgreSQL."""
    dockerfile = "\n".join(LINES)
    link = re.search(r"ln -s (\S+) (\S+)", dockerfile)
    home = re.search(r"\bHOME=(\S+)", dockerfile)
    assert link
    assert home
    assert link[1] in re.findall(r"^VOLUME (\S+)", dockerfile, re.MULTILINE)
    assert link[2] == DEFAULT_PALACE.replace("~", home[1])
    assert "PALACE_PATH=" not in dockerfile
    assert "--extra postgres" in dockerfile
    here = tmp_path / "home" / ".mempalace-mcp"
    here.mkdir(parents=True)
    (tmp_path / "volume").mkdir()
    (here / "palace").symlink_to(tmp_path / "volume")
    environment = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
    ask = [sys.executable, "-c", "from mempalace_mcp.core.place import place_of; print(place_of({}).directory)"]
    done = subprocess.run(ask, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str((tmp_path / "volume").resolve())


def test_what_the_image_leaves_out_is_not_needed(tmp_path: Path) -> None:
    left_out = {name for line in LINES for name in re.findall(r"--no-install-package ([a-z0-9-]+)", line)}
    assert "kubernetes" in left_out
    modules = {
        module
        for module, packages in metadata.packages_distributions().items()
        if {name.lower().replace("_", "-") for name in packages} <= left_out
    }
    assert len(modules) >= len(left_out) // 2
    (tmp_path / "sitecustomize.py").write_text(BLOCKER.format(names=modules), encoding="utf-8")
    environment = {**os.environ, **PROXY, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    blocked = [sys.executable, "-c", f"import {min(modules)}"]
    assert subprocess.run(blocked, env=environment, stderr=subprocess.DEVNULL, check=False).returncode == 1
    trial = [sys.executable, str(ROOT / "scripts" / "try_installation.py")]
    done = subprocess.run(trial, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_image_asks_for_its_health(tmp_path: Path) -> None:
    [line] = [line for line in LINES if line.startswith("HEALTHCHECK")]
    _, *command = json.loads(line.partition(" CMD ")[2])
    with served(tmp_path / "palace") as (server, told):
        environment = {**os.environ, **PROXY, "PALACE_PORT": told["address"].rpartition(":")[2]}
        assert subprocess.run([sys.executable, *command], env=environment, check=False).returncode == 0
        server.terminate()
        server.wait(30)
        asked = subprocess.run([sys.executable, *command], env=environment, stderr=subprocess.DEVNULL, check=False)
        assert asked.returncode == 1

"""What keeps `serve` running: the unit of systemd, the agent of launchd, compose.yaml; and what runs these tests."""

from __future__ import annotations

import configparser
import json
import os
import plistlib
import re
import shlex
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from mempalace_mcp.core.config import SETTINGS
from scripts.make_packages import ROOT
from tests.daemon.support import wait_for
from tests.laboratory import PACKAGE
from tests.packages.support import under

UNIT = ROOT / "packaging/systemd/mempalace-mcp.service"
AGENT = ROOT / "packaging/launchd/io.github.mempalace-mcp.plist"
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")
ASK = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text(encoding="utf-8"))
    return parser


def unit_command(home: Path) -> list[str]:
    return [word.replace("%h", str(home)) for word in shlex.split(unit()["Service"]["ExecStart"])]


def agent_command(home: Path) -> list[str]:
    return list(plistlib.loads(AGENT.read_bytes())["ProgramArguments"])


@pytest.mark.long
@pytest.mark.parametrize("command", [unit_command, agent_command])
def test_a_service_serves_until_it_is_stopped(command: Callable[[Path], list[str]], tmp_path: Path) -> None:
    home = tmp_path / "a home"  # with a blank
    installed = under(home, ".local/bin/mempalace-mcp")
    installed.write_text(f'#!/bin/sh\nPYTHONPATH={PACKAGE.parent} exec {sys.executable} -m mempalace_mcp "$@"\n')
    installed.chmod(0o755)
    log = under(home, "Library/Logs/mempalace-mcp.log")
    environment = {**os.environ, "HOME": str(home), "PALACE_PORT": "0", "XDG_RUNTIME_DIR": str(tmp_path)}
    with log.open("ab") as output:
        process = subprocess.Popen(command(home), env=environment, stdout=output, stderr=output)
    try:
        wait_for(lambda: bool(ADDRESS.search(log.read_text())), "it listens")
        [address] = set(ADDRESS.findall(log.read_text()))
        with ASK(f"{address}/health", timeout=10) as answer:
            assert json.load(answer)["status"] == "ok"
        assert (home / ".mempalace-mcp/palace/palace.db").is_file()
    finally:
        process.terminate()
        code = process.wait(30)
    assert code == 0  # it is not started again


def test_services_start_what_uv_and_pipx_install() -> None:
    assert unit_command(Path("/home/nadia")) == ["/home/nadia/.local/bin/mempalace-mcp", "serve"]
    assert '"$HOME/.local/bin/mempalace-mcp" serve' in agent_command(Path())[-1]


def test_services_come_back_after_a_failure_and_have_time_to_end() -> None:
    service, agent = unit()["Service"], plistlib.loads(AGENT.read_bytes())
    assert (service["Restart"], agent["KeepAlive"]) == ("on-failure", {"SuccessfulExit": False})
    assert int(service["TimeoutStopSec"]) == agent["ExitTimeOut"] == 60
    assert int(service["UMask"], 8) == agent["Umask"] == 0o077
    assert AGENT.stem == agent["Label"]
    named = set(re.findall(r"\bPALACE_[A-Z_]+", UNIT.read_text(encoding="utf-8")))
    assert named <= {setting.variable for setting in SETTINGS}


def test_the_composition_fits_the_image() -> None:
    told = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    [(_, service)] = told["services"].items()
    [(address, outside, inside)] = [port.split(":") for port in service["ports"]]
    assert (address, f"EXPOSE {inside}" in image) == ("127.0.0.1", True)
    assert f"PALACE_PORT={inside}" in image
    assert outside == inside
    [(volume, place)] = [each.split(":") for each in service["volumes"]]
    assert volume in told["volumes"]
    assert f"VOLUME {place}" in image
    assert (service["build"], service["read_only"]) == (".", True)
    assert set(service["environment"]) <= {setting.variable for setting in SETTINGS}


def test_the_workflow_runs_what_there_is_on_every_python_that_is_supported() -> None:
    text = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    matrix = jobs["checks"]["strategy"]["matrix"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [each.rpartition(" ")[2] for each in project["classifiers"] if "Python :: 3." in each]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest"]
    assert matrix["python"][: len(named)] == named
    assert project["requires-python"] == f">={named[0]}"
    steps = [step for job in jobs.values() for step in job["steps"]]
    for module in re.findall(r"python -m (\S+)", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
    assert any(step.get("run") == ".ci/run" for step in steps)
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert all(job["timeout-minutes"] <= 60 for job in jobs.values())

"""The packages are what `scripts/make_packages.py` makes, and fit each other, the tools and the rules of registries."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from functools import partialmethod
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

import mempalace_mcp
from mempalace_mcp.server.tools.registry import build_tools
from scripts import make_packages
from scripts.make_packages import ROOT, build_bundles, buttons, commands, leftovers, packages, skill
from tests.daemon.support import PROGRAM
from tests.packages.support import ENTRIES, MANIFESTS, read, under
from tests.server.clients import StdioClient, call, end

MADE = packages()
TOOLS = {tool["name"]: tool for tool in build_tools("core").definitions()}
REGISTRY = {
    "type": "object",
    "required": ["$schema", "name", "description", "version", "packages"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "name": {"type": "string", "maxLength": 200, "pattern": r"^[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+$"},
        "title": {"type": "string", "minLength": 1, "maxLength": 100},
        "description": {"type": "string", "minLength": 1, "maxLength": 100},
        "version": {"type": "string", "maxLength": 255, "pattern": r"^\d+\.\d+\.\d+[-+.\w]*$"},
        "packages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["registryType", "identifier", "version", "transport"],
                "additionalProperties": False,
                "properties": {
                    "registryType": {"const": "pypi"},
                    "identifier": {"type": "string"},
                    "version": {"type": "string", "pattern": r"^\d+\.\d+\.\d+[-+.\w]*$"},
                    "runtimeHint": {"type": "string"},
                    "transport": {"const": {"type": "stdio"}},
                    "environmentVariables": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["name"],
                            "additionalProperties": False,
                            "properties": {"name": {"type": "string"}, "description": {"type": "string"}},
                        },
                    },
                },
            },
        },
    },
}
"""The rules of the registry (server.json of 2025-12-11) for what we use of it."""


@pytest.mark.parametrize("path", sorted(MADE))
def test_a_file_is_what_is_made(path: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == MADE[path], "run python -m scripts.make_packages"


def test_nothing_is_left_of_what_was_made_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not leftovers(MADE)
    monkeypatch.setattr(make_packages, "ROOT", tmp_path)
    for name in ("README.md", "hooks/hooks.json", "commands/old.md"):
        under(tmp_path, f"plugins/claude-code/{name}").touch()
    assert leftovers(MADE) == [tmp_path / "plugins/claude-code/commands/old.md"]


@pytest.mark.parametrize("path", MANIFESTS)
def test_every_manifest_has_the_version_of_the_program(path: str) -> None:
    assert read(path)["version"] == mempalace_mcp.__version__


@pytest.mark.parametrize("path", ENTRIES)
def test_every_package_starts_the_server_in_the_same_way(path: str) -> None:
    [(name, entry)] = read(path)["mcpServers"].items()
    assert (name, entry["command"], entry["args"]) == ("mempalace", "uvx", ["mempalace-mcp"])


def test_the_program_of_the_entries_is_one_that_the_project_installs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] in project["scripts"]
    assert make_packages.ENTRY["args"] == [project["name"]]
    assert read("server.json")["packages"][0]["identifier"] == project["name"]


@pytest.mark.parametrize("market", [".claude-plugin/marketplace.json", ".agents/plugins/marketplace.json"])
def test_a_marketplace_leads_to_a_plugin_of_its_name(market: str) -> None:
    [offer] = read(market)["plugins"]
    source = offer["source"] if isinstance(offer["source"], str) else offer["source"]["path"]
    [manifest] = (ROOT / source).glob(".*-plugin/plugin.json")
    assert json.loads(manifest.read_text(encoding="utf-8"))["name"] == offer["name"]
    assert len((ROOT / source / "README.md").read_text(encoding="utf-8").split()) > 40


def code_words(text: str) -> set[str]:
    """What stands between backticks and could be the name of a tool."""
    return set(re.findall(r"`([a-z]+(?:_[a-z]+)*)`", text))


def names_of_arguments() -> set[str]:
    schemas = [json.dumps(tool["inputSchema"]) for tool in TOOLS.values()]
    return {name for schema in schemas for name in re.findall(r'"(\w+)": ?\{', schema)}


@pytest.mark.parametrize("text", [skill(), *(each.prompt for each in commands())])
def test_texts_name_tools_and_arguments_that_there_are(text: str) -> None:
    rooms = {"decisions", "preferences", "problems", "architecture"}
    assert code_words(text) <= TOOLS.keys() | names_of_arguments() | rooms | {"mempalace", "hint"}
    assert code_words(text) & TOOLS.keys()


def test_the_skill_has_a_name_and_says_when_to_use_it() -> None:
    _, head, body = skill().split("---\n", 2)
    told = yaml.safe_load(head)
    assert told["name"] == "memory-palace"
    assert 40 < len(told["description"]) <= 1024
    assert len(body.split()) < 700
    for tool in ("search", "add_drawer", "checkpoint", "kg_query", "kg_supersede", "diary_write"):
        assert f"`{tool}`" in body


@pytest.mark.parametrize("command", commands(), ids=lambda each: each.name)
def test_a_command_may_call_what_it_names_and_nothing_that_deletes(command: make_packages.Command) -> None:
    assert set(command.tools) <= TOOLS.keys()
    assert code_words(command.prompt) & TOOLS.keys() <= set(command.tools)
    assert not {tool for tool in command.tools if TOOLS[tool]["annotations"].get("destructiveHint") is True} - {
        "kg_supersede"
    }
    claude = (ROOT / "plugins/claude-code/commands" / f"{command.name}.md").read_text(encoding="utf-8")
    allowed = yaml.safe_load(claude.split("---\n")[1])["allowed-tools"].split(", ")
    assert [name.rpartition("__")[2] for name in allowed] == list(command.tools)
    assert all(len(name) <= 64 for name in allowed)
    file = ROOT / "plugins/gemini/commands/mempalace" / f"{command.name}.toml"
    gemini = tomllib.loads(file.read_text(encoding="utf-8"))
    assert gemini["prompt"].strip() == command.prompt.replace("$ARGUMENTS", "{{args}}")
    assert gemini["description"] == command.description


def test_the_entry_of_the_registry_keeps_its_rules() -> None:
    jsonschema.validate(read("server.json"), REGISTRY)
    assert f"<!-- mcp-name: {read('server.json')['name']} -->" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("id", "label", "link"), list(buttons()))
def test_a_button_gives_the_client_the_entry(id: str, label: str, link: str) -> None:
    asked = parse_qs(urlsplit(link).query, strict_parsing=True)
    [config] = asked["config"]
    told: dict[str, Any] = json.loads(config if id == "vscode" else base64.b64decode(config, validate=True))
    assert told.pop("type", "stdio") == "stdio"
    assert (asked["name"], told) == (["mempalace"], {"command": "uvx", "args": ["mempalace-mcp"]})
    assert f"[![{label}](docs/buttons/{id}.svg)]({link})" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.long
def test_the_bundle_holds_a_server_with_the_tools_of_its_manifest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patched:  # to compress the models takes most of the time
        patched.setattr(zipfile.ZipFile, "__init__", partialmethod(zipfile.ZipFile.__init__, compresslevel=0))
        archive, extension = build_bundles(tmp_path / "built")
    unpacked = tmp_path / "bundle"
    zipfile.ZipFile(archive).extractall(unpacked)
    manifest = json.loads((unpacked / "manifest.json").read_text(encoding="utf-8"))
    assert (unpacked / manifest["server"]["entry_point"]).is_file()
    assert (unpacked / "pyproject.toml").read_bytes() == (ROOT / "pyproject.toml").read_bytes()
    assert not list(unpacked.rglob("*.pyc"))
    process = subprocess.Popen(
        [*PROGRAM, "--palace", str(tmp_path / "palace"), "--solo"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=unpacked,
    )
    try:
        client = StdioClient(process)
        client.send(call(1, "status"))
        assert client.receive()["result"]["structuredContent"]["version"] == manifest["version"]
        client.send({"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}})
        offered = client.receive()["result"]["tools"]
    finally:
        end(process)
    assert {tool["name"]: tool["description"] for tool in offered} == {
        tool["name"]: tool["description"] for tool in manifest["tools"]
    }
    listed = subprocess.run([sys.executable, "-m", "tarfile", "-l", str(extension)], capture_output=True, check=True)
    assert "gemini-extension.json" in listed.stdout.decode()

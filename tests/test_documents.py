"""What the documents say is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from mempalace_mcp.cli.commands import commands
from mempalace_mcp.cli.session import SESSION_OPTIONS
from mempalace_mcp.core.config import SETTINGS, Setting
from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.runtime.issues import REASONS, IssueKind, Status
from mempalace_mcp.server.tools.registry import build_tools
from scripts.document_figures import with_figures
from scripts.document_tools import document

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SETTINGS_PAGE = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def test_the_page_of_tools_is_the_tools() -> None:
    page = (ROOT / "docs" / "tools.md").read_text(encoding="utf-8")
    assert page == document(), "run python scripts/document_tools.py"


@pytest.mark.parametrize("tool", [tool["name"] for tool in build_tools("full").definitions()])
def test_every_tool_is_in_the_readme(tool: str) -> None:
    assert f"`{tool}`" in README


def all_commands() -> dict[str, click.Command]:
    """Every command that does something, by its name within its group, and its group's before that."""
    groups = {name: each for name, each in commands.commands.items() if isinstance(each, click.Group)}
    inner = {f"{group} {name}": each for group, of in groups.items() for name, each in of.commands.items()}
    return {name: each for name, each in commands.commands.items() if name not in groups} | inner


@pytest.mark.parametrize("name", sorted(all_commands()))
def test_every_command_is_in_the_readme_and_has_help(name: str) -> None:
    command = all_commands()[name]
    group, _, last = name.rpartition(" ")
    assert f"mempalace-mcp {group or last}" in README
    assert f"`{last}`" in README or f"mempalace-mcp {name}" in README
    assert command.help
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    given = {name for option in options for name in option.opts}
    assert {"--json"} <= given
    assert "--palace" in given or command.params[0].name == "source"  # which names the palace, as TARGET does
    assert all(option.help for option in options if "--mode" not in option.opts)


def test_every_option_of_a_session_is_documented_and_in_the_help() -> None:
    for option in SESSION_OPTIONS:
        assert f"`{option.name}" in SETTINGS_PAGE
        assert option.usage in str(commands.help)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.variable)
def test_every_setting_is_documented_with_its_default(setting: Setting) -> None:
    assert f"`{setting.variable}`" in SETTINGS_PAGE
    assert f"| `{setting.default}` | {setting.meaning} |" in SETTINGS_PAGE


def test_the_readme_links_the_page_of_settings() -> None:
    assert "(docs/settings.md)" in README


def codes(kind: type[PalaceError]) -> set[str]:
    return {kind.code}.union(*(codes(child) for child in kind.__subclasses__()))


def test_every_error_that_needs_an_operator_has_a_remedy() -> None:
    ordinary = {"internal", "invalid_argument", "not_found", "conflict", "read_only", "cancelled", "storage"}
    ordinary |= {"embedder_unavailable", "configuration"}
    for code in codes(PalaceError) - ordinary:
        assert f"`{code}`" in OPERATIONS, code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_readme_shows_what_the_demonstration_prints() -> None:
    shown = README.split("```")[1]
    for telling in ("Filed 18 drawers", "rel-2026-05-17-b", "As of 2026-05-20: Nadia works in team Orion"):
        assert telling in shown


@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: reason.code)
def test_every_reason_not_to_be_well_has_a_remedy(reason: IssueKind) -> None:
    rows = [
        line for line in OPERATIONS.splitlines() if line.startswith(("| `", "| **`")) and f"`{reason.code}`" in line
    ]
    assert rows, reason.code
    assert any((f"**`{reason.code}`**" in row) is (reason.status is Status.FAILING) for row in rows)


def test_the_table_of_figures_is_the_figures() -> None:
    assert with_figures(OPERATIONS) == OPERATIONS, "run python scripts/document_figures.py"

"""What agents have kept on a machine: found where they keep it, counted by what the files say of themselves."""

from __future__ import annotations

import os
from pathlib import Path

from mempalace_mcp.palace.importers.readers import READERS
from mempalace_mcp.setup.clients import IDS
from mempalace_mcp.setup.histories import histories
from mempalace_mcp.setup.journal import Journal
from mempalace_mcp.setup.plan import Planner, Wish
from tests.setup.support import machine, write

TASKS = ".config/Code/User/globalStorage/rooveterinaryinc.roo-cline/tasks"


def test_histories_are_counted_without_being_opened(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    assert histories(on) == []
    for number, name in enumerate(("a/1.jsonl", "b/2.jsonl", "b/3.JSONL", "b/notes.md")):
        file = write(on.home / ".claude/projects" / name, "x" * 100)
        os.utime(file, (86_400 * number, 86_400 * number))
        file.chmod(0)
    (found,) = histories(on)
    assert (found.agent, found.label, found.files, found.size) == ("claude-code", "Claude Code", 3, 300)
    assert (f"{found.first:%Y-%m-%d}", f"{found.last:%Y-%m-%d}") == ("1970-01-01", "1970-01-03")
    assert found.folder == on.home / ".claude/projects"


def test_an_agent_with_a_file_for_each_task_has_one_history(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    for task in ("1", "2"):
        write(on.home / TASKS / task / "ui_messages.json", "[]")
    (found,) = histories(on)
    assert (found.agent, found.files, found.folder) == ("roo-code", 2, on.home / TASKS)


def test_an_agent_belongs_to_at_most_one_client() -> None:
    for reader in READERS:
        assert len([each for each in IDS if reader.name == each or reader.name.startswith(f"{each}-")]) <= 1


def test_only_what_is_new_is_imported_again(tmp_path: Path) -> None:
    on = machine(tmp_path / "home")
    file = write(on.home / ".claude/projects/a/1.jsonl", "x")
    write(on.home / TASKS / "1" / "ui_messages.json", "[]")
    journal = Journal(on)

    def new(palace: str, *clients: str) -> list[str]:
        wish = Wish(clients, imports=True)
        return [each.agent for each in Planner(on, Path(palace), imports=journal.imports(), wish=wish).histories()]

    assert sorted(new("/p")) == ["claude-code", "roo-code"]
    assert new("/p", "roo") == ["roo-code"]
    known = next(each for each in histories(on) if each.agent == "claude-code")
    journal.note_import("claude-code", palace="/p", at="", until=known.last.isoformat(), files=1)
    assert new("/p") == ["roo-code"]
    assert sorted(new("/other")) == ["claude-code", "roo-code"]
    os.utime(file)
    assert sorted(new("/p")) == ["claude-code", "roo-code"]

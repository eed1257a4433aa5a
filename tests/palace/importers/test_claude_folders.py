"""The folders of Claude Code: what in them is a note, what is noise, and which project each thing belongs to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mempalace_mcp.palace.importers import default_wing
from mempalace_mcp.palace.importers.naming import wing_of
from tests.palace.importers.support import assistant, documents, found, skipped, user, write_transcript

SESSION = "5b1f6c0e-7a3d-4c52-9e1a-2f8d41c7b690"


def session(path: Path, cwd: str, branch: str = "main") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_transcript(path, user("Question", cwd=cwd, gitBranch=branch), assistant("Answer"))


def note(path: Path, text: str = "Remember the tide.") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def projects(tmp_path: Path) -> Path:
    return tmp_path / ".claude" / "projects"


def test_what_tools_printed_is_no_note(projects: Path) -> None:
    project = projects / "-srv-ferry"
    session(project / f"{SESSION}.jsonl", "/srv/ferry")
    session(project / "named.jsonl", "/srv/ferry")
    note(project / SESSION / "tool-results" / "b4.txt")
    note(project / "named" / "tool-results" / "b5.txt")
    note(project / "memory" / "tides.md")
    assert sorted(found(projects)) == sorted([f"{SESSION}.jsonl", "named.jsonl", "tides.md"])
    assert skipped(projects)["tool-results"] == "output of tools"


def test_a_folder_of_that_name_elsewhere_is_read(tmp_path: Path) -> None:
    note(tmp_path / "survey" / "tool-results" / "drill.txt")
    assert found(tmp_path) == ["drill.txt"]


def test_memories_belong_to_the_project_of_the_sessions_beside_them(projects: Path) -> None:
    session(projects / "-srv-x" / "s.jsonl", "/srv/ferry/.claude/worktrees/elastic-cori-f29409")
    memory = note(projects / "-srv-x" / "memory" / "tides.md")
    assert default_wing(memory) == default_wing(projects / "-srv-x" / "s.jsonl") == "ferry"
    assert documents(memory)[0].room == "memory"
    deeper = note(projects / "-srv-x" / "memory" / "topics" / "moon.md")
    assert (default_wing(deeper), documents(deeper)[0].room) == ("ferry", "memory")


@pytest.mark.parametrize(
    ("slug", "wing"),
    [
        ("-home-mira-code-ferry", "ferry"),
        ("-Users-mira-night-ferry", "night-ferry"),
        ("-srv-ferry", "srv-ferry"),
        ("-home-mira-code-ferry--claude-worktrees-elastic-cori", "ferry"),
        ("-home-mira-code-ferry--worktrees-fix", "ferry"),
        ("-Users-mira-Documents-GitHub-ferry", "ferry"),
        ("C--Users-Mira-code-night-ferry", "night-ferry"),
        ("D--ferry", "ferry"),
        ("-mnt-c-Users-Mira-ferry", "ferry"),
        ("-home-mira--config-ferry", "config-ferry"),
        ("-e-ferry", "e-ferry"),
    ],
)
def test_memories_without_sessions_are_named_by_the_folder_itself(projects: Path, slug: str, wing: str) -> None:
    assert default_wing(note(projects / slug / "memory" / "tides.md")) == wing


def test_sub_agents_belong_to_the_project_of_their_session(projects: Path) -> None:
    agent = projects / "-srv-ferry" / SESSION / "subagents" / "agent-1.jsonl"
    agent.parent.mkdir(parents=True)
    fields = {"isSidechain": True, "agentId": "1", "cwd": "/srv/ferry"}
    write_transcript(agent, user("Task", uuid="1", **fields), assistant("Report", uuid="2", **fields))
    assert default_wing(agent) == "ferry"
    assert [(document.room, document.content) for document in documents(agent)] == [
        ("subagents", "Task: Task\n\nReport: Report")
    ]


def test_a_session_in_a_subfolder_belongs_to_the_repository_that_another_one_shows(projects: Path) -> None:
    session(projects / "-srv-code" / "s.jsonl", "/srv/code", branch="")
    session(projects / "-srv-code-ferry" / "s.jsonl", "/srv/code/ferry")
    inner = session(projects / "-srv-code-ferry-backend" / "s.jsonl", "/srv/code/ferry/backend")
    beside = session(projects / "-srv-code-ferry-boat" / "s.jsonl", "/srv/code/ferry-boat")
    loose = session(projects / "-srv-code-ferry-papers" / "s.jsonl", "/srv/code/ferry/papers", branch="")
    assert default_wing(inner) == "ferry"
    assert default_wing(beside) == "ferry-boat"
    assert default_wing(loose) == "papers", "it is in no repository"
    assert default_wing(note(projects / "-srv-code-ferry-backend" / "memory" / "a.md")) == "ferry"


def test_a_session_in_a_subfolder_that_is_here_belongs_to_its_repository(tmp_path: Path) -> None:
    (tmp_path / "ferry" / ".git").mkdir(parents=True)
    (tmp_path / "ferry" / "src" / "deck").mkdir(parents=True)
    assert default_wing(session(tmp_path / "s.jsonl", str(tmp_path / "ferry" / "src" / "deck"))) == "ferry"
    assert default_wing(session(tmp_path / "t.jsonl", str(tmp_path / "ferry" / "gone"))) == "gone"


def test_a_worktree_of_git_belongs_to_its_repository_wherever_it_is(tmp_path: Path) -> None:
    (tmp_path / "ferry" / ".git" / "worktrees" / "fix").mkdir(parents=True)
    (tmp_path / "elsewhere" / "src").mkdir(parents=True)
    pointer = f"gitdir: {tmp_path / 'ferry' / '.git' / 'worktrees' / 'fix'}\n"
    (tmp_path / "elsewhere" / ".git").write_text(pointer, encoding="utf-8")
    assert wing_of(tmp_path / "elsewhere" / "src") == "ferry"
    assert default_wing(note(tmp_path / "elsewhere" / "README.md")) == "ferry"
    (tmp_path / "elsewhere" / ".git").write_text("gitdir: ../ferry/.git/modules/elsewhere\n", encoding="utf-8")
    assert wing_of(tmp_path / "elsewhere" / "src") == "elsewhere", "a submodule is a project of its own"
    (tmp_path / "elsewhere" / ".git").unlink()
    os.mkfifo(tmp_path / "elsewhere" / ".git")
    assert wing_of(tmp_path / "elsewhere" / "src") == "elsewhere"


@pytest.mark.parametrize(
    ("folder", "wing"),
    [
        ("/srv/code/ferry/.claude/worktrees/elastic-cori-f29409", "ferry"),
        ("/srv/code/ferry/.claude/worktrees/fix/backend/src", "ferry"),
        ("D:\\code\\ferry\\.claude\\worktrees\\fix", "ferry"),
        ("/srv/ferry/.worktrees/fix/tests", "ferry"),
        ("/srv/ferry/worktrees/fix", "ferry"),
        ("/srv/ferry-worktrees/fix", "ferry"),
        ("/srv/ferry.worktrees/fix", "ferry"),
        ("/srv/ferry/.git/worktrees/fix", "ferry"),
        ("/home/mira/.claude-worktrees/ferry/fix", "ferry"),
        ("/home/mira/.cursor/worktrees/ferry/x7f", "ferry"),
        ("/home/mira/.codex/worktrees/4f2a/ferry", "ferry"),
        ("/home/mira/worktrees/ferry/fix", "ferry"),
        ("/home/mira/conductor/workspaces/ferry/lima", "ferry"),
        ("/home/mira/code/ferry/.conductor/lima/src", "ferry"),
        ("/srv/ferry/.tool/trees/fix", "ferry"),
        ("/home/mira/code/.private/ferry", "ferry"),
        ("/home/mira/.config/nvim", "nvim"),
        ("/private/var/folders/x/T/vibe-kanban/worktrees/4f2a-fix/ferry", "ferry"),
        ("/home/mira/.local/share/opencode/worktree/4f2a/ferry", "ferry"),
        ("/srv/git-worktree-tools/docs", "docs"),
        ("/srv/ferry/worktrees", "worktrees"),
        ("C:", "files"),
        ("C:\\", "files"),
        ("d:/", "files"),
        ("/mnt/c", "files"),
        ("/mnt/c/Users/mira/ferry", "ferry"),
        ("\\\\server\\share\\", "files"),
        ("\\\\wsl$\\Ubuntu\\home\\mira\\ferry", "ferry"),
        ("\\\\?\\C:\\code\\ferry", "ferry"),
        ("/home/mira", "home"),
        ("/Users/mira/", "home"),
        ("C:\\Users\\mira", "home"),
        ("/root", "home"),
        ("/home/mira/home", "home"),
        ("/home/mira/ferry", "ferry"),
    ],
)
def test_by_its_text_alone_a_path_names_its_project(folder: str, wing: str) -> None:
    assert wing_of(folder) == wing


def test_the_home_folder_is_no_project_even_under_version_control(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".git").mkdir()
    (tmp_path / "ferry").mkdir()
    assert wing_of(tmp_path) == "home"
    assert wing_of(tmp_path / "ferry") == "ferry"

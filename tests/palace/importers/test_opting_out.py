"""What a `.palaceignore` leaves out: files of a folder, and conversations about a project."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mempalace_mcp.palace.importers import readers
from mempalace_mcp.palace.importers.claude_code import CLAUDE_CODE
from mempalace_mcp.palace.importers.conversations import Session, Speaker, Turn, read_conversation
from mempalace_mcp.palace.importers.documents import Document, Problem, SkippedLines, Source
from mempalace_mcp.palace.importers.opting_out import LEFT_OUT
from tests.palace.importers.support import (
    assistant,
    documents,
    found,
    problems,
    reasons,
    skipped,
    user,
    write_transcript,
)
from tests.palace.support import opened
from tests.palace.test_importing import run


def rules(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".palaceignore").write_text(text, encoding="utf-8")


def session(path: Path, cwd: Path, **fields: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_transcript(path, user("Ask", cwd=str(cwd), **fields), assistant("Answer", cwd=str(cwd), **fields))


def test_files_that_a_palaceignore_names_are_left_out(tmp_path: Path) -> None:
    for name in ("a.md", "b.md", "diary.md", "private/c.md", "deep/private/d.md", "deep/kept.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("Text", encoding="utf-8")
    rules(tmp_path, "# mine\ndiary.*\nprivate/\n")
    assert found(tmp_path) == ["a.md", "b.md", "kept.md"]
    assert skipped(tmp_path)["diary.md"] == "ignored by .palaceignore"
    rules(tmp_path / "deep", "!private/\n")
    assert found(tmp_path) == ["a.md", "b.md", "kept.md", "d.md"]


def test_a_palaceignore_is_asked_before_a_gitignore(tmp_path: Path) -> None:
    for name in ("a.md", "b.md"):
        (tmp_path / name).write_text("Text", encoding="utf-8")
    (tmp_path / ".gitignore").write_text("a.md\n", encoding="utf-8")
    rules(tmp_path, "!a.md\nb.md\n")
    assert found(tmp_path) == ["a.md"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_palaceignore_may_be_written_as_windows_writes_it(tmp_path: Path, encoding: str) -> None:
    for name in ("a.md", "bär.md"):
        (tmp_path / name).write_text("Text", encoding="utf-8")
    mark = "" if encoding in ("utf-16", "utf-8-sig") else "\ufeff"
    (tmp_path / ".palaceignore").write_bytes(f"{mark}# mine\r\nbär.md\r\n".encode(encoding))
    assert found(tmp_path) == ["a.md"]


def _link(file: Path) -> None:
    (file.parent / "rules").write_text("nothing.md\n", encoding="utf-8")
    file.symlink_to("rules")


@pytest.mark.parametrize("make", [Path.mkdir, _link, os.mkfifo, lambda file: file.write_bytes(b"a" * 3 * 1024 * 1024)])
def test_a_palaceignore_that_cannot_be_read_ignores_everything(tmp_path: Path, make: Callable[[Path], object]) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "a.md").write_text("Text", encoding="utf-8")
    make(project / ".palaceignore")
    (tmp_path / "b.md").write_text("Text", encoding="utf-8")
    assert found(tmp_path) == ["b.md"]
    assert skipped(tmp_path)["a.md"] == "ignored by .palaceignore"
    assert documents(session(tmp_path / "s" / "s.jsonl", project)) == []


@pytest.mark.parametrize("pattern", ["*", "/*", "**", "*\n!notes/"])
@pytest.mark.parametrize("place", ["", "src", "src/deep", "gone/since"])
def test_a_project_that_ignores_everything_has_no_conversations(tmp_path: Path, pattern: str, place: str) -> None:
    project = tmp_path / "harbour"
    (project / "src" / "deep").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    path = session(tmp_path / "history" / "s.jsonl", project / place)
    assert len(documents(path)) == 1
    rules(project, f"{pattern}\n")
    assert (documents(path), reasons(path)) == ([], [LEFT_OUT])


def test_a_folder_of_a_project_may_opt_out(tmp_path: Path) -> None:
    project = tmp_path / "harbour"
    (project / "ledger").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    inside = session(tmp_path / "inside.jsonl", project / "ledger")
    beside = session(tmp_path / "beside.jsonl", project)
    rules(project, "ledger/\n*.md\n")
    assert (reasons(inside), reasons(beside)) == ([LEFT_OUT], [])
    rules(project, "*.md\n")
    rules(project / "ledger", "*\n")
    assert (reasons(inside), reasons(beside)) == ([LEFT_OUT], [])


def test_a_worktree_is_left_out_with_its_repository(tmp_path: Path) -> None:
    project, worktree = tmp_path / "harbour", tmp_path / "elsewhere" / "copy"
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    git = ["git", "-C", str(project), "-c", "user.name=m", "-c", "user.email=m@example.org"]
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    subprocess.run([*git, "worktree", "add", "-q", str(worktree)], check=True)
    rules(project, "*\n")
    assert reasons(session(tmp_path / "s.jsonl", worktree)) == [LEFT_OUT]


def test_notes_of_the_client_about_such_a_project_are_left_out(tmp_path: Path) -> None:
    project = tmp_path / "harbour"
    rules(project, "*\n")
    history = tmp_path / "projects" / "-home-mira-harbour"
    session(history / "s.jsonl", project)
    (history / "memory").mkdir()
    note = history / "memory" / "boats.md"
    note.write_text("Boats are blue.", encoding="utf-8")
    assert reasons(note) == [LEFT_OUT]


@pytest.mark.parametrize("folder", ["C:\\Users\\mira\\harbour", "harbour", "/" + "x" * 5_000, "/nowhere/at/all"])
def test_a_folder_that_is_not_here_opts_out_of_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    rules(tmp_path, "*\n")
    monkeypatch.chdir(tmp_path)
    assert len(documents(session(tmp_path / "s.jsonl", Path(folder)))) == 1


def test_of_a_file_with_several_projects_those_that_opt_out_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules(tmp_path / "closed", "*\n")
    rules(tmp_path / "open", "*.bak\n")

    def read(source: Source) -> Iterator[Document | Problem]:
        for name in ("closed", "open"):
            turns = [Turn(Speaker.USER, f"Ask {name}"), Turn(Speaker.ASSISTANT, "Yes")]
            yield from read_conversation(source, Session("tern", name, cwd=str(tmp_path / name)), turns)

    tern = replace(CLAUDE_CODE, name="tern", suffixes=frozenset({".tern"}), recognizes=lambda _: True, read=read)
    monkeypatch.setattr(readers, "READERS", (tern,))
    path = tmp_path / "all.tern"
    path.write_text("x", encoding="utf-8")
    assert [each.wing for each in documents(path)] == ["open"]
    assert problems(path) == [SkippedLines(str(path), LEFT_OUT, 1, ())]
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, path, turn_ended=True)["filed"] == 1
        (tmp_path / "closed" / ".palaceignore").unlink()
        assert run(app, path, turn_ended=True)["filed"] == 1

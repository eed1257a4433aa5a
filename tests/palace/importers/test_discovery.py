"""Folders are walked in one order, without what is ignored, hidden, generated, linked or no file at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mempalace_mcp.palace.importers import FoundFile, SkippedFile, default_wing, discover, read
from tests.palace.importers.support import documents, found, problems, reasons, skipped


def plant(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text\n", encoding="utf-8")


def test_files_of_known_kinds_are_found_in_one_order(tmp_path: Path) -> None:
    plant(tmp_path, "b.md", "a.txt", "README", "z/c.rst", "m/d.org", "m/e.jsonl", "m/F.MD", "photo.png", "code.py")
    assert found(tmp_path) == ["README", "a.txt", "b.md", "F.MD", "d.org", "e.jsonl", "c.rst"]
    unread = "not a kind of file that is read"
    assert skipped(tmp_path) == {"photo.png": unread, "code.py": unread}


def test_nothing_is_found_twice(tmp_path: Path) -> None:
    plant(tmp_path, "a/one.md", "a/two.md")
    assert found(tmp_path / "a" / "two.md", tmp_path / "a", tmp_path) == ["two.md", "one.md"]


def test_hidden_generated_and_dependency_folders_are_counted_not_entered(tmp_path: Path) -> None:
    plant(tmp_path, "a.md", ".git/x.md", ".hidden.md", "node_modules/p/x.md", "__pycache__/x.md", "env2/x.md", "c/x.md")
    plant(tmp_path, "env2/pyvenv.cfg", "c/CACHEDIR.TAG")
    assert found(tmp_path) == ["a.md"]
    assert skipped(tmp_path) == {
        ".git": "hidden",
        ".hidden.md": "hidden",
        "node_modules": "cache or dependencies",
        "__pycache__": "cache or dependencies",
        "env2": "cache or dependencies",
        "c": "cache or dependencies",
    }


def test_a_hidden_folder_is_walked_when_it_is_given(tmp_path: Path) -> None:
    plant(tmp_path, ".claude/projects/p/s.jsonl")
    assert found(tmp_path / ".claude" / "projects") == ["s.jsonl"]


def test_links_are_not_followed_out_of_the_folder_nor_in_circles(tmp_path: Path) -> None:
    plant(tmp_path, "outside/secret.md", "top/a.md")
    top = tmp_path / "top"
    (top / "out").symlink_to(tmp_path / "outside")
    (top / "out.md").symlink_to(tmp_path / "outside" / "secret.md")
    (top / "self").symlink_to(top)
    (top / "loop.md").symlink_to(top / "loop.md")
    (top / "dangling.md").symlink_to(top / "nowhere")
    assert found(top) == ["a.md"]
    assert set(skipped(top).values()) == {"symbolic link"}
    assert list(skipped(top / "loop.md").values()) == [f"unreadable: {os.strerror(40)}"]
    assert [reason.split(":")[0] for reason in reasons(top / "loop.md")] == ["unreadable"]


def test_a_link_that_is_given_leads_to_the_real_file(tmp_path: Path) -> None:
    plant(tmp_path, "real/a.md")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (file,) = discover([tmp_path / "link"])
    assert file == FoundFile(tmp_path / "real" / "a.md", tmp_path / "real")
    assert documents(tmp_path / "link" / "a.md") == documents(tmp_path / "real" / "a.md")


def test_what_is_no_regular_file_is_skipped_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.md")
    (tmp_path / "folder.md").mkdir()
    plant(tmp_path, "folder.md/inside.md")
    assert found(tmp_path) == ["inside.md"]
    assert skipped(tmp_path) == {"fifo.md": "not a regular file"}
    assert skipped(tmp_path / "fifo.md") == {"fifo.md": "not a regular file"}
    for name in ("fifo.md", "folder.md"):
        assert reasons(tmp_path / name) == ["not a regular file"]
    assert default_wing(tmp_path / "fifo.md") == tmp_path.name


def test_a_fifo_that_is_called_gitignore_or_transcript_is_not_waited_for(tmp_path: Path) -> None:
    plant(tmp_path, "a.md")
    os.mkfifo(tmp_path / ".gitignore")
    os.mkfifo(tmp_path / "s.jsonl")
    assert found(tmp_path) == ["a.md"]
    assert reasons(tmp_path / "s.jsonl") == ["not a regular file"]
    assert default_wing(tmp_path / "s.jsonl") == tmp_path.name


def test_a_file_that_vanishes_or_is_replaced_after_it_was_found(tmp_path: Path) -> None:
    plant(tmp_path, "a.md", "b.md")
    first, second = (entry for entry in discover([tmp_path]) if isinstance(entry, FoundFile))
    first.path.unlink()
    second.path.unlink()
    second.path.mkdir()
    assert reasons(first.path) == ["unreadable: No such file or directory"]
    assert reasons(second.path) == ["not a regular file"]


def test_a_file_that_is_cut_while_it_is_read_gives_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    line = (
        '{"type":"user","sessionId":"s","message":{"content":"%s"}}\n{"type":"assistant","message":{"content":"A"}}\n'
    )
    path.write_text("".join(line % ("x" * 1000) for _ in range(1000)), encoding="utf-8")
    reader = read(path)
    next(reader)
    os.truncate(path, 0)
    path.unlink()
    rest = list(reader)
    assert len(rest) < 999
    assert not any(isinstance(entry, SkippedFile) for entry in rest)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file whose reading fails")
def test_an_error_while_reading_is_a_problem() -> None:
    assert [reason.split(":")[0] for reason in reasons(Path("/proc/self/mem"))] == ["unreadable"]


def test_a_file_that_may_not_be_read_is_a_problem(tmp_path: Path) -> None:
    plant(tmp_path, "open/a.md", "closed/b.md")
    (tmp_path / "open" / "a.md").chmod(0)
    (tmp_path / "closed").chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        assert reasons(tmp_path / "open" / "a.md") == ["unreadable: Permission denied"]
        assert list(skipped(tmp_path / "closed").values()) == ["unreadable: Permission denied"]
    finally:
        os.seteuid(user)
        (tmp_path / "closed").chmod(0o700)


def test_a_name_that_no_text_can_hold_is_reported(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.md")
    (tmp_path / name).write_text("text", encoding="utf-8")
    (problem,) = discover([tmp_path])
    assert isinstance(problem, SkippedFile)
    assert problem.reason == "its name holds a lone surrogate"
    problem.path.encode("utf-8")
    assert len(problems(tmp_path / name)) == 1


@pytest.mark.parametrize("path", ["/nowhere/at/all", "a\0b", "x" * 5000, "/etc/passwd/x"])
def test_paths_that_lead_nowhere_are_problems(path: str) -> None:
    (problem,) = discover([Path(path)])
    assert isinstance(problem, SkippedFile)
    assert len(problems(Path(path))) == 1
    assert default_wing(Path(path))


def test_folders_may_nest_deeper_than_python_recurses(tmp_path: Path) -> None:
    plant(tmp_path, "/".join("d" * 100) + "/a.md")
    script = (
        "import sys\n"
        "from tests.palace.importers.support import found\n"
        "from pathlib import Path\n"
        "sys.setrecursionlimit(80)\n"
        "assert found(Path(sys.argv[1])) == ['a.md']\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, cwd=Path(__file__).parents[3])


def test_the_project_is_the_repository_around_the_folder(tmp_path: Path) -> None:
    plant(tmp_path, "harbour/docs/adr/a.md")
    (tmp_path / "harbour" / ".git").mkdir()
    (file,) = discover([tmp_path / "harbour" / "docs"])
    assert isinstance(file, FoundFile)
    assert file.root == tmp_path / "harbour"
    assert default_wing(file.path, file.root) == "harbour"
    assert documents(file.path, file.root)[0].room == "adr"


def test_reading_twice_gives_the_same(tmp_path: Path) -> None:
    plant(tmp_path, "a.md", "b/c.md")
    once = [list(read(entry.path, entry.root)) for entry in discover([tmp_path]) if isinstance(entry, FoundFile)]
    again = [list(read(entry.path, entry.root)) for entry in discover([tmp_path]) if isinstance(entry, FoundFile)]
    assert once == again

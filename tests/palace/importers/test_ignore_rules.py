"""What Git leaves out is left out: every pattern means what it means to Git, wherever the pattern stands."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mempalace_mcp.palace.importers import FoundFile, SkippedFile, discover
from mempalace_mcp.palace.importers.gitignore import LONGEST_LINE
from tests.palace.importers.support import found, skipped

pytestmark = pytest.mark.long


def plant(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text\n", encoding="utf-8")


def git(folder: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True).stdout


def ours(folder: Path, **options: list[Path]) -> set[str]:
    """The files that are read, by their paths in the folder."""
    entries = discover([folder], **options)
    return {entry.path.relative_to(folder).as_posix() for entry in entries if isinstance(entry, FoundFile)}


def theirs(folder: Path) -> set[str]:
    """The files below a folder that Git would add, hidden ones aside."""
    listed = git(folder, "ls-files", "--others", "--exclude-standard", "-z")
    names = {os.fsdecode(name) for name in listed.split(b"\0") if name}
    return {name for name in names if not any(part.startswith(".") for part in name.split("/"))}


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without a configuration, for Git and for the program."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(folder))
    for name in ("XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_DIR"):
        monkeypatch.delenv(name, raising=False)
    return folder


IGNORING = {
    ".gitignore": "*.txt\n!keep.txt\n/only-top.md\ndrafts/\n\nlogs/**/old.md\n# a comment\nspaced.md   \nbad[z-a]\n!\n",
    "sub/.gitignore": "!again.txt\nlocal.md\r\n",
}
IGNORABLE = [
    "a.txt", "keep.txt", "only-top.md", "sub/only-top.md", "drafts/x.md", "sub/drafts/keep.txt", "logs/1/2/old.md",
    "logs/old.md", "logs/new.md", "sub/again.txt", "sub/other.txt", "sub/local.md", "local.md", "spaced.md",
    "sub/deep/again.txt", "sub/deep/local.md", "file/drafts",
]  # fmt: skip


def test_gitignore_is_heeded_as_git_does(tmp_path: Path) -> None:
    plant(tmp_path, *IGNORABLE)
    for name, rules in IGNORING.items():
        (tmp_path / name).write_text(rules, encoding="utf-8", newline="")
    without_repository = ours(tmp_path)
    git(tmp_path, "init", "-q")
    assert ours(tmp_path) == without_repository == theirs(tmp_path)
    assert skipped(tmp_path)["drafts"] == "ignored by .gitignore"


def test_an_ignored_file_is_read_when_it_is_given(tmp_path: Path) -> None:
    plant(tmp_path, "secret.md")
    (tmp_path / ".gitignore").write_text("secret.md\n", encoding="utf-8")
    assert found(tmp_path) == []
    assert found(tmp_path / "secret.md") == ["secret.md"]


def test_patterns_with_many_wildcards_are_heeded(tmp_path: Path) -> None:
    plant(tmp_path, "a" * 240 + ".md", "b.log.txt", "sec-re-t.of.x.txt", "1/2/3/4/deep.md")
    rules = "*a" * 40 + "b\n*.log.txt\n*s*c*r*t*.*\n**/1/**/3/**/*e*p*.md\n"
    (tmp_path / ".gitignore").write_text(rules, encoding="utf-8")
    assert found(tmp_path) == ["a" * 240 + ".md"]


def test_a_pattern_that_is_longer_than_any_path_is_reported(tmp_path: Path) -> None:
    plant(tmp_path, "a.md", "b.md")
    (tmp_path / ".gitignore").write_text("[ab].md" + "*" * LONGEST_LINE + "\nb.md\n", encoding="utf-8")
    assert found(tmp_path) == ["a.md"]
    assert skipped(tmp_path)[".gitignore"] == "hidden"
    problem = SkippedFile(str(tmp_path / ".gitignore"), "patterns of more than 8,192 bytes are not heeded")
    assert problem in list(discover([tmp_path]))


@pytest.mark.parametrize("content", [b"\xff\xff", b"\0", b""])
def test_a_gitignore_that_is_no_text_ignores_nothing(tmp_path: Path, content: bytes) -> None:
    plant(tmp_path, "a.md")
    (tmp_path / ".gitignore").write_bytes(content)
    assert found(tmp_path) == ["a.md"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with files whose names patterns are made of."""
    root = tmp_path_factory.mktemp("tree")
    names = ["a", "b", "ab", "aab", "a.md", "ab.md", "b.txt", "a b", "a ", "[a]", "!a", "#a", "a]", "a-b", "é.md"]
    plant(root, *(f"{folder}{name}" for folder in ("", "x/", "x/y/", "bb/x/", "x/y/x/") for name in names))
    plant(root, "y/b/a/b.md", "b.md/a", "x/y/z/w/a.md", "ba/foo/bar", "ba/foo1/bar", "ba/x/foo/y/bar", "ba/foobar")
    git(root, "init", "-q")
    return root


PIECES = (
    "a", "b", "x", "y", ".md", "/", "/", "*", "*", "**", "**/", "/**", "/**/", "?", "[ab]", "[!a]", "[^a-c]",
    "[]a]", "[a-", "[[:alpha:]]", "[[:upper:]b]", "[[:nothing:]]", "[[:digit:]-]", "[a\\]]", "[\\a-b]", "[b-a]",
    "[*?]", "[/]", "\\", "\\a", "\\*", "\\ ", " ", "!", "#", "\\!", "\\#", "é", "foo", "bar", ".", "\r", "\t", "***",
    "[[]", "[[:]", "]",
)  # fmt: skip
LINES = st.lists(st.sampled_from(PIECES), min_size=1, max_size=7).map("".join)
RULES = st.lists(st.one_of(LINES, LINES.map("!{}".format), LINES.map("{}/".format)), min_size=1, max_size=4)


@given(RULES, st.one_of(st.just([]), RULES))
@example(["foo**/bar"], [])
@example(["ba/foo**/bar"], [])
@example(["ba/foo**bar"], [])
@example(["ba/**\\/bar"], [])
@example(["x/**", "!x/y", "!x/y/**"], ["a.md"])
@example(["*", "!*/", "!a.md"], [])
@example(["x/*", "!x/y/"], ["*", "!a b"])
@example(["é.md", "?.txt"], ["??.md"])
@settings(max_examples=150, deadline=None)
def test_every_pattern_means_what_it_means_to_git(tree: Path, rules: list[str], inner: list[str]) -> None:
    (tree / ".gitignore").write_bytes("\n".join(rules).encode())
    (tree / "x" / ".gitignore").write_bytes("\n".join(inner).encode())
    assert ours(tree) == theirs(tree)


def test_a_byte_order_mark_and_the_end_of_lines_are_no_part_of_patterns(tmp_path: Path) -> None:
    plant(tmp_path, "a.md", "b.md", "c.md")
    (tmp_path / ".gitignore").write_bytes(b"\xef\xbb\xbfa.md\r\nb.md")
    git(tmp_path, "init", "-q")
    assert ours(tmp_path) == theirs(tmp_path) == {"c.md"}


def test_names_are_compared_byte_by_byte(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    plant(tmp_path, "a.md", "café.md", f"{name}/b.md")
    (tmp_path / ".gitignore").write_bytes(b"caf\xe9\n")
    git(tmp_path, "init", "-q")
    assert ours(tmp_path) == theirs(tmp_path) == {"a.md", "café.md"}


def test_what_the_repository_and_its_user_exclude_is_left_out(tmp_path: Path, home: Path) -> None:
    root = tmp_path / "root"
    plant(root, "a.md", "own.md", "mine.md", "both.md", "sub/own.md", "sub/again.md")
    git(root, "init", "-q")
    (root / ".git" / "info" / "exclude").write_text("own.md\n!both.md\n", encoding="utf-8")
    (home / ".config" / "git").mkdir(parents=True)
    (home / ".config" / "git" / "ignore").write_text("mine.md\nboth.md\nagain.md\n", encoding="utf-8")
    (root / "sub" / ".gitignore").write_text("!again.md\n", encoding="utf-8")
    assert ours(root) == theirs(root) == {"a.md", "both.md", "sub/again.md"}
    (home / "chosen").write_text("a.md\n", encoding="utf-8")
    configuration = '[user]\n\tname = x\n[Core]\n\texcludesFile = "~/chosen" # mine\n'
    (home / ".gitconfig").write_text(configuration, encoding="utf-8")
    assert ours(root) == theirs(root) == {"both.md", "mine.md", "sub/again.md"}
    git(root, "config", "core.excludesFile", "")
    assert ours(root) == theirs(root) == {"a.md", "both.md", "mine.md", "sub/again.md"}
    git(root, "config", "core.excludesFile", os.devnull)
    assert ours(root) == theirs(root)
    assert not any(isinstance(entry, SkippedFile) and entry.path == os.devnull for entry in discover([root]))


def test_a_worktree_has_the_exclusions_of_its_repository(tmp_path: Path) -> None:
    main, other = tmp_path / "main", tmp_path / "other"
    plant(main, "a.md")
    git(main, "init", "-q")
    git(main, "-c", "user.name=x", "-c", "user.email=x@y", "commit", "-q", "--allow-empty", "-m", "begin")
    git(main, "worktree", "add", "-q", str(other))
    (main / ".git" / "info" / "exclude").write_text("own.md\n", encoding="utf-8")
    plant(other, "own.md", "b.md")
    assert ours(other) == theirs(other) == {"b.md"}


def test_rules_around_a_folder_of_a_repository_hold_in_it(tmp_path: Path) -> None:
    plant(tmp_path, "docs/a.md", "docs/deep/secret.md", "docs/deep/b.md", "docs/deep/only.md")
    (tmp_path / ".gitignore").write_text("secret.md\n/docs/deep/only.md\n", encoding="utf-8")
    git(tmp_path, "init", "-q")
    for folder in (tmp_path / "docs", tmp_path / "docs" / "deep"):
        assert ours(folder) == theirs(folder)
    assert ours(tmp_path / "docs" / "deep") == {"b.md"}
    assert ours(tmp_path / "docs" / "deep", within=[tmp_path]) == {"b.md"}


def test_an_ignored_folder_is_walked_when_it_is_given(tmp_path: Path) -> None:
    plant(tmp_path, "notes/a.md", "notes/drafts/b.md", "notes/own.md")
    (tmp_path / ".gitignore").write_text("notes/\n*.md\n", encoding="utf-8")
    (tmp_path / "notes" / ".gitignore").write_text("own.md\n", encoding="utf-8")
    git(tmp_path, "init", "-q")
    assert ours(tmp_path) == set()
    assert ours(tmp_path / "notes") == {"a.md", "drafts/b.md"}


def test_rules_outside_the_folders_that_may_be_read_are_not_looked_at(tmp_path: Path) -> None:
    plant(tmp_path, "docs/a.md", "docs/b.md", "docs/c.md")
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("a.md\n", encoding="utf-8")
    (tmp_path / "docs" / ".gitignore").write_text("b.md\n", encoding="utf-8")
    assert ours(tmp_path / "docs", within=[tmp_path / "docs"]) == {"a.md", "c.md"}


def test_a_repository_within_another_folder_has_its_own_exclusions(tmp_path: Path) -> None:
    plant(tmp_path, "code/one/own.md", "code/one/a.md", "code/two/own.md")
    git(tmp_path / "code" / "one", "init", "-q")
    (tmp_path / "code" / "one" / ".git" / "info" / "exclude").write_text("own.md\n", encoding="utf-8")
    assert ours(tmp_path / "code") == {"one/a.md", "two/own.md"}

"""Nothing outside the allowed folders is read, whatever links lead there and whenever they appear."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.palace.importers import FoundFile, SkippedFile, discover, read_real
from mempalace_mcp.palace.importers.files import open_folder, open_regular_file
from tests.palace.support import opened

SECRET = "The secret is zebra.\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder that may be read; beside it lies one with a secret."""
    for folder, content in (("root/sub", "Harmless.\n"), ("outside/sub", SECRET)):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "note.md").write_text(content, encoding="utf-8")
    return tmp_path / "root"


def read_all(*paths: Path, within: list[Path]) -> str:
    """Everything that is found and read, as text."""
    entries = discover(paths, within)
    return repr([list(read_real(e.path, e.root)) if isinstance(e, FoundFile) else e for e in entries])


def test_what_lies_in_the_folders_is_read(root: Path) -> None:
    assert "Harmless" in read_all(root, within=[root])
    assert "Harmless" in read_all(root / "sub" / "note.md", within=[Path("/nowhere"), root / "sub"])
    (root.parent / "link").symlink_to(root)
    assert "Harmless" in read_all(root.parent / "link", within=[root])
    assert "Harmless" in read_all(root, within=[root.parent / "link"])


@pytest.mark.parametrize(
    "path", ["../outside", "../outside/sub/note.md", "../root2", "out/sub", "out/sub/note.md", ".."]
)
def test_what_lies_outside_is_not(root: Path, path: str) -> None:
    (root / "out").symlink_to(root.parent / "outside")
    (root.parent / "root2").mkdir()
    told = read_all(root / path, within=[root])
    assert "outside the folders" in told
    assert "zebra" not in told
    assert "outside the folders" in read_all(root, within=[])


def test_links_in_a_folder_are_not_followed(root: Path) -> None:
    (root / "folder").symlink_to(root.parent / "outside")
    (root / "file.md").symlink_to(root.parent / "outside" / "sub" / "note.md")
    (root / ".gitignore").symlink_to(root.parent / "outside" / "sub" / "note.md")
    told = read_all(root, within=[root])
    assert "zebra" not in told
    assert told.count("symbolic link") >= 2
    assert "Harmless" in told


def test_a_file_that_becomes_a_link_after_it_was_found_is_not_read(root: Path) -> None:
    (found,) = [entry for entry in discover([root]) if isinstance(entry, FoundFile)]
    found.path.unlink()
    found.path.symlink_to(root.parent / "outside" / "sub" / "note.md")
    (problem,) = read_real(found.path, found.root)
    assert isinstance(problem, SkippedFile)
    assert problem.reason.startswith("unreadable")


def test_a_folder_that_becomes_a_link_after_its_file_was_found_is_no_way_out(root: Path) -> None:
    (found,) = [entry for entry in discover([root]) if isinstance(entry, FoundFile)]
    (root / "sub").rename(root / "was")
    (root / "sub").symlink_to(root.parent / "outside" / "sub")
    (problem,) = read_real(found.path, found.root)
    assert isinstance(problem, SkippedFile)
    assert problem.reason.startswith("unreadable")


def test_a_folder_that_becomes_a_link_before_it_is_listed_is_no_way_out(root: Path) -> None:
    (root / "first.md").write_text("First.\n", encoding="utf-8")
    entries = discover([root], [root])
    assert isinstance(next(entries), FoundFile)
    (root / "sub").rename(root / "was")
    (root / "sub").symlink_to(root.parent / "outside" / "sub")
    (problem,) = entries
    assert isinstance(problem, SkippedFile)
    assert problem.path == str(root / "sub")


def test_pipes_and_devices_are_neither_waited_for_nor_read(root: Path) -> None:
    os.mkfifo(root / "pipe.md")
    assert "not a regular file" in read_all(root, within=[root])
    assert "not a regular file" in read_all(root / "pipe.md", within=[root])
    assert "not a regular file" in read_all(Path("/dev/zero"), within=[Path("/dev")])
    assert "not a regular file" in repr(list(read_real(root / "pipe.md")))


def test_no_descriptor_stays_open(root: Path) -> None:
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208 - the listing's own descriptor counts in both
    (root / "link").symlink_to(root)
    for path in (root / "sub" / "note.md", Path("/")):
        os.close(open_regular_file(path))
    os.close(open_folder(root))
    for path in (root / "nothing", root / "link" / "sub" / "note.md", root / "link", root / "sub" / "note.md" / "x"):
        with pytest.raises(OSError):  # noqa: PT011 - each in its own way
            open_regular_file(path)
        with pytest.raises(OSError):  # noqa: PT011 - each in its own way
            open_folder(path)
    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208


def test_a_refusal_names_the_path_and_says_how_to_allow_it(root: Path) -> None:
    with opened(root.parent / "palace", started=False) as app:
        for within, hint in (([], "have not been named"), ([root], str(root))):
            with pytest.raises(InvalidArgument, match="outside the folders") as caught:
                list(app.palace.import_paths([root.parent / "outside" / "sub"], within=within))
            assert caught.value.argument == "paths[0]"
            assert "PALACE_IMPORT_ROOTS" in (caught.value.hint or "")
            assert hint in (caught.value.hint or "")
        assert [step.filed for step in app.palace.import_paths([root], within=[root])] == [1]
        assert [step.filed for step in app.palace.import_paths([root.parent / "outside"])] == [1], "the user himself"

from __future__ import annotations

from pathlib import Path

from tests.server.tools.support import Client


def test_a_folder_is_imported(client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "tea.md").write_text("Ada drinks Darjeeling in the morning.\n", encoding="utf-8")
    client.settle()
    before = client.seq
    client.call("import_path", paths=[str(folder)], wing="notes", dry_run=True)
    assert client.seq == before
    client.call("import_path", paths=[str(folder)], wing="notes")
    client.settle()
    hits = client.call("search", query="Darjeeling", wing="notes")["results"]
    assert [Path(hit["source_file"]).name for hit in hits] == ["tea.md"]


def test_what_is_not_there_is_said_to_be_skipped(client: Client, tmp_path: Path) -> None:
    before = client.seq
    answer = client.call("import_path", paths=[str(tmp_path / "nowhere")])
    assert (answer["files"], answer["filed"]) == (0, 0)
    assert answer["problems"][0]["path"] == str(tmp_path / "nowhere")
    assert client.seq == before


def test_refused_imports(empty: Client, tmp_path: Path) -> None:
    assert empty.refuse("import_path", paths=[str(tmp_path), ""])["argument"] == "paths[1]"
    assert empty.refuse("import_path", paths=["."])["argument"] == "paths[0]"
    assert empty.refuse("import_path", paths=["~/notes"])["argument"] == "paths[0]"
    assert empty.refuse("import_path", paths=[])["argument"] == "paths"
    assert empty.refuse("import_path", paths=[str(tmp_path)] * 101)["argument"] == "paths"
    assert empty.refuse("import_path", paths=[str(tmp_path)], wing="\ud800")["argument"] == "wing"
    assert empty.refuse("import_path", paths=[str(tmp_path)], dry_run="yes")["argument"] == "dry_run"
    assert empty.refuse("import_path", path=str(tmp_path))["hint"].startswith("Did you mean paths?")


def test_what_lies_outside_of_the_allowed_folders_is_refused(empty: Client, tmp_path: Path) -> None:
    (tmp_path / "secret.md").write_text("zebra\n", encoding="utf-8")
    for paths in (["/etc/passwd"], [str(tmp_path / "secret.md")]):
        shown = empty.refuse("import_path", paths=paths)
        assert (shown["code"], shown["argument"]) == ("invalid_argument", "paths[0]")
        assert "PALACE_IMPORT_ROOTS" in shown["hint"]

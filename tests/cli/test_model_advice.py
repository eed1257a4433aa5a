"""A palace of texts in other languages is offered the model that understands them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.languages import read_notes
from tests.cli.test_commands import perform as run
from tests.cli.test_commands import perform_json as run_json

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("private_runtime")]

COMMAND = "mempalace-mcp reindex --model multilingual"


def write_notes(folder: Path, language: str, count: int) -> Path:
    folder.mkdir()
    notes = [note for note in read_notes() if language in note.texts][:count]
    for note in notes:
        (folder / f"{note.id}.md").write_text(note.texts[language], encoding="utf-8")
    return folder


@pytest.mark.parametrize("language", ["de", "ja", "ar"])
def test_import_status_and_doctor_offer_it_until_the_palace_has_it(tmp_path: Path, language: str) -> None:
    palace = tmp_path / "palace"
    assert COMMAND in run("import", write_notes(tmp_path / "notes", language, 12), "--palace", palace)
    assert COMMAND in run("status", "--palace", palace)
    assert COMMAND in run_json("status", "--palace", palace)["palace"]["advice"]
    told = run_json("doctor", "--palace", palace)
    assert told["well"]
    assert [each["code"] for each in told["findings"]] == ["other_languages"]
    run("reindex", "--model", "multilingual", "--palace", palace)
    assert COMMAND not in run("status", "--palace", palace)
    assert run_json("doctor", "--palace", palace)["findings"] == []


def test_english_texts_need_nothing_else(tmp_path: Path) -> None:
    palace = tmp_path / "palace"
    notes = write_notes(tmp_path / "notes", "en", 12)
    write_notes(notes / "more", "fr", 5)
    assert COMMAND not in run("import", notes, "--palace", palace)
    assert run_json("status", "--palace", palace)["palace"]["advice"] is None
    assert run_json("doctor", "--palace", palace)["findings"] == []


def test_who_sets_the_other_model_for_a_palace_that_is_there_is_told_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    palace = tmp_path / "palace"
    run("import", write_notes(tmp_path / "notes", "en", 5), "--palace", palace)
    monkeypatch.setenv("PALACE_MODEL", "multilingual")
    told = run("status", "--palace", palace)
    assert "PALACE_MODEL is multilingual, but the palace was made with minilm" in told
    assert f"Run `{COMMAND}`" in told
    assert run_json("doctor", "--palace", palace)["findings"][0]["remedy"].startswith(f"Run `{COMMAND}`")
    run("reindex", "--model", "multilingual", "--palace", palace)
    assert run_json("status", "--palace", palace)["palace"]["advice"] is None


def test_it_is_not_offered_to_a_palace_that_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALACE_MODEL", "multilingual")
    assert COMMAND not in run("import", write_notes(tmp_path / "notes", "ru", 12), "--palace", tmp_path / "palace")

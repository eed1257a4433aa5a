"""What holds for the files of all agents: who reads them, and that what tools returned can be added later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mempalace_mcp.palace.importers.reader import Candidate
from mempalace_mcp.palace.importers.readers import READERS
from tests.palace.importers import (
    test_aider,
    test_cline,
    test_continue_dev,
    test_copilot_cli,
    test_cursor,
    test_goose,
    test_vscode_chat,
    test_zed,
)
from tests.palace.support import opened
from tests.palace.test_importing import run


def chat(folder: Path) -> Path:
    answer = (test_vscode_chat.markdown("I look."), test_vscode_chat.tool("14"), test_vscode_chat.markdown("14."))
    return test_vscode_chat.chat(folder, test_vscode_chat.session(test_vscode_chat.request(1, "When?", *answer)))


MADE: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "cursor-database": ("cursor", lambda folder: test_cursor.database(folder, test_cursor.herring())),
    "vscode-chat": ("vscode-chat", chat),
    "copilot-cli": ("copilot-cli", lambda folder: test_copilot_cli.write(folder, *test_copilot_cli.SESSION)),
    "cline-task": ("cline", lambda folder: test_cline.task(folder, *test_cline.TASK)),
    "cline-session": ("cline", lambda folder: test_cline.session(folder, *test_cline.SESSION)),
    "zed": ("zed", lambda folder: test_zed.database(folder, test_zed.thread(*test_zed.THREAD))),
    "goose-database": ("goose", test_goose.database),
    "goose-file": ("goose", lambda folder: test_goose.earlier_file(folder, *test_goose.MESSAGES)),
    "continue": ("continue", lambda folder: test_continue_dev.session(folder, *test_continue_dev.HISTORY)),
}
WITHOUT_TOOLS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "cursor-transcript": (
        "cursor",
        lambda folder: test_cursor.transcript(folder, "c-1", *test_cursor.HERRING_TRANSCRIPT),
    ),
    "aider": ("aider", lambda folder: test_aider.write(folder, test_aider.FIRST)),
}


@pytest.mark.parametrize("kind", [*MADE, *WITHOUT_TOOLS])
def test_a_file_is_claimed_by_the_reader_of_its_agent_alone(tmp_path: Path, kind: str) -> None:
    name, make = (MADE | WITHOUT_TOOLS)[kind]
    path = make(tmp_path)
    claiming = [
        reader.name
        for reader in READERS
        if (path.suffix in reader.suffixes or path.name in reader.hidden_names) and reader.recognizes(Candidate(path))
    ]
    assert claiming == [name]


@pytest.mark.parametrize("kind", MADE)
def test_what_tools_returned_is_added_where_it_belongs(tmp_path: Path, kind: str) -> None:
    path = MADE[kind][1](tmp_path)
    with opened(tmp_path / "palace", started=False) as app:
        filed = run(app, path)["filed"]
        told = run(app, path, include_tools=True)
        assert (told["filed"], told["updated"], told["unchanged"]) == (0, 1, filed - 1)
        told = run(app, path)
        assert (told["filed"], told["updated"], told["unchanged"]) == (0, 0, filed)
        drawers = app.palace.list_drawers(limit=9).items
        assert len(drawers) == filed
        assert sum("\n\nTool: " in each.content for each in drawers) == 1

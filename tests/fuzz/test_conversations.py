"""Whatever is in a history or an export, its reader yields documents that can be filed, or says what it left out."""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.palace.file_import import new_drawer
from mempalace_mcp.palace.importers import Document, read_real
from tests.fuzz.support import SEEDS, any_json, any_text, compact, damage, examples, promptly
from tests.palace.importers import test_chatgpt, test_claude_ai, test_codex, test_gemini_cli

CODEX = (
    test_codex.meta(history_base={"thread_id": test_codex.FIRST, "end_ordinal_exclusive": 3}),
    test_codex.asked("Q"),
    test_codex.answered("A"),
    test_codex.event("user_message", "Again"),
    test_codex.event("agent_message", "Again"),
    test_codex.sent("user", "Sent"),
    test_codex.line("event_msg", 5, type="thread_rolled_back", num_turns=1),
    test_codex.line("turn_context", 1, model="m", cwd="/srv"),
    test_codex.line("response_item", 3, type="function_call_output", output=[{"type": "input_text", "text": "x"}]),
    test_codex.DONE,
)
GEMINI = (
    test_gemini_cli.HEAD,
    test_gemini_cli.CONTEXT,
    test_gemini_cli.user("m1", "Q", displayContent=[{"text": "Q"}]),
    test_gemini_cli.model("m2", "A", toolCalls=[{"result": [{"functionResponse": {"response": {"output": "x"}}}]}]),
    test_gemini_cli.setting(messages=[test_gemini_cli.CONTEXT, test_gemini_cli.user("m3", "Q")], summary="S"),
    {"$rewindTo": "m2"},
)
CITED = test_chatgpt.message("assistant", "Fact \ue200cite\ue202turn0\ue201.", metadata=test_chatgpt.CITED)
CHATGPT = (
    test_chatgpt.chat("t", test_chatgpt.message("user", "Q"), CITED, gizmo_id="g-1"),
    test_chatgpt.branched(),
)
CLAUDE_AI = (
    test_claude_ai.talk(
        test_claude_ai.QUESTION, {**test_claude_ai.ANSWER, "attachments": [{"extracted_content": "x"}]}
    ),
    test_claude_ai.BRIDGE,
    test_claude_ai.MEMORIES,
)
KINDS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "codex": ("rollout.jsonl", CODEX),
    "gemini": ("session.jsonl", GEMINI),
    "chatgpt": ("conversations.json", CHATGPT),
    "chatgpt, zipped": ("conversations.zip", CHATGPT),
    "claude.ai": ("conversations.json", CLAUDE_AI),
    "claude.ai, zipped": ("conversations.zip", CLAUDE_AI),
}


def changed(dice: Random, value: Any, odds: float) -> Any:
    """The value with anything in the place of some of its parts."""
    if dice.random() < odds:
        return dice.choice((any_json(dice), any_text(dice, 30), None, [], {}, value))
    if isinstance(value, dict):
        pairs = [(key, changed(dice, each, odds)) for key, each in value.items() if dice.random() > odds / 2]
        return dict(pairs)
    if isinstance(value, list):
        return [changed(dice, each, odds) for each in value for _ in range(2 if dice.random() < odds else 1)]
    return value


def written(dice: Random, name: str, values: tuple[Any, ...]) -> bytes:
    """A file that is nearly right."""
    odds = dice.choice((0.0, 0.02, 0.1, 0.3))
    made = [compact(changed(dice, each, odds)) for each in dice.choices(values, k=dice.randint(1, 2 * len(values)))]
    if name.endswith(".jsonl"):
        return b"\n".join(damage(dice, each, 2) if dice.random() < 0.2 else each for each in made) + b"\n"
    array = damage(dice, b"[" + b",".join(made) + b"]", dice.choice((0, 0, 2)))
    if name.endswith(".json"):
        return array
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", dice.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED))) as archive:
        for member in ("conversations.json", "memories.json", "user.json"):
            archive.writestr(member, array)
    return damage(dice, buffer.getvalue(), dice.choice((0, 0, 2)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files are."""
    return tmp_path_factory.mktemp("histories")


@examples(150)
@given(SEEDS, st.sampled_from(sorted(KINDS)), st.booleans())
def test_every_history_is_read_or_left_out_with_a_reason(
    folder: Path, tally: Counter[str], seed: int, kind: str, include_tools: bool
) -> None:
    dice = Random(seed)
    name, values = KINDS[kind]
    file = folder / name
    file.write_bytes(written(dice, name, values))
    with promptly():
        entries = list(read_real(file, include_tools=include_tools))
    assert entries
    for entry in entries:
        if not isinstance(entry, Document):
            assert entry.reason
            continue
        tally["documents"] += 1
        assert entry.content.strip()
        assert "\0" not in entry.content
        entry.content.encode("utf-8")
        assert new_drawer(entry, entry.wing or "w").place
        json.dumps(entry.metadata, allow_nan=False, ensure_ascii=False).encode("utf-8")
    assert list(read_real(file, include_tools=include_tools)) == entries

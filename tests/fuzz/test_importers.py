"""Whatever is in a file, its readers yield documents that can be stored, or say what they left out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.palace.importers import Document, default_wing, read, read_real
from tests.fuzz.support import SEEDS, any_json, any_text, compact, damage, examples, promptly
from tests.palace.importers.support import assistant, record, user

SUFFIXES = st.sampled_from([".jsonl", ".md", ".txt", ".rst", ""])
PIECES = (
    "# ", "## ", "### #", "\n", "\n\n", "\r\n", "```", "~~~~", "---\n", "...\n", "date: 2026-05-08\n", "date: 31.12.\n",
    "> ", "- [ ] ", "| a | b |", "words and more words ", "Ähm. ", "阿达喝茶。", "\f", "\0", "\u2028",
    "x" * 9000, "a\n" * 900,
)  # fmt: skip
ENCODINGS = ("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252")


def some_markdown(dice: Random) -> bytes:
    """Headings, code, front matter and prose in any order and encoding."""
    text = "".join(dice.choice((*PIECES, any_text(dice))) for _ in range(dice.randint(0, 30)))
    return text.encode(dice.choice(ENCODINGS), "replace")


def some_record(dice: Random) -> dict[str, Any]:
    """A line of a transcript, some of its fields being anything."""
    content = dice.choice((any_text(dice, 60), [_block(dice) for _ in range(dice.randint(0, 3))], any_json(dice)))
    kind = dice.choice((user, assistant))(content) if isinstance(content, str) else record("assistant", content)
    kind |= dice.choice(_FIELDS)(dice)
    for name in dice.sample([*kind], dice.choice((0, 0, 1, 2))):
        kind[name] = any_json(dice)
    return kind


_FIELDS: tuple[Callable[[Random], dict[str, Any]], ...] = (
    lambda _: {},
    lambda dice: {"uuid": f"u{dice.randint(0, 9)}", "parentUuid": f"u{dice.randint(0, 9)}"},
    lambda dice: {"isSidechain": True, "agentId": dice.choice(("a1", None)), "uuid": f"u{dice.randint(0, 9)}"},
    lambda dice: (
        {"type": "queue-operation", "operation": dice.choice(("enqueue", "dequeue", "remove", "popAll"))}
        | {"content": dice.choice(("ask", "/compact", any_json(dice)))}
    ),
    lambda dice: {"type": "attachment", "attachment": {"type": "queued_command", "prompt": "ask"}, "uuid": "q"},
    lambda _: {"promptSource": "queued", "message": {"content": "ask"}, "type": "user"},
    lambda dice: {"type": "summary", "summary": any_text(dice, 30), "leafUuid": f"u{dice.randint(0, 9)}"},
    lambda dice: {"type": dice.choice(("ai-title", "custom-title")), "aiTitle": any_text(dice, 30)},
    lambda dice: {"type": "system", "subtype": "compact_boundary", "logicalParentUuid": f"u{dice.randint(0, 9)}"},
    lambda dice: {"sourceToolAssistantUUID": "u1", "toolUseResult": any_json(dice)},
    lambda dice: {"type": "api-request", "message": any_json(dice)},
)
"""Fields by which records of Claude Code differ."""


def _block(dice: Random) -> Any:
    text = dice.choice(("An answer. " * dice.randint(0, 900), any_text(dice, 60)))
    return dice.choice(({"type": "text", "text": text}, {"type": "tool_use", "input": any_json(dice)}, any_json(dice)))


def some_transcript(dice: Random) -> bytes:
    """Records on lines, damaged or not."""
    return b"\n".join(damage(dice, compact(some_record(dice)), 2) for _ in range(dice.randint(0, 12)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files are."""
    return tmp_path_factory.mktemp("files")


@examples(100)
@given(SEEDS, SUFFIXES)
def test_every_file_is_read_or_left_out_with_a_reason(
    folder: Path, tally: Counter[str], seed: int, suffix: str
) -> None:
    dice = Random(seed)
    make = dice.choice((some_transcript, some_markdown))
    data = damage(dice, make(dice)) if dice.random() < 0.9 else dice.randbytes(dice.randint(0, 300))
    file = folder / f"file{suffix}"
    file.write_bytes(data)
    tally["files"] += 1
    with promptly():
        entries = list(read(file))
        assert default_wing(file)
    documents = [entry for entry in entries if isinstance(entry, Document)]
    assert len({document.key for document in documents}) == len(documents)
    for document in documents:
        assert document.content.strip()
        assert "\0" not in document.content
        document.content.encode("utf-8")
        json.dumps(document.metadata, allow_nan=False, ensure_ascii=False).encode("utf-8")
    assert all(entry.reason for entry in entries if not isinstance(entry, Document))
    assert entries or not data.strip() or suffix != ".txt"
    assert list(read(file)) == entries
    for place in (each.resume for each in documents if each.resume is not None):
        assert data[: place.offset].endswith(b"\n")
        rest = [each for each in read_real(file, resume=place) if isinstance(each, Document)]
        assert all(each.content.strip() for each in rest)

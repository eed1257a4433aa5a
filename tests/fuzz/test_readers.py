"""Whatever bytes come, the readers of lines, messages, frames, greetings, cursors and addresses say what they are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.daemon.ipc import ClientHello, Frame
from mempalace_mcp.daemon.pending import PendingRequest
from mempalace_mcp.server.jsonrpc import Refusal, read_message
from mempalace_mcp.server.lines import LineSplitter
from mempalace_mcp.server.subscriptions import MAX_URI_CHARACTERS, read_uri, write_uri
from mempalace_mcp.storage.queries import decode_cursor, encode_cursor
from tests.fuzz.messages import certain_id, some_line
from tests.fuzz.support import SEEDS, any_text, compact, damaged, examples, promptly

T = TypeVar("T")

TEXT = SEEDS.map(lambda seed: any_text(Random(seed)))
POSITIONS = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4).map(tuple)
HELLO = ClientHello(
    version="0.1.0", palace=(1, 2), bridge="00" * 16, pid=3, token="t", settings={"PALACE_INDEX": "exact"}
)


@examples(60)
@given(SEEDS, st.integers(0, 20))
def test_every_line_is_a_message_or_is_refused_under_its_id(tally: Counter[str], seed: int, count: int) -> None:
    dice = Random(seed)
    written = [some_line(dice, number) for number in range(count)]
    stream = b"\n".join(written)
    cut = dice.randint(0, len(stream))
    splitter = LineSplitter()
    with promptly():
        read = [*splitter.feed(stream[:cut]), *splitter.feed(stream[cut:]), *splitter.finish()]
    assert read == [line for line in written if line.strip()]
    for line in read:
        assert isinstance(line, bytes)
        tally["lines"] += 1
        with promptly():
            result = read_message(line)
            PendingRequest(1, line)
        expected = certain_id(line)
        if isinstance(result, Refusal):
            answer = json.loads(result.answer())
            assert isinstance(answer, list) or answer["id"] == result.id
            assert expected in (None, result.id)
        else:
            assert expected in (None, result.content.get("id"))
            json.dumps(result.content, allow_nan=False, ensure_ascii=False).encode("utf-8")


@examples(150)
@given(st.binary(max_size=60) | damaged(b"12? " + compact({"a": [1]})) | damaged(HELLO.encode()))
def test_frames_and_greetings_are_read_or_refused(tally: Counter[str], data: bytes) -> None:
    tally["frames and greetings"] += 1
    for decode in (Frame.decode, ClientHello.decode):
        try:
            with promptly():
                whole = decode(data)
        except ValueError:
            continue
        again = decode(whole.encode().removesuffix(b"\n"))
        assert all(getattr(again, name) == getattr(whole, name) for name in whole.__slots__)


@examples(100)
@given(POSITIONS, TEXT, st.data())
def test_a_cursor_is_one_that_was_given_or_is_refused(
    tally: Counter[str], position: tuple[int, ...], question: str, data: st.DataObject
) -> None:
    given_out = encode_cursor(position, question)
    assert decode_cursor(given_out, question, position) == position
    forged = data.draw(TEXT | damaged(given_out.encode()).map(lambda cursor: cursor.decode("utf-8", "replace")))
    tally["cursors"] += 1
    result = refused_or(lambda: decode_cursor(forged, question, position))
    if isinstance(result, InvalidArgument):
        assert result.argument == "cursor"
    else:
        assert len(result) == len(position)


@examples(100)
@given(TEXT | TEXT.map("palace://".__add__) | damaged(b"palace://w%20/r/d_1").map(lambda uri: uri.decode("latin-1")))
def test_an_address_is_one_or_is_refused(tally: Counter[str], uri: str) -> None:
    tally["addresses"] += 1
    result = refused_or(lambda: read_uri(uri))
    if isinstance(result, InvalidArgument):
        assert result.argument == "uri"
        return
    parts = [part for part in (result.wing, result.room, result.drawer) if part is not None]
    again = write_uri(*parts)
    if len(again) <= MAX_URI_CHARACTERS and not {".", ".."}.intersection(parts):
        assert read_uri(again) == result


def refused_or(read: Callable[[], T]) -> T | InvalidArgument:
    """What is read, promptly, or the refusal."""
    with promptly():
        try:
            return read()
        except InvalidArgument as error:
            return error

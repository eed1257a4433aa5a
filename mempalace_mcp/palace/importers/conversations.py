"""Conversations: turns are put together to exchanges, and exchanges to documents.

An exchange begins with the first thing the user says after an answer, and holds everything that is said until the next
one begins. It is one document, or several if it is long.

Each message has a key, by which the palace knows it again: `AGENT:SESSION:MESSAGE`, never the path of a file, since
clients move and copy their files.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import blake2b
from typing import Any

from mempalace_mcp.core import clock
from mempalace_mcp.core.blobs import readable_length
from mempalace_mcp.core.clock import UTC_ZONE, Instant, Zone
from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.model import Metadata
from mempalace_mcp.core.text import MAX_CONTENT_BYTES, excerpt
from mempalace_mcp.palace.importers.cutting import cut, fits
from mempalace_mcp.palace.importers.documents import Document, Piece, Resume, Source
from mempalace_mcp.palace.importers.files import unstorable
from mempalace_mcp.palace.importers.naming import name_of, wing_of
from mempalace_mcp.palace.importers.typed_text import typed_text
from mempalace_mcp.palace.privacy import shown

LONGEST_DOCUMENT = 8_000
"""Characters of one document, those of blobs not counted; a longer exchange is several, cut between turns where
possible."""

_LARGEST = MAX_CONTENT_BYTES // 2
"""Characters of several turns in one document, with blobs: the rest is for characters that take more than a byte."""

_LONGEST_LABEL = 4_096
_LONGEST_TITLE = 80
_LONGEST_OUTPUT = 4_000


class Speaker(StrEnum):
    """Who says something, as it is shown. A sub-agent is given a task and reports. A note has no speaker."""

    USER = "User"
    ASSISTANT = "Assistant"
    TASK = "Task"
    REPORT = "Report"
    TOOL = "Tool"
    NOBODY = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says at once.

    The `message_id` is unique within the session; without one, the turn is known by its place in the session.
    `session_id` is the session in which it was first said, if that is another one, since forks copy messages. A turn
    that `goes_on` is an answer of the user in the midst of the assistant's work, and begins no exchange. The `metadata`
    are those of the document that the turn begins.
    """

    speaker: Speaker
    text: str
    time: Instant | None = None
    message_id: str | None = None
    session_id: str | None = None
    goes_on: bool = False
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Session:
    """What all turns of a conversation share.

    The `agent` is the name of the reader. The `wing` is by default the project of `cwd`, else the agent; the `room` is
    by default the agent. A session's `started_at` stands for turns without a time. Without a `title` there is the
    beginning of what the user says first.
    """

    agent: str
    session_id: str
    cwd: str | None = None
    git_branch: str | None = None
    model: str | None = None
    title: str | None = None
    wing: str | None = None
    room: str | None = None
    started_at: Instant | None = None
    source_format: str | None = None
    metadata: Metadata = field(default_factory=dict)


def read_conversation(
    source: Source, session: Session, turns: Iterable[Turn], *, is_ended: bool = False
) -> Iterator[Document]:
    """The documents of one conversation. `is_ended`: its last exchange is complete."""
    conversation = Conversation(source, session)
    for turn in turns:
        yield from conversation.add(turn)
    yield from conversation.finish(is_ended=is_ended)


def read_note(
    source: Source,
    name: str,
    text: str,
    *,
    wing: str,
    room: str,
    time: Instant | None = None,
    metadata: Metadata | None = None,
) -> Iterator[Document]:
    """The documents of a text beside the conversations of an export, such as a memory or a document of a project.

    The palace knows it by its `name`, for example `claude-ai:memory:ID`, whatever file it is in.
    """
    turn = Turn(Speaker.NOBODY, storable(text).strip(), time, metadata=metadata or {})
    note = Exchange(source, name_of(room, "notes"), wing=name_of(wing, "notes"))
    yield from note.add(IdentifiedTurn(turn, name, changed=False))
    yield from note.finish()


class Conversation:
    """Takes the turns of one conversation in their order, and yields documents as soon as they are complete.

    Of a user's turn only what the user typed is kept; blank turns, and those that are repeated, are left out.
    """

    def __init__(self, source: Source, session: Session) -> None:
        self._source = source
        self._session = session
        self._identities = Identities()
        self._title = label(session.title and source.filed(session.title))
        self._count = 0
        self._exchange: Exchange | None = None

    def add(self, turn: Turn, resume: Resume | None = None) -> Iterator[Document]:
        """Take a turn in; yields the documents that are thereby complete. `resume` is the place before the turn in a
        file that only grows; a reader that begins there needs turns with ids."""
        text = typed_text(turn.text) if turn.speaker is Speaker.USER else turn.text.strip()
        if not text:
            return
        self._count += 1
        identified = self._identities.admit(replace(turn, text=text), self._name(turn))
        if identified is None:
            return
        if self._title is None and turn.speaker is Speaker.USER:
            self._title = title_of(self._source.filed(text))
        if self._exchange is None or self._exchange.is_over(identified.turn):
            yield from self.finish(is_ended=True)
            self._exchange = self._next_exchange(turn, resume)
        yield from self._exchange.add(identified)

    def finish(self, *, is_ended: bool = False) -> Iterator[Document]:
        """The last document, if there is one. It may grow, unless the conversation `is_ended`."""
        if self._exchange is not None:
            yield from (replace(each, may_grow=not is_ended) for each in self._exchange.finish())
            self._exchange = None

    def _name(self, turn: Turn) -> str:
        message = turn.message_id if turn.message_id is not None else f"#{self._count}"
        return f"{self._session.agent}:{turn.session_id or self._session.session_id}:{message}"

    def _next_exchange(self, turn: Turn, resume: Resume | None) -> Exchange:
        session = self._session
        known = {
            "agent": session.agent,
            "session_id": session.session_id,
            "message_id": None if (turn.message_id or "").startswith(SAID) else turn.message_id,
            "cwd": session.cwd,
            "git_branch": session.git_branch,
            "model": session.model,
            "title": self._title,
            "source_format": session.source_format,
        }
        metadata = {name: text for name, value in known.items() if (text := label(value))} | dict(session.metadata)
        wing = wing_of(session.cwd) if session.cwd else session.agent
        wing = name_of(session.wing, wing) if session.wing else wing
        room = name_of(session.room or session.agent, session.agent)
        return Exchange(self._source, room, metadata, wing, session.started_at, resume)


@dataclass(slots=True)
class Exchange:
    """The turns of an exchange that are in no document yet, and what is known of it as a whole.

    `started_at` stands for the time of a first turn that has none. The file can be read on from `resume`, before it.
    """

    source: Source
    room: str
    metadata: Metadata = field(default_factory=dict)
    wing: str | None = None
    started_at: Instant | None = None
    resume: Resume | None = None
    is_answered: bool = False
    opening: Turn | None = None
    pieces: list[Piece] = field(default_factory=list)
    length: int = 0
    """Characters that are in no blob."""
    size: int = 0
    """All characters."""
    secrets: int = 0
    """Those that are masked."""

    def is_over(self, turn: Turn) -> bool:
        """Does this turn begin the next exchange? An exchange without a question, as its file was cut, ends with it."""
        if turn.speaker is not Speaker.USER or turn.goes_on or self.opening is None:
            return False
        return self.is_answered or self.opening.speaker is not Speaker.USER

    def add(self, identified: IdentifiedTurn) -> Iterator[Document]:
        """Take a turn in; yields the parts that are thereby complete, which no later turn changes."""
        turn, name = identified.turn, identified.name
        if identified.changed:
            if self._replace(hashed(name, "0"), turn):
                return
            name = f"{name}:{hashed(turn.text)}"
        self.opening = self.opening or turn
        self.is_answered = self.is_answered or turn.speaker is Speaker.ASSISTANT
        if turn.metadata.get("model") and "model" not in self.metadata:
            self.metadata = {**self.metadata, "model": turn.metadata["model"]}
        withheld = self.source.withheld(turn.text)
        start = stop = 0
        for number, text in enumerate(cut(turn.text, LONGEST_DOCUMENT)):
            start, stop = stop, stop + len(text)
            filed = shown(turn.text, withheld, start, stop)
            if not filed.text.strip():
                continue
            length = readable_length(text)
            if self.length + length > LONGEST_DOCUMENT or self.size + len(text) > _LARGEST:
                yield from self.finish()
            key = hashed(name, str(number))
            queued = hashed(identified.queued_name, str(number)) if identified.queued_name is not None else None
            self.pieces.append(_piece(key, turn, text, filed.text, queued))
            self.secrets += filed.secrets
            self.length += length
            self.size += len(text)

    def finish(self) -> Iterator[Document]:
        """The part read so far, if there is one."""
        if not self.pieces or self.opening is None:
            return
        metadata = {**self.metadata, **self.opening.metadata}
        if self.opening.time is None and self.started_at is not None:
            metadata["time_source"] = "session"
        yield Document(
            key=f"{self.pieces[0].key & (1 << 64) - 1:016x}",
            room=self.room,
            content=render(self.pieces),
            source_file=self.source.name,
            occurred_at=self.started_at if self.opening.time is None else self.opening.time,
            metadata=metadata,
            pieces=tuple(self.pieces),
            wing=self.wing,
            resume=self.resume,
            secrets=self.secrets,
        )
        self.pieces, self.length, self.size, self.secrets, self.resume = [], 0, 0, 0, None

    def _replace(self, key: int, turn: Turn) -> bool:
        """Let a turn that was written again at greater length take the place of its shorter self."""
        text = turn.text
        for position, piece in enumerate(self.pieces):
            if piece.key == key and text.startswith(piece.said) and fits(text, LONGEST_DOCUMENT):
                before, filed = (shown(each, self.source.withheld(each)) for each in (piece.said, text))
                said = replace(turn, speaker=Speaker(piece.speaker), time=piece.time)
                self.pieces[position] = _piece(key, said, text, filed.text)
                self.secrets += filed.secrets - before.secrets
                self.length += readable_length(text) - readable_length(piece.said)
                self.size += len(text) - len(piece.said)
                return True
        return False


def _piece(key: int, turn: Turn, text: str, filed: str, queued_key: int | None = None) -> Piece:
    original = None if filed == text else text
    return Piece(key, hashed(text), turn.speaker, filed, turn.time, queued_key, original)


def render(pieces: Sequence[Piece], after: str | None = None) -> str:
    """The text of a drawer: each side is named when it begins to speak; `after` is who spoke before."""
    texts = []
    for piece in pieces:
        is_named = bool(piece.speaker) and piece.speaker != after
        texts.append(f"{piece.speaker}: {piece.text}" if is_named else piece.text)
        after = piece.speaker
    return "\n\n".join(texts)


@dataclass(frozen=True, slots=True)
class IdentifiedTurn:
    """A turn with the name of its message. `changed`: the file had another text under that name before.

    A turn that was queued had the name `queued_name` until a record repeated it.
    """

    turn: Turn
    name: str
    changed: bool
    queued_name: str | None = None


@dataclass(slots=True)
class Identities:
    """Knows the messages of one file again. It holds two numbers for each."""

    names: set[int] = field(default_factory=set)
    texts: set[int] = field(default_factory=set)
    alike: Counter[int] = field(default_factory=Counter)

    def admit(self, turn: Turn, name: str) -> IdentifiedTurn | None:
        """The turn under this name, or None if the file had just this before."""
        turn = replace(turn, text=storable(turn.text))
        known, text = hashed(name), hashed(name, turn.text)
        if text in self.texts:
            return None
        changed = known in self.names
        self.names.add(known)
        self.texts.add(text)
        return IdentifiedTurn(turn, name, changed)

    def name_by_content(self, speaker: str, when: str, text: str) -> str:
        """A name for a message without an id: who says what and when; of several that are alike, which one it is."""
        alike = hashed(speaker, when, storable(text))
        self.alike[alike] += 1
        return f"{SAID}{alike}:{self.alike[alike]}"


SAID = "said:"
"""How the names begin of messages that are known by what they say."""

_KEY_BYTES = 8  # what an integer of the database holds
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def hashed(*texts: str) -> int:
    """A number that is always the same for the same texts."""
    state = blake2b(digest_size=_KEY_BYTES)
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        state.update(b"%d:" % len(data))
        state.update(data)
    return int.from_bytes(state.digest(), "big", signed=True)


def storable(text: str) -> str:
    """The text with U+FFFD for each character that the palace cannot keep."""
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def title_of(text: str) -> str | None:
    """The first words of a text, for a conversation without a title."""
    return label(excerpt(" ".join(storable(text).split()), _LONGEST_TITLE))


def shortened(output: str) -> str:
    """What a tool returned; of long output the beginning and the end."""
    if len(output) <= _LONGEST_OUTPUT:
        return output
    half = _LONGEST_OUTPUT // 2
    return f"{output[:half]}\n[… {len(output) - 2 * half:,} characters …]\n{output[-half:]}"


def label(value: Any) -> str | None:
    """The value if it is a text fit for metadata, else None."""
    if isinstance(value, str) and 0 < len(value) <= _LONGEST_LABEL and unstorable(value) is None:
        return value
    return None


def iso_time(value: Any, zone: Zone = UTC_ZONE) -> Instant | None:
    """The instant of an ISO 8601 text, in this zone if it has no offset; None for anything else."""
    try:
        return clock.parse(value, "timestamp", zone=zone) if isinstance(value, str) else None
    except InvalidArgument:
        return None


def epoch_time(value: Any, per_second: int = 1) -> Instant | None:
    """The instant of a number since 1970: seconds, or with `per_second=1000` milliseconds. None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        instant = int(value * (1_000_000 // per_second))
        clock.to_datetime(instant)
    except (ValueError, OverflowError):  # not a number, or in a year that no calendar has
        return None
    return instant


def text_of(content: Any, *, kind: str = "text") -> str:
    """The text of a message: a string, or a list of strings and blocks of which those of this `type` have a `text`."""
    if isinstance(content, str):
        return content.strip()
    blocks = content if isinstance(content, list) else [content]
    return "\n\n".join(filter(None, (_block_text(block, kind) for block in blocks)))


def _block_text(block: Any, kind: str) -> str:
    if isinstance(block, str):
        return block.strip()
    if not isinstance(block, Mapping) or str(block.get("type", kind)).lower() != kind:
        return ""
    text = block.get("text")
    return text.strip() if isinstance(text, str) else ""

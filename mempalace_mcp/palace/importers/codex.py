"""Sessions of Codex: `sessions/YYYY/MM/DD/rollout-TIME-ID.jsonl`, and flat in `archived_sessions`, some compressed.

The program has written them in three ways: with items that are completed, before that with events, and at first with
nothing but what the model was sent. A file may hold the same message in several of them, and forks of earlier versions
copy what was said before. So a message is known by what it says and what it answers; its place in the file may change
from version to version.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.palace.importers.codex_threads import DATABASE, is_history, read_threads
from mempalace_mcp.palace.importers.codex_turns import NAME, NAMED, Said, named_turns, typed
from mempalace_mcp.palace.importers.conversations import (
    Session,
    Speaker,
    Turn,
    iso_time,
    label,
    read_conversation,
    shortened,
    text_of,
)
from mempalace_mcp.palace.importers.documents import Document, Problem, SkippedFile, Source
from mempalace_mcp.palace.importers.files import MEBIBYTE, open_file
from mempalace_mcp.palace.importers.json_lines import LineFaults, Record, read_records
from mempalace_mcp.palace.importers.json_values import Json, inner, string
from mempalace_mcp.palace.importers.reader import Candidate, Machine, Reader
from mempalace_mcp.palace.importers.zstandard_files import DAMAGED, MAGIC, NEEDED, DamagedArchive, decompressor

LARGEST = 512 * MEBIBYTE
SUBAGENT = "a sub-agent's session"

_COMPRESSED = ".zst"
_META = "session_meta"
_KINDS = frozenset({_META, "response_item", "event_msg", "turn_context", "compacted"})
_OF_ITEMS = {"usermessage": Speaker.USER, "agentmessage": Speaker.ASSISTANT}
_OF_EVENTS = {"user_message": Speaker.USER, "agent_message": Speaker.ASSISTANT}
_OF_ROLES = {"user": Speaker.USER, "assistant": Speaker.ASSISTANT}
_RESULTS = frozenset({"function_call_output", "custom_tool_call_output", "local_shell_call_output"})
_ENDS = frozenset({"task_complete", "turn_complete", "turn_aborted"})


def read_codex(source: Source) -> Iterator[Document | Problem]:
    """The conversation in a file, or those in a database that are in no file any more.

    Raises:
        OSError: the file cannot be opened or read on.
    """
    if source.path.suffix.lower() == DATABASE:
        yield from read_threads(source)
        return
    file = _opened(source)
    if isinstance(file, SkippedFile):
        yield file
        return
    faults, rollout = LineFaults(), _rollout(source)
    problem: SkippedFile | None = None
    with file:
        try:
            for _, record in read_records(file, faults):
                rollout.add(record)
                if rollout.is_subagent:
                    break
        except DamagedArchive:
            problem = source.skipped(DAMAGED)
    spoken = False
    if not rollout.is_subagent:
        session = rollout.session(source.path)
        for document in read_conversation(source, session, rollout.turns(session), is_ended=rollout.is_ended):
            spoken = True
            yield document
    if problem is not None:
        yield problem
    elif not spoken:
        yield source.skipped(SUBAGENT if rollout.is_subagent else "no text")
    yield from faults.report(source.name)


def _rollout(source: Source) -> _Rollout:
    named = NAMED.match(source.path.name)
    return _Rollout(source.include_tools, _reverted_from(source.path), named["part"] if named else None)


def _opened(source: Source) -> BinaryIO | SkippedFile:
    file = open_file(source, LARGEST)
    if isinstance(file, SkippedFile) or source.path.suffix.lower() != _COMPRESSED:
        return file
    if source.path.with_suffix("").exists():
        file.close()
        return source.skipped("a compressed copy of the file beside it")
    decompress = decompressor()
    if decompress is None:
        file.close()
        return source.skipped(NEEDED)
    return decompress(file)


@dataclass(slots=True)
class _Rollout:
    """What a file tells so far.

    `said` is what items and events say, `sent` what the model was sent; the latter counts where there is nothing else.
    Of the lines from `reverted` on, by their ordinals, the user went back to an earlier place. The `part` of a
    session is what this file holds after that.
    """

    include_tools: bool
    reverted: int | None
    part: str | None
    meta: Json = field(default_factory=dict)
    origin: str | None = None
    """The session that was the first of those which a fork copies."""
    model: str | None = None
    cwd: str | None = None
    started_at: Instant | None = None
    is_ended: bool = False
    said: list[Said] = field(default_factory=list)
    sent: list[Said] = field(default_factory=list)
    alone: Counter[tuple[Speaker, str, bool]] = field(default_factory=Counter)
    """What one form has and the other has not yet."""

    def add(self, record: Record) -> None:
        """Take a line in."""
        ordinal = record.get("ordinal")
        if self.reverted is not None and isinstance(ordinal, int) and ordinal >= self.reverted:
            return
        kind, payload, time = record.get("type"), record.get("payload"), iso_time(record.get("timestamp"))
        if not isinstance(payload, Mapping):
            self._add_bare(record, time)
        elif kind == _META:
            self._begin(payload, time)
        elif kind == "turn_context":
            self.model = self.model or label(payload.get("model"))
            self.cwd = self.cwd or label(payload.get("cwd"))
        elif kind == "event_msg":
            self._add_event(payload, time)
        elif kind == "response_item":
            self._add_item(payload, time)

    def _begin(self, meta: Json, time: Instant | None) -> None:
        if not self.meta:
            self.meta = meta
            self.started_at = iso_time(meta.get("timestamp")) or time
        self.origin = label(meta.get("id")) or self.origin

    def _add_bare(self, record: Record, time: Instant | None) -> None:
        """The form of the first versions: no payloads."""
        if not self.meta and "type" not in record and label(record.get("id")):
            self._begin(record, time)
        else:
            self._add_item(record, time)

    def _add_event(self, event: Json, time: Instant | None) -> None:
        kind = string(event.get("type"))
        if kind == "thread_rolled_back":
            self._roll_back(event.get("num_turns"))
        elif kind == "item_completed":
            item = inner(event, "item")
            speaker = _OF_ITEMS.get(string(item.get("type")).lower())
            if speaker is not None:
                self._say(Said(speaker, text_of(item.get("content")), time, label(item.get("id")) or ""))
        elif kind in _OF_EVENTS and event.get("kind", "plain") == "plain":
            self._say(Said(_OF_EVENTS[kind], string(event.get("message")), time))
        elif kind in _ENDS:
            self.is_ended = True

    def _add_item(self, item: Json, time: Instant | None) -> None:
        kind, speaker = string(item.get("type")), _OF_ROLES.get(string(item.get("role")))
        if kind == "message" and speaker is not None:
            kinds = ("input_text", "text") if speaker is Speaker.USER else ("output_text", "text")
            text = next(filter(None, (text_of(item.get("content"), kind=each) for each in kinds)), "")
            self._keep(self.sent, Said(speaker, text, time))
        elif kind in _RESULTS and self.include_tools:
            result = Said(Speaker.TOOL, shortened(_output(item.get("output"))), time)
            self._keep(self.said, result)
            self._keep(self.sent, result)

    def _say(self, said: Said) -> None:
        """Take a message in, unless the other form has had it."""
        said = replace(said, text=typed(said))
        is_item = said.item is not None
        if not said.text:
            return
        if self.alone[said.speaker, said.text, not is_item]:
            self.alone[said.speaker, said.text, not is_item] -= 1
            return
        self.alone[said.speaker, said.text, is_item] += 1
        self._keep(self.said, said)

    def _keep(self, into: list[Said], said: Said) -> None:
        said = replace(said, text=typed(said))
        if said.text:
            into.append(said)
            self.is_ended = False

    def _roll_back(self, turns: Any) -> None:
        """Drop the last prompts of the user with all that follows them."""
        if not isinstance(turns, int) or turns < 1:
            return
        for said in (self.said, self.sent):
            prompts = [at for at, each in enumerate(said) if each.speaker is Speaker.USER][-turns:]
            del said[min(prompts, default=len(said)) :]
        self.alone.clear()

    @property
    def is_subagent(self) -> bool:
        """Did the program itself begin the session?"""
        source = self.meta.get("source")
        return isinstance(source, Mapping) or self.meta.get("thread_source") not in (None, "user")

    def session(self, path: Path) -> Session:
        """The session of the file at this path."""
        named = NAMED.match(path.name)
        session_id = label(self.meta.get("id")) or (named["id"] if named else path.name.partition(".")[0])
        version = label(self.meta.get("cli_version"))
        return Session(
            NAME,
            session_id,
            cwd=label(self.meta.get("cwd")) or self.cwd,
            git_branch=label(inner(self.meta, "git").get("branch")),
            model=self.model,
            title=_title(path, session_id),
            started_at=self.started_at,
            source_format="codex-rollout",
            metadata={"client_version": version} if version else {},
        )

    def turns(self, session: Session) -> Iterator[Turn]:
        """The turns of the session."""
        told, sent = ({each.speaker for each in said} for said in (self.said, self.sent))
        return named_turns(self.said if told >= sent else self.sent, self._owner(session))

    def _owner(self, session: Session) -> str:
        """The session under which messages are known: of a fork that copies, the first one; after the user went back in
        a session, the part of it that is new."""
        base = inner(self.meta, "history_base")
        if base.get("thread_id") == session.session_id:
            return self.part or f"{session.session_id}@{base.get('end_ordinal_exclusive')}"
        return self.origin or session.session_id


def _output(output: Any) -> str:
    """What a tool returned: a text, blocks, or an object with either."""
    if isinstance(output, Mapping):
        output = output.get("content")
    if isinstance(output, list):
        return next(filter(None, (text_of(output, kind=kind) for kind in ("input_text", "text"))), "")
    return string(output)


def _reverted_from(path: Path) -> int | None:
    """The ordinal from which on the user went back, as the beginning of a later file of the same session tells."""
    name = path.name.partition(".jsonl")[0]
    thread, _, part = name.partition("_")
    ordinals: list[int] = []
    for other in path.parent.glob(f"{_escaped(thread)}_*.jsonl") if NAMED.match(path.name) else ():
        if other.name.partition(".jsonl")[0].partition("_")[2] > part:
            base = next((inner(each.get("payload"), "history_base") for each in Candidate(other).records), {})
            end = base.get("end_ordinal_exclusive")
            if isinstance(end, int):
                ordinals.append(end)
    return min(ordinals, default=None)


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _title(path: Path, session_id: str) -> str | None:
    """The name that the user gave the session, from the index in the program's folder."""
    home = next((folder.parent for folder in path.parents if folder.name in ("sessions", "archived_sessions")), None)
    index = None if home is None else home / "session_index.jsonl"
    try:
        status = None if index is None else index.stat()
    except OSError:
        status = None
    if index is None or status is None:
        return None
    return _titles(index, status.st_size, status.st_mtime_ns).get(session_id)


@lru_cache(maxsize=1)
def _titles(index: Path, size: int, changed: int) -> Mapping[str, str]:
    """Names of sessions by id; size and time are those of the file, so that a changed one is read anew."""
    del size, changed
    titles: dict[str, str] = {}
    file = open_file(Source(index), LARGEST)
    if isinstance(file, SkippedFile):
        return titles
    with file:
        for _, record in read_records(file, LineFaults()):
            session_id, title = label(record.get("id")), label(record.get("thread_name"))
            if session_id and title:
                titles[session_id] = title
    return titles


def _recognizes(candidate: Candidate) -> bool:
    if candidate.path.suffix.lower() == DATABASE:
        return is_history(candidate)
    if candidate.path.suffix.lower() == _COMPRESSED:
        return candidate.path.name.startswith("rollout-") and candidate.head.startswith(MAGIC)
    if any(map(_is_record, candidate.records[:20])):
        return True
    beginning = candidate.text[:400]  # the first line may be longer than what is read of the file
    return f'"type":"{_META}"' in beginning and '"payload":{' in beginning


def _is_record(record: Json) -> bool:
    """Is this a line of such a file?"""
    if string(record.get("type")) in _KINDS:
        return isinstance(record.get("payload"), Mapping) and isinstance(record.get("timestamp"), str)
    return "type" not in record and label(record.get("id")) is not None and "instructions" in record


def _places(machine: Machine) -> Iterable[Path]:
    home = machine.folder("CODEX_HOME", machine.home / ".codex")
    yield home / "sessions"
    yield home / "archived_sessions"
    yield from sorted(machine.folder("CODEX_SQLITE_HOME", home).glob("thread_history_*.sqlite"))


CODEX = Reader(NAME, "Codex", frozenset({".jsonl", _COMPRESSED, DATABASE}), _recognizes, read_codex, _places)

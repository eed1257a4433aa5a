"""Events of hooks on their way to the daemon, each a small file in the palace's folder `hooks/spool`.

An event names a session and its transcript; what was said is not in it. A session has one file, so a later event takes
the place of an earlier one. A daemon that dies in the midst of an import leaves the file to the next one.

The hook imports this module, so it imports next to nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from zlib import crc32

FOLDER = "hooks"
LOG_FILE = "events.jsonl"
MAX_LOG_BYTES = 256 * 1024

_SPOOL = "spool"
_SUFFIX = ".json"
_CLAIMED = ".claimed"
_MAX_EVENTS = 10_000
_LONGEST_TEXT = 4096
_NAME_LETTERS = 60
_PRIVATE = 0o700

COUNTS = ("filed", "updated", "unchanged", "waiting", "masked")
"""What the log counts of the import of a transcript, as the import itself names it."""

SESSION_STARTS = "start"
TURN_ENDS = "turn"
SESSION_PAUSES = "pause"
"""Something new may be in the transcript, but the last turn may not be finished."""

_KINDS = {
    "sessionstart": SESSION_STARTS,
    **dict.fromkeys(
        (
            *("stop", "agentstop", "afteragent", "agentturncomplete", "sessionidle", "sessionexecutionsucceeded"),
            *("sessionend", "postcascaderesponse", "postcascaderesponsewithtranscript"),
        ),
        TURN_ENDS,
    ),
    **dict.fromkeys(("precompact", "postcompact", "precompress", "subagentstop", "interrupt"), SESSION_PAUSES),
}
"""By the name of the event in small letters, without anything between its words."""

_NAMES = ("hook_event_name", "hookEventName", "agent_action_name", "type", "event")
_SESSIONS = ("conversation_id", "session_id", "sessionId", "thread-id", "trajectory_id")
_TRANSCRIPTS = ("transcript_path", "transcriptPath")
_FOLDERS = ("cwd", "workspace_roots", "workspaceRoots", "directory")


class HookEvent:
    """What a client says of one of its sessions. `transcript` is an absolute path; empty texts are not known."""

    __slots__ = ("client", "cwd", "kind", "name", "session", "source", "time", "transcript")

    def __init__(
        self,
        *,
        client: str,
        kind: str,
        name: str = "",
        session: str = "",
        transcript: str = "",
        cwd: str = "",
        source: str = "",
        time: float = 0.0,
    ) -> None:
        self.client = client
        self.kind = kind
        self.name = name
        self.session = session
        self.transcript = transcript
        self.cwd = cwd
        self.source = source
        self.time = time

    @classmethod
    def read(cls, client: str, payload: Mapping[str, object]) -> HookEvent | None:
        """The event in what a client sends to its hook; None if nothing is to be done for it."""
        nested = payload.get("tool_info")
        fields = {**(nested if isinstance(nested, dict) else {}), **payload}
        name = _text(fields, _NAMES)
        kind = _KINDS.get("".join(filter(str.isalpha, name)).lower())
        if kind is None:
            return None
        return cls(
            client=client,
            kind=kind,
            name=name,
            session=_text(fields, _SESSIONS),
            transcript=_path(_text(fields, _TRANSCRIPTS)),
            cwd=_path(_text(fields, _FOLDERS)),
            source=_text(fields, ("source", "reason", "trigger")),
            time=time.time(),
        )

    @property
    def fields(self) -> dict[str, object]:
        """All fields, JSON-safe."""
        return {name: getattr(self, name) for name in self.__slots__}

    @property
    def key(self) -> str:
        """A name for a file, equal for events of the same session of a client, whatever host sends them."""
        place = self.transcript or f"{self.client} {self.session}"
        encoded = place.encode("utf-8", "surrogatepass")
        # Not a digest: hashlib alone would take a fifth of the time that a hook has.
        letters = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in place[-_NAME_LETTERS:])
        return f"{letters}.{len(encoded):x}{crc32(encoded):08x}"


class Spool:
    """The events of a palace that no daemon has dealt with yet."""

    def __init__(self, palace: str) -> None:
        self._folder = os.path.join(palace, FOLDER, _SPOOL)

    def put(self, event: HookEvent) -> None:
        """Keep the event, in the place of an earlier one of its session.

        Raises:
            OSError: it cannot be written, or there are too many.
        """
        os.makedirs(self._folder, _PRIVATE, exist_ok=True)
        file = os.path.join(self._folder, event.key + _SUFFIX)
        if not os.path.exists(file) and len(os.listdir(self._folder)) >= _MAX_EVENTS:
            raise OSError(f"{_MAX_EVENTS} sessions wait for a daemon already")
        draft = f"{file}.{os.getpid()}"
        try:
            with open(draft, "w", encoding="ascii") as stream:
                json.dump(event.fields, stream)
            os.replace(draft, file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise

    def claim(self) -> Iterator[tuple[str, HookEvent]]:
        """The events that wait, oldest first, each with the file to remove when it is dealt with.

        A claimed event is not replaced by a later one: its session may go on meanwhile.
        """
        for file in sorted(self._files(), key=_changed_at):
            claimed = file if file.endswith(_CLAIMED) else file + _CLAIMED
            with contextlib.suppress(OSError):
                if claimed != file:
                    os.replace(file, claimed)
                event = _load(claimed)
                if event is None:
                    os.unlink(claimed)
                else:
                    yield claimed, event

    @property
    def changed_at(self) -> int:
        """When an event came or went last, in nanoseconds; 0 if none ever has."""
        try:
            return os.stat(self._folder).st_mtime_ns
        except OSError:
            return 0

    def count(self) -> int:
        """How many sessions have an event that waits."""
        return sum(1 for _ in self._files())

    def _files(self) -> Iterator[str]:
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            yield from [entry.path for entry in entries if entry.name.endswith((_SUFFIX, _CLAIMED))]


def note(palace: str, entry: Mapping[str, object]) -> None:
    """Add a line to the log of events, which `hook status` shows.

    Raises:
        OSError: it cannot be written.
    """
    folder = os.path.join(palace, FOLDER)
    os.makedirs(folder, _PRIVATE, exist_ok=True)
    line = json.dumps({"time": round(time.time(), 3), **entry}, ensure_ascii=True) + "\n"
    file = os.path.join(folder, LOG_FILE)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, line.encode("ascii"))
        size = os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    if size > MAX_LOG_BYTES:
        os.replace(file, file + ".1")


def noted(palace: str) -> list[dict[str, object]]:
    """The entries of the log, oldest first."""
    entries = []
    for name in (LOG_FILE + ".1", LOG_FILE):
        with (
            contextlib.suppress(OSError),
            open(os.path.join(palace, FOLDER, name), encoding="ascii", errors="replace") as lines,
        ):
            for line in lines:
                with contextlib.suppress(ValueError, RecursionError):
                    entry = json.loads(line)
                    if isinstance(entry, dict):
                        entries.append(entry)
    return entries


def _load(file: str) -> HookEvent | None:
    try:
        with open(file, encoding="ascii") as stream:
            fields = json.load(stream)
        at = float(fields.pop("time"))
        is_whole = all(isinstance(value, str) for value in fields.values())
        return HookEvent(**fields, time=at) if is_whole else None
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError, OverflowError):
        return None


def _changed_at(file: str) -> float:
    try:
        return os.stat(file).st_mtime
    except OSError:
        return 0.0


def _text(fields: Mapping[str, object], names: tuple[str, ...]) -> str:
    """The first field that is a text, or a list that begins with one."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, str) and value.strip():
            return value.strip()[:_LONGEST_TEXT]
    return ""


def _path(text: str) -> str:
    """The path, if it is absolute and plain."""
    path = os.path.expanduser(text)
    return path if os.path.isabs(path) and "\0" not in path and ".." not in path.split(os.sep) else ""

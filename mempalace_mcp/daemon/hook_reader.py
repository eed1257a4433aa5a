"""The daemon's side of hooks: it reads what is new in the transcripts of sessions that hooks announce.

One thread imports them one after the other. The client writes its transcript beside the hook, and may be late: a file
that changed while it was read is read once more. An exchange that is not finished may never be: a transcript that ends
with one is read again after a while, by the next daemon if need be.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mempalace_mcp.core.errors import InvalidArgument, PalaceError
from mempalace_mcp.core.limits import wait_for_end
from mempalace_mcp.daemon.hook_spool import COUNTS, TURN_ENDS, HookEvent, Spool, note
from mempalace_mcp.palace.palace import Palace

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Between looks for events. A look is one question to the file system."""

SETTLE_SECONDS = 1.0
"""For the client to write the end of a turn."""

AGAIN_SECONDS = 305.0
"""Until an unfinished exchange is looked at again: a little more than a conversation must be quiet to count as over."""

CLOSE_SECONDS = 10.0
MAX_CHARACTERS = 2_000
"""Of the text that a session begins with."""

_TOKENS = 500
_MOST_READS = 5
TAG = "mempalace-memory"
"""Marks the text, so that no import takes it for what somebody said."""

_HEADING = "What the memory palace holds of this project, wing {wing!r}. The tool `search` finds the texts themselves."


@dataclass(frozen=True, slots=True)
class _Unfinished:
    """When an event came, and when its transcript is due to be read again, by the monotonic clock."""

    time: float
    due: float

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self.due


class HookReader:
    """Owns one thread from `start` to `close`."""

    def __init__(self, palace: Palace, folder: Path, again_seconds: float = AGAIN_SECONDS) -> None:
        self._palace = palace
        self._again_seconds = again_seconds
        self._unfinished: dict[str, _Unfinished] = {}
        """By the file of the event."""
        self._folder = str(folder)
        self._spool = Spool(self._folder)
        self._stop = threading.Event()
        self._is_busy = False
        self._thread = threading.Thread(target=self._run, name="hooks", daemon=True)

    def start(self) -> None:
        """Start the thread, which first deals with what waits."""
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Is it dealing with no event?"""
        return not self._is_busy

    def close(self) -> None:
        """Stop after the present step of an import; the rest waits for the next daemon."""
        self._stop.set()
        if self._thread.ident is not None:
            wait_for_end(self._thread, CLOSE_SECONDS)

    def greet(self, fields: Mapping[str, str]) -> str | None:
        """What a session begins with, None if nothing is known of its project. It is entered in the log of events."""
        text = self.text_for(fields["cwd"]) if fields.get("cwd") else None
        with contextlib.suppress(OSError):
            note(self._folder, {**_shown(fields), "characters": len(text or "")})
        return text

    def text_for(self, cwd: str) -> str | None:
        """What is known of the project of a folder, in at most `MAX_CHARACTERS`; None without any drawer."""
        # Imported at the first event: the readers of all formats are a tenth of the start of a daemon.
        from mempalace_mcp.palace.importers.naming import wing_of

        wing = wing_of(cwd)
        known = self._palace.wake_up(wing=wing, max_tokens=_TOKENS)
        if not known.drawers:
            return None
        heading = _HEADING.format(wing=wing)
        room = MAX_CHARACTERS - len(f"<{TAG}>\n{heading}\n\n</{TAG}>")
        inside = known.text.replace(f"</{TAG}", f"</ {TAG}")  # of a drawer that speaks of the mark
        kept = inside if len(inside) <= room else inside[:room].rpartition("\n")[0]
        return f"<{TAG}>\n{heading}\n{kept}\n</{TAG}>"

    def _run(self) -> None:
        seen = -1
        while not self._stop.is_set():
            changed_at = self._spool.changed_at
            if changed_at != seen or any(each.is_due for each in self._unfinished.values()):
                self._is_busy = True
                try:
                    self._handle_all()
                except Exception:  # the thread must survive any error; it looks again at the next event
                    logger.exception("reading the events of hooks failed")
                self._is_busy = False
                seen = changed_at
            if not self._stop.wait(LOOK_SECONDS):
                _import_readers()

    def _handle_all(self) -> None:
        for file, event in self._spool.claim():
            unfinished = self._unfinished.get(file)
            if unfinished is not None and unfinished.time == event.time and not unfinished.is_due:
                continue  # it is the same event; a later one of the session takes its place
            if self._stop.wait(max(0.0, min(SETTLE_SECONDS, event.time + SETTLE_SECONDS - time.time()))):
                return
            is_finished = self._handle(event, is_first=unfinished is None or unfinished.time != event.time)
            if self._stop.is_set():
                return  # perhaps in the midst of it: the next daemon reads it again
            self._unfinished.pop(file, None)
            if not is_finished:
                self._unfinished[file] = _Unfinished(event.time, time.monotonic() + self._again_seconds)
                continue
            with contextlib.suppress(OSError):
                os.unlink(file)

    def _handle(self, event: HookEvent, *, is_first: bool) -> bool:
        """Read the transcript and enter that in the log; False if its last exchange is not finished."""
        entry: dict[str, Any] = _shown(event.fields)
        try:
            summary = self._import(event)
            entry |= {name: count for name in COUNTS if (count := summary[name])}
            entry |= {"skipped": summary["skipped"]} if summary["skipped"] else {}
        except (PalaceError, OSError) as error:
            entry["error"] = str(error)
        except Exception as error:  # an event that always fails must not hold up those that come after it
            logger.exception("reading what a hook announced failed")
            entry["error"] = f"{type(error).__name__}: see the log of the daemon"
        is_finished = "waiting" not in entry
        if is_first or is_finished:
            with contextlib.suppress(OSError):  # a full disk: the event is dealt with all the same
                note(self._folder, entry)
        return is_finished

    def _import(self, event: HookEvent) -> dict[str, Any]:
        paths = _transcripts(event)
        from mempalace_mcp.palace.import_report import ImportSummary

        summary = ImportSummary()
        for _ in range(_MOST_READS):
            before = [_state(path) for path in paths]
            for step in self._palace.import_paths(paths, turn_ended=event.kind == TURN_ENDS):
                summary.add(step)
                if self._stop.is_set():
                    break
            if self._stop.is_set() or before == [_state(path) for path in paths]:
                break
            self._stop.wait(SETTLE_SECONDS)
        return summary.as_dict(complete=not self._stop.is_set())


def _import_readers() -> None:
    """The readers of all formats are a tenth of the start of a daemon, so they come a moment later: before a session
    begins that waits no longer than `ANSWER_SECONDS` for what is known of its project."""
    importlib.import_module("mempalace_mcp.palace.importing")


def _transcripts(event: HookEvent) -> Sequence[Path]:
    """The transcript of the event, or where its client keeps the histories of all sessions.

    Raises:
        InvalidArgument: it names a folder, or none and its client is not known.
    """
    if event.transcript and os.path.isdir(event.transcript):
        # all below it would be imported, perhaps a whole home folder
        raise InvalidArgument("the transcript is a folder", hint="A hook announces the file of one session.")
    if event.transcript:
        return [Path(event.transcript)]
    from mempalace_mcp.palace.importers.reader import Machine
    from mempalace_mcp.palace.importers.readers import READERS

    machine, client = Machine.this(), event.client.removesuffix("-notify")
    places = [place for reader in READERS if reader.name == client for place in reader.places(machine)]
    if not places:
        raise InvalidArgument(
            "the event names no transcript", hint=f"Switch on transcripts in {event.client}, if it can write them."
        )
    return [place for place in places if place.exists()]


def _state(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _shown(fields: Mapping[str, object]) -> dict[str, Any]:
    """What the log tells of an event."""
    names: Sequence[tuple[str, str]] = (
        ("client", "client"),
        ("name", "event"),
        ("session", "session"),
        ("transcript", "transcript"),
        ("cwd", "cwd"),
    )
    return {shown: fields[name] for name, shown in names if fields.get(name)}

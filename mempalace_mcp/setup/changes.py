"""Makes the changes of a plan, each with a copy of the file and an entry of the journal, and takes them back."""

from __future__ import annotations

import secrets
import subprocess
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mempalace_mcp.setup import files
from mempalace_mcp.setup.clients import launch_of
from mempalace_mcp.setup.files import SettingsFile, digest, read_settings
from mempalace_mcp.setup.formats import MISSING, KeyPath, SettingsFault, existing, format_of, lookup, put, take
from mempalace_mcp.setup.hooks import hook_within
from mempalace_mcp.setup.journal import Journal, Put, Record, finished
from mempalace_mcp.setup.machine import Machine
from mempalace_mcp.setup.plan import HOOK, SERVER, Step, edited

COMMAND_SECONDS = 60
_TRIES = 5
_SETTLE_SECONDS = 3.0
"""A client that is running may write its file a moment after its command has returned."""


def make(machine: Machine, step: Step, journal: Journal) -> str:
    """Make the changes of a step; says how.

    Raises:
        SettingsFault: they cannot be made, and the file is as it was.
    """
    if step.command and _made_by_command(machine, step, journal):
        return f"by {Path(step.command[0]).name}"
    for _ in range(_TRIES):
        file = read_settings(step.file)
        text, puts = edited(step.file, file.text, step)
        if not puts:
            return "was there"
        if _replaced(file, text, step, puts, journal):
            return "written"
    raise SettingsFault("another program keeps changing it", hint="Quit the client, then try again.")


def _replaced(file: SettingsFile, text: str, step: Step, puts: list[Put], journal: Journal) -> bool:
    """False if somebody else has changed the file meanwhile; then nothing is left of the attempt."""
    now = datetime.now()
    folders = files.missing_folders(file.path.parent)
    copy = files.name_of_copy(file, now)
    record = _record(file, step, now, puts, copy, folders, digest(file.encoded(text)))
    is_copied = done = False
    try:
        journal.add(record)
        files.make_folder(file.path.parent)
        is_copied = files.back_up(file, copy)
        done = is_copied and files.replace(file, text)
    finally:
        if not done:
            _forget(journal, record, copy if is_copied else None, folders)
    return done


def _made_by_command(machine: Machine, step: Step, journal: Journal) -> bool:
    """Let the client's own program add the server. What counts is that the entry stands in the file then."""
    file, now = read_settings(step.file), datetime.now()
    path, wanted = step.wanted[0].path, step.wanted[0].value
    data = format_of(step.file).read(file.text)
    puts = [Put(path, wanted, len(existing(data, path)) if data is not None else 0)]
    copy = files.name_of_copy(file, now)
    record = _record(file, step, now, puts, copy, [], None)
    is_copied = done = False
    try:
        journal.add(record)
        is_copied = files.back_up(file, copy)
        after = _run(machine, step, path)
        entry = lookup(format_of(step.file).read(after.text), path)
        done = launch_of(entry) == launch_of(wanted)
        if done:
            found = Put(path, entry, puts[0].depth)
            journal.change(record, finished(record, digest(after.data), (found,)))
    except SettingsFault:  # the file is written as if there were no command, or says what is wrong with it
        pass
    finally:
        if not done:
            _forget(journal, record, copy if is_copied else None, [])
    return done


def _run(machine: Machine, step: Step, path: KeyPath) -> SettingsFile:
    """The file after the command, as soon as the entry is there."""
    before = read_settings(step.file)
    try:
        finished = subprocess.run(
            step.command,
            env=dict(machine.environment),
            cwd=machine.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return before
    end = time.monotonic() + (_SETTLE_SECONDS if finished.returncode == 0 else 0)
    while True:
        after = read_settings(step.file)
        if lookup(format_of(step.file).read(after.text), path) is not MISSING or time.monotonic() >= end:
            return after
        time.sleep(0.1)


def _record(
    file: SettingsFile,
    step: Step,
    now: datetime,
    puts: list[Put],
    copy: Path | None,
    folders: list[Path],
    after: str | None,
) -> Record:
    return Record(
        id=secrets.token_hex(8),
        client=step.client,
        kind=step.kind,
        file=str(step.file),
        at=now.astimezone().isoformat(timespec="seconds"),
        puts=tuple(puts),
        before=digest(file.data),
        after=after,
        backup=None if copy is None else str(copy),
        folders=tuple(map(str, folders)),
    )


def _forget(journal: Journal, record: Record, copy: Path | None, folders: list[Path]) -> None:
    """Leave nothing of a change that was not made."""
    if copy is not None:
        copy.unlink(missing_ok=True)
    files.remove_empty(folders)
    journal.change(record, None)


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What became of one recorded change: `restored`, `removed`, `gone` or `left`; the latter with the reason."""

    record: Record
    outcome: str
    note: str = ""


def take_back(record: Record, journal: Journal) -> TakenBack:
    """Take back one change; the latest has to be the first. What others have changed since stays.

    Raises:
        SettingsFault: the journal cannot be read or written.
    """
    try:
        outcome = _taken_back(record)
    except SettingsFault as fault:
        return TakenBack(record, "left", fault.message)
    files.clear(Path(record.file))
    files.remove_empty([Path(folder) for folder in record.folders])
    journal.change(record, None)
    return TakenBack(record, outcome)


def _taken_back(record: Record) -> str:
    file = read_settings(Path(record.file))
    copy = Path(record.backup) if record.backup else None
    if file.data is None:
        return "gone"
    if record.after is not None and digest(file.data) == record.after and _restored(file, record, copy):
        return "restored"
    text = file.text
    for each in reversed(record.puts):
        text = _without(Path(record.file), text, each, record)
    if text == file.text:
        if copy is not None and digest(file.data) == record.before:  # the change was never made
            copy.unlink(missing_ok=True)
        return "gone"
    if record.before is None and not format_of(Path(record.file)).read(text):
        file.path.unlink(missing_ok=True)
    elif not files.replace(file, text):
        raise SettingsFault("another program is changing it", hint="Try again.")
    return "removed"


def _restored(file: SettingsFile, record: Record, copy: Path | None) -> bool:
    """Nobody has changed the file since: put back what was there, to the byte. False if the copy is not that."""
    if record.before is None:
        file.path.unlink(missing_ok=True)
        return True
    if copy is None:
        return False
    before = read_settings(copy)
    if digest(before.data) != record.before or not files.replace(file, before.text):
        return False
    copy.unlink(missing_ok=True)
    return True


def _without(file: Path, text: str, done: Put, record: Record) -> str:
    """The text without what was put there, unless it is somebody else's by now."""
    format = format_of(file)
    data = format.read(text)
    path = _found(data, done, record)
    if path is None:
        return text
    if record.before is None and _is_base(done, record) and data.keys() != {*done.path}:
        return text  # what others have added to a file of ours needs it too
    if done.previous is not MISSING:
        return put(format, text, path, done.previous)
    text = take(format, text, path)
    for length in range(len(path) - 1, done.depth, -1):  # what was made around it, if nothing else came there
        if not lookup(format.read(text), path[:length]) and lookup(format.read(text), path[:length]) is not MISSING:
            text = take(format, text, path[:length])
    return text


def _is_base(done: Put, record: Record) -> bool:
    """Is it what a file of hooks must have besides hooks, such as its version?"""
    return record.kind == HOOK and len(done.path) == 1


def _found(data: Any, done: Put, record: Record) -> KeyPath | None:
    """Where the value is now. An entry stays ours when the client or the user has added options to it."""
    if isinstance(done.path[-1:] and done.path[-1], int):
        holder = lookup(data, done.path[:-1])
        elements = holder if isinstance(holder, list) else []
        places: list[KeyPath] = [(place,) for place, each in enumerate(elements) if each == done.value]
        within = ((place, hook_within(each, record.client)) for place, each in enumerate(elements))
        places += [(place, *inner) for place, inner in within if inner is not None]
        return (*done.path[:-1], *places[0]) if places else None
    there = lookup(data, done.path) if data is not None else MISSING
    if there is MISSING:
        return None
    if there == done.value or (record.kind == SERVER and launch_of(there) == launch_of(done.value)):
        return done.path
    if not done.path:
        raise SettingsFault("it was changed since", hint="Remove it by hand if it is not needed.")
    return None  # somebody else's

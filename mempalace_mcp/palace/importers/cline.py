"""Tasks of Cline, and of Roo Code and Kilo Code, which were made from it; sessions of Cline's program for terminals.

A task is a folder with `ui_messages.json`: what was shown, as messages that say or ask something. The program keeps
`SESSION.messages.json`, with what it knows of the session as a whole in `SESSION.json` beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

from mempalace_mcp.palace.importers.conversations import (
    Conversation,
    Session,
    Speaker,
    Turn,
    epoch_time,
    iso_time,
    label,
    read_conversation,
    shortened,
    text_of,
)
from mempalace_mcp.palace.importers.documents import Document, Problem, SkippedFile, Source
from mempalace_mcp.palace.importers.editors import user_folders
from mempalace_mcp.palace.importers.files import MEBIBYTE, open_file
from mempalace_mcp.palace.importers.json_stream import DAMAGED, read_elements
from mempalace_mcp.palace.importers.json_values import Json, inner, objects, parsed, string
from mempalace_mcp.palace.importers.reader import Candidate, Machine, Reader

NAME = "cline"
LARGEST = 256 * MEBIBYTE
OF_AN_AGENT = "a sub-agent's task"

_TASK = "ui_messages.json"
_SESSION = ".messages.json"
_HEAD = 8  # messages that may tell the folder
_SAID = {
    "task": Speaker.USER,
    "user_feedback": Speaker.USER,
    "text": Speaker.ASSISTANT,
    "completion_result": Speaker.ASSISTANT,
    "subtask_result": Speaker.REPORT,
    "command_output": Speaker.TOOL,
    "mcp_server_response": Speaker.TOOL,
}
_ASKED = {"followup": "question", "plan_mode_respond": "response", "act_mode_respond": "response"}
"""What the assistant asks or answers in JSON, and where in it the text is."""
_OVER = ("completion_result", "resume_completed_task")
_MARK = "HAS_CHANGES"
_FOLDER = re.compile(r"# Current (?:Working|Workspace) Directory \((.{1,4096}?)\) Files")
_INPUT = re.compile(r"\s*<user_input\b[^<>]*>(.*)</user_input>\s*", re.DOTALL)
_NOTICE = re.compile(r"<mode_notice>[^<]*</mode_notice>")


def read_task(source: Source, name: str) -> Iterator[Document | Problem]:
    """The exchanges of a task or of a session of the program for terminals; `name` is that of the agent.

    Raises:
        OSError: the file cannot be opened or read on.
    """
    file = open_file(source, LARGEST)
    if isinstance(file, SkippedFile):
        yield file
        return
    spoken = False
    read = _read_session(source, file) if source.path.name.endswith(_SESSION) else _read_task(source, file, name)
    with file:
        try:
            for entry in read:
                spoken = True
                yield entry
        except ValueError:
            yield source.skipped(DAMAGED)
            return
    if not spoken:
        yield source.skipped("no text")


def _read_task(source: Source, file: BinaryIO, name: str) -> Iterator[Document | Problem]:
    known = _beside(source.path.with_name("history_item.json"))
    if known.get("parentTaskId"):
        yield source.skipped(OF_AN_AGENT)
        return
    messages = (each for each in read_elements(file) if isinstance(each, Mapping))
    head = list(islice(messages, _HEAD))
    folder = source.path.parent
    cwd = label(known.get("workspace")) or _folders(folder.parent.with_name("state") / "taskHistory.json").get(
        folder.name
    )
    session = Session(
        name,
        folder.name,
        cwd=cwd or _folder_in(head),
        model=next((model for each in head if (model := label(inner(each, "modelInfo").get("modelId")))), None),
        title=label(known.get("task")),
        source_format="cline-task",
    )
    conversation, is_first, last = Conversation(source, session), True, None
    for message in chain(head, messages):
        last = message.get("ask")
        for turn in _turns(message, is_first):
            is_first = False
            if turn.speaker is not Speaker.TOOL or source.include_tools:
                yield from conversation.add(turn)
    yield from conversation.finish(is_ended=last in _OVER)


def _turns(message: Json, is_first: bool) -> Iterator[Turn]:
    """What is said in a message. The first one of a task is what the user asks for."""
    if message.get("partial"):
        return
    kind = string(message.get("say" if message.get("type") == "say" else "ask"))
    text, time = string(message.get("text")), epoch_time(message.get("ts"), 1000)
    name = f"{message['ts']}:{kind}" if time is not None else None
    if message.get("type") == "say" and kind in _SAID:
        speaker = Speaker.USER if is_first and kind == "text" else _SAID[kind]
        said = shortened(text) if speaker is Speaker.TOOL else text.removesuffix(_MARK)
        yield Turn(speaker, said, time, name)
    elif message.get("type") == "ask" and kind in _ASKED:
        asked = parsed(text)
        yield Turn(Speaker.ASSISTANT, text if asked is None else string(asked.get(_ASKED[kind])), time, name)
        if chosen := string((asked or {}).get("selected")):
            yield Turn(Speaker.USER, chosen, time, name and f"{name}:selected", goes_on=True)


def _folder_in(head: Iterable[Json]) -> str | None:
    """The folder that the first request to a model names."""
    requests = (string(each.get("text")) for each in head if each.get("say") == "api_req_started")
    texts = (string((parsed(text) or {}).get("request")) for text in requests)
    return next((match[1] for text in texts if (match := _FOLDER.search(text))), None)


def _folders(path: Path) -> Mapping[str, str]:
    """The folders of tasks by their names, as an index of all tasks tells."""
    try:
        status = path.stat()
    except OSError:
        return {}
    return _read_index(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _read_index(path: Path, *state: int) -> Mapping[str, str]:
    del state  # an index that has changed is read anew
    file = open_file(Source(path), LARGEST)
    found: dict[str, str] = {}
    if isinstance(file, SkippedFile):
        return found
    with file:
        try:
            for each in read_elements(file):
                if isinstance(each, Mapping) and (folder := label(each.get("cwdOnTaskInitialization"))):
                    found[str(each.get("id"))] = folder
        except ValueError:
            pass  # the tasks are filed all the same
    return found


def _read_session(source: Source, file: BinaryIO) -> Iterator[Document | Problem]:
    whole = parsed(file.read())
    if whole is None:
        raise ValueError(DAMAGED)
    if inner(whole, "origin").get("subagent") or inner(whole, "origin").get("parentThreadId"):
        yield source.skipped(OF_AN_AGENT)
        return
    name = source.path.name.removesuffix(_SESSION)
    known = _beside(source.path.with_name(f"{name}.json"))
    session = Session(
        NAME,
        label(whole.get("sessionId")) or name,
        cwd=label(known.get("cwd")) or label(known.get("workspace_root")),
        model=label(known.get("model")),
        title=label(inner(known, "metadata").get("title")),
        started_at=iso_time(known.get("started_at")),
        source_format="cline-session",
    )
    turns = (turn for each in objects(whole, "messages") for turn in _turns_of_session(each, source))
    yield from read_conversation(source, session, turns, is_ended=known.get("status") == "completed")


def _turns_of_session(message: Json, source: Source) -> Iterator[Turn]:
    time, message_id, content = epoch_time(message.get("ts"), 1000), label(message.get("id")), message.get("content")
    if message.get("role") == "assistant":
        yield Turn(Speaker.ASSISTANT, text_of(content), time, message_id)
        return
    if message.get("role") != "user":
        return
    blocks = objects(message, "content") or [{"type": "text", "text": content}]
    inputs = [match[1] for block in blocks if (match := _INPUT.fullmatch(string(block.get("text"))))]
    yield Turn(Speaker.USER, _NOTICE.sub("", "\n\n".join(inputs) or text_of(content)), time, message_id)
    for number, block in enumerate(blocks if source.include_tools else ()):
        if block.get("type") == "tool_result":
            results = [string(each.get("result")) for each in objects(block, "content")]
            text = text_of(block.get("content")) or "\n".join(filter(None, results))
            yield Turn(Speaker.TOOL, shortened(text), time, message_id and f"{message_id}:{number}")


def _beside(path: Path) -> Json:
    """What a small file beside the messages tells; nothing if there is none."""
    try:
        file = open_file(Source(path), MEBIBYTE)
        if isinstance(file, SkippedFile):
            return {}
        with file:
            return parsed(file.read()) or {}
    except OSError:
        return {}


def _recognizes(candidate: Candidate, extension: str | None) -> bool:
    path = candidate.path
    if path.name == _TASK:
        return extension is None or extension in path.parts
    return extension is None and path.name.endswith(_SESSION) and '"messages"' in candidate.text


def _places(machine: Machine, extension: str, of_the_program: bool) -> Iterator[Path]:
    for user in user_folders(machine):
        yield from sorted(user.glob(f"globalStorage/{extension}/tasks/*/{_TASK}"))
    if of_the_program:
        data = machine.folder("CLINE_DATA_DIR", machine.folder("CLINE_DIR", machine.home / ".cline") / "data")
        sessions = machine.folder("CLINE_SESSION_DATA_DIR", data / "sessions")
        yield from sorted((*data.glob(f"tasks/*/{_TASK}"), *sessions.glob(f"*/*{_SESSION}")))


def _reader(name: str, title: str, extension: str) -> Reader:
    is_cline = name == NAME
    return Reader(
        name,
        title,
        frozenset({".json"}),
        partial(_recognizes, extension=None if is_cline else extension),
        partial(read_task, name=name),
        partial(_places, extension=extension, of_the_program=is_cline),
    )


ROO_CODE = _reader("roo-code", "Roo Code", "rooveterinaryinc.roo-cline")
KILO_CODE = _reader("kilo-code", "Kilo Code", "kilocode.kilo-code")
CLINE = _reader(NAME, "Cline", "saoudrizwan.claude-dev")
"""The last one of them: it reads tasks wherever they lie."""

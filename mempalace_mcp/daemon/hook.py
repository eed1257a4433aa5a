"""`mempalace-mcp hook CLIENT`: a client runs it at an event of a session, and waits for it.

It hands the event over and is gone: it writes a small file that the daemon finds. At the start of a session it asks the
daemon what the palace knows of the project. Whatever happens, it prints nothing but the JSON that the client expects,
exits with 0, and starts no process.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import time
from collections.abc import Callable, Sequence

from mempalace_mcp.core import place
from mempalace_mcp.daemon.hook_spool import SESSION_STARTS, HookEvent, Spool, note

VARIABLE = "PALACE_HOOKS"
OFF = "off"
FILE = "file"
REMIND = "remind"
MODES = (REMIND, FILE, OFF)

READ_SECONDS = 0.5
"""For the client to write the event; all of them have written it when they start the hook."""

ANSWER_SECONDS = 0.06
"""For the daemon to tell what it knows. A session that begins does not wait longer for it."""

_LONGEST_PAYLOAD = 16 * 1024 * 1024
_READ_BYTES = 65536
_FINAL = ("resume",)
"""Sources of a start after which the text of the first start is still in the context."""


def _as_specific(text: str) -> dict[str, object]:
    return {"hookSpecificOutput": {"hookEventName": "SessionStart", "additionalContext": text}}


def _as_context(text: str) -> dict[str, object]:
    return {"additional_context": text}


def _as_both(text: str) -> dict[str, object]:
    return {"additionalContext": text, **_as_specific(text)}


_ANSWERS: dict[str, Callable[[str], dict[str, object]] | None] = {
    "claude-code": _as_specific,
    "codex": _as_specific,
    "gemini": _as_specific,
    "vscode": _as_specific,
    "copilot": _as_both,
    "cursor": _as_context,
    "codex-notify": None,
    "opencode": None,
    "windsurf": None,
}
"""How each client reads the answer; None for those that only show it to the user."""

CLIENTS = tuple(_ANSWERS)


def run(arguments: Sequence[str]) -> int:
    """Deal with one event: `CLIENT [--palace DIRECTORY] [JSON]`, the event on stdin without the last. Always 0."""
    answer: dict[str, object] | None = {}
    try:
        client, palace, payload = _read_arguments(arguments)
        answer = {} if _ANSWERS.get(client, _as_specific) else None
        answer = _handle(client, palace, _read_stdin() if payload is None else payload) or answer
    except (Exception, KeyboardInterrupt):  # noqa: BLE001 - a client takes any failure of its hook for its own
        pass
    if answer is not None:
        with contextlib.suppress(OSError):
            os.write(1, json.dumps(answer).encode("ascii") + b"\n")
    return 0


def _read_arguments(arguments: Sequence[str]) -> tuple[str, str | None, str | None]:
    rest = [part for each in arguments for part in (each.split("=", 1) if each.startswith("--palace=") else [each])]
    palace = None
    if "--palace" in rest:
        position = rest.index("--palace")
        palace = rest[position + 1]
        del rest[position : position + 2]
    return rest[0], palace, rest[1] if len(rest) > 1 else None


def _handle(client: str, option: str | None, payload: str) -> dict[str, object] | None:
    """Hand the event over; the answer, if there is anything to say."""
    mode = os.environ.get(VARIABLE, "").strip().lower() or REMIND
    found = place.place_of(os.environ, option)
    palace = found.directory
    sign = palace if found.url else os.path.join(palace, "palace.db")
    if mode == OFF or not os.path.exists(sign):  # a palace that was removed stays away
        return None
    if mode not in MODES:  # "0" or "no" must not file what somebody said
        wanted = ", ".join(MODES)
        note(palace, {"client": client, "error": f"{VARIABLE} must be one of {wanted}; nothing is filed"})
        return None
    try:
        content = json.loads(payload)
        if not isinstance(content, dict):
            raise ValueError("it is no object")
    except (ValueError, RecursionError) as error:
        note(palace, {"client": client, "error": f"the event cannot be read: {str(error)[:200]}"})
        return None
    try:
        event = HookEvent.read(client, _completed(client, palace, content))
        return None if event is None else _hand_over(event, palace, mode)
    except OSError as error:
        note(palace, {"client": client, "error": f"not handed over: {error}"})
        return None


def _completed(client: str, palace: str, content: dict[str, object]) -> dict[str, object]:
    """The event with what two clients leave out.

    OpenCode's plugin announces nothing but ends of turns. Windsurf tells what was said, and has no transcript.

    Raises:
        OSError: what was said cannot be written down.
    """
    if client == "opencode":
        return {"type": "session.idle", **content}
    if client == "windsurf":
        from mempalace_mcp.daemon.hook_windsurf import write_down

        return {**content, "transcript_path": write_down(palace, content)}
    return content


def _hand_over(event: HookEvent, palace: str, mode: str) -> dict[str, object] | None:
    if event.kind != SESSION_STARTS:
        Spool(palace).put(event)
        return None
    write = _ANSWERS.get(event.client)
    if write is None or mode != REMIND or event.source in _FINAL:
        return None
    text = _ask_daemon(event, palace)
    return write(text) if text else None


def _ask_daemon(event: HookEvent, palace: str) -> str | None:
    """What the daemon knows of the project of a session that starts; None if there is none, or it is busy."""
    from mempalace_mcp import __version__
    from mempalace_mcp.daemon import ipc

    address = ipc.DaemonAddress.read(os.path.join(palace, ipc.ADDRESS_FILE))
    if address is None:
        return None
    hello = ipc.ClientHello(
        version=__version__,
        palace=ipc.identity_of(palace),
        bridge="",
        pid=os.getpid(),
        purpose=ipc.HOOK,
        settings={name: str(value) for name, value in event.fields.items()},
    )
    try:
        connection = ipc.open_connection(address, hello, ANSWER_SECONDS)
    except (OSError, ValueError, ipc.Refused):
        return None
    connection.close()
    text = connection.server_hello.get("text")
    return text if isinstance(text, str) else None


def _read_stdin() -> str:
    """What the client has written on stdin. It may leave its end of the pipe open."""
    data = b""
    end = time.monotonic() + READ_SECONDS
    while len(data) < _LONGEST_PAYLOAD and (left := end - time.monotonic()) > 0:
        if not select.select([0], [], [], left)[0]:
            break
        part = os.read(0, _READ_BYTES)
        if not part:
            break
        data += part
        if part.endswith((b"}", b"}\n")) and _is_whole(data):
            break
    return data.decode("utf-8-sig", "replace")


def _is_whole(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True

"""The hooks of clients: at which events each calls `mempalace-mcp hook CLIENT`, and how its settings say that.

Hooks of others stand in the same lists and stay there. An entry of ours is known by the command that it runs.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mempalace_mcp.setup.clients import Launch
from mempalace_mcp.setup.formats import KeyPath
from mempalace_mcp.setup.machine import Machine

_OURS = re.compile(r"mempalace[-_]mcp\S*?[\"']*\s.*?\bhook[\"']*\s+[\"']*(?P<client>[a-z-]+)")
_COMMANDS = ("command", "bash", "powershell", "windows", "linux", "osx", "commandWindows")


@dataclass(frozen=True, slots=True)
class Hook:
    """What one setting of a client's hooks says: a value at a path, or one more element of the list there."""

    path: KeyPath
    value: Any
    is_element: bool = True


@dataclass(frozen=True, slots=True)
class HookSettings:
    """Where a client keeps its hooks, a template, and what is to stand there for a command.

    `switch` is a setting of the same file that, if it is true, keeps all hooks from running.
    """

    file: str
    hooks: Callable[[Machine, Launch], list[Hook]]
    note: str = ""
    switch: KeyPath = ()


def is_hook_of(value: Any, client: str) -> bool:
    """Does the setting run our command for the client?"""
    return any(found["client"] == client for found in map(_OURS.search, _command_lines(value)) if found)


def hook_within(element: Any, client: str) -> KeyPath | None:
    """Where our command is within an element of a list of hooks: `()` if the element runs nothing else.

    None if it is not there, or cannot be told from the commands of others.
    """
    if not is_hook_of(element, client):
        return None
    if all((found := _OURS.search(line)) and found["client"] == client for line in _command_lines(element)):
        return ()
    group = element.get("hooks") if isinstance(element, dict) else None
    inner = (place for place, each in enumerate(group if isinstance(group, list) else []) if is_hook_of(each, client))
    place = next(inner, None)
    return None if place is None else ("hooks", place)


def _command_lines(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value.replace('", "', " ").replace('",', " ")
    elif isinstance(value, list):
        for each in value:
            yield from _command_lines(each)
    elif isinstance(value, dict):
        arguments = value.get("args")
        rest = " ".join(map(str, arguments)) if isinstance(arguments, list) else ""
        yield from (f"{value[key]} {rest}" for key in _COMMANDS if isinstance(value.get(key), str))
        yield from _command_lines([each for each in value.values() if isinstance(each, list | dict)])


def posix_line(launch: Launch) -> str:
    """The command for a POSIX shell."""
    return shlex.join(launch)


def windows_line(launch: Launch) -> str:
    """The command for `cmd`."""
    return subprocess.list2cmdline(launch)


def powershell_line(launch: Launch) -> str:
    """The command for PowerShell, which runs a quoted path only after `&`."""
    return "& " + " ".join("'" + part.replace("'", "''") + "'" for part in launch)


def _line(machine: Machine, launch: Launch) -> str:
    return windows_line(launch) if machine.system == "windows" else posix_line(launch)


def _claude_code(machine: Machine, launch: Launch) -> list[Hook]:
    run = {"type": "command", "command": launch[0], "args": list(launch[1:])}
    brief = {"hooks": [{**run, "timeout": 10}]}
    return [
        Hook(("hooks", "SessionStart"), {"matcher": "startup|resume|clear|compact", **brief}),
        Hook(("hooks", "Stop"), {"hooks": [{**run, "async": True, "timeout": 30}]}),
        Hook(("hooks", "PreCompact"), brief),
        Hook(("hooks", "SessionEnd"), brief),
    ]


def _codex(machine: Machine, launch: Launch) -> list[Hook]:
    seconds = {"SessionStart": 10, "Stop": 10, "PreCompact": 10, "SessionEnd": 3}
    run = {"type": "command", "command": _line(machine, launch)}
    return [Hook(("hooks", event), {"hooks": [{**run, "timeout": limit}]}) for event, limit in seconds.items()]


def _gemini(machine: Machine, launch: Launch) -> list[Hook]:
    # The client does not wait for SessionEnd, and may kill what runs then.
    run = {"type": "command", "name": "mempalace", "command": _line(machine, launch), "timeout": 10_000}
    return [Hook(("hooks", event), {"hooks": [run]}) for event in ("SessionStart", "AfterAgent", "PreCompress")]


def _cursor(machine: Machine, launch: Launch) -> list[Hook]:
    run = {"command": _line(machine, launch)}
    events = ("sessionStart", "stop", "preCompact", "sessionEnd")
    return [Hook(("version",), 1, is_element=False), *(Hook(("hooks", event), run) for event in events)]


def _vscode(machine: Machine, launch: Launch) -> list[Hook]:
    run = {"type": "command", "command": _line(machine, launch), "timeout": 10}
    return [Hook(("hooks", event), run) for event in ("SessionStart", "Stop", "PreCompact")]


def _copilot(machine: Machine, launch: Launch) -> list[Hook]:
    run = {"type": "command", "bash": posix_line(launch), "powershell": powershell_line(launch), "timeoutSec": 10}
    events = ("sessionStart", "agentStop", "preCompact", "sessionEnd")
    return [Hook(("version",), 1, is_element=False), *(Hook(("hooks", event), run) for event in events)]


def _windsurf(machine: Machine, launch: Launch) -> list[Hook]:
    run = {"command": posix_line(launch), "powershell": powershell_line(launch), "show_output": False}
    events = ("pre_user_prompt", "post_cascade_response")  # what each says is all that it tells
    return [Hook(("hooks", event), run) for event in events]


def _opencode(machine: Machine, launch: Launch) -> list[Hook]:
    words = json.dumps(list(launch), ensure_ascii=False)
    return [Hook((), _OPENCODE_PLUGIN.replace("COMMAND", words), is_element=False)]


_OPENCODE_PLUGIN = """\
// Tells mempalace-mcp when a turn has ended. Written by `mempalace-mcp setup`; `setup --undo` removes it.
import { spawn } from "node:child_process"

const [program, ...words] = COMMAND

function tell(payload) {
  const child = spawn(program, [...words, JSON.stringify(payload)], { detached: true, stdio: "ignore" })
  child.on("error", () => {})
  child.unref()
}

// OpenCode 1 calls `server`; later versions call `setup`, and version 1 does that too, without events.
export default {
  id: "mempalace",
  server: async ({ directory }) => ({
    event: async ({ event }) => {
      if (event.type === "session.idle") {
        tell({ hook_event_name: event.type, session_id: event.properties.sessionID, cwd: directory })
      }
    },
  }),
  async setup(context) {
    if (!context?.event?.subscribe) return
    const follow = async () => {
      for await (const event of context.event.subscribe()) {
        if (event.type === "session.execution.succeeded") {
          const cwd = context.location?.directory
          tell({ hook_event_name: event.type, session_id: event.data.sessionID, cwd })
        }
      }
    }
    follow().catch(() => {})
  },
}
"""

HOOKS: dict[str, HookSettings] = {
    "claude-code": HookSettings("{claude}/settings.json", _claude_code, switch=("disableAllHooks",)),
    "cursor": HookSettings("~/.cursor/hooks.json", _cursor),
    "vscode": HookSettings("{copilot}/hooks/mempalace-vscode.json", _vscode),
    "copilot": HookSettings("{copilot}/hooks/mempalace-copilot.json", _copilot),
    "codex": HookSettings(
        "{codex}/hooks.json", _codex, "enter /hooks in Codex and approve them: until then it skips them silently."
    ),
    "gemini": HookSettings("{gemini}/settings.json", _gemini),
    "opencode": HookSettings("{opencode}/plugins/mempalace.js", _opencode),
    "windsurf": HookSettings("~/.codeium/windsurf/hooks.json", _windsurf),
}
"""By the ids of clients. The others have no hooks: their histories are imported."""

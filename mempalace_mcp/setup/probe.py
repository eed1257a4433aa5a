"""Starts the server as a client would, by the very words of its settings, and asks for its tools once."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from typing import Any

from mempalace_mcp import __version__
from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.setup.clients import Launch

SECONDS = 60
_SHOWN = 200

_LIST = 2
# Importing the SDK, here and in the server that its client makes load it, would take longer than everything else.
_MESSAGES: tuple[Mapping[str, Any], ...] = (
    {
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "mempalace-mcp setup", "version": __version__},
        },
    },
    {"method": "notifications/initialized"},
    {"id": _LIST, "method": "tools/list"},
)


def count_tools(launch: Launch) -> int:
    """How many tools the server offers.

    Raises:
        ConfigurationError: it does not start, or does not answer.
    """
    questions = "".join(json.dumps({"jsonrpc": "2.0", **message}) + "\n" for message in _MESSAGES)
    try:
        done = subprocess.run(launch, input=questions.encode(), capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise _fault(launch, "no answer") from error
    except OSError as error:
        raise _fault(launch, str(error)) from error
    for line in done.stdout.splitlines():
        if (count := _count(launch, line)) is not None:
            return count
    told = done.stderr.decode(errors="replace").strip().splitlines() or ["without a word"]
    raise _fault(launch, f"it ended with code {done.returncode}: {told[-1][:_SHOWN]}")


def _count(launch: Launch, line: bytes) -> int | None:
    """The number of tools in a line of the server's; None if it is about something else."""
    try:
        answer = json.loads(line)
        if "error" in answer:
            raise _fault(launch, answer["error"]["message"])
        return len(answer["result"]["tools"]) if answer.get("id") == _LIST else None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        shown = line[:_SHOWN].decode(errors="replace")
        raise _fault(launch, f"this is no answer of an MCP server: {shown!r}") from error


def _fault(launch: Launch, message: str) -> ConfigurationError:
    return ConfigurationError(
        f"the server does not start as a client starts it: {message}", hint=f"Try it in a shell: {launch[0]} --help"
    )

"""Revisions of the protocol, and what is agreed on before the first request.

Revisions of the protocol, and what else of its vocabulary is needed where the SDK is not loaded.

The handshake of the revisions that have one, without the SDK and as it would do it.

Only an offer about which there is nothing to say is accepted here; what the SDK might refuse is left to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mempalace_mcp import __version__

HANDSHAKE_REVISIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Those that begin with `initialize`, the oldest first."""

PROTOCOL_VERSION = "io.modelcontextprotocol/protocolVersion"
"""The key in `_meta` by which the requests of later revisions are known."""

CLIENT_INFO = "io.modelcontextprotocol/clientInfo"
"""The key in `_meta` by which the clients of later revisions say who they are."""

PROGRESS_TOKEN = "progressToken"
"""The key in `_meta` by which a client asks to be told how far a request is."""

CONNECTION_CLOSED = -32000
"""The code of the error that answers a request whose session has ended."""

RequestId = str | int

INITIALIZE = "initialize"
INITIALIZED = "notifications/initialized"

ASSUMED_REVISION = "2025-06-18"
"""Of a client that goes on without a handshake. It is the oldest that has structured content, which clients of later
ones insist on, and to those of earlier ones what it adds are fields that they leave alone."""

_NEED_NO_HANDSHAKE = (INITIALIZE, "ping", "server/discover")

SERVER_NAME = "mempalace-mcp"
SERVER_TITLE = "MemPalace"

_FREE_CAPABILITIES = ("experimental", "extensions")
"""Objects of objects, in which there may be anything."""

_SHAPED_CAPABILITIES = ("elicitation", "roots", "sampling", "tasks")
"""Objects of objects, which hold nothing else but flags that are called `listChanged`."""

_CLIENT_TEXTS = ("name", "version", "title", "description", "websiteUrl")


def revision_for(params: Mapping[str, Any] | None) -> str | None:
    """The revision to answer with: the one that is offered if it is known, else the latest. None if the SDK is to see
    the offer."""
    params = params or {}
    offered = params.get("protocolVersion")
    if not isinstance(offered, str) or "_meta" in params:
        return None
    if not _is_plain_client(params.get("clientInfo")) or not _are_plain_capabilities(params.get("capabilities")):
        return None
    return offered if offered in HANDSHAKE_REVISIONS else HANDSHAKE_REVISIONS[-1]


def needs_handshake(content: Mapping[str, Any]) -> bool:
    """True if only a session that began with a handshake can have this request."""
    return content["method"] not in _NEED_NO_HANDSHAKE and not is_enveloped(content)


def is_enveloped(content: Mapping[str, Any]) -> bool:
    """True if the request says in its `_meta` what a handshake would, as those of later revisions do."""
    meta = (content.get("params") or {}).get("_meta")
    return isinstance(meta, dict) and PROTOCOL_VERSION in meta


def assumed_handshake() -> dict[str, Mapping[str, Any]]:
    """The messages of a client that can do nothing by itself, by their methods.

    Clients whose event stream was cut reconnect and go on without another handshake, with a server that may be a new
    process.
    """
    client = {"name": "unknown", "version": "unknown"}
    params = {"protocolVersion": ASSUMED_REVISION, "capabilities": {}, "clientInfo": client}
    return {
        INITIALIZE: {"jsonrpc": "2.0", "id": 0, "method": INITIALIZE, "params": params},
        INITIALIZED: {"jsonrpc": "2.0", "method": INITIALIZED},
    }


def initialize_result(revision: str, instructions: str, *, tools_change: bool) -> dict[str, Any]:
    """The result of `initialize`. `tools_change`: the client may be told that the list of tools is another one."""
    return {
        "protocolVersion": revision,
        "capabilities": {
            "completions": {},
            "prompts": {"listChanged": False},
            "resources": {"listChanged": True, "subscribe": True},
            "tools": {"listChanged": tools_change},
        },
        "serverInfo": {"name": SERVER_NAME, "title": SERVER_TITLE, "version": __version__},
        "instructions": instructions,
    }


def _is_plain_client(client: object) -> bool:
    if not isinstance(client, dict) or not {"name", "version"} <= client.keys() or "icons" in client:
        return False
    return all(isinstance(client[key], str) for key in _CLIENT_TEXTS if key in client)


def _are_plain_capabilities(capabilities: object) -> bool:
    if not isinstance(capabilities, dict):
        return False
    free = [capabilities[name] for name in _FREE_CAPABILITIES if name in capabilities]
    shaped = [capabilities[name] for name in _SHAPED_CAPABILITIES if name in capabilities]
    return all(map(_is_of_objects, free)) and all(map(_is_plainly_shaped, shaped))


def _is_of_objects(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(each, dict) for each in value.values())


def _is_plainly_shaped(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(each, bool) if name == "listChanged" else _is_plainly_shaped(each) for name, each in value.items()
    )

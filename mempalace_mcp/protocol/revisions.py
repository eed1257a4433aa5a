"""Revisions of the protocol, and what else of its vocabulary is needed where the SDK is not loaded."""

from __future__ import annotations

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

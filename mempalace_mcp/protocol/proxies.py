"""Requests that a proxy has passed on, and under which path it serves us."""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.types import Scope

_SIGNS = frozenset(
    {
        b"cdn-loop",
        b"fastly-client-ip",
        b"fly-client-ip",
        b"forwarded",
        b"true-client-ip",
        b"via",
        b"x-amzn-trace-id",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-original-url",
        b"x-real-ip",
    }
)
_SIGNS_BEGIN = (b"cf-", b"tailscale-", b"x-envoy-", b"x-forwarded-", b"x-original-forwarded-", b"x-proxy")

_PREFIX = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")
_LONGEST_PREFIX = 512


def is_passed_on(scope: Scope) -> bool:
    """Does a header say that a proxy has passed the request on, for somebody who may be anywhere?"""
    return any(name in _SIGNS or name.startswith(_SIGNS_BEGIN) for name, _ in scope["headers"])


def messages_address(scope: Scope, path: str) -> str:
    """Where a client that opened this stream is to post its messages, by a path of this server.

    Clients resolve it against the address by which they came, all but some that take only a path from the root; and a
    proxy may have taken the beginning of theirs away. So it is a path from the root where the whole of that is known:
    with `X-Forwarded-Prefix`, or with no proxy. Else it is relative to the stream.
    """
    prefix = _prefix(scope)
    if prefix is not None:
        return prefix + path
    if not (is_passed_on(scope) or scope["http_version"] == "1.0" or _is_of_another_port(scope)):
        return path
    return f"..{path}" if scope["path"].endswith("/") else path.removeprefix("/")


def _prefix(scope: Scope) -> str | None:
    """What the proxies say, the outermost first; None if it is not plainly a path."""
    headers = Headers(scope=scope)
    parts = [part.strip().rstrip("/") for value in headers.getlist("x-forwarded-prefix") for part in value.split(",")]
    parts = [part for part in parts if part]
    if not parts or sum(map(len, parts)) > _LONGEST_PREFIX or not all(map(_PREFIX.fullmatch, parts)):
        return None
    return "".join(parts)


def _is_of_another_port(scope: Scope) -> bool:
    """Did the client ask for another port than the one where we listen?"""
    _, _, port = Headers(scope=scope).get("host", "").rpartition(":")
    server = scope.get("server")
    return server is not None and port.isascii() and port.isdecimal() and int(port[:6]) != server[1]

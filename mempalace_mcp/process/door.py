"""The daemon's door for bridges: greets, and serves one session for each connection."""

from __future__ import annotations

import hmac
import json
import logging
import os
import socket
from collections.abc import Mapping
from typing import Any, Protocol

import anyio

from mempalace_mcp import __version__
from mempalace_mcp.core.bounded import LruMap
from mempalace_mcp.core.config import SETTINGS, load_settings
from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.process.address import Address
from mempalace_mcp.process.conversation import Conversation
from mempalace_mcp.process.frames import MAX_FRAME_BYTES, Frame
from mempalace_mcp.process.hello import (
    MAX_HELLO_BYTES,
    PROTOCOL,
    SESSION,
    STATUS,
    STOP,
    Hello,
    identity_of,
    is_newer,
)
from mempalace_mcp.process.services import AppServices, DaemonContext, Offer
from mempalace_mcp.process.wire import Wire
from mempalace_mcp.protocol.lines import LineSplitter
from mempalace_mcp.protocol.plain import PlainServer
from mempalace_mcp.protocol.stream import DRAIN_AT_STOP_SECONDS
from mempalace_mcp.protocol.tools.table import ToolTable, build_tools
from mempalace_mcp.runtime.activity import Transport
from mempalace_mcp.runtime.app import App
from mempalace_mcp.runtime.descriptors import sockets_at_a_door

logger = logging.getLogger(__name__)

HELLO_SECONDS = 5.0
GOODBYE_SECONDS = 1.0
_OFFERS_KEPT = 16
_CONTROLS = 8
"""Connections kept free for those that ask how the daemon is, or tell it to stop."""

_OWN_SETTINGS = ("palace", "log_level", "token", "host", "port", "allowed_hosts")
"""Settings in which sessions of one palace may well differ."""

_GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)


class Host(Protocol):
    """The daemon, as its door needs it."""

    app: App
    leaving: anyio.Event

    @property
    def reason(self) -> str:
        """Why it leaves."""
        ...

    def leave(self, reason: str) -> None:
        """Begin to end."""
        ...

    def report(self) -> Mapping[str, Any]:
        """The same for a command, with what sessions are told."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Process, version and sessions, JSON-safe."""
        ...


class Door:
    """Called with every new connection."""

    def __init__(self, host: Host, address: Address) -> None:
        self._host = host
        self._address = address
        self._palace = identity_of(str(host.app.settings.palace))
        self._suspicion = anyio.Lock()
        self._tools: LruMap[Offer, ToolTable] = LruMap(_OFFERS_KEPT)
        self.sessions: dict[str, Hello] = {}
        self.opened = 0
        self._connections = 0
        self._limit = sockets_at_a_door()

    async def __call__(self, connection: socket.socket) -> None:
        """Serve one accepted connection to its end."""
        self._connections += 1
        try:
            if self._connections > self._limit:
                _turn_away(connection)
                return
            async with await Wire.on(connection) as wire:
                await self._receive(wire)
        except OSError as error:
            logger.debug("a connection ended before it began: %s", error)
        finally:
            self._connections -= 1

    async def _receive(self, wire: Wire) -> None:
        try:
            with anyio.fail_after(HELLO_SECONDS):
                greeting = await _greeting(wire)
            if greeting is not None:
                await self._answer(wire, *greeting)
        except (*_GONE, TimeoutError):
            logger.debug("a connection ended before its time")
        except Exception:  # whatever one session does, the others go on; the trace is in the log
            logger.exception("a session failed")

    async def _answer(self, wire: Wire, hello: Hello, rest: bytes) -> None:
        refusal = self._refusal(hello)
        if refusal is not None:
            await _say(wire, {"refused": refusal, "http": self._address.http, "pid": os.getpid()})
            if refusal == "retiring":
                self._host.leave("retiring")
        elif hello.purpose == STATUS:
            await _say(wire, self._host.report())
        elif hello.purpose == STOP:
            await _say(wire, {"stopping": True, "pid": os.getpid()})
            self._host.leave("stopped")
        else:
            welcome = {"protocol": PROTOCOL, "version": __version__, "pid": os.getpid(), "http": self._address.http}
            await _say(wire, welcome)
            await self._serve(wire, hello, rest)

    def _refusal(self, hello: Hello) -> str | None:
        """Why not to serve it, if there is a reason. A process that was started to serve HTTP gives way to nobody."""
        if not hmac.compare_digest(hello.token.encode(), self._address.token.encode()):
            return "token"
        if hello.palace != self._palace:
            return "palace"
        if hello.purpose in (STATUS, STOP):
            return None
        if self._host.leaving.is_set():
            return "retiring"
        if hello.purpose == SESSION and len(self.sessions) >= self._limit - _CONTROLS:
            return "full"
        if self._address.http is not None:
            return None if hello.purpose == SESSION else "serving"
        if hello.purpose == SESSION and not is_newer(hello.version, __version__):
            return None
        return "retiring"

    async def _serve(self, wire: Wire, hello: Hello, rest: bytes) -> None:
        activity = self._host.app.activity.open(Transport.SOCKET)
        self.sessions[hello.bridge] = hello
        self.opened += 1
        try:
            async with anyio.create_task_group() as tasks:
                conversation = Conversation(
                    PlainServer(self._services(hello)),
                    activity,
                    wire.send,
                    bridge=hello.bridge,
                    suspicion=self._suspicion,
                    tasks=tasks,
                )
                tasks.start_soon(conversation.serve)
                await self._read_until_leaving(wire, conversation, rest)
                await self._part(conversation)
                tasks.cancel_scope.cancel()
        finally:
            if self.sessions.get(hello.bridge) is hello:
                del self.sessions[hello.bridge]
            activity.close()

    async def _read_until_leaving(self, wire: Wire, conversation: Conversation, rest: bytes) -> None:
        async with anyio.create_task_group() as tasks:

            async def cancel_at(event: anyio.Event) -> None:
                await event.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(cancel_at, self._host.leaving)
            tasks.start_soon(cancel_at, conversation.broken)
            try:
                await _read(wire, conversation, rest)
            except (*_GONE, ValueError) as error:
                logger.debug("a bridge is gone: %s", error)
            tasks.cancel_scope.cancel()

    async def _part(self, conversation: Conversation) -> None:
        """When this process leaves, finish what is quickly done; the rest the bridge will give to the next one."""
        if self._host.leaving.is_set() and not conversation.broken.is_set():
            await conversation.drain(DRAIN_AT_STOP_SECONDS)
            with anyio.move_on_after(GOODBYE_SECONDS):
                await conversation.say_goodbye(self._host.reason)
        conversation.abort()

    def _services(self, hello: Hello) -> AppServices:
        offer = Offer(hello.profile, bool(hello.read_only), str(hello.prefix))  # type: ignore[arg-type]
        tools = self._tools.get(offer)
        if tools is None:
            tools = build_tools(profile=offer.profile, read_only=offer.read_only, prefix=offer.prefix)
            self._tools.put(offer, tools)
        app = self._host.app
        context = DaemonContext(app, self._host.describe, self._differences(hello))
        return AppServices(tools, context, app.executor, app.writer, app.activity, app.health)

    def _differences(self, hello: Hello) -> list[str]:
        """What the session's environment says about the palace, and this process does not follow."""
        own = self._host.app.settings
        try:
            theirs = load_settings(hello.settings, str(own.palace))
        except ConfigurationError as error:
            return [f"{error.message}; process {os.getpid()}, which serves the palace, goes by its own settings"]
        return [
            f"{setting.variable} is {getattr(theirs, setting.field)} for this session, but "
            f"{getattr(own, setting.field)} in process {os.getpid()}, which serves the palace; that counts"
            for setting in SETTINGS
            if setting.field not in _OWN_SETTINGS and getattr(own, setting.field) != getattr(theirs, setting.field)
        ]


def _turn_away(connection: socket.socket) -> None:
    """Free its descriptor at once. What is said first always has room in a socket's buffer."""
    with connection:
        connection.send(_encoded({"refused": "full"}))


async def _read(wire: Wire, conversation: Conversation, rest: bytes) -> None:
    """Take whole frames only: of the last one, a bridge that died may have sent a part."""
    lines = LineSplitter(MAX_FRAME_BYTES)
    data = rest
    while True:
        for line in lines.feed(data):
            if isinstance(line, bytes):
                await conversation.receive_frame(Frame.decode(line))
        data = await wire.receive()


async def _greeting(wire: Wire) -> tuple[Hello, bytes] | None:
    """Who it is, and what came after the greeting; None for somebody who speaks otherwise, and is told so."""
    try:
        return await _read_hello(wire)
    except ValueError as error:
        logger.warning("a connection was refused: %s", error)
        await _say(wire, {"refused": "protocol", "protocol": PROTOCOL, "version": __version__})
        return None


async def _read_hello(wire: Wire) -> tuple[Hello, bytes]:
    data = b""
    while b"\n" not in data:
        data += await wire.receive()
        if len(data) > MAX_HELLO_BYTES:
            raise ValueError("the greeting is too long")
    line, _, rest = data.partition(b"\n")
    return Hello.decode(line), rest


async def _say(wire: Wire, content: Mapping[str, Any]) -> None:
    await wire.send(_encoded(content))


def _encoded(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"

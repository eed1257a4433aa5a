"""One session at the daemon: the socket, the handshake, and the conversation.

The running process as the doors need it: the app, and the tools that a door or a session offers.

A connection that the daemon has accepted, as its door reads and writes it.

A session with a bridge: to the SDK each request has the number of its frame as its id.

Clients use ids twice, and to the SDK `"7"` and `7` are one; frames are numbered once. The client's own id is put back
into the answer, and a cancellation is pointed at the request in flight that it means.

The daemon's door for bridges: greets, and serves one session for each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Protocol, Self

import anyio
from anyio.abc import TaskGroup

from mempalace_mcp import __version__
from mempalace_mcp.core.bounded import LruMap
from mempalace_mcp.core.call_context import Principal
from mempalace_mcp.core.config import SETTINGS, load_settings
from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.daemon.ipc import (
    CONTROL,
    MAX_FRAME_BYTES,
    MAX_HELLO_BYTES,
    OWN_MESSAGE,
    PROTOCOL,
    REDELIVERED,
    RUN_ALONE,
    RUNNING_ALONE,
    SESSION,
    STATUS,
    STOP,
    ClientHello,
    DaemonAddress,
    Frame,
    identity_of,
    is_newer,
)
from mempalace_mcp.runtime.activity import Activity, SessionActivity, Transport
from mempalace_mcp.runtime.app import App
from mempalace_mcp.runtime.context import AppContext
from mempalace_mcp.runtime.executor import Executor
from mempalace_mcp.runtime.feed import ChangeFeed
from mempalace_mcp.runtime.health import Health
from mempalace_mcp.runtime.monitor import sockets_at_a_door
from mempalace_mcp.runtime.writer import WriterThread
from mempalace_mcp.server.flow import Write
from mempalace_mcp.server.initialize import RequestId
from mempalace_mcp.server.jsonrpc import Error, Message, Refusal, Result, read_message
from mempalace_mcp.server.lines import LineSplitter
from mempalace_mcp.server.methods import MethodServer, SessionServer
from mempalace_mcp.server.request_context import RequestContext
from mempalace_mcp.server.session import CANCELLED, Session
from mempalace_mcp.server.stdio import DRAIN_AT_STOP_SECONDS
from mempalace_mcp.server.tools.registry import Profile, ToolTable, build_tools, verify_prefix


@dataclass(frozen=True, slots=True)
class ToolSelection:
    """Which tools a door offers, and under which names.

    Raises:
        ConfigurationError: the names would be none that every client takes.
    """

    profile: Profile = "core"
    read_only: bool = False
    prefix: str = ""

    def __post_init__(self) -> None:
        verify_prefix(self.prefix, self.profile)


@dataclass(frozen=True, slots=True)
class AppServices:
    """What the doors are given; see `protocol.services.Services`."""

    tools: ToolTable
    tool_context: AppContext
    executor: Executor
    writer: WriterThread
    activity: Activity
    health: Health

    @property
    def feed(self) -> ChangeFeed:
        """What changes in the palace."""
        return self.tool_context.feed

    def granted(self, access: Principal) -> AppServices:
        """The same services with the tools, and the palace behind their context, that this access may use."""
        if access.is_full:
            return self
        return replace(self, tools=self.tools.granted(access), tool_context=self.tool_context.granted(access))


class DaemonContext(AppContext):
    """Tells in `status` also about the daemon and what this session asked for in vain."""

    def __init__(self, app: App, daemon: Callable[[], Mapping[str, Any]], warnings: Sequence[str]) -> None:
        super().__init__(app)
        self._daemon = daemon
        self._warnings = warnings

    def status(self) -> dict[str, Any]:
        """Health and sizes of palace and process, the sessions, and settings that differ."""
        return {**super().status(), "daemon": dict(self._daemon()), "warnings": list(self._warnings)}


def services_of(app: App, offer: ToolSelection, context: AppContext | None = None) -> AppServices:
    """The process and the tools, as the doors need them."""
    tools = build_tools(profile=offer.profile, read_only=offer.read_only, prefix=offer.prefix)
    return AppServices(tools, context or AppContext(app), app.executor, app.writer, app.activity, app.health)


_READ_BYTES = 65536


class SocketStream:
    """A `ByteStream` on a transport of the event loop: anyio's sockets register with the loop anew for each message,
    which takes a fifth of the time of a small call. Leaving the block closes it, whatever the other side has not read.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def on(cls, connection: socket.socket) -> Self:
        """The wire of an accepted connection, which it closes.

        Raises:
            OSError: the connection is gone.
        """
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        try:
            transport, protocol = await loop.connect_accepted_socket(
                lambda: asyncio.StreamReaderProtocol(reader), connection
            )
        except BaseException:  # nobody else knows the connection
            connection.close()
            raise
        transport.set_write_buffer_limits(0)  # what is sent has left this process
        return cls(reader, asyncio.StreamWriter(transport, protocol, reader, loop))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.transport.abort()

    async def receive(self, max_bytes: int = _READ_BYTES) -> bytes:
        """Some bytes.

        Raises:
            anyio.EndOfStream: the other side has closed.
            anyio.BrokenResourceError: the connection is gone.
        """
        try:
            data = await self._reader.read(max_bytes)
        except OSError as error:
            raise anyio.BrokenResourceError from error
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        """All of the bytes, one message at a time.

        Raises:
            anyio.BrokenResourceError: the connection is gone.
        """
        try:
            self._writer.write(item)
            await self._writer.drain()
        except (OSError, RuntimeError) as error:  # with the latter says a transport that it is closed
            raise anyio.BrokenResourceError from error


class DaemonSession(Session):
    """`receive_frame` takes the bridge's frames one by one; `write` sends encoded ones."""

    tools_change = True
    """After an upgrade the bridge says that the list of tools may be another one."""

    def __init__(
        self,
        server: SessionServer,
        activity: SessionActivity,
        write: Write,
        *,
        bridge: str,
        suspicion: anyio.Lock,
        tasks: TaskGroup,
    ) -> None:
        super().__init__(server, activity, write)
        self._bridge = bridge
        self._suspicion = suspicion
        self._tasks = tasks
        self._ids: dict[int, RequestId] = {}
        self._suspects: dict[int, anyio.Event] = {}
        self._waiting: dict[int, anyio.CancelScope] = {}

    async def receive_frame(self, frame: Frame) -> None:
        """Take one frame; returns when it has been handed over, refused or settled.

        Raises:
            anyio.BrokenResourceError, anyio.ClosedResourceError: the session is over.
        """
        if frame.sequence == OWN_MESSAGE:
            await self.send(Frame(OWN_MESSAGE, b"{}", CONTROL).encode())
            return
        message = read_message(frame.line)
        if isinstance(message, Refusal):
            await self._say(frame.sequence, message.answer())
        elif "method" in message.content and "id" in message.content:
            self._ids[frame.sequence] = message.content["id"]
            numbered = Message({**message.content, "id": frame.sequence}, message.fault)
            origin = RequestContext.of_message(self.context, message, len(frame.line), self._bridge, frame.sequence)
            if frame.mark == REDELIVERED:
                origin = replace(origin, resent=True)
            if frame.mark == RUN_ALONE:
                waiting = self._waiting[frame.sequence] = anyio.CancelScope()
                self._tasks.start_soon(self._take_alone, waiting, numbered, origin)
            else:
                await self.take(numbered, origin)
        else:
            pointed = self._pointed(message)
            if pointed is not None and not self._give_up_waiting(pointed):
                await self.take(pointed, RequestContext.of_message(self.context, message, len(frame.line)))
            await self._say(frame.sequence, b"")

    async def send_message(self, message: bytes) -> None:
        """Send a message that is no response."""
        await self.send(Frame(OWN_MESSAGE, message).encode())

    def encode_response(self, request_id: RequestId, answer: Result | Error) -> bytes:
        """The response as a frame, with the client's own id in it."""
        assert isinstance(request_id, int)
        return Frame(request_id, super().encode_response(self._restore(request_id), answer)).encode()

    async def settle_unanswered(self, request: RequestContext) -> None:
        """Settle a request that was cancelled: the bridge can forget it."""
        await super().settle_unanswered(request)
        if request.sequence is not None:
            self._restore(request.sequence)
            await self._say(request.sequence, b"")

    async def say_goodbye(self, reason: str) -> None:
        """Tell the bridge that this process leaves, which is no harm; returns once the bridge has it, or is gone."""
        said = anyio.Event()

        async def say() -> None:
            with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                notice = json.dumps({"goodbye": reason}).encode()
                await self.send(Frame(OWN_MESSAGE, notice, CONTROL).encode())
            said.set()

        self._tasks.start_soon(say)  # writes cannot be cancelled, waiting for them can
        await said.wait()

    async def _take_alone(self, waiting: anyio.CancelScope, message: Message, origin: RequestContext) -> None:
        """Run a request that may be the death of this process, with no other such one beside it."""
        assert origin.sequence is not None
        with waiting, contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with self._suspicion:
                settled = self._suspects[origin.sequence] = anyio.Event()
                await self.send(Frame(origin.sequence, b"", RUNNING_ALONE).encode())
                if self._waiting.pop(origin.sequence, None):
                    await self.take(message, origin)
                    await settled.wait()
        if waiting.cancel_called:
            with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                self._restore(origin.sequence)
                await self._say(origin.sequence, b"")

    def _give_up_waiting(self, message: Message) -> bool:
        """True if the message cancels a request that waits to run alone, which thus never begins."""
        if message.content.get("method") != CANCELLED:
            return False
        waiting = self._waiting.pop(message.content["params"]["requestId"], None)
        if waiting is not None:
            waiting.cancel()
        return waiting is not None

    async def _say(self, sequence: int, line: bytes) -> None:
        await self.send(Frame(sequence, line).encode())

    def _restore(self, sequence: int) -> RequestId:
        """The client's own id of a request that is settled now."""
        if sequence in self._suspects:
            self._suspects.pop(sequence).set()
        return self._ids.pop(sequence, sequence)

    def _pointed(self, message: Message) -> Message | None:
        """A cancellation with the number of the latest request in flight under its id; None if there is no such one."""
        content = message.content
        if content.get("method") != CANCELLED:
            return message
        parameters = content.get("params") or {}
        meant = parameters.get("requestId")
        for sequence, request_id in reversed(self._ids.items()):
            if type(request_id) is type(meant) and request_id == meant:
                return Message({**content, "params": {**parameters, "requestId": sequence}})
        return None


logger = logging.getLogger(__name__)

HELLO_SECONDS = 5.0
GOODBYE_SECONDS = 1.0
_OFFERS_KEPT = 16
_CONTROLS = 8
"""Connections kept free for those that ask how the daemon is, or tell it to stop."""

_OWN_SETTINGS = ("palace", "log_level", "token", "host", "port", "allowed_hosts")
"""Settings in which sessions of one palace may well differ."""

_GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)


class DaemonHandle(Protocol):
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


class SocketServer:
    """Called with every new connection."""

    def __init__(self, host: DaemonHandle, address: DaemonAddress) -> None:
        self._host = host
        self._address = address
        self._palace = identity_of(str(host.app.settings.palace))
        self._suspicion = anyio.Lock()
        self._tools: LruMap[ToolSelection, ToolTable] = LruMap(_OFFERS_KEPT)
        self.sessions: dict[str, ClientHello] = {}
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
            async with await SocketStream.on(connection) as wire:
                await self._receive(wire)
        except OSError as error:
            logger.debug("a connection ended before it began: %s", error)
        finally:
            self._connections -= 1

    async def _receive(self, wire: SocketStream) -> None:
        try:
            with anyio.fail_after(HELLO_SECONDS):
                greeting = await _greeting(wire)
            if greeting is not None:
                await self._answer(wire, *greeting)
        except (*_GONE, TimeoutError):
            logger.debug("a connection ended before its time")
        except Exception:  # whatever one session does, the others go on; the trace is in the log
            logger.exception("a session failed")

    async def _answer(self, wire: SocketStream, hello: ClientHello, rest: bytes) -> None:
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

    def _refusal(self, hello: ClientHello) -> str | None:
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

    async def _serve(self, wire: SocketStream, hello: ClientHello, rest: bytes) -> None:
        activity = self._host.app.activity.open(Transport.SOCKET)
        self.sessions[hello.bridge] = hello
        self.opened += 1
        try:
            async with anyio.create_task_group() as tasks:
                conversation = DaemonSession(
                    MethodServer(self._services(hello)),
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

    async def _read_until_leaving(self, wire: SocketStream, conversation: DaemonSession, rest: bytes) -> None:
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

    async def _part(self, conversation: DaemonSession) -> None:
        """When this process leaves, finish what is quickly done; the rest the bridge will give to the next one."""
        if self._host.leaving.is_set() and not conversation.broken.is_set():
            await conversation.drain(DRAIN_AT_STOP_SECONDS)
            with anyio.move_on_after(GOODBYE_SECONDS):
                await conversation.say_goodbye(self._host.reason)
        conversation.abort()

    def _services(self, hello: ClientHello) -> AppServices:
        offer = ToolSelection(hello.profile, bool(hello.read_only), str(hello.prefix))  # type: ignore[arg-type]
        tools = self._tools.get(offer)
        if tools is None:
            tools = build_tools(profile=offer.profile, read_only=offer.read_only, prefix=offer.prefix)
            self._tools.put(offer, tools)
        app = self._host.app
        context = DaemonContext(app, self._host.describe, self._differences(hello))
        return AppServices(tools, context, app.executor, app.writer, app.activity, app.health)

    def _differences(self, hello: ClientHello) -> list[str]:
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


async def _read(wire: SocketStream, conversation: DaemonSession, rest: bytes) -> None:
    """Take whole frames only: of the last one, a bridge that died may have sent a part."""
    lines = LineSplitter(MAX_FRAME_BYTES)
    data = rest
    while True:
        for line in lines.feed(data):
            if isinstance(line, bytes):
                await conversation.receive_frame(Frame.decode(line))
        data = await wire.receive()


async def _greeting(wire: SocketStream) -> tuple[ClientHello, bytes] | None:
    """Who it is, and what came after the greeting; None for somebody who speaks otherwise, and is told so."""
    try:
        return await _read_hello(wire)
    except ValueError as error:
        logger.warning("a connection was refused: %s", error)
        await _say(wire, {"refused": "protocol", "protocol": PROTOCOL, "version": __version__})
        return None


async def _read_hello(wire: SocketStream) -> tuple[ClientHello, bytes]:
    data = b""
    while b"\n" not in data:
        data += await wire.receive()
        if len(data) > MAX_HELLO_BYTES:
            raise ValueError("the greeting is too long")
    line, _, rest = data.partition(b"\n")
    return ClientHello.decode(line), rest


async def _say(wire: SocketStream, content: Mapping[str, Any]) -> None:
    await wire.send(_encoded(content))


def _encoded(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"

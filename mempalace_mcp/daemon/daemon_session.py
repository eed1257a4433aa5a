"""Sessions at the daemon: its socket server, the handshake, and the session behind each connection.

The protocol is that of `daemon/ipc.py`. To the session, the id of a request is the number of its frame: frames are
numbered once, while clients use ids twice, and to the SDK `"7"` and `7` are one. The client's own id is put back into
the answer, and a cancellation gets the number of the request that it means.
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
    HOOK,
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
from mempalace_mcp.runtime.monitor import connection_limit
from mempalace_mcp.runtime.writer import WriterThread
from mempalace_mcp.server.flow import Write
from mempalace_mcp.server.initialize import RequestId
from mempalace_mcp.server.jsonrpc import Error, Message, Refusal, Result, read_message
from mempalace_mcp.server.lines import LineSplitter
from mempalace_mcp.server.methods import MethodServer
from mempalace_mcp.server.request_context import RequestContext
from mempalace_mcp.server.session import CANCELLED, Session
from mempalace_mcp.server.stdio import DRAIN_AT_STOP_SECONDS
from mempalace_mcp.server.tools.registry import Profile, ToolTable, build_tools, verify_prefix


@dataclass(frozen=True, slots=True)
class ToolSelection:
    """Which tools a session or transport offers, and under which names.

    Raises:
        ConfigurationError: some client would not take the names.
    """

    profile: Profile = "core"
    read_only: bool = False
    prefix: str = ""

    def __post_init__(self) -> None:
        verify_prefix(self.prefix, self.profile)


@dataclass(frozen=True, slots=True)
class AppServices:
    """What sessions and transports use of the process."""

    tools: ToolTable
    tool_context: AppContext
    executor: Executor
    writer: WriterThread
    activity: Activity
    health: Health

    @property
    def feed(self) -> ChangeFeed:
        """The feed of the palace's changes."""
        return self.tool_context.feed

    def granted(self, access: Principal) -> AppServices:
        """The same services, with only the tools and parts of the palace that the principal may use."""
        if access.is_full:
            return self
        return replace(self, tools=self.tools.granted(access), tool_context=self.tool_context.granted(access))


class DaemonContext(AppContext):
    """Adds the daemon, and the settings of this session that do not count, to `status`."""

    def __init__(self, app: App, daemon: Callable[[], Mapping[str, Any]], warnings: Sequence[str]) -> None:
        super().__init__(app)
        self._daemon = daemon
        self._warnings = warnings

    def status(self) -> dict[str, Any]:
        """Health and sizes of palace and process, the sessions, and the settings that differ."""
        return {**super().status(), "daemon": dict(self._daemon()), "warnings": list(self._warnings)}


def services_of(app: App, selection: ToolSelection, context: AppContext | None = None) -> AppServices:
    """The services of a process with a selection of tools."""
    tools = build_tools(profile=selection.profile, read_only=selection.read_only, prefix=selection.prefix)
    return AppServices(tools, context or AppContext(app), app.executor, app.writer, app.activity, app.health)


_READ_BYTES = 65536


class SocketStream:
    """A `ByteStream` on a transport of the event loop. Leaving the block closes it, with what is still unread.

    anyio's sockets register with the loop anew for each message: that takes a fifth of the time of a small call.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def on(cls, connection: socket.socket) -> Self:
        """The stream of an accepted connection, which it closes at the end.

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
        transport.set_write_buffer_limits(0)  # when `send` returns, the bytes have left this process
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
        except (OSError, RuntimeError) as error:  # a closed transport raises the latter
            raise anyio.BrokenResourceError from error


class DaemonSession(Session):
    """One session of a bridge: `receive_frame` takes its frames, `write` sends encoded ones.

    `quarantine` is held while a suspected request runs, so that only one does in the whole daemon.
    """

    tools_change = True
    """After an upgrade the bridge says that the list of tools may be another one."""

    def __init__(
        self,
        server: MethodServer,
        activity: SessionActivity,
        write: Write,
        *,
        bridge: str,
        quarantine: anyio.Lock,
        tasks: TaskGroup,
    ) -> None:
        super().__init__(server, activity, write)
        self._bridge = bridge
        self._quarantine = quarantine
        self._tasks = tasks
        self._ids: dict[int, RequestId] = {}
        self._running_alone: dict[int, anyio.Event] = {}
        self._waiting: dict[int, anyio.CancelScope] = {}

    async def receive_frame(self, frame: Frame) -> None:
        """Take one frame; returns when it is handed over, refused or settled.

        Raises:
            anyio.BrokenResourceError, anyio.ClosedResourceError: the session is over.
        """
        if frame.sequence == OWN_MESSAGE:
            await self.send(Frame(OWN_MESSAGE, b"{}", CONTROL).encode())
            return
        message = read_message(frame.line)
        if isinstance(message, Refusal):
            await self._answer_frame(frame.sequence, message.answer())
        elif "method" in message.content and "id" in message.content:
            self._ids[frame.sequence] = message.content["id"]
            numbered = Message({**message.content, "id": frame.sequence}, message.fault)
            context = RequestContext.of_message(self.context, message, len(frame.line), self._bridge, frame.sequence)
            if frame.mark == REDELIVERED:
                context = replace(context, resent=True)
            if frame.mark == RUN_ALONE:
                waiting = self._waiting[frame.sequence] = anyio.CancelScope()
                self._tasks.start_soon(self._take_alone, waiting, numbered, context)
            else:
                await self.take(numbered, context)
        else:
            translated = self._with_number(message)
            if translated is not None and not self._cancel_waiting(translated):
                await self.take(translated, RequestContext.of_message(self.context, message, len(frame.line)))
            await self._answer_frame(frame.sequence, b"")

    async def send_message(self, message: bytes) -> None:
        """Send a message that is no response."""
        await self.send(Frame(OWN_MESSAGE, message).encode())

    def encode_response(self, request_id: RequestId, answer: Result | Error) -> bytes:
        """The response as a frame, with the client's own id in it."""
        assert isinstance(request_id, int)
        return Frame(request_id, super().encode_response(self._settle(request_id), answer)).encode()

    async def settle_unanswered(self, request: RequestContext) -> None:
        """Settle a request that was cancelled: the bridge can forget it."""
        await super().settle_unanswered(request)
        if request.sequence is not None:
            self._settle(request.sequence)
            await self._answer_frame(request.sequence, b"")

    async def say_goodbye(self, reason: str) -> None:
        """Tell the bridge that this process leaves; returns once the bridge has that, or is gone."""
        sent = anyio.Event()

        async def send() -> None:
            with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                message = json.dumps({"goodbye": reason}).encode()
                await self.send(Frame(OWN_MESSAGE, message, CONTROL).encode())
            sent.set()

        self._tasks.start_soon(send)  # a write cannot be cancelled, waiting for it can
        await sent.wait()

    async def _take_alone(self, waiting: anyio.CancelScope, message: Message, context: RequestContext) -> None:
        """Run a suspected request with no other suspected one beside it."""
        assert context.sequence is not None
        with waiting, contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with self._quarantine:
                settled = self._running_alone[context.sequence] = anyio.Event()
                await self.send(Frame(context.sequence, b"", RUNNING_ALONE).encode())
                if self._waiting.pop(context.sequence, None):
                    await self.take(message, context)
                    await settled.wait()
        if waiting.cancel_called:
            with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                self._settle(context.sequence)
                await self._answer_frame(context.sequence, b"")

    def _cancel_waiting(self, message: Message) -> bool:
        """Cancel a request that waits to run alone, if the message is about one; it never begins then."""
        if message.content.get("method") != CANCELLED:
            return False
        waiting = self._waiting.pop(message.content["params"]["requestId"], None)
        if waiting is not None:
            waiting.cancel()
        return waiting is not None

    async def _answer_frame(self, sequence: int, line: bytes) -> None:
        await self.send(Frame(sequence, line).encode())

    def _settle(self, sequence: int) -> RequestId:
        """Forget a request; the client's own id of it."""
        if sequence in self._running_alone:
            self._running_alone.pop(sequence).set()
        return self._ids.pop(sequence, sequence)

    def _with_number(self, message: Message) -> Message | None:
        """A cancellation with the number of the latest request of its id, or None without one; others as they are."""
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

HANDSHAKE_SECONDS = 5.0
GOODBYE_SECONDS = 1.0
_SELECTIONS_KEPT = 16
_CONTROLS = 8
"""Connections kept free for commands."""

_OWN_SETTINGS = ("palace", "url", "url_file", "log_level", "token", "host", "port", "allowed_hosts", "hooks")
"""Settings in which sessions of one palace may differ."""

_GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)


class DaemonHandle(Protocol):
    """The daemon, as its socket server needs it."""

    app: App
    leaving: anyio.Event

    @property
    def reason(self) -> str:
        """Why the daemon leaves."""
        ...

    def leave(self, reason: str) -> None:
        """Begin to end."""
        ...

    def report(self) -> Mapping[str, Any]:
        """The status for a command, with that of sessions."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Process, version and sessions, JSON-safe."""
        ...

    async def take_hook(self, fields: Mapping[str, str]) -> str | None:
        """The text for the context of a session that starts, if there is any."""
        ...


class SocketServer:
    """Serves bridges and commands: called with every new connection.

    `sessions` are the open ones by the id of their bridge, `opened` counts all.
    """

    def __init__(self, host: DaemonHandle, address: DaemonAddress) -> None:
        self._host = host
        self._address = address
        self._palace = identity_of(str(host.app.settings.palace))
        self._quarantine = anyio.Lock()
        self._tools: LruMap[ToolSelection, ToolTable] = LruMap(_SELECTIONS_KEPT)
        self.sessions: dict[str, ClientHello] = {}
        self.opened = 0
        self._connections = 0
        self._limit = connection_limit()

    async def __call__(self, connection: socket.socket) -> None:
        """Serve one accepted connection to its end."""
        self._connections += 1
        try:
            if self._connections > self._limit:
                _refuse_full(connection)
                return
            async with await SocketStream.on(connection) as stream:
                await self._serve_connection(stream)
        except OSError as error:
            logger.debug("a connection ended before it began: %s", error)
        finally:
            self._connections -= 1

    async def _serve_connection(self, stream: SocketStream) -> None:
        try:
            with anyio.fail_after(HANDSHAKE_SECONDS):
                received = await _receive_hello(stream)
            if received is not None:
                await self._answer_hello(stream, *received)
        except (*_GONE, TimeoutError):
            logger.debug("a connection ended before its time")
        except Exception:  # one session must not end the others
            logger.exception("a session failed")

    async def _answer_hello(self, stream: SocketStream, hello: ClientHello, rest: bytes) -> None:
        refusal = self._refusal(hello)
        if refusal is not None:
            await _send_line(stream, {"refused": refusal, "http": self._address.http, "pid": os.getpid()})
            if refusal == "retiring":
                self._host.leave("retiring")
        elif hello.purpose == STATUS:
            await _send_line(stream, self._host.report())
        elif hello.purpose == STOP:
            await _send_line(stream, {"stopping": True, "pid": os.getpid()})
            self._host.leave("stopped")
        elif hello.purpose == HOOK:
            await _send_line(stream, {"text": await self._host.take_hook(hello.settings)})
        else:
            identity = {"version": __version__, "pid": os.getpid(), "http": self._address.http}
            await _send_line(stream, {"protocol": PROTOCOL, **identity})
            await self._serve(stream, hello, rest)

    def _refusal(self, hello: ClientHello) -> str | None:
        """The code of the refusal, if it is refused. A process that serves HTTP makes room for nobody."""
        if not hmac.compare_digest(hello.token.encode(), self._address.token.encode()):
            return "token"
        if hello.palace != self._palace:
            return "palace"
        if hello.purpose in (STATUS, STOP):
            return None
        if self._host.leaving.is_set():
            return "retiring"
        if hello.purpose == HOOK:
            return None
        if hello.purpose == SESSION and len(self.sessions) >= self._limit - _CONTROLS:
            return "full"
        if self._address.http is not None:
            return None if hello.purpose == SESSION else "serving"
        if hello.purpose == SESSION and not is_newer(hello.version, __version__):
            return None
        return "retiring"

    async def _serve(self, stream: SocketStream, hello: ClientHello, rest: bytes) -> None:
        activity = self._host.app.activity.open(Transport.SOCKET)
        self.sessions[hello.bridge] = hello
        self.opened += 1
        try:
            async with anyio.create_task_group() as tasks:
                session = DaemonSession(
                    MethodServer(self._services(hello)),
                    activity,
                    stream.send,
                    bridge=hello.bridge,
                    quarantine=self._quarantine,
                    tasks=tasks,
                )
                tasks.start_soon(session.serve)
                await self._read_until_leaving(stream, session, rest)
                await self._finish(session)
                tasks.cancel_scope.cancel()
        finally:
            if self.sessions.get(hello.bridge) is hello:
                del self.sessions[hello.bridge]
            activity.close()

    async def _read_until_leaving(self, stream: SocketStream, session: DaemonSession, rest: bytes) -> None:
        async with anyio.create_task_group() as tasks:

            async def cancel_at(event: anyio.Event) -> None:
                await event.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(cancel_at, self._host.leaving)
            tasks.start_soon(cancel_at, session.broken)
            try:
                await _read(stream, session, rest)
            except (*_GONE, ValueError) as error:
                logger.debug("a bridge is gone: %s", error)
            tasks.cancel_scope.cancel()

    async def _finish(self, session: DaemonSession) -> None:
        """When this process leaves, finish what takes little time; the bridge sends the rest to the next daemon."""
        if self._host.leaving.is_set() and not session.broken.is_set():
            await session.drain(DRAIN_AT_STOP_SECONDS)
            with anyio.move_on_after(GOODBYE_SECONDS):
                await session.say_goodbye(self._host.reason)
        session.abort()

    def _services(self, hello: ClientHello) -> AppServices:
        selection = ToolSelection(hello.profile, bool(hello.read_only), str(hello.prefix))  # type: ignore[arg-type]
        tools = self._tools.get(selection)
        if tools is None:
            tools = build_tools(profile=selection.profile, read_only=selection.read_only, prefix=selection.prefix)
            self._tools.put(selection, tools)
        app = self._host.app
        context = DaemonContext(app, self._host.describe, self._differences(hello))
        return AppServices(tools, context, app.executor, app.writer, app.activity, app.health)

    def _differences(self, hello: ClientHello) -> list[str]:
        """A warning for each setting of the session's environment that differs from this process's, which counts."""
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


def _refuse_full(connection: socket.socket) -> None:
    """Refuse without a task, to free the descriptor at once. One line always fits into a socket's buffer."""
    with connection:
        connection.send(_encoded({"refused": "full"}))


async def _read(stream: SocketStream, session: DaemonSession, rest: bytes) -> None:
    """Pass whole frames on. (A bridge that dies may have sent a part of one.)"""
    lines = LineSplitter(MAX_FRAME_BYTES)
    data = rest
    while True:
        for line in lines.feed(data):
            if isinstance(line, bytes):
                await session.receive_frame(Frame.decode(line))
        data = await stream.receive()


async def _receive_hello(stream: SocketStream) -> tuple[ClientHello, bytes] | None:
    """The client's hello and the bytes after it; None, after a refusal, if it is none of this protocol."""
    try:
        return await _read_hello(stream)
    except ValueError as error:
        logger.warning("a connection was refused: %s", error)
        await _send_line(stream, {"refused": "protocol", "protocol": PROTOCOL, "version": __version__})
        return None


async def _read_hello(stream: SocketStream) -> tuple[ClientHello, bytes]:
    data = b""
    while b"\n" not in data:
        data += await stream.receive()
        if len(data) > MAX_HELLO_BYTES:
            raise ValueError("the hello is too long")
    line, _, rest = data.partition(b"\n")
    return ClientHello.decode(line), rest


async def _send_line(stream: SocketStream, content: Mapping[str, Any]) -> None:
    await stream.send(_encoded(content))


def _encoded(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"

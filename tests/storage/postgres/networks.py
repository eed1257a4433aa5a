"""What lies between a palace's server and its database: a relay that can be encrypted, cut off, or silent."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from dataclasses import dataclass, field


@dataclass
class _Cut:
    """What of the connections made since the last mending is swallowed."""

    request: bytes | None = None
    at_request: tuple[threading.Event, ...] = ()
    requests: threading.Event = field(default_factory=threading.Event)
    answers: threading.Event = field(default_factory=threading.Event)


class Relay:
    """Passes bytes between clients and the server at a port of this machine."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        """With `context` the way from the client to here is encrypted as PostgreSQL does it."""
        self._server_port = port
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._cut = _Cut()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def is_cut(self) -> threading.Event:
        """Set as long as something is swallowed."""
        return self._cut.answers

    def cut(self) -> None:
        """From now on swallow all that is sent. No connection is closed, new ones are accepted and hear nothing."""
        self._cut.requests.set()
        self._cut.answers.set()

    def cut_at(self, request: bytes) -> None:
        """From this request on swallow all that is sent."""
        self._cut.request, self._cut.at_request = request, (self._cut.requests, self._cut.answers)

    def cut_answers_to(self, request: bytes) -> None:
        """From this request on swallow what the server says."""
        self._cut.request, self._cut.at_request = request, (self._cut.answers,)

    def mend(self) -> None:
        """Serve new connections again. What went through earlier ones stays lost."""
        with self._lock:
            self._cut = _Cut()

    def drop(self) -> None:
        """Close all connections."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for each in pair:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close them, and take no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        self.drop()
        for thread in self._threads[1:]:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        """Serve one client: what the server says is passed on by another thread."""
        cut = self._cut
        with contextlib.suppress(OSError), client:
            if self._context is not None:
                client.recv(8)  # SSLRequest
                client.sendall(b"S")
                client = self._context.wrap_socket(client, server_side=True)
            with client, socket.create_connection(("127.0.0.1", self._server_port)) as server:
                with self._lock:
                    self._pairs.append((client, server))
                back = threading.Thread(target=self._pass_on, args=(server, client, cut, cut.answers))
                back.start()
                self._pass_on(client, server, cut, cut.requests)
                back.join()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket, cut: _Cut, swallowed: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if swallowed is cut.requests and cut.request is not None and cut.request in data:
                    for each in cut.at_request:
                        each.set()
                if not swallowed.is_set():
                    target.sendall(data)
        if not swallowed.is_set():
            for end in (source, target):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

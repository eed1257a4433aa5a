"""A stand-in for the model of an agent program: it listens on loopback, and answers with the calls that it is told.

The program believes that it talks to its maker, so that all but the choice of the calls is its own: how it connects and
lists, what of a tool it shows, what of an answer it passes on.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from driving import Failed, Json


class ScriptedModel:
    """Requests of the program's turns are handed over one by one; each waits for its reply.

    A subclass knows the maker's protocol: which requests belong to a turn, and how a reply is written.
    """

    SECONDS = 60

    def __init__(self) -> None:
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"{}")
                kind, text = model.answer(self.path, body)
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def do_GET(self) -> None:
                self.send_error(404)

            def log_message(self, *of: Any) -> None:
                pass

        self._turns: queue.Queue[Json] = queue.Queue()
        self._replies: queue.Queue[str] = queue.Queue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        """What the program is told instead of its maker's."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def turn(self, process: subprocess.Popen[bytes]) -> Json:
        """The next request of a turn, unless the program ends before."""
        limit = time.monotonic() + self.SECONDS
        while time.monotonic() < limit:
            with suppress(queue.Empty):
                return self._turns.get(timeout=0.2)
            if process.poll() is not None:
                raise Failed(f"the program has ended with {process.returncode} instead of asking its model")
        raise Failed(f"the program has not asked its model for {self.SECONDS} s")

    def reply(self, text: str) -> None:
        """Answer it."""
        self._replies.put(text)

    def wait_for_reply(self, body: Json) -> str:
        """Hand a request over, and wait."""
        self._turns.put(body)
        return self._replies.get(timeout=10 * self.SECONDS)

    def answer(self, path: str, body: Json) -> tuple[str, str]:
        """The content type and the text of an answer."""
        raise NotImplementedError

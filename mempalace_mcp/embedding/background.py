"""Loads the embedding model in a thread: a server answers before the model is ready."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from mempalace_mcp.core.errors import EmbedderBroken, EmbedderUnavailable, PalaceError
from mempalace_mcp.core.limits import wait_for_end
from mempalace_mcp.core.model import ModelStamp
from mempalace_mcp.embedding.encoder import Embedder, EmbedderStatistics, MiniLm

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 30.0


class Loading(StrEnum):
    """The state of the model."""

    IDLE = "idle"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class BackgroundStatistics:
    """The state of the model, the seconds that loading took, and the statistics of the loaded embedder."""

    state: Loading
    load_seconds: float | None
    embedder: EmbedderStatistics | None


class BackgroundEmbedder:
    """Loads an embedder in a thread of its own, once `start` is called, and owns it. Thread-safe.

    `follow` loads again when the palace has another model, which `load` then chooses.
    """

    def __init__(self, load: Callable[[], Embedder] = MiniLm.load) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._state = Loading.IDLE
        self._thread: threading.Thread | None = None
        self._embedder: Embedder | None = None
        self._offered: Embedder | None = None
        self._failure: str | None = None
        self._load_seconds: float | None = None

    def start(self) -> None:
        """Begin to load and return at once. Does nothing when called again, or after `close`."""
        with self._lock:
            if self._state is not Loading.IDLE:
                return
            self._begin()

    def offer(self, embedder: Embedder | None) -> None:
        """An embedder that is loaded, for `follow` to take if it is of the right model; None takes the offer back."""
        with self._lock:
            self._offered = embedder

    def follow(self, stamp: ModelStamp) -> None:
        """Own the embedder of this model from now on: the present one, the one on offer, or one that is loaded now.

        Returns at once. While it loads, `get` raises EmbedderUnavailable. Does nothing while it is loading, before
        `start` and after `close`. The embedder of before lives as long as calls use it.
        """
        with self._lock:
            present, offered = self._embedder, self._offered
            if self._state in (Loading.IDLE, Loading.CLOSED) or (present and present.stamp == stamp):
                return
            if offered is not None and offered.stamp == stamp:
                self._embedder, self._offered, self._failure, self._thread = offered, None, None, None
                self._state = Loading.READY
                self._ended.set()
            elif self._state is not Loading.LOADING:
                self._begin()

    def _begin(self) -> None:
        """Start the thread, under the lock."""
        self._state = Loading.LOADING
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, name="embedder-loading", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """True when `get` returns the embedder."""
        return self._state is Loading.READY

    @property
    def loading(self) -> bool:
        """True from `start` until the end of loading."""
        return self._state is Loading.LOADING

    @property
    def failure(self) -> str | None:
        """Why loading failed, or None."""
        return self._failure

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds for the end of loading; True if the embedder is ready then."""
        self._ended.wait(timeout)
        return self.ready

    def get(self) -> Embedder:
        """The loaded embedder, without waiting for it.

        Raises:
            EmbedderUnavailable: it is not loaded yet, or closed.
            EmbedderBroken: it could not be loaded; the message says why.
        """
        with self._lock:
            state, embedder = self._state, self._embedder
        if state is Loading.READY and embedder is not None:
            return embedder
        if state is Loading.FAILED:
            raise EmbedderBroken(
                f"the embedding model could not be loaded: {self._failure}",
                hint="Install mempalace-mcp again and restart; search by words works meanwhile.",
            )
        if state is Loading.CLOSED:
            raise EmbedderUnavailable("the embedding model is closed", hint="The server is stopping; start it again.")
        raise EmbedderUnavailable(
            "the embedding model is still being loaded", hint="Try again in a second; search by words works meanwhile."
        )

    def statistics(self) -> BackgroundStatistics:
        """The state of the model and the statistics of the embedder."""
        with self._lock:
            state, embedder, seconds = self._state, self._embedder, self._load_seconds
        return BackgroundStatistics(state, seconds, embedder.statistics() if embedder else None)

    def close(self) -> None:
        """Wait up to `CLOSE_SECONDS` for the end of loading, then close the embedder. Idempotent."""
        with self._lock:
            self._state = Loading.CLOSED
            thread = self._thread
        if thread is not None:
            wait_for_end(thread, CLOSE_SECONDS)
        with self._lock:
            embedder, self._embedder = self._embedder, None
        if embedder is not None:
            embedder.close()
        self._ended.set()

    def _run(self) -> None:
        began = time.perf_counter()
        embedder, failure = None, None
        try:
            embedder = self._load()
        except Exception as error:  # of any library: `get` raises it as an `EmbedderBroken`
            failure = _reason(error)
            logger.error("the embedding model could not be loaded: %s", failure, exc_info=error)
        with self._lock:
            wanted = self._state is Loading.LOADING and self._thread is threading.current_thread()
            if wanted:
                self._embedder, self._failure = embedder, failure
                self._load_seconds = time.perf_counter() - began
                self._state = Loading.FAILED if embedder is None else Loading.READY
        if wanted or self._state is Loading.CLOSED:
            self._ended.set()
        if not wanted and embedder is not None:  # closed or replaced while it was loading
            embedder.close()


def _reason(error: Exception) -> str:
    return error.message if isinstance(error, PalaceError) else f"{type(error).__name__}: {error}"

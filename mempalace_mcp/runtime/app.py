"""The composition of a running process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from mempalace_mcp.core import clock
from mempalace_mcp.core.clock import Calendar
from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.limits import ConcurrencyLimiter
from mempalace_mcp.embedding.background import BackgroundEmbedder
from mempalace_mcp.embedding.encoder import Embedder
from mempalace_mcp.embedding.models import MODELS, model_of
from mempalace_mcp.palace.chunk_embedder import ChunkEmbedder
from mempalace_mcp.palace.palace import Palace
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.runtime.activity import Activity
from mempalace_mcp.runtime.backend import open_backend
from mempalace_mcp.runtime.event_loop import Heartbeat
from mempalace_mcp.runtime.executor import Executor
from mempalace_mcp.runtime.feed import ChangeFeed
from mempalace_mcp.runtime.health import CheckInputs, Gauge, Health, checks, describe, describe_process
from mempalace_mcp.runtime.indexer import Indexer
from mempalace_mcp.runtime.monitor import DiskWatch, Watchdog
from mempalace_mcp.runtime.writer import WriterThread
from mempalace_mcp.storage.diary import DiaryStore
from mempalace_mcp.storage.drawers import DrawerStore
from mempalace_mcp.storage.graph import GraphStore
from mempalace_mcp.storage.lexical import Lexicon
from mempalace_mcp.storage.model_moves import move_progress
from mempalace_mcp.storage.transactions import IdempotentWriter

EXECUTOR_THREADS = 16
PROGRESS_SECONDS = 0.2


class App:
    """Everything that lives as long as the process, opened once and closed once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._backend = open_backend(settings)
        self.database = self._backend.database
        self.writer = WriterThread(self.database)
        self.exactly_once = IdempotentWriter(self.writer)
        self.embedder = BackgroundEmbedder(self._load_model)
        self.index = self._backend.index
        self.stores = self._compose()
        self.chunk_embedder = ChunkEmbedder(self.stores)
        self.palace = Palace(self.stores, self.chunk_embedder)
        self.indexer = Indexer(
            self.stores,
            self.chunk_embedder,
            self._backend.turns,
            trash_age=round(settings.trash_days * clock.DAY),
        )
        self.executor = Executor(EXECUTOR_THREADS)
        self.feed = ChangeFeed(self.database, self.executor)
        self.activity = Activity(settings.history_limit)
        self.disk = DiskWatch(self.database)
        heartbeat = Heartbeat()
        self.watchdog = Watchdog(lambda: heartbeat.overdue)
        self.health = Health(self.activity, self._gauges(), checks(self.check_inputs), heartbeat)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the background threads: disk watch, watchdog, model loading, indexer."""
        self.disk.start()
        self.watchdog.start()
        self.embedder.start()
        self.indexer.start()

    def wait_until_indexed(
        self, show: Callable[[int, int], None] = lambda done, total: None, check: Callable[[], None] = lambda: None
    ) -> None:
        """Wait until every text has its vectors and is indexed. Calls `show(done, total)` meanwhile.

        `check` is called repeatedly and may raise to stop the waiting.
        """
        total = self._pending()
        while not self.indexer.wait_until_idle(PROGRESS_SECONDS):
            check()
            left = self._pending()
            total = max(total, left)
            show(total - left, total)
        show(total, total)

    def status(self) -> dict[str, Any]:
        """Sizes of the palace and health of the process."""
        with self.database.read() as connection:
            sizes, report = self.database.statistics(), self.health.snapshot()
            return describe(self.settings, self.stores, sizes, report, connection)

    def process_status(self) -> dict[str, Any]:
        """Health of the process, from memory alone."""
        return describe_process(self.settings, self.stores, self.health.snapshot())

    def close(self) -> None:
        """Finish accepted work, then release everything."""
        self.watchdog.close()
        self.disk.close()
        self.executor.close()
        self.indexer.close()
        self.embedder.close()
        self.writer.close()
        self.index.close()
        self.stores.lexicon.close()
        self.database.close()

    @property
    def check_inputs(self) -> CheckInputs:
        """The components that the health checks read."""
        return CheckInputs(
            self.database, self.disk, self.writer, self.executor, self.embedder, self.indexer, self.index
        )

    def _load_model(self) -> Embedder:
        """The model of the palace's vectors; the one of the settings if there are none, or if they are of no known one.

        Raises:
            PalaceError: a file of the model or the palace cannot be read.
        """
        with self.database.read() as connection:
            stamp = self.stores.drawers.model_stamp(connection)
        return (model_of(stamp) or MODELS[self.settings.model]).load()

    def _compose(self) -> Stores:
        lexicon = Lexicon(self._backend.words, zone=self.settings.zone)
        drawers = DrawerStore(lexicon)
        return Stores(
            reader=self.database,
            writer=self.exactly_once,
            drawers=drawers,
            diary=DiaryStore(drawers),
            lexicon=lexicon,
            graph=GraphStore(),
            index=self.index,
            embedder=self.embedder,
            now=clock.now,
            filed=lambda: self.writer.after_commit(self.indexer.wake),
            search_limiter=ConcurrencyLimiter(),
            calendar=Calendar(self.settings.zone),
        )

    def _gauges(self) -> Sequence[tuple[str, Gauge]]:
        return (
            ("database", lambda: self.database.statistics(self.disk.files)),
            *([("server", lambda: self.database.server)] if self.settings.url else []),
            ("disk", self.disk.statistics),
            ("writer", self.writer.statistics),
            ("receipts", self.exactly_once.statistics),
            ("executor", self.executor.statistics),
            ("feed", self.feed.statistics),
            ("embedder", self.embedder.statistics),
            ("indexer", self.indexer.statistics),
            ("index", self.index.statistics),
        )

    def _pending(self) -> int:
        """Passages that are to be embedded, by the present model or by the one that the palace moves to."""
        with self.database.read() as connection:
            pending, move = self.stores.drawers.pending_count(connection), move_progress(connection)
        return pending if move is None else pending + move.total - move.done


def open_app(settings: Settings) -> App:
    """Open the palace; nothing runs in the background before `start`.

    Raises:
        PalaceError: the palace cannot be opened.
    """
    return App(settings)

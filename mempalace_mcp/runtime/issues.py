"""Everything that can be wrong with a serving process: a closed set of kinds, each with its severity and remedy.

The health report and the doctor describe what they find by the same `Issue`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

Repair = Callable[[], str]
"""Repairs without any risk for what is stored, and returns what was done. May raise PalaceError or OSError."""


class Status(StrEnum):
    """`ok`; `degraded`: it works, but somebody should look; `failing`: it cannot do its work."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class IssueKind:
    """A kind of issue: its code, its severity, and what a person can do about it.

    `restart_helps` makes `/livez` fail, so it is set only where nothing but a restart helps. `refuses` means that new
    calls are refused for the moment.
    """

    code: str
    status: Status
    remedy: str
    restart_helps: bool = False
    refuses: bool = False


@dataclass(frozen=True, slots=True)
class Issue:
    """Something that is wrong now: its kind, a sentence about it, and a safe repair if there is one."""

    kind: IssueKind
    message: str
    repair: Repair | None = None

    @property
    def code(self) -> str:
        """The code of its kind."""
        return self.kind.code

    @property
    def status(self) -> Status:
        """The severity of its kind."""
        return self.kind.status

    @property
    def remedy(self) -> str:
        """What a person can do about it."""
        return self.kind.remedy


def failing(code: str, remedy: str, *, restart_helps: bool = False) -> IssueKind:
    """A kind of issue with which the process or the palace cannot do its work."""
    return IssueKind(code, Status.FAILING, remedy, restart_helps)


def degraded(code: str, remedy: str, *, restart_helps: bool = False, refuses: bool = False) -> IssueKind:
    """A kind of issue that somebody should look at."""
    return IssueKind(code, Status.DEGRADED, remedy, restart_helps, refuses)


_HOLDER = "Check the process whose PID is in `write.lock`; in PostgreSQL, that which `pg_blocking_pids` names."

PALACE_MISSING = failing(
    "palace_missing", "Put the palace's files, or its schema, back and call `reconnect`, or restart the server."
)
PALACE_CORRUPT = failing("palace_corrupt", "Stop every server of this palace and restore a backup.")
SCHEMA_TOO_NEW = failing("schema_too_new", "Upgrade mempalace-mcp and restart the servers of the old version.")
UNFINISHED_COPY = failing(
    "unfinished_copy", "Run `mempalace-mcp move SOURCE TARGET` as before: it goes on where it stopped."
)
WRITER_DEAD = failing("writer_dead", "Restart the server; nothing that was acknowledged is lost.", restart_helps=True)
EVENT_LOOP_STUCK = failing("event_loop_stuck", "Look for the stacks in the log. Restart the server if it stays stuck.")

STORAGE = degraded("storage", "Check the disk and the system log.")
STORAGE_FULL = degraded("storage_full", "Free some space. The server continues by itself.")
STORAGE_READ_ONLY = degraded(
    "storage_read_only",
    "Make the palace's directory and files writable for this user; in PostgreSQL, grant what"
    " `mempalace-mcp doctor` names.",
)
DISK_LOW = degraded("disk_low", "Free some space before writes are refused.")
DISK_SLOW = degraded("disk_slow", "Check the disk: the file system does not answer.")
LOG_LARGE = degraded(
    "log_large", "Find the process that keeps reading and end it. Then run `mempalace-mcp doctor --fix`."
)
SERVER_UNREACHABLE = failing(
    "server_unreachable", "Check whether PostgreSQL runs and can be reached. The server continues by itself."
)
SERVER_UNSAFE = degraded(
    "server_unsafe", "Switch it on in postgresql.conf and reload PostgreSQL: without it a crash loses data."
)
CONNECTIONS_LOW = degraded("connections_low", "Raise `max_connections` of PostgreSQL, or put a pooler in front of it.")
TRANSACTION_LONG = degraded(
    "transaction_long", "Find it in `pg_stat_activity` and end it: nothing that is deleted frees space meanwhile."
)
LOCK_HELD = degraded("lock_held", _HOLDER)
WRITER_WAITING = degraded("writer_waiting", _HOLDER)
WRITER_FULL = degraded("writer_full", "Send fewer writes at a time. Clients are told to try again.", refuses=True)
EXECUTOR_FULL = degraded("executor_full", "Send fewer calls at a time. Clients are told to try again.", refuses=True)
EMBEDDER_MISSING = degraded(
    "embedder_missing", "Install mempalace-mcp again and restart. Until then search works by words only."
)
INDEXER_DEAD = degraded(
    "indexer_dead", "Restart the server. Until then new texts are found by words only.", restart_helps=True
)
INDEXER_FAILING = degraded("indexer_failing", "Read the log: it says what fails. The server tries again.")
INDEX_REBUILDING = degraded("index_rebuilding", "Nothing. Until it is done, searches are exact but slower.")
INDEX_FAILING = degraded(
    "index_failing",
    "Read the log. Until it works again, searches are exact but slower. "
    "To rebuild the index: `mempalace-mcp daemon stop`, `mempalace-mcp reindex`.",
)
EVENT_LOOP_SLOW = degraded("event_loop_slow", "Check whether the machine is overloaded.")
EXECUTION_LONG = degraded("execution_long", "Check what it waits for: `kill -USR1 PID` writes all stacks to the log.")
TOKENS_WRONG = degraded(
    "tokens_wrong",
    "Run `mempalace-mcp token list`: it takes over the tokens of `tokens.toml`, or says what is wrong with them.",
)
CHECK_FAILED = degraded("check_failed", "Please report it: this is a bug in mempalace-mcp.")

REASONS = (
    PALACE_MISSING,
    PALACE_CORRUPT,
    SERVER_UNREACHABLE,
    SCHEMA_TOO_NEW,
    WRITER_DEAD,
    EVENT_LOOP_STUCK,
    STORAGE,
    STORAGE_FULL,
    STORAGE_READ_ONLY,
    SERVER_UNSAFE,
    CONNECTIONS_LOW,
    TRANSACTION_LONG,
    DISK_LOW,
    DISK_SLOW,
    LOG_LARGE,
    LOCK_HELD,
    WRITER_WAITING,
    WRITER_FULL,
    EXECUTOR_FULL,
    EMBEDDER_MISSING,
    INDEXER_DEAD,
    INDEXER_FAILING,
    INDEX_REBUILDING,
    INDEX_FAILING,
    EVENT_LOOP_SLOW,
    EXECUTION_LONG,
    TOKENS_WRONG,
    CHECK_FAILED,
)
"""All kinds that a serving process reports: the labels of the metric, and the rows of docs/operations.md."""

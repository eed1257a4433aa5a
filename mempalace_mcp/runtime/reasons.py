"""Everything that can be wrong with a process that serves: a closed set of codes, each with its weight and remedy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """`ok`; `degraded`: it serves, but somebody should look; `failing`: it cannot do its work."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a process is not `ok`, and what a person can do about it.

    `restart_helps` makes `/livez` fail, so it is set only where nothing but a restart helps; `refuses` says that new
    calls are turned away for the moment.
    """

    code: str
    status: Status
    remedy: str
    restart_helps: bool = False
    refuses: bool = False


@dataclass(frozen=True, slots=True)
class Concern:
    """A reason that holds now, and a sentence for people about it."""

    reason: Reason
    message: str

    @property
    def code(self) -> str:
        """The reason's code."""
        return self.reason.code

    @property
    def status(self) -> Status:
        """The reason's weight."""
        return self.reason.status


def _failing(code: str, remedy: str, *, restart_helps: bool = False) -> Reason:
    return Reason(code, Status.FAILING, remedy, restart_helps)


def _degraded(code: str, remedy: str, *, restart_helps: bool = False, refuses: bool = False) -> Reason:
    return Reason(code, Status.DEGRADED, remedy, restart_helps, refuses)


PALACE_MISSING = _failing("palace_missing", "Put the palace's files back and call `reconnect`, or restart the server.")
PALACE_CORRUPT = _failing("palace_corrupt", "Stop every server of this palace and restore a backup.")
SCHEMA_TOO_NEW = _failing("schema_too_new", "Upgrade mempalace-mcp and restart the servers of the old version.")
WRITER_DEAD = _failing("writer_dead", "Restart the server; nothing that was acknowledged is lost.", restart_helps=True)
EVENT_LOOP_STUCK = _failing("event_loop_stuck", "Look for the stacks in the log; restart the server if it stays.")

STORAGE = _degraded("storage", "Check the disk and the system log.")
STORAGE_FULL = _degraded("storage_full", "Free some space; the server goes on by itself.")
STORAGE_READ_ONLY = _degraded("storage_read_only", "Make the palace's directory and files writable for this user.")
DISK_LOW = _degraded("disk_low", "Free some space before writes have to be refused.")
DISK_SLOW = _degraded("disk_slow", "Look at the disk: the file system has not answered for a while.")
LOG_LARGE = _degraded(
    "log_large", "Find the process that reads for so long, and end it; then run `mempalace-mcp doctor --fix`."
)
LOCK_HELD = _degraded("lock_held", "Look at the process whose number is in `write.lock`.")
WRITER_WAITING = _degraded("writer_waiting", "Look at the process whose number is in `write.lock`.")
WRITER_FULL = _degraded("writer_full", "Let the clients slow down; they are told to try again.", refuses=True)
EXECUTOR_FULL = _degraded("executor_full", "Let the clients slow down; they are told to try again.", refuses=True)
EMBEDDER_MISSING = _degraded("embedder_missing", "Install mempalace-mcp again and restart; words are found meanwhile.")
INDEXER_DEAD = _degraded("indexer_dead", "Restart the server; words are found meanwhile.", restart_helps=True)
INDEXER_FAILING = _degraded("indexer_failing", "Read the log: it says what fails, and it is tried again.")
INDEX_REBUILDING = _degraded("index_rebuilding", "Nothing: searches are exact meanwhile, if slower.")
INDEX_FAILING = _degraded(
    "index_failing",
    "Read the log; searches are exact meanwhile. To begin anew: `mempalace-mcp daemon stop`, `mempalace-mcp reindex`.",
)
EVENT_LOOP_SLOW = _degraded("event_loop_slow", "See whether the machine is overloaded.")
EXECUTION_LONG = _degraded("execution_long", "See what it waits for: `kill -USR1` writes all stacks to the log.")
TOKENS_WRONG = _degraded("tokens_wrong", "Correct `tokens.toml`: the log names the line. The tokens before it count.")
CHECK_FAILED = _degraded("check_failed", "Report it, please: this is a fault of the program.")

REASONS = (
    PALACE_MISSING,
    PALACE_CORRUPT,
    SCHEMA_TOO_NEW,
    WRITER_DEAD,
    EVENT_LOOP_STUCK,
    STORAGE,
    STORAGE_FULL,
    STORAGE_READ_ONLY,
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
"""All of them: the labels of the metrics, and the rows of the table in docs/operations.md."""

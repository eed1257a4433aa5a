"""What other servers do to a palace in the tests: `python -m tests.storage.postgres.child <act> <address> ...`.

They print a line when they have come somewhere, and wait for a line before they go on.
"""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.core.palace_url import read_url
from mempalace_mcp.runtime.writer import WriterThread
from mempalace_mcp.storage.postgres.database import PostgresDatabase
from mempalace_mcp.storage.transactions import IdempotentWriter, Transaction
from tests.storage.child import say, wait_for_go
from tests.storage.support import add_wing, keyed


def opened(address: str) -> PostgresDatabase:
    """The palace at an address."""
    return PostgresDatabase(read_url(address), Path(os.devnull))


def open_once(address: str) -> None:
    """Open, write and close, all at the moment that is told."""
    say("ready")
    wait_for_go()
    database = opened(address)
    database.write(add_wing(f"by {os.getpid()}"), Deadline())
    database.close()
    say("closed")


def serve(address: str, name: str, clients: str, count: str) -> None:
    """Write so many units for each of some clients, each under a key until it is acknowledged; print each then."""
    database = opened(address)
    thread = WriterThread(database)
    writer = IdempotentWriter(thread)
    printing = threading.Lock()

    def client(number: int) -> None:
        for each in range(int(count)):
            wing = f"{name}-{number}-{each}"
            while True:
                try:
                    writer.write(add_wing(wing), keyed(wing, seconds=30))
                except PalaceError as error:
                    if not error.retryable:
                        raise
                else:
                    break
            with printing:
                say(wing)

    say("ready")
    wait_for_go()
    with ThreadPoolExecutor(int(clients)) as pool:
        for done in [pool.submit(client, number) for number in range(int(clients))]:
            done.result()
    thread.close()
    database.close()


def stop_inside(address: str) -> None:
    """Wait inside a transaction, and for ever."""

    def work(transaction: Transaction) -> None:
        add_wing("half done")(transaction)
        say("inside")
        wait_for_go()

    try:
        opened(address).write(work, Deadline(60))
    except PalaceError as error:
        say(error.code)
    else:
        say("written")


ACTS = {act.__name__: act for act in (open_once, serve, stop_inside)}

if __name__ == "__main__":
    ACTS[sys.argv[1]](*sys.argv[2:])

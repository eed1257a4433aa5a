"""The entry point: an MCP session over stdio if no command is named, else a command."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence

_TERMINATED = 128 + signal.SIGTERM
_UMASK = 0o077
"""Files of this program are for its user alone."""

_OBJECTS_BEFORE_COLLECTION = 10_000


def main() -> None:
    """Run `mempalace-mcp` with the arguments of this process."""
    try:
        _run(sys.argv[1:])
    except SystemExit as ending:
        if ending.code is None or isinstance(ending.code, int):
            _leave(ending.code or 0)
        raise
    except KeyboardInterrupt:
        from mempalace_mcp.cli.output import INTERRUPTED

        raise SystemExit(INTERRUPTED) from None


def _leave(code: int) -> None:
    """Exit even if a thread hangs. A bridge has only daemon threads, and does not import how."""
    threading = sys.modules.get("threading")
    if threading is not None and any(
        not each.daemon and each is not threading.main_thread() for each in threading.enumerate()
    ):
        from mempalace_mcp.core.limits import leave

        leave(code)


def _run(arguments: Sequence[str]) -> None:
    os.umask(_UMASK)
    if os.getpid() == 1:  # in a container: signals without a handler are not delivered to process 1
        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(_TERMINATED))
    # Before NumPy is imported: on a busy machine a second BLAS thread makes scans fifty times slower.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Before ONNX Runtime is imported: it would report its use to its maker.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # Before Pydantic is imported: it would read the metadata of every installed package, in search of plugins.
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "1"
    # A command imports modules and ends: with Python's own threshold they are searched for garbage 130 times.
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTION)
    if is_session(arguments):
        from mempalace_mcp.cli.session import run_session

        raise SystemExit(run_session(arguments))
    if arguments[:1] == ["hook"] and not {"status", "--help", "-h"}.intersection(arguments[1:2] or ["--help"]):
        from mempalace_mcp.daemon.hook import run as run_hook

        raise SystemExit(run_hook(arguments[1:]))
    if arguments[:2] == ["daemon", "run"]:
        from mempalace_mcp.daemon.entry import run

        raise SystemExit(run(arguments[2:]))
    from mempalace_mcp.cli.commands import commands

    commands(arguments, prog_name="mempalace-mcp")


def is_session(arguments: Sequence[str]) -> bool:
    """Are there only options, as when an MCP client starts the program? Then click is not imported."""
    if not arguments:
        return True
    return arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version")

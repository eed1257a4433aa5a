"""How a daemon starts, and what it needs of the system.

The process takes the daemon lock, or inherits it from the bridge that started it. It opens the palace, listens, and
writes one line of JSON to stdout, a pipe of that bridge: that it is ready, or the error that stops it. From then on
stdout and stderr go to the log.

The socket is a file in a folder that only this user can enter; where there are no such sockets it is a port of
loopback, with a token.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mempalace_mcp import __version__
from mempalace_mcp.core import platform
from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.core.files import is_file
from mempalace_mcp.core.loading import loading
from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.core.place import URL_VARIABLE
from mempalace_mcp.daemon import ipc
from mempalace_mcp.daemon.ipc import DaemonAddress

MAX_BYTES = 1024 * 1024
KEPT = 2
_STDOUT, _STDERR = 1, 2


class Log:
    """The daemon's log: stdout and stderr of the process, native code included, in a file of bounded size.

    When the file is full it is renamed; `KEPT` earlier files stay beside it.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def files(self) -> list[Path]:
        """The log files that exist, oldest first.

        Raises:
            StorageError: the directory cannot be reached.
        """
        return [file for file in (*(self._numbered(n) for n in range(KEPT, 0, -1)), self._file) if is_file(file)]

    def take_output(self) -> None:
        """Point stdout and stderr to the file, or to nothing if it cannot be written."""
        try:
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError:
            descriptor = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(descriptor, _STDOUT)
            os.dup2(descriptor, _STDERR)
        finally:
            os.close(descriptor)

    def rotate(self) -> None:
        """Begin a new file if this one is full. A file that cannot be renamed goes on growing."""
        try:
            if self._file.stat().st_size <= MAX_BYTES:
                return
            for number in range(KEPT, 0, -1):
                earlier = self._file if number == 1 else self._numbered(number - 1)
                if earlier.exists():
                    earlier.replace(self._numbered(number))
            self.take_output()
        except OSError:
            return

    def _numbered(self, number: int) -> Path:
        return self._file.with_name(f"{self._file.name}.{number}")


LONGEST_SOCKET_PATH = 100
"""In bytes. The strictest system allows 104, with the terminating byte."""

SOCKET_SUFFIX = ".sock"
_NAME_BYTES = 8
_ROOM_FOR_NAMES = 50
"""In bytes, for what comes behind such a folder in the path of a socket."""

_PRIVATE = 0o700


def runtime_folder(palace: str) -> str:
    """A private folder for sockets: in `XDG_RUNTIME_DIR`, else the folder for temporary files, else the palace.

    Raises:
        ConfigurationError: no private folder with a path short enough can be made.
    """
    for parent in _parents():
        folder = os.path.join(parent, f"mempalace-mcp-{platform.user_label()}")
        if _is_short(folder) and _is_private(folder):
            return folder
    folder = os.path.join(palace, "run")
    if _is_short(folder) and _is_private(folder):
        return folder
    return _new_folder()


def new_name(palace: str, suffix: str) -> str:
    """A new path in the runtime folder, which nobody can guess.

    Raises:
        ConfigurationError: as `runtime_folder`.
    """
    return os.path.join(runtime_folder(palace), os.urandom(_NAME_BYTES).hex() + suffix)


def _parents() -> Iterator[str]:
    if given := os.environ.get("XDG_RUNTIME_DIR"):
        yield given
    if found := _temporary():
        yield found
    yield "/tmp"


def _temporary() -> str | None:
    """The folder for temporary files; None if the whole system is read-only."""
    try:
        return tempfile.gettempdir()
    except OSError:
        return None


def _new_folder() -> str:
    """A folder with a new name: the usual ones belong to another user."""
    with contextlib.suppress(OSError):
        folder = tempfile.mkdtemp(prefix="mempalace-mcp-")
        if _is_short(folder):
            return folder
        os.rmdir(folder)
    raise ConfigurationError(
        "there is no folder for the daemon's socket",
        hint="Set XDG_RUNTIME_DIR to a folder of this user that can be written, with a path of at most "
        f"{LONGEST_SOCKET_PATH - _ROOM_FOR_NAMES} bytes.",
    )


def _is_short(folder: str) -> bool:
    return len(os.fsencode(folder)) + len(os.sep) + 2 * _NAME_BYTES + len(SOCKET_SUFFIX) <= LONGEST_SOCKET_PATH


def _is_private(folder: str) -> bool:
    """Make the folder if it is missing; is it a folder of this user, closed to others?"""
    try:
        os.mkdir(folder, _PRIVATE)
    except FileExistsError:
        pass
    except OSError:
        return False
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode):
        return False
    if not platform.HAS_FILE_MODES:
        return True
    return status.st_uid == platform.user_id() and stat.S_IMODE(status.st_mode) == _PRIVATE


BACKLOG = 1024
_TOKEN_BYTES = 32
_DEAD_AFTER_SECONDS = 60.0
"""A younger socket that refuses connections may be that of a daemon that is just starting."""

_PROBE_SECONDS = 0.2


@contextlib.contextmanager
def listening(
    palace: str, http: str | None = None, *, loopback: bool = not platform.HAS_SOCKET_FILES
) -> Iterator[tuple[socket.socket, DaemonAddress]]:
    """Listen for bridges of the palace; yields the socket and its address. The socket file is removed at the end.

    Raises:
        ConfigurationError: as `runtime_folder`.
        OSError: the socket cannot be made.
    """
    address = DaemonAddress(pid=os.getpid(), version=__version__, started=time.time(), http=http)
    listener = socket.socket(socket.AF_INET if loopback else socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if loopback:
            listener.bind(("127.0.0.1", 0))
            address.port, address.token = listener.getsockname()[1], secrets.token_hex(_TOKEN_BYTES)
        else:
            path = new_name(palace, SOCKET_SUFFIX)
            sweep(Path(path).parent)
            listener.bind(path)
            address.path = path
            Path(path).chmod(0o600)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        yield listener, address
    finally:
        if address.path is not None:
            Path(address.path).unlink(missing_ok=True)
        listener.close()


def abandoned(folder: Path) -> Iterator[Path]:
    """Socket files that killed processes have left: nobody listens there."""
    for path in folder.glob(f"*{SOCKET_SUFFIX}"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _DEAD_AFTER_SECONDS and _refuses(path):
                yield path


def sweep(folder: Path) -> int:
    """Remove the abandoned socket files; how many there were."""
    paths = list(abandoned(folder))
    for path in paths:
        path.unlink(missing_ok=True)
    return len(paths)


def _refuses(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        return False


def run(arguments: Sequence[str]) -> int:
    """Be the daemon of a palace, or a process for one session alone, until it leaves; the exit code."""
    options = _parser().parse_args(arguments)
    options.directory = options.directory or options.palace
    lock = None if options.private else _take_lock(options.directory, options.seat)
    if lock is None and not options.private:
        _report({"ready": False})  # another process is the daemon
        return 0
    os.chdir(Path(os.sep).absolute())
    try:
        return _serve_or_report(options, lock)
    finally:
        if lock is not None:
            lock.close()


def _serve_or_report(options: argparse.Namespace, lock: FileLock | None) -> int:
    """Serve. An error is reported to the parent process before it is logged: the disk may be full."""
    from mempalace_mcp.core.errors import PalaceError
    from mempalace_mcp.core.files import explain_os_error

    try:
        _serve(options, lock)
    except PalaceError as error:
        _report({"error": error.as_dict()})
        with contextlib.suppress(OSError):
            print(f"mempalace-mcp daemon: {error.message}", file=sys.stderr)
        return 1
    except (OSError, ExceptionGroup) as error:
        if (cause := _only_cause(error)) is not None:
            path = cause.filename if isinstance(cause.filename, str) else options.directory
            _report({"error": explain_os_error(cause, Path(path)).as_dict()})
        raise
    return 0


def _only_cause(error: Exception) -> OSError | None:
    """The system's error, also inside of groups of one error, as task groups raise them; None for any other."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, OSError) else None


def _serve(options: argparse.Namespace, lock: FileLock | None) -> None:
    with loading():
        from mempalace_mcp.core.config import load_settings
        from mempalace_mcp.core.logs import configure_logging
        from mempalace_mcp.daemon.daemon import run_daemon
        from mempalace_mcp.runtime.app import open_app

    settings = load_settings(os.environ, options.palace)
    configure_logging(settings.log_level)
    if settings.url is not None and str(settings.palace) != options.directory:
        raise ConfigurationError(
            f"the environment names {settings.shown}, whose directory is not {options.directory}", argument=URL_VARIABLE
        )
    log = Log(settings.palace / ipc.LOG_FILE)

    def ready(address: DaemonAddress) -> None:
        _report({"ready": True} if lock else {"ready": True, "address": address.fields})
        log.take_output()

    log.rotate()
    run_daemon(lambda: open_app(settings), lock, ready)


def _take_lock(palace: str, descriptor: int | None) -> FileLock | None:
    file = os.path.join(palace, ipc.LOCK_FILE)
    if descriptor is not None:
        return FileLock.inherit(file, descriptor)
    lock = FileLock(file)
    return lock if lock.try_acquire() else None


def _report(outcome: Mapping[str, Any]) -> None:
    """Write one line of JSON for the process that started this one; stdout is its pipe until then."""
    with contextlib.suppress(OSError):  # it did not wait
        os.write(1, json.dumps(outcome).encode() + b"\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mempalace-mcp daemon run", allow_abbrev=False)
    palace = parser.add_mutually_exclusive_group(required=True)
    palace.add_argument("--palace", help="directory of the palace")
    palace.add_argument("--directory", help="this machine's directory for the palace at $PALACE_URL")
    parser.add_argument("--seat", type=int, help="descriptor of the lock, which is held")
    parser.add_argument("--private", action="store_true", help="serve one session alone, and say here at which address")
    return parser

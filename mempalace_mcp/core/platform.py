"""What differs between operating systems: each difference is one function or constant here, and nowhere else.

A bridge imports this module, so it loads little by itself: what only servers need is imported in the functions.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys

TYPE_CHECKING = False  # as in `typing`, which is too large for a bridge
if TYPE_CHECKING:
    import select
    from collections.abc import Callable, Mapping
    from pathlib import Path

if sys.platform == "win32":
    import msvcrt
    import time
else:
    import fcntl
    import termios

HAS_DAEMON = sys.platform != "win32"
"""On Windows no lock passes on to a child, so each session serves itself there."""

HAS_SOCKET_FILES = sys.platform != "win32"
"""Elsewhere local sockets are ports of loopback, which every account can reach."""

HAS_FILE_MODES = sys.platform != "win32"
"""Files have an owner and permissions for others."""

CAN_SYNC_DIRECTORIES = sys.platform != "win32"
"""Directories can be opened, and their names written to the disk."""

CAN_REMOVE_OPEN_FILES = sys.platform != "win32"
"""A file that is removed while it is open keeps its content until it is closed."""

SYSTEM = {"win32": "windows", "darwin": "macos"}.get(sys.platform, "linux")
"""Which of the three kinds of places programs keep their settings in: `linux`, `macos` or `windows`."""

HAS_UVLOOP = sys.platform != "win32"
"""It takes a third off the time of a small call."""

_LOCKED_BYTE = 1 << 30
"""On Windows a locked byte cannot be read, so it lies far behind what the file says about its holder."""
_POLL_SECONDS = 0.005


if sys.platform == "win32":

    def try_lock(descriptor: int) -> bool:
        """Take the lock on an open file if it is free."""
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def lock(descriptor: int) -> None:
        """Wait for the lock on an open file."""
        while not try_lock(descriptor):
            time.sleep(_POLL_SECONDS)

    def unlock(descriptor: int) -> None:
        """Give the lock back."""
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:

    def try_lock(descriptor: int) -> bool:
        """Take the lock on an open file if it is free. It belongs to the open file, and so passes to a child with it.

        Raises:
            OSError: the file system has no locks.
        """
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def lock(descriptor: int) -> None:
        """Wait for the lock on an open file, in the kernel's queue.

        Raises:
            OSError: the file system has no locks.
        """
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def unlock(descriptor: int) -> None:
        """Give the lock back."""
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def kill(pid: int) -> None:
    """End a process at once.

    Raises:
        OSError: there is none, or this user may not.
    """
    os.kill(pid, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)


def user_id() -> int | None:
    """The number of this process's user, where users have numbers."""
    return None if sys.platform == "win32" else os.geteuid()


def user_name(number: int) -> str:
    """The name of a user, or its number where it has none."""
    if sys.platform != "win32":
        import pwd

        try:
            return pwd.getpwuid(number).pw_name
        except KeyError:
            pass
    return str(number)


def user_label() -> str:
    """What tells this user from others in the names of shared folders."""
    number = user_id()
    return os.environ.get("USERNAME", "user") if number is None else str(number)


def processors() -> int | None:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()


def peer_process(stream: socket.socket) -> int | None:
    """The process at the other end of a local socket, where the system tells; 0 for one of another container."""
    if sys.platform == "linux" and stream.family is socket.AF_UNIX:
        credentials = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int.from_bytes(credentials[:4], sys.byteorder)
    return None


def poll_writable(descriptor: int) -> select.poll | None:
    """A poll object that waits until the descriptor takes bytes or its reader is gone; None where there is none."""
    if sys.platform == "win32":
        return None
    import select

    readiness = select.poll()
    readiness.register(descriptor, select.POLLOUT)
    return readiness


_SURE_BYTES = 4096
"""So much every pipe and socket takes at once when it is writable."""


def write_capacity(descriptor: int) -> Callable[[], int]:
    """A function that says how many bytes the descriptor, when it is writable, takes without waiting for its reader.

    An answer that is written in one piece wakes its reader once.
    """
    if sys.platform == "linux":
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISFIFO(mode):
            return lambda: _pipe_capacity(descriptor)
        if stat.S_ISSOCK(mode):
            with socket.socket(fileno=os.dup(descriptor)) as copy:
                if copy.family == socket.AF_UNIX and copy.type == socket.SOCK_STREAM:
                    # Writable means that a quarter of the buffer is used at most. A piece of nearly half its size goes
                    # into it undivided then (`unix_writable` and `unix_stream_sendmsg` of Linux).
                    half = copy.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2 - 64
                    return lambda: half
    return lambda: _SURE_BYTES


def _pipe_capacity(descriptor: int) -> int:
    """The whole size of the pipe when it is empty: bytes that wait may fill any number of its pages."""
    unread = fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4))
    return _SURE_BYTES if any(unread) else fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)


def raise_file_limit(wanted: int) -> None:
    """Let this process open so many files, or as many as the system allows."""
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            except (OSError, ValueError):
                return


def file_limit() -> int | None:
    """How many files this process may open; None without a limit."""
    if sys.platform == "win32":
        return None
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def lower_thread_priority(niceness: int) -> None:
    """Let other threads go before this one, where threads have priorities of their own.

    Raises:
        OSError: the system refuses.
    """
    if sys.platform == "linux":
        import threading

        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


def end_when_closed(descriptor: int) -> None:
    """Let the kernel kill this process when the other end of a pipe or socket closes, where it can."""
    if sys.platform == "linux":
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_ASYNC)


def application_folder(home: Path, environment: Mapping[str, str]) -> Path:
    """The folder in which desktop programs keep their data, for a user with this home folder and environment."""
    if sys.platform == "darwin":
        return home / "Library" / "Application Support"
    if sys.platform == "win32":
        return home / (environment.get("APPDATA") or "AppData/Roaming")
    return home / (environment.get("XDG_CONFIG_HOME") or ".config")

"""What a container does to a process, without one: a read-only root, a user that nobody knows, process number 1."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

UID = 12345

needs_namespaces = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("setpriv"),
    reason="only root can make namespaces here",
)

_CLOSE = """
set -e
mount --make-rprivate /
for folder in "$@"; do
    [ "$folder" = -- ] && break
    mount --bind "$folder" "$folder"
done
awk '{print $5}' /proc/self/mountinfo | sort -r | while read -r mounted; do
    case "$mounted" in /proc*|/sys*|/dev*) continue ;; esac
    for folder in "$@"; do
        [ "$folder" = -- ] && break
        [ "$folder" = "$mounted" ] && continue 2
    done
    mount -o remount,ro,bind "$mounted"
done
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""


def contained(*writable: Path, uid: int = UID, group: int | None = None) -> Sequence[str]:
    """What to put before a command so that it runs as process 1 of that user, who has no name and no home, and can
    write nowhere but in these folders. (Reading is allowed everywhere: Python may lie in somebody's home.)"""
    reads = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    who = ("setpriv", f"--reuid={uid}", f"--regid={uid if group is None else group}", "--clear-groups", *reads)
    namespaces = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    environment = ("env", "-u", "HOME", "-u", "XDG_RUNTIME_DIR", "-u", "TMPDIR")
    return (*namespaces, "sh", "-c", _CLOSE, "sh", *map(str, writable), "--", *environment, *who)

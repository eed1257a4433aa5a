"""The file that the commands of clients name for a palace on a server: an address may hold a password."""

from __future__ import annotations

import os
from pathlib import Path

from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.files import PRIVATE_FILE, create_directory, explain_os_error

FILE = "address"


def named_by_commands(settings: Settings) -> Path:
    """What stands behind `--palace`: the palace's directory, or the file with its address.

    That is the user's own file if the address came from one, else one in this machine's directory for the palace.
    """
    if settings.url is None:
        return settings.palace
    return settings.url_file or settings.palace / FILE


def keep_address(settings: Settings) -> None:
    """Write the file, for this user alone, unless the user has one, or the palace is a directory.

    Raises:
        StorageError: it cannot be written.
    """
    if settings.url is None or settings.url_file is not None:
        return
    create_directory(settings.palace)
    file = settings.palace / FILE
    draft = file.with_name(f"{FILE}.{os.getpid()}")
    try:
        draft.touch(PRIVATE_FILE)
        draft.write_text(f"{settings.url.text}\n", encoding="utf-8")
        draft.replace(file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise explain_os_error(error, file) from error

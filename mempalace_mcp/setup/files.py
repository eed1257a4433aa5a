"""Files of settings that others own: read strictly, replaced at once, with a copy of what was there before."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import itertools
import os
import stat
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mempalace_mcp.core.files import sync_directory
from mempalace_mcp.setup.formats import SettingsFault, place_in

LARGEST = 256 << 20
_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """A file as it was read. `path` has all links followed; `data` is None if there is no file."""

    path: Path
    data: bytes | None
    text: str

    def encoded(self, text: str) -> bytes:
        """The text as this file writes texts: with a byte order mark if it has one.

        Raises:
            SettingsFault: the text cannot be written as UTF-8.
        """
        try:
            return (_BOM if (self.data or b"").startswith(_BOM) else b"") + text.encode()
        except UnicodeEncodeError as error:
            raise SettingsFault("a path is not valid Unicode, and the file can hold no other", hint=_RENAME) from error


_RENAME = "Rename the folder, or make a link to it with another name."


def digest(data: bytes | None) -> str | None:
    """What tells contents apart; None for no file."""
    return None if data is None else hashlib.sha256(data).hexdigest()


def read_settings(file: Path) -> SettingsFile:
    """Read a file whole; one that is not there is empty.

    Raises:
        SettingsFault: it cannot be read, or is no text in UTF-8.
    """
    try:
        path = Path(os.path.realpath(file))
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            return SettingsFile(path, None, "")
        if not stat.S_ISREG(mode):  # a pipe would never end
            raise SettingsFault("it is not a regular file")
        if path.stat().st_size > LARGEST:
            raise SettingsFault(f"it is larger than {LARGEST >> 20} MiB")
        data = path.read_bytes()
    except OSError as error:
        raise SettingsFault(f"it cannot be read: {error.strerror}") from error
    try:
        text = data.removeprefix(_BOM).decode()
    except UnicodeDecodeError as error:
        before = data.removeprefix(_BOM)[: error.start].decode()
        line, column = place_in(before, len(before))
        raise SettingsFault("it is not UTF-8", line=line, column=column) from error
    return SettingsFile(path, data, text)


def replace(file: SettingsFile, text: str) -> bool:
    """Put the text in place of the file at once, with the same owner and mode; False if it has changed meanwhile.

    Raises:
        SettingsFault: it cannot be written; it is as it was.
    """
    data = file.encoded(text)
    try:
        if file.data is not None and not (os.access(file.path, os.W_OK) and file.path.stat().st_mode & _WRITABLE):
            raise SettingsFault("it is write-protected")  # root too leaves what nobody is to write
        descriptor, temporary = tempfile.mkstemp(dir=file.path.parent, prefix=_prefix(file.path))
        try:
            with os.fdopen(descriptor, "wb") as written:
                written.write(data)
                written.flush()
                os.fsync(written.fileno())
            _take_over_mode(file.path, Path(temporary))
            if read_settings(file.path).data != file.data:
                return False
            Path(temporary).replace(file.path)
        finally:
            Path(temporary).unlink(missing_ok=True)
        sync_directory(file.path.parent)
    except OSError as error:
        raise SettingsFault(f"it cannot be written: {error.strerror}") from error
    return True


def name_of_copy(file: SettingsFile, now: datetime) -> Path | None:
    """A free name beside the file for a copy of it; None if there is no file."""
    name = f"{file.path.name}.bak-{now:%Y%m%dT%H%M%S}"
    names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
    copies = (file.path.with_name(each) for each in names)
    return None if file.data is None else next(copy for copy in copies if not os.path.lexists(copy))


def back_up(file: SettingsFile, copy: Path | None) -> bool:
    """Copy the file as it was read, with its owner and mode; False if something is there under the name by now.

    Raises:
        SettingsFault: the copy cannot be written; there is none.
    """
    if copy is None or file.data is None:
        return True
    try:
        descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    except OSError as error:
        raise SettingsFault(f"no copy of it can be made: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as written:
            written.write(file.data)
            written.flush()
            os.fsync(written.fileno())
        _take_over_mode(file.path, copy)
    except OSError as error:
        copy.unlink(missing_ok=True)
        raise SettingsFault(f"no copy of it can be made: {error.strerror}") from error
    return True


def clear(file: Path) -> None:
    """Remove what killed processes have left of their attempts to replace the file."""
    path = Path(os.path.realpath(file))
    for left in path.parent.glob(f"{glob.escape(_prefix(path))}*"):
        left.unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    return f".{path.name}.setup-"


def missing_folders(folder: Path) -> list[Path]:
    """The folder and those above it that are not there, the outermost first."""
    return [each for each in (*reversed(folder.parents), folder) if not each.exists()]


def make_folder(folder: Path) -> None:
    """Make the folder and those above it.

    Raises:
        SettingsFault: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsFault(f"its folder cannot be made: {error.strerror}") from error


def remove_empty(folders: list[Path]) -> None:
    """Remove folders that hold nothing, the innermost, which is the last, first."""
    for folder in reversed(folders):
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError:  # something else is in it
            return


def _take_over_mode(original: Path, copy: Path) -> None:
    """Give the copy the owner and the mode of the original, as far as this user may."""
    with contextlib.suppress(FileNotFoundError):
        status = original.stat()
        with contextlib.suppress(OSError, AttributeError):  # Windows has no owners by number
            os.chown(copy, status.st_uid, status.st_gid)
        copy.chmod(stat.S_IMODE(status.st_mode))

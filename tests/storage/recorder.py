"""Records in which order SQLite writes and syncs its files: a VFS that does what the usual one does, and notes it.

See "The SQLite OS Interface or VFS", https://www.sqlite.org/vfs.html, and sqlite3.h for the layout of the structures.
"""

from __future__ import annotations

import _sqlite3  # the module that carries the library which `sqlite3` uses
import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

_POINTER = ctypes.c_void_p
_NAME = b"recorder"
_CREATE, _JOURNAL, _LOG = 0x4, 0x800, 0x80000


class Kind(Enum):
    """What was done to a file; `NAMES_SYNCED` concerns the directory, as SQLite does it after the first sync of a log
    or journal that it was ready to create. `BEGUN` and `ACKNOWLEDGED` are the caller's, with a number as offset."""

    WRITTEN = auto()
    TRUNCATED = auto()
    SYNCED = auto()
    NAMES_SYNCED = auto()
    DELETED = auto()
    BEGUN = auto()
    ACKNOWLEDGED = auto()


@dataclass(frozen=True, slots=True)
class Event:
    """One of the things done, in their order; `offset` is also the size to which a file was cut."""

    kind: Kind
    file: str = ""
    offset: int = 0
    data: bytes = b""


class _File(ctypes.Structure):
    _fields_ = (("methods", _POINTER),)


_OPEN = ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, _POINTER, ctypes.POINTER(_File), ctypes.c_int, _POINTER)
_DELETE = ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, ctypes.c_char_p, ctypes.c_int)
_WRITE = ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, _POINTER, ctypes.c_int, ctypes.c_int64)
_TRUNCATE = ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, ctypes.c_int64)
_SYNC = ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, ctypes.c_int)


class _Methods(ctypes.Structure):
    """sqlite3_io_methods, version 3."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("close", _POINTER),
        ("read", _POINTER),
        ("write", _WRITE),
        ("truncate", _TRUNCATE),
        ("sync", _SYNC),
        ("others", _POINTER * 13),
    )


class _System(ctypes.Structure):
    """sqlite3_vfs, version 3."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("file_size", ctypes.c_int),
        ("longest_path", ctypes.c_int),
        ("next", _POINTER),
        ("name", ctypes.c_char_p),
        ("data", _POINTER),
        ("open", _OPEN),
        ("delete", _DELETE),
        ("others", _POINTER * 14),
    )


def is_possible() -> bool:
    """Can the library be reached? Not where it is a part of the interpreter and hidden in it."""
    try:
        return bool(_library().sqlite3_vfs_register)
    except (AttributeError, OSError):
        return False


class Recorder:
    """Stands before every connection that this process opens from now on, as long as it lives."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._names: dict[int, str] = {}
        self._new: set[int] = set()
        self._methods: dict[int, _Methods] = {}
        self._kept: list[object] = []  # callbacks must outlive the library's use of them
        library = _library()
        library.sqlite3_vfs_find.restype = ctypes.POINTER(_System)
        library.sqlite3_vfs_find.argtypes = (ctypes.c_char_p,)
        self._original = library.sqlite3_vfs_find(None)
        self._system = _System.from_buffer_copy(self._original.contents)
        self._system.name = _NAME
        self._system.open = self._callback(_OPEN, self._open)
        self._system.delete = self._callback(_DELETE, self._delete)
        assert library.sqlite3_vfs_register(ctypes.byref(self._system), 1) == 0

    def note(self, kind: Kind, number: int) -> None:
        """Note what the caller has to say."""
        self.events.append(Event(kind, offset=number))

    def _open(self, system: int, name: int | None, file: Any, flags: int, flags_out: int | None) -> int:
        """`name` stays an address: SQLite goes on using what is there."""
        original = self._original.contents
        result: int = original.open(ctypes.addressof(original), name, file, flags, flags_out)
        if result == 0 and name is not None:
            address = ctypes.addressof(file.contents)
            self._names[address] = _last_part(ctypes.string_at(name))
            if flags & _CREATE and flags & (_LOG | _JOURNAL):
                self._new.add(address)
            file.contents.methods = ctypes.addressof(self._wrapped(file.contents.methods))
        return result

    def _delete(self, system: int, name: bytes, durably: int) -> int:
        original = self._original.contents
        result: int = original.delete(ctypes.addressof(original), name, durably)
        self.events.append(Event(Kind.DELETED, _last_part(name)))
        if durably:
            self.events.append(Event(Kind.NAMES_SYNCED))
        return result

    def _wrapped(self, address: int) -> _Methods:
        """The methods at the address, those that change a file with a note; made once, for all files of a kind."""
        wrapped = self._methods.get(address)
        if wrapped is None:
            original = _Methods.from_address(address)
            wrapped = self._methods[address] = _Methods.from_buffer_copy(original)

            def write(file: int, data: int, size: int, offset: int) -> int:
                self.events.append(Event(Kind.WRITTEN, self._names[file], offset, ctypes.string_at(data, size)))
                result: int = original.write(file, data, size, offset)
                return result

            def truncate(file: int, size: int) -> int:
                self.events.append(Event(Kind.TRUNCATED, self._names[file], size))
                result: int = original.truncate(file, size)
                return result

            def sync(file: int, flags: int) -> int:
                result: int = original.sync(file, flags)
                self.events.append(Event(Kind.SYNCED, self._names[file]))
                if file in self._new:
                    self._new.remove(file)
                    self.events.append(Event(Kind.NAMES_SYNCED))
                return result

            wrapped.write = self._callback(_WRITE, write)
            wrapped.truncate = self._callback(_TRUNCATE, truncate)
            wrapped.sync = self._callback(_SYNC, sync)
        return wrapped

    def _callback(self, kind: Any, function: Callable[..., int]) -> Any:
        self._kept.append(callback := kind(function))
        return callback


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(getattr(_sqlite3, "__file__", None))


def _last_part(name: bytes) -> str:
    return os.fsdecode(name).rpartition(os.sep)[2]

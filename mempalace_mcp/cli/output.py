"""Output for terminals: tables and passages, counts and sizes, progress bars, and Ctrl-C during long commands."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from types import FrameType, TracebackType
from typing import Self

INDENT = "   "
MORE = " …"
MAX_WIDTH = 100


def width() -> int:
    """Columns to use: those of the terminal, at most 100."""
    return min(MAX_WIDTH, shutil.get_terminal_size((MAX_WIDTH, 24)).columns)


def columns(text: str) -> int:
    """How many columns of a terminal a text takes: two for East Asian characters, none for combining marks."""
    return sum(_columns_of(character) for character in text)


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table whose columns are as wide as their widest cell. Numbers are aligned to the right."""
    cells = [list(headings), *([harmless(str(cell)) for cell in row] for row in rows)]
    widths = [max(columns(row[column]) for row in cells) for column in range(len(headings))]
    right = [bool(rows) and all(isinstance(row[column], int | float) for row in rows) for column in range(len(widths))]
    return "\n".join("  ".join(map(_padded, row, widths, right)).rstrip() for row in cells)


def passage(text: str, lines: int = 4) -> str:
    """A text in one paragraph, wrapped and indented; cut after some lines."""
    wrapped = list(_wrapped(harmless(text).split(), max(2, width() - len(INDENT) - len(MORE))))
    shown = wrapped[:lines]
    return "\n".join(f"{INDENT}{line}" for line in shown) + (MORE if len(wrapped) > lines else "")


def harmless(text: str) -> str:
    """The text with blanks for control characters, which a terminal would obey."""
    return "".join(" " if unicodedata.category(character) == "Cc" else character for character in text)


def count(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun: `1 file`, `2 files`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def size(count: int) -> str:
    """Bytes in a readable unit."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError


def duration(seconds: float) -> str:
    """Seconds in a readable unit."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _columns_of(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _padded(cell: str, size: int, to_right: bool) -> str:
    blanks = " " * (size - columns(cell))
    return blanks + cell if to_right else cell + blanks


def _wrapped(words: Sequence[str], size: int) -> Iterator[str]:
    """Lines of at most `size` columns. A word that is longer than a line is broken."""
    line = ""
    for piece in (piece for word in words for piece in _pieces(word, size)):
        if line and columns(line) + 1 + columns(piece) > size:
            yield line
            line = piece
        else:
            line = f"{line} {piece}" if line else piece
    if line:
        yield line


def _pieces(word: str, size: int) -> Iterator[str]:
    piece, taken = "", 0
    for character in word:
        taken += _columns_of(character)
        if taken > size:
            yield piece
            piece, taken = "", _columns_of(character)
        piece += character
    yield piece


BAR = 24
REDRAW_SECONDS = 0.1


class Progress:
    """A progress bar on stderr with rate and time left. Silent if stderr is no terminal."""

    def __init__(self, label: str, enabled: bool = True) -> None:
        self._label = label
        self._enabled = enabled and sys.stderr.isatty()
        self._started = time.monotonic()
        self._drawn = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._enabled and self._drawn:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def show(self, done: int, total: int | None) -> None:
        """Draw the bar for `done` of `total` items; without a total, the count alone."""
        now = time.monotonic()
        if not self._enabled or (now - self._drawn < REDRAW_SECONDS and (total is None or done < total)):
            return
        self._drawn = now
        sys.stderr.write(f"\r\033[K{self.line(done, total, now - self._started)}")
        sys.stderr.flush()

    def line(self, done: int, total: int | None, seconds: float) -> str:
        """Bar, count, rate and estimated time left."""
        rate = done / seconds if seconds > 0 else 0.0
        if total is None:
            return f"{self._label} {done:,} · {rate:,.0f}/s"
        share = min(1.0, done / total) if total else 1.0
        filled = round(BAR * share)
        left = f", {duration((total - done) / rate)} left" if rate > 0 and done < total else ""
        bar = "█" * filled + "░" * (BAR - filled)
        return f"{self._label} {bar} {done:,}/{total:,} · {rate:,.0f}/s{left}"


INTERRUPTED = 130
"""The exit code of a command that Ctrl-C has ended."""

_NOTICE = b"\nStopping after this step. Press Ctrl-C again to stop at once.\n"


class Interrupts:
    """Within the block the first Ctrl-C is raised where the command calls `check`; a second one ends the process."""

    # Python would raise `KeyboardInterrupt` anywhere, also while a lock is taken, which then is never released. Ending
    # the process is safe: commits are atomic, and locks and Chroma's process end with it.

    def __init__(self) -> None:
        self._pressed = False
        self._previous = signal.getsignal(signal.SIGINT)

    def __enter__(self) -> Self:
        if self._previous is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._previous)

    def check(self) -> None:
        """Raise if Ctrl-C was pressed.

        Raises:
            KeyboardInterrupt: it was.
        """
        if self._pressed:
            raise KeyboardInterrupt

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._pressed:
            os._exit(INTERRUPTED)
        self._pressed = True
        os.write(2, _NOTICE)

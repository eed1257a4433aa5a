"""Plain text that a person likes to read: tables, wrapped passages, sizes, durations."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

INDENT = "   "
MAX_WIDTH = 100


def width() -> int:
    """Columns to fill: those of the terminal, at most 100."""
    return min(MAX_WIDTH, shutil.get_terminal_size((MAX_WIDTH, 24)).columns)


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as their widest cell; numbers to the right."""
    cells = [list(headings), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    right = [bool(rows) and all(isinstance(row[column], int | float) for row in rows) for column in range(len(widths))]
    lines = (
        "  ".join(
            cell.rjust(size) if to_right else cell.ljust(size)
            for cell, size, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    )
    return "\n".join(lines)


def passage(text: str, lines: int = 4) -> str:
    """A text flattened, wrapped and indented; cut after some lines."""
    return textwrap.fill(
        " ".join(text.split()),
        width=width(),
        initial_indent=INDENT,
        subsequent_indent=INDENT,
        max_lines=lines,
        placeholder=" …",
    )


def size(count: int) -> str:
    """Bytes in the unit a person would use."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError


def duration(seconds: float) -> str:
    """Seconds in the unit a person would use."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"

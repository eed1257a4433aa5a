"""Write the table of figures in docs/operations.md from their declarations in the statistics of the components."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from mempalace_mcp.runtime.health import FIGURES

DESTINATION = Path(__file__).parents[1] / "docs" / "operations.md"
BEGIN, END = "<!-- made by scripts/document_figures.py -->\n", "<!-- end -->\n"


def rows() -> Iterator[str]:
    """The lines of the table."""
    yield "| `diagnostics` | `/metrics` | kind | meaning |"
    yield "|---|---|---|---|"
    for figure in FIGURES:
        metric = "" if figure.metric is None else f"`{figure.metric}`"
        label = f", by {figure.label}" if figure.label else ""
        yield f"| `{figure.key}` | {metric} | {figure.kind} | {figure.meaning.removesuffix('.')}{label} |"


def with_figures(page: str) -> str:
    """The page with the table as it has to be.

    Raises:
        ValueError: the page has no place for it.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks {BEGIN.strip()} or {END.strip()}")
    return "".join([before, begin, *(f"{row}\n" for row in rows()), end, after])


if __name__ == "__main__":
    DESTINATION.write_text(with_figures(DESTINATION.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"wrote {DESTINATION.name}\n")

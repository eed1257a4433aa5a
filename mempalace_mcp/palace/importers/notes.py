"""Notes in Markdown and plain text.

A short file is one document; a long one is several, which together hold all its text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.model import Metadata
from mempalace_mcp.palace.chunking import fenced_blocks
from mempalace_mcp.palace.importers.cutting import cut, fits
from mempalace_mcp.palace.importers.documents import Document, Problem, SkippedFile, Source
from mempalace_mcp.palace.importers.files import Text, read_text
from mempalace_mcp.palace.importers.non_notes import PRIVATE_KEY, is_private_key
from mempalace_mcp.palace.importers.note_dates import date_note
from mempalace_mcp.palace.privacy import shown, without_secrets

LONGEST_DOCUMENT = 16_000
"""Characters of one document, those of blobs not counted; a longer file is several."""

_LONGEST_HEADING = 120
_HEADING = re.compile(r"^ {0,3}(#{1,2})[ \t]+([^\n]*)", re.MULTILINE)


def read_plain_text(source: Source) -> Iterator[Document | Problem]:
    """One document, or parts cut at paragraphs, with the date that the note says it has."""
    text = _read(source)
    if isinstance(text, SkippedFile):
        yield text
    else:
        yield from _dated(source, text, [("", text.content)])


def read_markdown(source: Source) -> Iterator[Document | Problem]:
    """One document, or one for each section under a heading of the first or second level; sections that are too long
    are cut at paragraphs. All have the date that the note says it has."""
    text = _read(source)
    if isinstance(text, SkippedFile):
        yield text
    else:
        yield from _dated(source, text, _sections(text.content))


def _read(source: Source) -> Text | SkippedFile:
    """The text of a note. Private keys are none, also when they are given by name."""
    text = read_text(source)
    return source.skipped(PRIVATE_KEY) if isinstance(text, Text) and is_private_key(text.content) else text


def _dated(source: Source, text: Text, sections: list[tuple[str, str]]) -> Iterator[Document | Problem]:
    dating = date_note(text.content, source.name, source.zone)
    yield from dating.problems
    yield from _documents(source, text, sections, dating.instant)


def _documents(
    source: Source, text: Text, sections: list[tuple[str, str]], occurred_at: Instant | None
) -> Iterator[Document]:
    common = {} if text.encoding == "utf-8" else {"encoding": text.encoding}
    is_whole = fits(text.content, LONGEST_DOCUMENT)
    withheld = source.withheld(text.content)
    numbers: Counter[str] = Counter()
    start = stop = 0
    for heading, section in [("", text.content)] if is_whole else sections:
        for part in [section] if is_whole else cut(section, LONGEST_DOCUMENT):
            start, stop = stop, stop + len(part)
            if not part.strip():
                continue
            numbers[heading] += 1
            key = "" if is_whole else f"{heading}#{numbers[heading]}"
            filed = shown(text.content, withheld, start, stop)
            if filed.text.strip():
                metadata = common if is_whole else {**common, **_name_of_part(heading, numbers[heading])}
                original = None if filed.text == part else part
                yield Document(
                    key,
                    source.room,
                    filed.text,
                    source.name,
                    occurred_at,
                    metadata,
                    secrets=filed.secrets,
                    original=original,
                )


def _name_of_part(heading: str, number: int) -> Metadata:
    said = without_secrets(heading)
    return {"part": f"{said}#{number}"} | ({"heading": said} if said else {})


def _sections(content: str) -> list[tuple[str, str]]:
    """Heading paths such as `Runbook > Rollback` and the texts under them; what is before a heading has none."""
    sections: list[tuple[str, str]] = []
    chapter = heading = ""
    start = 0
    for match in _headings(content):
        if _says_something(content[start : match.start()]):
            sections.append((heading, content[start : match.start()]))
            start = match.start()
        title = match.group(2).strip().rstrip("#").rstrip()[:_LONGEST_HEADING]
        chapter, heading = (title, title) if match.group(1) == "#" else (chapter, _joined(chapter, title))
    sections.append((heading, content[start:]))
    return sections


def _headings(content: str) -> Iterator[re.Match[str]]:
    """Those of the first two levels, except in blocks of code, where they are comments."""
    blocks = fenced_blocks(content)
    block = next(blocks, None)
    for match in _HEADING.finditer(content):
        while block is not None and block.stop <= match.start():
            block = next(blocks, None)
        if block is None or match.start() < block.start:
            yield match


def _says_something(section: str) -> bool:
    """Is there more than a heading? A heading alone is better kept with what follows it."""
    return "\n" in section.strip()


def _joined(chapter: str, title: str) -> str:
    return f"{chapter} > {title}" if chapter else title

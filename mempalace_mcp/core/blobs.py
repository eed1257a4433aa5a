"""Which parts of a text are encoded bytes: pictures in base64, keys, hexadecimal dumps. Pure.

Nobody looks for the characters of such a blob, and the embedding model cannot read them. A blob is kept with the text
around it, but it is neither indexed nor embedded, and it does not count when a long text is cut.

Only runs of more than `BOUND` characters are blobs, so hashes, UUIDs, tokens and addresses stay words. A run is:
- base64 or hexadecimal digits without a gap;
- the same over several lines of one width, as PEM, MIME and JSON with `\\n` write it;
- what follows the comma of a `data:` address;
- the coordinates of a path in an SVG picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from mempalace_mcp.core.model import Span

BOUND = 256
"""A run of so many characters may still be a word."""

_DIGIT = "A-Za-z0-9+/_-"
_SHORTEST_LINE = 60
_RUN = re.compile(rf"(?<![{_DIGIT}])[{_DIGIT}]{{{_SHORTEST_LINE},}}+={{0,2}}", re.ASCII)
_HALF_A_LINE = re.compile(rf"[{_DIGIT}]{{{_SHORTEST_LINE // 2}}}", re.ASCII)
_GAP = re.compile(r"[ \t]{0,4}(?:\r?\n[ \t>]{0,24}){1,2}|(?:\\r)?\\n")
_LAST_LINE = re.compile(rf"(?:{_GAP.pattern})[{_DIGIT}]{{1,{BOUND}}}+={{0,2}}(?![={_DIGIT}])", re.ASCII)
_CLOSERS = "\"'>)]"
_MOST_CLOSERS = 3

_DATA = re.compile(r"data:[^\s,;\"'<>]{0,64}+(?:;[^\s,;\"'<>]{0,64}+){0,4}+,([!#-&*-;=?-Z\\^_a-z~]{257,}+)", re.ASCII)
_SVG_ELEMENTS = ("<path", "<poly")
_SVG_PATH = re.compile(r"(?:\bd|\bpoints)=[\"']([MmLlHhVvCcSsQqTtAaZzEe\d\s,.+-]{257,}+)", re.ASCII)

_WIDTHS = frozenset({60, 64, 68, 70, *range(72, 81), 96, 100, 120, 128, 256})
"""At which programs break the lines of base64. Lists of keys and digests have other widths, hexadecimal ones aside."""

_FEWEST_LINES = 3
_JUDGED = 4096  # characters of a run: so many tell what it is
_LETTERS_OF_ONE_CASE = re.compile("[a-z]{4,}|[A-Z]{4,}")
_FEWEST_BASE64_DIGITS = 32
_FEWEST_HEX_DIGITS = 12


def find_blobs(text: str) -> list[Span]:
    """The blobs of a text in order, each with the brackets and quotation marks that close it. Takes linear time."""
    if len(text) <= BOUND:
        return []
    found: list[Span] = []
    if any(element in text for element in _SVG_ELEMENTS):
        found += _inner(_SVG_PATH, text)
    if "data:" in text:
        found += _inner(_DATA, text)
    if any(_HALF_A_LINE.match(text, place) for place in range(0, len(text), _SHORTEST_LINE // 2)):
        found += _long_runs(text)  # each run holds one of these places and the half line behind it
    return list(_joined(text, sorted(found, key=lambda span: span.start))) if found else []


def outside(blobs: Iterable[Span], start: int, stop: int) -> Iterator[Span]:
    """The parts between two positions that belong to none of the blobs."""
    for blob in blobs:
        if start < blob.start:
            yield Span(start, min(blob.start, stop))
        start = max(start, blob.stop)
        if start >= stop:
            return
    if start < stop:
        yield Span(start, stop)


def readable_length(text: str) -> int:
    """How many characters of a text belong to no blob."""
    return len(text) - sum(blob.stop - blob.start for blob in find_blobs(text))


def _long_runs(text: str) -> Iterator[Span]:
    """Runs that are blobs by themselves, and groups of lines that are together."""
    runs = [_without_escape(text, match.span()) for match in _RUN.finditer(text)]
    yield from (run for run in runs if run.stop - run.start > BOUND and _is_encoded(text[run.start : run.stop]))
    lines: list[Span] = []
    for before, run in pairwise([*runs, Span(len(text), len(text))]):
        lines.append(before)
        width = lines[0].stop - lines[0].start
        ends = run.stop - run.start != width or text[before.stop - 1] == "="
        if ends or not _GAP.fullmatch(text, before.stop, min(run.start, before.stop + 64)):
            yield from _block(text, lines, width)
            lines = []


def _without_escape(text: str, span: tuple[int, int]) -> Span:
    r"""The run without the letter of an escaped `\n` before it."""
    start, stop = span
    escaped = start > 0 and text[start - 1] == "\\" and text[start] in "nrt"
    return Span(start + escaped, stop)


def _block(text: str, lines: Sequence[Span], width: int) -> Iterator[Span]:
    """The lines and the shorter one behind them, if they are enough and of a width at which programs break lines."""
    last = _LAST_LINE.match(text, lines[-1].stop)
    stop = last.end() if last and last.end() - lines[-1].stop < width + 64 else lines[-1].stop
    if len(lines) < _FEWEST_LINES or stop - lines[0].start <= BOUND or width not in _WIDTHS:
        return
    joined = "".join(text[line.start : line.stop] for line in lines[: _JUDGED // width])
    if _is_base64(joined):
        yield Span(lines[0].start, stop)


def _is_encoded(run: str) -> bool:
    judged = run[:_JUDGED].rstrip("=")
    return _is_base64(judged) or _is_of_one_case(judged)


def _is_base64(judged: str) -> bool:
    """Are most characters in no word? Paths, slugs and repeated letters are words, or of few different characters."""
    words = sum(map(len, _LETTERS_OF_ONE_CASE.findall(judged)))
    return 2 * words < len(judged) and len(set(judged)) >= _FEWEST_BASE64_DIGITS


def _is_of_one_case(judged: str) -> bool:
    """Is it hexadecimal or base32: letters of one case with many digits among them, and nothing else?"""
    digits = sum(map(judged.count, "0123456789"))
    return (
        judged.isalnum()
        and (judged.islower() or judged.isupper())
        and 10 * digits >= len(judged)
        and len(set(judged)) >= _FEWEST_HEX_DIGITS
    )


def _inner(pattern: re.Pattern[str], text: str) -> Iterator[Span]:
    return (Span(*match.span(1)) for match in pattern.finditer(text))


def _joined(text: str, spans: Iterable[Span]) -> Iterator[Span]:
    """Blobs that touch or overlap as one, with what closes them."""
    start = stop = -1
    for span in spans:
        if span.start > stop:
            if stop >= 0:
                yield Span(start, stop)
            start = span.start
        behind = text[span.stop : span.stop + _MOST_CLOSERS]
        stop = max(stop, span.stop + len(behind) - len(behind.lstrip(_CLOSERS)))
    yield Span(start, stop)

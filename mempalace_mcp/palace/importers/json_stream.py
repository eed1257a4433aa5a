"""Large JSON documents: the elements of an array, one after the other, without the whole file in memory."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from mempalace_mcp.palace.importers.files import MEBIBYTE

LARGEST_ELEMENT = 256 * MEBIBYTE
DAMAGED = "JSON that is damaged or cut off"
_CHUNK = MEBIBYTE
_SPACE = " \t\r\n"


def read_elements(file: BinaryIO, largest: int = LARGEST_ELEMENT) -> Iterator[Any]:
    """The elements of the array that a file in UTF-8 holds; of a file that holds a single object, that object.

    Memory is taken for about two elements. What is not UTF-8 becomes U+FFFD. After the elements, a ValueError says that
    the file is cut off or damaged, or an element longer than `largest` characters.

    Raises:
        ValueError: as above; all elements before that place have been yielded.
        OSError: the file cannot be read on.
    """
    buffer = _Buffer(file)
    opening = buffer.peek()
    if opening != "[":
        if opening:
            yield buffer.element(largest)
        return
    buffer.take()
    while (following := buffer.peek()) != "]":
        if following == ",":
            buffer.take()
            continue
        yield buffer.element(largest)
        if buffer.peek() not in (",", "]"):
            raise ValueError(DAMAGED)


class _Buffer:
    """The part of the file that is read but not taken yet."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._parser = json.JSONDecoder(strict=False)
        self._text = ""
        self._place = 0
        self._ended = False

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            while self._place < len(self._text):
                if self._text[self._place] not in _SPACE:
                    return self._text[self._place]
                self._place += 1
            if not self._grow(_CHUNK):
                return ""

    def take(self) -> None:
        """Pass the next character."""
        self._place += 1

    def element(self, largest: int) -> Any:
        """Take one whole element."""
        while True:
            try:
                value, stop = self._parser.raw_decode(self._text, self._place)
            except RecursionError:
                raise ValueError(DAMAGED) from None
            except ValueError:
                value, stop = None, len(self._text)
            if stop < len(self._text) or (self._ended and value is not None):  # a number may go on behind the end
                self._place = stop
                return value
            length = len(self._text) - self._place
            # as much again: so an element is parsed a few times, however long it is
            if length > largest or not self._grow(max(_CHUNK, length)):
                raise ValueError(DAMAGED)

    def _grow(self, characters: int) -> bool:
        """Read on and forget what was taken; False at the end of the file."""
        if self._ended:
            return False
        data = self._file.read(characters)
        self._ended = not data
        self._text = self._text[self._place :] + self._decoder.decode(data, final=self._ended)
        self._place = 0
        return True

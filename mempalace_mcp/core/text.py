"""What text may enter the palace: verbatim content, names, and the keys by which they are compared."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from mempalace_mcp.core.errors import InvalidArgument

MAX_CONTENT_BYTES = 1024 * 1024
MAX_QUERY_BYTES = 64 * 1024
MAX_NAME_CHARACTERS = 128
MAX_NAME_BYTES = 3 * 4 * MAX_NAME_CHARACTERS
"""Of a name as it arrives: decomposed, a character takes up to three times its bytes (UAX #15, section 9)."""

_WHITE_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Name:
    """A name as it is shown and the key by which it is compared."""

    shown: str
    key: str


def verify_text(text: str, argument: str, max_bytes: int = MAX_CONTENT_BYTES) -> str:
    """Return the text as it is if it can be stored byte for byte.

    Raises:
        InvalidArgument: it is too long, or holds NUL or a lone surrogate.
    """
    if len(text) > max_bytes:
        raise _too_long(argument, len(text), max_bytes)
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise InvalidArgument(
            f"{argument} holds a lone surrogate at position {error.start}, which no UTF-8 text can hold",
            argument=argument,
            hint="Send well-formed Unicode; nothing was stored.",
        ) from None
    if size > max_bytes:
        raise _too_long(argument, size, max_bytes)
    if "\0" in text:
        raise InvalidArgument(
            f"{argument} holds a NUL character at position {text.index(chr(0))}",
            argument=argument,
            hint="Remove NUL characters; nothing was stored.",
        )
    return text


def verify_content(text: str, argument: str = "content") -> str:
    """Like `verify_text`, and there must be something to read.

    Raises:
        InvalidArgument: it is empty, only white space, too long, or cannot be stored.
    """
    verify_text(text, argument)
    if not text.strip():
        raise InvalidArgument(f"{argument} is empty", argument=argument, hint="Give the text to keep, verbatim.")
    return text


def read_name(text: str, argument: str) -> Name:
    """A wing, room or agent: NFC, trimmed, 1 to 128 characters, no control characters, compared without case.

    Raises:
        InvalidArgument: it breaks one of these rules.
    """
    verify_text(text, argument, MAX_NAME_BYTES)
    shown = unicodedata.normalize("NFC", text).strip()
    if not shown or len(shown) > MAX_NAME_CHARACTERS:
        raise InvalidArgument(
            f"{argument} must have 1 to {MAX_NAME_CHARACTERS} characters, not {len(shown)}",
            argument=argument,
            hint="Use a short name such as a project, a person or a topic.",
        )
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in shown):
        raise InvalidArgument(
            f"{argument} holds a control character",
            argument=argument,
            hint="Use letters, digits, punctuation and spaces.",
        )
    return Name(shown, name_key(shown))


def read_entity(text: str, argument: str) -> Name:
    """An entity or predicate of the knowledge graph: a name whose white space is collapsed for comparing.

    Raises:
        InvalidArgument: it breaks a rule of names.
    """
    return read_name(_WHITE_SPACE.sub(" ", text), argument)


def name_key(name: str) -> str:
    """The key of a name: NFC of its case-folded form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def normalize(text: str) -> str:
    """The form by which near duplicates are found: NFC, case-folded, white space collapsed."""
    return _WHITE_SPACE.sub(" ", unicodedata.normalize("NFC", text).casefold()).strip()


def excerpt(text: str, characters: int = 80) -> str:
    """The beginning of a text, for a message that must not grow with its cause."""
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def _too_long(argument: str, size: int, max_bytes: int) -> InvalidArgument:
    return InvalidArgument(
        f"{argument} is {size:,} bytes long; the limit is {max_bytes:,}",
        argument=argument,
        hint="Split it into several parts, or shorten it; nothing was stored.",
    )

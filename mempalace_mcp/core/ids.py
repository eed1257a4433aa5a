"""Opaque identifiers that sort by the time they were made."""

from __future__ import annotations

import re
import secrets

from mempalace_mcp.core.clock import Instant

DRAWER = "d"
FACT = "f"
TUNNEL = "t"

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_DIGITS = 11
_RANDOM_DIGITS = 13
_SHAPE = re.compile(r"[a-z]_[0-9a-hjkmnp-tv-z]{24}")


def new_id(kind: str, instant: Instant) -> str:
    """A fresh identifier: kind, then 11 base-32 digits of microseconds, then 65 random bits."""
    return f"{kind}_{_digits(max(0, instant), _TIME_DIGITS)}{_digits(secrets.randbits(65), _RANDOM_DIGITS)}"


def is_id(kind: str, text: str) -> bool:
    """Could the text be an identifier of that kind?"""
    return text[:2] == f"{kind}_" and bool(_SHAPE.fullmatch(text))


def _digits(number: int, count: int) -> str:
    digits = []
    for _ in range(count):
        digits.append(_ALPHABET[number & 31])
        number >>= 5
    return "".join(reversed(digits))

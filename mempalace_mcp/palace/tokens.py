"""How many tokens a text costs the model that reads it, roughly."""

from __future__ import annotations

CHARACTERS_PER_TOKEN = 4
"""The usual rule of thumb for English text; other scripts cost more."""


def estimate_tokens(written: str) -> int:
    """Tokens of a text, rounded up."""
    return -(-len(written) // CHARACTERS_PER_TOKEN)

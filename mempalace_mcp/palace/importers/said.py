"""Turns of conversations whose messages have no ids, or others in each file: they are known by what they say."""

from __future__ import annotations

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.model import Metadata
from mempalace_mcp.palace.importers.conversations import Identities, Speaker, Turn
from mempalace_mcp.palace.importers.typed_text import typed_text


class Named:
    """Makes the turns of a conversation, whose messages are known by what they say."""

    def __init__(self) -> None:
        self._identities = Identities()

    def turn(
        self, speaker: Speaker, text: str, time: Instant | None = None, metadata: Metadata | None = None
    ) -> Turn | None:
        """The turn, None if there is nothing in it."""
        said = typed_text(text) if speaker is Speaker.USER else text.strip()
        if not said:
            return None
        name = self._identities.name_by_content(speaker, "", said)
        return Turn(speaker, text, time, message_id=name, metadata=metadata or {})

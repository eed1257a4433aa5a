"""What a caller may do: found out once, at the door, and carried with the request to whatever it reaches."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Access:
    """`name` is that of the caller's token; it is empty where the door itself is the protection.

    Without `writes` nothing may be changed. `wings`, by key and sorted, are the only ones it may see or change, and
    what belongs to no wing, such as facts, is then out of reach; None means everything.
    """

    name: str = ""
    writes: bool = True
    wings: tuple[str, ...] | None = None

    @property
    def is_full(self) -> bool:
        """True when nothing is withheld."""
        return self.writes and self.wings is None


FULL = Access()
"""Of this user's own sessions, and of everybody where no tokens are asked for."""

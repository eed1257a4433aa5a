"""The mark of a copy that is not finished: a number that is too high for a schema.

Every version of the program looks at the number of the schema before it reads or writes, and refuses one beyond its
own. So nothing else has to know of copies.
"""

from __future__ import annotations

from mempalace_mcp.core.errors import SchemaTooNew, StorageError

_UNFINISHED = 1_000_000


def marked(version: int) -> int:
    """The number that stands for an unfinished copy with that schema."""
    return _UNFINISHED + version


def is_marked(version: int) -> bool:
    """Is it the number of an unfinished copy?"""
    return version >= _UNFINISHED


def verify_version(version: int, newest: int, hint: str) -> None:
    """Return if this version of the program can use a palace with that schema.

    Raises:
        StorageError: it is a copy that is not finished.
        SchemaTooNew: a newer version has written it; `hint` says what to do then.
    """
    if is_marked(version):
        raise StorageError(
            "this is a copy of a palace that is not finished yet",
            hint="Run `mempalace-mcp move SOURCE TARGET` as before: it goes on where it stopped.",
        )
    if version > newest:
        raise SchemaTooNew(f"the palace has schema {version}; this version of the program knows {newest}", hint=hint)

"""The tables of a palace: columns, key and order of each, the same in every database.

What a database keeps for itself, such as its tables of words, is named here too, with the reason why no other one needs
it. `tests/storage/test_tables.py` compares this with the schemas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the palace. Rows are read in the order of the key, which is ascending.

    `counted` are columns that each database reckons by itself. With `numbered` it gives the key, and no number twice.
    `vector` is the column with an embedding: it is written as the database's dialect has it.
    """

    name: str
    key: tuple[str, ...]
    others: tuple[str, ...]
    counted: tuple[str, ...] = ()
    numbered: bool = False
    vector: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """All that is to be copied, the key first."""
        return self.key + self.others


STATE = Table("state", ("id",), ("palace_id", "created_at", "seq", "recorded_at", "moves"))
CHUNKS = Table("chunks", ("id",), ("drawer", "ordinal", "start", "stop"), numbered=True)
_EMBEDDED = ("chunk", "embedding")
_MODEL = ("name", "quantization", "dimension")

TABLES: tuple[Table, ...] = (
    STATE,
    Table("model", ("id",), _MODEL),
    Table("wings", ("id",), ("key", "name"), numbered=True),
    Table("rooms", ("id",), ("wing", "key", "name"), counted=("drawers",), numbered=True),
    Table(
        "tunnels",
        ("id",),
        ("tunnel_id", "source", "target", "label", "source_drawer_id", "target_drawer_id", "created_at"),
        numbered=True,
    ),
    Table(
        "drawers",
        ("id",),
        (
            "drawer_id",
            "wing",
            "room",
            "occurred_at",
            "created_at",
            "updated_at",
            "deleted_at",
            "version",
            "seq",
            "content_hash",
            "normalized_hash",
            "source_file",
            "added_by",
            "metadata",
            "content",
            "superseded_by",
        ),
        counted=("when_at",),
        numbered=True,
    ),
    Table(
        "versions",
        ("drawer", "version"),
        ("wing", "room", "occurred_at", "replaced_at", "source_file", "metadata", "content", "superseded_by"),
    ),
    CHUNKS,
    Table("pending", ("chunk",), ("bulk",)),
    Table("vectors", ("position",), _EMBEDDED, numbered=True, vector="embedding"),
    Table("other_model", ("id",), (*_MODEL, "wanted")),
    Table("other_vectors", ("position",), _EMBEDDED, numbered=True, vector="embedding"),
    Table("token_vectors", ("chunk",), ("packed",)),
    Table("token_backlog", ("id",), ("last",)),
    Table("diary", ("drawer",), ("agent", "name", "topic", "title")),
    Table("receipts", ("scope", "key"), ("digest", "answer", "recorded_at")),
    Table("entities", ("id",), ("key", "name"), numbered=True),
    Table("predicates", ("id",), ("key", "name"), numbered=True),
    Table(
        "facts",
        ("id",),
        (
            "fact_id",
            "subject",
            "predicate",
            "object",
            "object_entity",
            "valid_from",
            "valid_to",
            "recorded_at",
            "retracted_at",
            "confidence",
            "source_drawer_id",
        ),
        counted=("since", "until"),
        numbered=True,
    ),
    Table("import_files", ("id",), ("path", "state", "drawers"), numbered=True),
    Table("imported", ("drawer",), ("file", "digest")),
    Table("said", ("key",), ("drawer", "digest")),
    Table("parts", ("file", "part"), ("drawer", "digest", "gone")),
    Table("unidentified", ("drawer",), ("occurred_at",)),
    Table("access_tokens", ("id",), ("name", "digest", "scope", "wings"), numbered=True),
    Table("foreign_ids", ("id", "source"), ("drawer", "digest")),
)
"""Each stands behind those that it refers to."""

OF_ONE_DATABASE: Mapping[str, str] = MappingProxyType(
    {
        "passages": "words, made out of the drawers",
        "passage_tokens": "words, made out of the drawers",
        "passage_words": "a view of the index of words",
        "lexicon": "totals of the words",
        "words": "words, made out of the drawers",
        "loose_words": "words that the next purge looks at",
        "commits": "whether a server's last writes were done",
        "leases": "which server does what now",
        "pending.claimed_until": "which server embeds a passage now",
        "schema_steps": "the version of the schema",
    }
)
"""Tables and columns that no other database needs, and what they hold."""

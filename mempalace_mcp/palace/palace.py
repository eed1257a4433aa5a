"""The facade every door and the command line use: synchronous, thread-safe, typed values in and out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mempalace_mcp.core.deadline import Deadline
from mempalace_mcp.core.model import (
    CheckpointReport,
    Deletion,
    DiaryEntry,
    Direction,
    Drawer,
    DuplicateReport,
    Fact,
    FactAdded,
    Filed,
    Found,
    GraphAnswer,
    GraphStatistics,
    Page,
    Restoration,
    SearchMode,
    SearchResult,
    Taxonomy,
    WakeUp,
)


class Palace:
    """One palace. Every method raises a `PalaceError` for what it refuses, and then nothing was changed.

    Texts arrive as the caller gave them (dates as ISO 8601, names as written) and are verified here. An optional text
    that is empty means absent. `deadline` limits all waiting of a write.
    """

    def search(
        self,
        query: str,
        *,
        wing: str | None = None,
        room: str | None = None,
        source_file: str | None = None,
        since: str | None = None,
        before: str | None = None,
        limit: int = 5,
        mode: SearchMode = SearchMode.HYBRID,
        max_tokens: int | None = None,
    ) -> SearchResult:
        raise NotImplementedError

    def add_drawer(
        self,
        wing: str,
        room: str,
        content: str,
        *,
        source_file: str | None = None,
        added_by: str | None = None,
        occurred_at: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        deadline: Deadline | None = None,
    ) -> Filed:
        raise NotImplementedError

    def get_drawers(self, drawer_ids: Sequence[str]) -> Found:
        raise NotImplementedError

    def list_drawers(
        self,
        *,
        wing: str | None = None,
        room: str | None = None,
        source_file: str | None = None,
        since: str | None = None,
        before: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page[Drawer]:
        raise NotImplementedError

    def update_drawer(
        self,
        drawer_id: str,
        *,
        content: str | None = None,
        wing: str | None = None,
        room: str | None = None,
        source_file: str | None = None,
        occurred_at: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        deadline: Deadline | None = None,
    ) -> Drawer:
        raise NotImplementedError

    def delete_drawers(
        self,
        *,
        drawer_ids: Sequence[str] | None = None,
        wing: str | None = None,
        room: str | None = None,
        source_file: str | None = None,
        since: str | None = None,
        before: str | None = None,
        dry_run: bool | None = None,
        deadline: Deadline | None = None,
    ) -> Deletion:
        """By ids (done at once unless `dry_run`), or by filters (a dry run unless `dry_run` is False); never both."""
        raise NotImplementedError

    def restore_drawers(self, drawer_ids: Sequence[str], *, deadline: Deadline | None = None) -> Restoration:
        raise NotImplementedError

    def check_duplicate(
        self, content: str, *, threshold: float = 0.9, wing: str | None = None, room: str | None = None
    ) -> DuplicateReport:
        raise NotImplementedError

    def checkpoint(
        self,
        items: Sequence[Mapping[str, Any]],
        *,
        facts: Sequence[Mapping[str, Any]] = (),
        diary: Mapping[str, Any] | None = None,
        added_by: str | None = None,
        deadline: Deadline | None = None,
    ) -> CheckpointReport:
        """All of it in one transaction. Items hold the arguments of `add_drawer`, facts those of `kg_add`, diary those
        of `diary_write`; an error names its argument as `items[2].content`."""
        raise NotImplementedError

    def kg_add(
        self,
        subject: str,
        predicate: str,
        object: str,
        *,
        valid_from: str | None = None,
        valid_to: str | None = None,
        confidence: float | None = None,
        source_drawer_id: str | None = None,
        deadline: Deadline | None = None,
    ) -> FactAdded:
        raise NotImplementedError

    def kg_query(
        self,
        entity: str,
        *,
        as_of: str | None = None,
        known_at: str | None = None,
        direction: Direction = Direction.BOTH,
        depth: int = 1,
        limit: int = 100,
    ) -> GraphAnswer:
        raise NotImplementedError

    def kg_invalidate(
        self,
        subject: str,
        predicate: str,
        object: str,
        *,
        ended: str | None = None,
        deadline: Deadline | None = None,
    ) -> Fact:
        raise NotImplementedError

    def kg_supersede(
        self,
        subject: str,
        predicate: str,
        old_object: str,
        new_object: str,
        *,
        at: str | None = None,
        confidence: float | None = None,
        source_drawer_id: str | None = None,
        deadline: Deadline | None = None,
    ) -> tuple[Fact, Fact]:
        """The fact that ended, and the one that follows it."""
        raise NotImplementedError

    def kg_timeline(
        self, *, entity: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> tuple[Page[Fact], str | None]:
        """Facts by `valid_from`, and the entity as resolved."""
        raise NotImplementedError

    def kg_stats(self) -> GraphStatistics:
        raise NotImplementedError

    def diary_write(
        self,
        agent_name: str,
        entry: str,
        *,
        topic: str = "general",
        wing: str | None = None,
        deadline: Deadline | None = None,
    ) -> DiaryEntry:
        raise NotImplementedError

    def diary_read(
        self, agent_name: str, *, last_n: int = 10, topic: str | None = None, cursor: str | None = None
    ) -> Page[DiaryEntry]:
        raise NotImplementedError

    def get_taxonomy(self, *, wing: str | None = None) -> Taxonomy:
        raise NotImplementedError

    def wake_up(self, *, wing: str | None = None, agent_name: str | None = None, max_tokens: int = 600) -> WakeUp:
        raise NotImplementedError

"""A set of integers on disk is a set, and leaves nothing behind."""

from __future__ import annotations

from contextlib import closing

from mempalace_mcp.core.disk_set import DiskSet


def test_it_holds_what_was_added() -> None:
    with closing(DiskSet()) as members:
        members.update([1, 2, 2, -(2**63), 2**63 - 1])
        members.update(value for value in (2, 3))
        assert all(value in members for value in (1, 2, 3, -(2**63), 2**63 - 1))
        assert 4 not in members


def test_each_set_has_members_of_its_own() -> None:
    with closing(DiskSet()) as one, closing(DiskSet()) as other:
        one.update([1])
        assert 1 not in other

"""The stores that the tests of a palace run on."""

from __future__ import annotations

from tests.stores import each_store, postgres

__all__ = ["each_store", "postgres"]

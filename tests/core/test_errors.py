"""The error tree."""

from __future__ import annotations

import pytest

from mempalace_mcp.core import errors
from mempalace_mcp.core.errors import PalaceError

ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PalaceError)]


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_has_one_shape_and_stands_in_the_tree(kind: type[PalaceError]) -> None:
    shape = kind("what is wrong", argument="wing", hint="what to do").as_dict()
    assert {"code", "message", "argument", "hint", "retryable"} <= shape.keys()
    assert errors.__doc__ is not None
    assert kind.__name__ in errors.__doc__


def test_codes_are_distinct() -> None:
    codes = [kind.code for kind in ERRORS]
    assert len(codes) == len(set(codes))

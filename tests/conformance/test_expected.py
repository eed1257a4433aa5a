"""What the script says of the official suite's findings, and what the page says of them."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.conformance import PAGE, Expectations, judge, reasons


def check(identifier: str, status: str) -> dict[str, Any]:
    return {"id": identifier, "status": status}


CHECKS = [check("a", "SUCCESS"), check("b", "FAILURE"), check("c", "WARNING")]


@pytest.mark.parametrize(
    ("expected", "words", "surprises"),
    [
        (set(), "1 passed, 1 **failed**", ["s:b fails"]),
        ({"s"}, "1 passed, 1 expected", []),
        ({"s:b", "other", "other:a"}, "1 passed, 1 expected", []),
        ({"s:a", "s:b"}, "1 passed, 1 expected", ["s:a does not fail any more"]),
    ],
)
def test_every_failure_must_be_expected_and_every_expected_one_must_happen(
    expected: set[str], words: str, surprises: list[str]
) -> None:
    verdict = judge("s", CHECKS, expected)
    assert (verdict.words, verdict.surprises) == (words, surprises)


def test_a_scenario_that_does_not_fail_any_more_is_a_surprise() -> None:
    assert judge("s", CHECKS[:1], {"s"}).surprises == ["s does not fail any more"]
    assert judge("s", CHECKS[2:], set()).words == "not applicable"


def test_the_page_gives_the_reason_of_every_expected_failure() -> None:
    page = PAGE.read_text(encoding="utf-8")
    expectations = Expectations.read()
    for reason in reasons(expectations):
        assert reason in page, "run python -m scripts.conformance --page"
    for scenario in expectations.for_fixtures:
        assert f"| `{scenario}` |" in page

"""Other spellings of words and numbers."""

from __future__ import annotations

import pytest

from mempalace_mcp.storage.query_terms import read_query, searchable
from mempalace_mcp.storage.word_forms import codes, hashes, spellings


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("+44 (20) 7946-0958", "442079460958"),
        ("06.39.98.11.42", "0639981142"),
        ("(212) 555-0187", "2125550187"),
        ("978-0-306-40615-7", "9780306406157"),
        ("4000 1234 5678 9010", "4000123456789010"),
        ("00:1B:63:84:45:E6", "001b638445e6"),
        ("00-1b-63-84-45-e6", "001b638445e6"),
        ("00:11:63:84:45:76", "001163844576"),
        ("001b.6384.45e6", "001b638445e6"),
        ("123e4567-e89b-12d3-a456-426614174000", "123e4567e89b12d3a456426614174000"),
        ("NL91 ABNA 0417 1643 00", "nl91abna0417164300"),
        ("1,250,000", "1250000"),
        ("12'500", "12500"),
        ("12.500,75", "12500"),
        ("3.012.500,75", "3012500"),
        ("QUAY-2207", "quay2207"),
        ("utf-8", "utf8"),
        ("МАЯК-12", "маяк12"),
        ("CVE-2031-20071", "cve203120071"),
    ],
)
def test_a_code_in_groups_is_known_in_one_piece(written: str, code: str) -> None:
    for text in (written, f"see {written}, please", f"({written}) or {written} again."):
        assert code in codes(text)
        assert code in searchable(text).split()
        assert code in {term.text for term in read_query(text) if term.exact}


def test_the_hash_in_a_description_of_a_commit_is_a_hash() -> None:
    assert list(hashes("v2.4-17-g9f86d08, or G9F86D081884C")) == ["9f86d08", "9f86d081884c"]
    assert list(hashes("gabcdef1x g9f86d gaffaaffe bag9f86d081 ga")) == []


@pytest.mark.parametrize(
    "text",
    [
        *("2031-11-30", "30.11.2031", "2031/11/30 at the quay", "12:30:45", "3.11.4", "a-b-c", "well-known", "10-12"),
        *("1.5", "3, 4, 5", "1,25", "1,2345", "page 12 of 300", "keeper-log", "a.b.c.d", "v1.2.3", "de-ad-be-ef-fa-ce"),
        *("2031-11-30T10:00:00", "1 " * 40, "9" * 500, "1-" * 500, ":" * 500, "(" * 500),
    ],
)
def test_dates_measures_and_words_are_no_codes(text: str) -> None:
    assert list(codes(text)) == []


@pytest.mark.parametrize(
    ("written", "other"),
    [
        ("e-mail", "email"),
        ("Wi‑Fi", "wifi"),
        ("Ro-Ro-Fähre", "rorofahre"),
        ("O'Malley", "omalley"),
        ("O’Malley", "omalley"),
        ("Hawaiʻi", "hawaii"),
        ("Toʻlqin", "tolqin"),
        ("Möwe", "moewe"),
        ("Mo\u0308we", "moewe"),
        ("Ärger", "aerger"),
        ("Ålesund", "aalesund"),
        ("Smørrebrød", "smoerrebroed"),
        ("Đorđe", "djordje"),
        ("צה״ל", "צהל"),
        ('צה"ל', "צהל"),
        ("خانه\u200cها", "خانه ها"),
    ],
)
def test_a_word_is_known_by_its_other_spelling(written: str, other: str) -> None:
    for text in (written, f"see {written}, please", f"our {written} again"):
        assert other in spellings(text)
        assert f" {other} " in f" {' '.join(searchable(text).split())} "
        assert other in {term.text for term in read_query(text)}


@pytest.mark.parametrize(
    "text", ["don't", "Ada's", "we'll they've I'd I'm", "l'eau", "qu'il", "plain", "'quoted'", "'"]
)
def test_contractions_and_plain_words_have_no_other_spelling(text: str) -> None:
    assert list(spellings(text)) == []

"""What words a passage is found by, and what words a query asks for."""

from __future__ import annotations

from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.core import clock
from mempalace_mcp.core.model import Span
from mempalace_mcp.storage.query_terms import (
    Term,
    count_tokens,
    is_symbolic,
    kin_of,
    passage_text,
    read_query,
    searchable,
)
from mempalace_mcp.storage.sqlite.fulltext import expression_of
from mempalace_mcp.storage.tokenizer import FullTextTokenizer


def asked(query: str) -> list[str]:
    return [expression_of(term) for term in read_query(query)]


def exact(query: str) -> list[str]:
    return [term.text for term in read_query(query) if term.exact]


def test_a_passage_tells_its_date_file_and_title() -> None:
    content = "Meeting about the harbour\nWe met. " + "More of it. " * 20
    when = clock.parse("2023-05-08T10:00:00Z", "at")
    first = passage_text(content, Span(0, 40), when, "/home/nora/notes/harbour.md")
    later = passage_text(content, Span(40, 80), when, "C:\\notes\\harbour.md")
    assert first == f"8 May 2023 Monday 2023-05-08\nharbour.md\n{content[:40]}"
    assert later == f"8 May 2023 Monday 2023-05-08\nharbour.md\nMeeting about the harbour\n{content[40:80]}"


def test_a_title_is_cut_and_found_below_empty_lines() -> None:
    content = "\n\n  " + "t" * 500 + "\nrest"
    assert passage_text(content, Span(400, 410), None, None) == "t" * 100 + "\n" + content[400:410]


def test_a_date_before_the_common_era_of_computers_can_be_indexed() -> None:
    assert passage_text("x", Span(0, 1), clock.parse("0001-01-01", "at"), None) == "1 January 1 Monday 0001-01-01\nx"


def test_plain_text_is_indexed_as_it_is() -> None:
    assert searchable("Plain TEXT, user_id") == "Plain TEXT, user_id"


@pytest.mark.parametrize(
    ("text", "indexed"),
    [
        ("東京都", " 東京 京都 都 "),
        ("猫", " 猫 "),
        ("GPT模型2", "gpt 模型 型 2"),
        ("ﾃｽﾄ", " てす すと と "),
        ("Straße ﬁn", "strasse fin"),
        ("ｆｕｌｌ", "full"),
        ("done\U0001f916now", "done now\n\U000ff916"),
        ("हिन्दी।", "हिन्दी "),
    ],
)
def test_unspaced_scripts_become_bigrams_and_compatibility_forms_unite(text: str, indexed: str) -> None:
    assert searchable(text) == indexed


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ("What did Caroline paint?", ['"caroline"', '"paint"']),
        ("Caroline's  painting, painting", ['"caroline"', '"painting"']),
        ("to be or not to be", ['"to"', '"be"', '"or"', '"not"']),
        ("don't", ['"don"', '"t"']),
        ("", []),
        ('" * ( ) ^ : \'"" - + {} , ; …', []),
        ("NOT AND OR NEAR", ['"near"']),
        ("well-known", ['"wellknown"', '"well known"', '"well"', '"known"']),
        ("e.g. x", ['"e"', '"g"', '"x"']),
        ("東京都", ['"東京 京都"', '"東京"', '"京都"']),
        ("東京", ['"東京"']),
        ("猫", ['"猫"*']),
        ('"東京 タワー"', ['"東京 京 たわ わー"', '"東京"', '"たわ わー"', '"たわ"', '"わー"']),
        ('"黒 猫"', ['"黒 猫"*', '"黒"*', '"猫"*']),
    ],
)
def test_terms_of_a_query(query: str, terms: list[str]) -> None:
    assert asked(query) == terms


@pytest.mark.parametrize(
    ("query", "identifier"),
    [
        ("see PROJ-1234.", "proj 1234"),
        ("in src/auth/token.py?", "src auth token py"),
        ("(user_id)", "user id"),
        ("v1.2.3", "v1 2 3"),
        ("0xDEAD", "0xdead"),
        ("nora@example.org", "nora example org"),
        ("550e8400-e29b-41d4-a716-446655440000", "550e8400 e29b 41d4 a716 446655440000"),
        ("zq7x0000042", "zq7x0000042"),
        ("4711815", "4711815"),
        ("core::clock", "core clock"),
        ('"like this"', "like this"),
        ("“curly quotes”", "curly quotes"),
    ],
)
def test_identifiers_and_quotes_are_phrases_to_be_found_exactly(query: str, identifier: str) -> None:
    assert identifier in exact(query)


@pytest.mark.parametrize("query", ["well-known words", "in 2023", "and/or", "e.g.", "plain words!", "don't"])
def test_ordinary_words_are_no_identifiers(query: str) -> None:
    assert exact(query) in ([], ["and or"])


def test_parts_of_an_identifier_are_terms_too() -> None:
    assert {'"src auth token py"', '"auth"', '"token"', '"py"'} <= set(asked("src/auth/token.py"))


def test_parts_of_compound_names_stand_behind_the_text() -> None:
    assert searchable("the LampOilStore, again LampOilStore") == (
        "the LampOilStore, again LampOilStore\nLamp Oil Store\nLampOil\nOilStore"
    )
    assert exact("LampOilStore") == ["lampoilstore", "lamp oil store"]
    assert {'"lamp"', '"oil"', '"store"'} <= set(asked("LampOilStore"))
    assert asked("base32") == ['"base32"', '"base 32"']
    assert asked("lampOil31")[2:] == ['"lamp"', '"oil"', '"lampoil"', '"oil31"']


SYMBOLS = [
    "C++",
    "C#",
    ".NET",
    "F#",
    "@quay/lamp",
    "--no-wait",
    "$LAMP",
    "->",
    "::",
    "=>",
    "<=>",
    ":wq",
    "🦀",
    "¬",
    "🇳🇴",
    "g++",
]


@pytest.mark.parametrize("written", SYMBOLS)
def test_names_and_runs_of_symbols_are_words(written: str) -> None:
    for text in (written, f"about {written} in a text", f"({written})", f"naïve {written}!"):
        words = set(searchable(text).replace("\n", " ").split(" "))
        for other in SYMBOLS:
            (whole,) = (term.text for term in read_query(other) if term.exact and not term.inner and not term.name)
            assert (whole in words) == (other == written), (text, other)


def test_a_short_name_with_symbols_does_not_hold_the_name_without() -> None:
    for text in ("C++ and f#", "C++17, naïve F#"):
        assert not {"c", "f"} & set(searchable(text).casefold().split())


def test_ordinary_punctuation_is_no_word() -> None:
    text = 'She said: "No -- (really?!) and/or so..." She\'s right; e.g. at https://example.org/a, 10:30.'
    assert searchable(text) == text


@pytest.mark.parametrize(
    ("query", "symbolic"), [("=> ::", True), ("🦀", True), ("a =>", False), ("7", False), ("猫", False)]
)
def test_symbols_alone(query: str, symbolic: bool) -> None:
    assert is_symbolic(query) == symbolic


def test_identifiers_go_on_and_are_known_by_their_beginning() -> None:
    (commit,) = read_query("9f86d08188")
    assert kin_of(commit) == [
        Term("9f86d08188", exact=True, prefix=True, name=True),
        *(Term("9f86d08188"[:size]) for size in (7, 8, 9)),
    ]
    assert [kin_of(term) for term in read_query("plain words cafe")] == [[], [], []]
    assert [expression_of(kin) for kin in kin_of(read_query("QUAY-1234")[0])] == ['"quay 1234"*']


@pytest.mark.parametrize(
    "text", ["Plain text, user_id", "C++ -> 🦀", "naïve Straße", "東京都 LampOilStore", "हिन्दी में", "10:30 — a/b"]
)
def test_tokens_are_counted_as_fts5_counts_them(text: str) -> None:
    with closing(FullTextTokenizer()) as tokenizer:
        assert count_tokens(searchable(text)) == len(tokenizer.stems([searchable(text)])[0])


@given(st.text(max_size=300))
def test_no_term_holds_anything_but_letters_digits_and_blanks(query: str) -> None:
    for term in read_query(query):
        assert '"' not in term.text
        assert term.text == " ".join(term.text.split()) != ""

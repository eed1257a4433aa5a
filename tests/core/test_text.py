"""What text may enter, and how names compare."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.core import text
from mempalace_mcp.core.errors import InvalidArgument


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_well_formed_text_passes_untouched(content: str) -> None:
    assert text.verify_text(content, "content") == content


@pytest.mark.parametrize(
    ("content", "telling"),
    [
        ("before\0after", "NUL character at position 6"),
        ("half a pair: \ud800", "lone surrogate at position 13"),
        ("x" * (text.MAX_CONTENT_BYTES + 1), "1,048,577 bytes"),
        ("é" * (text.MAX_CONTENT_BYTES // 2 + 1), "1,048,578 bytes"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(content: str, telling: str) -> None:
    with pytest.raises(InvalidArgument, match=telling) as caught:
        text.verify_text(content, "content")
    assert caught.value.argument == "content"


@pytest.mark.parametrize("content", ["", " ", "\n\t　"])
def test_content_must_say_something(content: str) -> None:
    with pytest.raises(InvalidArgument, match="empty"):
        text.verify_content(content)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Project Orion", "project orion"),
        ("Straße", "STRASSE"),
        ("Café", unicodedata.normalize("NFD", "CAFÉ")),
        ("  Orion ", "Orion"),
        ("Ἀθήνα", "ἈΘΉΝΑ"),
    ],
)
def test_names_compare_without_case_and_composition(one: str, other: str) -> None:
    assert text.read_name(one, "wing").key == text.read_name(other, "wing").key


def test_names_are_shown_as_written_but_trimmed_and_composed() -> None:
    assert text.read_name(unicodedata.normalize("NFD", " Café "), "wing").shown == "Café"


@pytest.mark.parametrize("name", ["", "   ", "a\nb", "a\tb", "a\x7fb", "a\u2028b", "x" * 129, "a\0b", "\udc00"])
def test_bad_names_are_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        text.read_name(name, "room")
    assert caught.value.argument == "room"


def test_a_name_may_have_128_characters_of_any_width() -> None:
    assert len(text.read_name("語" * 128, "wing").shown) == 128
    assert len(text.read_name("🏛" * 128, "wing").shown) == 128


@pytest.mark.parametrize("character", ["한", "é", "ΐ", "ệ"])
def test_a_decomposed_name_may_have_as_many_characters_as_a_composed_one(character: str) -> None:
    decomposed = unicodedata.normalize("NFD", character * 128)
    assert text.read_name(decomposed, "wing").shown == character * 128
    with pytest.raises(InvalidArgument, match="128 characters, not 129"):
        text.read_name(f"{decomposed}x", "wing")


def test_entities_collapse_white_space() -> None:
    assert text.read_entity("Ada \n  Lovelace", "subject") == text.Name("Ada Lovelace", "ada lovelace")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_keys_and_normal_forms_are_stable(content: str) -> None:
    assert text.name_key(text.name_key(content)) == text.name_key(content)
    assert text.normalize(text.normalize(content)) == text.normalize(content)

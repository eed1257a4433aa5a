"""The forms of a word that find it: what readers take for the same, the parts of compound names, other spellings."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.storage.query_terms import read_query, searchable
from mempalace_mcp.storage.word_forms import codes, compounds, fold, hashes, joined, spellings, without_invisible


@pytest.mark.parametrize(
    "words",
    [
        ["зелёный", "зеленый", "ЗЕЛЁНЫЙ", "зелёный\u0301"],
        ["замо́к", "замок"],
        ["إسلام", "اسلام", "إِسْلَام", "إســلام"],
        ["مئذنة", "ميذنه"],
        ["مستشفى", "مستشفي", "مستشفی"],
        ["کتاب", "كتاب"],
        ["کتاب\u200cها", "کتابها"],
        ["סֵפֶר", "ספר"],
        ["Ὀδυσσεύς", "Οδυσσεύς", "ΟΔΥΣΣΕΥΣ"],
        ["Άδης", "ᾍδης", "αδης"],
        ["DIYARBAKIR", "Diyarbakır", "diyarbakir", "DİYARBAKIR"],
        ["Maß", "mass", "MASS", "MAẞ"],
        ["sœur", "soeur"],
        ["Ærø", "aero"],
        ["Huế", "hue"],
        ["Đồng", "dong"],
        ["ｺｰﾋｰ", "コーヒー", "こーひー"],
        ["ｸﾞﾗｽ", "グラス", "ぐらす"],
        ["Ｈａｒｂｏｕｒ", "harbour"],
        ["ज़मीन", "जमीन"],
        ["चाँद", "चांद"],
        ["അവന്\u200d", "അവൻ"],
        ["har\u00adbour", "har\u200bbour", "har\u2060bour", "\ufeffharbour", "harbour"],
        ["o’clock", "o'clock", "oʼclock", "o‘clock", "o′clock"],
        ["twenty‐one", "twenty‑one", "twenty–one", "twenty-one"],
        ["ﬂag", "flag"],
        ["٢٠٢٤", "۲۰۲۴", "२०२४", "2024"],
        ["한글", "한글"],
        ["Škoda", "skoda", "S\u030ckoda"],
        ["Kraków", "krakow"],
        ["արև", "ԱՐԵՎ", "Արեւ", "արեվ"],
        ["ሠላም", "ሰላም"],
        ["ዓለም", "አለም", "ዐለም"],
        ["ፀሐይ", "ጸሀይ", "ፀሃይ"],
        ["Bakı şəhəri", "baki seheri"],
        ["ƙofa ɓera", "kofa bera"],
        ["paral·lel", "paraŀlel", "parallel"],
        ["لاہور", "لاھور", "لاهور"],
    ],
)
def test_one_word_however_it_is_written(words: list[str]) -> None:
    forms = [unicodedata.normalize(form, word) for word in words for form in ("NFC", "NFD", "NFKC", "NFKD")]
    assert len({fold(form) for form in forms}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("край", "краи"),
        ("її", "іі"),
        ("ґанок", "ганок"),
        ("ў", "у"),
        ("が", "か"),
        ("ड़", "ड"),
        ("ব", "ৰ"),
        ("ж", "з"),
        ("ու", "ով"),
        ("ሱ", "ሰ"),
        ("ቀ", "ሀ"),
    ],
)
def test_letters_that_readers_tell_apart_stay_apart(one: str, other: str) -> None:
    for form in ("NFC", "NFD"):
        assert fold(unicodedata.normalize(form, one)) != fold(unicodedata.normalize(form, other))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_the_encoding_of_a_text_does_not_matter(text: str) -> None:
    once = fold(text)
    assert fold(unicodedata.normalize("NFC", text)) == fold(unicodedata.normalize("NFD", text)) == once
    assert fold(without_invisible(text)) == once


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("LanternRoomKeeper", "Lantern Room Keeper"),
        ("lanternRoomKeeper", "lantern Room Keeper"),
        ("XMLHttpRequest", "XML Http Request"),
        ("parseURL", "parse URL"),
        ("v3Encoder", "v 3 Encoder"),
        ("latin1", "latin 1"),
        ("base32", "base 32"),
        ("keeperLog2031", "keeper Log 2031"),
        ("GrößenRechner", "Größen Rechner"),
        ("ЖурналСмотрителя", "Журнал Смотрителя"),
        ("ΦάροςΦύλακας", "Φάρος Φύλακας"),
        ("org.quay.lamp.LampOilStore", "Lamp Oil Store"),
    ],
)
def test_compound_names_have_parts(name: str, parts: str) -> None:
    for text in (name, f"see {name}, or `{name}`", f"naïve {name}"):
        assert {" ".join(found) for _, found in compounds(text)} == {parts}


@pytest.mark.parametrize(
    "word",
    [
        *("lantern", "Lantern", "LANTERN", "Straße", "МАЯК", "маяк", "iOS", "PhD", "k8s", "x86", "3rd", "100km"),
        *("9f86d081884c7d65", "V1StGXR8", "e29b", "zq0000042x", "20231130", "keeper_log", "東京タワー", "aB" * 100),
    ],
)
def test_single_words_and_random_names_have_none(word: str) -> None:
    assert list(compounds(f"the {word} there")) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("iBuoy7ProMax", "iBuoy iBuoy7 Buoy7 7Pro 7ProMax ProMax"),
        ("OAuth2Harbour", "OAuth OAuth2 Auth2 2Harbour"),
        ("IPv6Lantern", "IPv IPv6 Pv6 Pv6Lantern 6Lantern"),
        ("GitHubMirror", "GitHub HubMirror"),
        ("LampOil", ""),
        ("base32", ""),
    ],
)
def test_neighbours_of_several_are_one_word(name: str, words: str) -> None:
    ((_, parts),) = compounds(name)
    assert set(joined(parts)) == set(words.split())


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

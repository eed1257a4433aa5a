"""What readers take for the same is the same to the search, and what they tell apart is not."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.storage.word_forms import fold, without_invisible


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

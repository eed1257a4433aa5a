"""The parts of compound names."""

from __future__ import annotations

import pytest

from mempalace_mcp.storage.word_forms import compounds, joined


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

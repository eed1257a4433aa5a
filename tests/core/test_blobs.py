"""Blobs are found whatever wrote them, words and identifiers are not taken for them, and it takes linear time."""

from __future__ import annotations

import base64
import json
import uuid
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mempalace_mcp.core.blobs import BOUND, find_blobs, outside, readable_length
from mempalace_mcp.core.model import Span

DICE = Random(20)


def encoded(size: int) -> str:
    return base64.b64encode(DICE.randbytes(size)).decode()


def wrapped(width: int, size: int = 700) -> str:
    digits = encoded(size)
    return "\n".join(digits[start : start + width] for start in range(0, len(digits), width))


def pem(kind: str) -> str:
    return f"-----BEGIN {kind}-----\n{wrapped(64)}\n-----END {kind}-----\n"


def left(text: str) -> str:
    return "".join(text[part.start : part.stop] for part in outside(find_blobs(text), 0, len(text)))


@pytest.mark.parametrize(
    ("before", "blob", "after"),
    [
        ("A lamp ![Sketch](data:image/png;base64,", encoded(4000) + ")", " in the cellar"),
        ("[image1]: <data:image/jpeg;base64,", encoded(999) + ">", "\n\nNext"),
        ('<img alt="x" src="data:image/webp;base64,', encoded(300) + '">', "caption"),
        ("url(data:font/woff2;charset=utf-8;base64,", encoded(1000) + ")", ";"),
        ("data:image/bmp;base64,", "A" * 2000, " nothing but zeros"),
        ("data:image/svg+xml,", "%3Csvg%20xmlns%3D%22http%3A%2F%2Fwww.w3.org%22%3E" * 9, " inline"),
        ("secret = ", base64.urlsafe_b64encode(DICE.randbytes(400)).decode(), "\n"),
        ("dump ", DICE.randbytes(200).hex(), " of memory"),
        ("dump ", DICE.randbytes(200).hex().upper(), " of memory"),
        ("seed ", base64.b32encode(DICE.randbytes(200)).decode(), " of the key"),
        ("text ", base64.b64encode(b"The keeper climbed all of the steps. " * 20).decode(), " hidden"),
        ("", encoded(BOUND), ""),
        ('<path d="', "M12.5 2.1C6.48 2 2 6.48 2 12s4.48 10 10 10" * 9 + '"', "/>"),
        ("Content-Transfer-Encoding: base64\n\n", wrapped(76), "\n--boundary"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\n", wrapped(70), "\n-----END"),
    ],
)
def test_a_blob_is_found_between_words(before: str, blob: str, after: str) -> None:
    text = before + blob + after
    assert find_blobs(text) == [Span(len(before), len(before + blob))]
    assert readable_length(text) == len(before + after)


@pytest.mark.parametrize(
    "text",
    [
        pem("CERTIFICATE"),
        pem("CERTIFICATE").replace("\n", "\r\n"),
        "> " + pem("PGP MESSAGE").replace("\n", "\n> "),
        "key: |\n    " + pem("PUBLIC KEY").replace("\n", "\n    "),
        json.dumps({"private_key": pem("PRIVATE KEY")}),
        "a\n" + wrapped(256, 960).replace("\n", "\n\n") + "\n\nb",
    ],
    ids=["pem", "crlf", "quoted", "yaml", "json", "blank lines"],
)
def test_a_blob_may_be_broken_into_lines(text: str) -> None:
    assert len(find_blobs(text)) == 1
    assert readable_length(text) < 150


@pytest.mark.parametrize(
    "text",
    [
        "The keeper climbed all of the steps and lit the lamp before the fog came in. " * 20,
        "\n".join(DICE.randbytes(20).hex() for _ in range(60)),
        "\n".join(DICE.randbytes(32).hex() for _ in range(60)),
        "\n".join(encoded(66) for _ in range(20)),
        "\n".join(encoded(47) for _ in range(20)),
        "/".join(["Workflows", "Quentin", "Documents", "XylophoneJazz", "Bv0123456789", "GPSKMHIRF"] * 9),
        "-".join(str(uuid.UUID(int=DICE.getrandbits(128))) for _ in range(20)),
        f"{encoded(30)}.{encoded(180)}.{encoded(32)} is a token",
        "/".join(["Users", "Anna", "Documents", "Projects2024", "lighthouse_keeper"] * 12),
        "the-night-crossing-of-the-ferry-" * 20,
        "AUTH-4127" * 60,
        "A" * 3000,
        "x" * 3000,
        "_" * 300 + "\n" + "-" * 300 + "\n" + "=" * 300,
        "3.14159265358979" * 60,
        "会議は木曜日に変更されました。" * 60,
        "1,2,3,4,5\n" * 100,
        "data:text/plain;base64," + "aGVsbG8=",
        encoded(180),
    ],
)
def test_words_and_identifiers_are_no_blobs(text: str) -> None:
    assert find_blobs(text) == []
    assert readable_length(text) == len(text)


PIECES = st.sampled_from(
    ["a ", "\n", "data:", "data:image/png;base64,", ";", ",", 'd="', "M1 ", '"', ")", "=", "\\n", "> ", "é", "x" * 64,
     encoded(48), encoded(48) + "\n", encoded(300), encoded(200), DICE.randbytes(130).hex(), wrapped(76)]
)  # fmt: skip


@given(st.lists(PIECES, max_size=40).map("".join))
@settings(deadline=None)
def test_blobs_are_in_order_and_the_rest_is_outside(text: str) -> None:
    blobs = find_blobs(text)
    position = 0
    for blob in blobs:
        assert position <= blob.start < blob.stop <= len(text)
        assert blob.stop - blob.start > BOUND
        assert text[blob.start : blob.stop].isascii()
        position = blob.stop
    parts = [*blobs, *outside(blobs, 0, len(text))]
    ordered = sorted(parts, key=lambda span: span.start)
    assert "".join(text[part.start : part.stop] for part in ordered) == text
    assert len(left(text)) == readable_length(text)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20))), st.integers(0, 200), st.integers(0, 200))
@settings(deadline=None)
def test_outside_keeps_within_its_bounds(steps: list[tuple[int, int]], start: int, length: int) -> None:
    blobs, position = [], 0
    for gap, size in steps:
        blobs.append(Span(position + gap, position + gap + size))
        position += gap + size
    covered = {index for blob in blobs for index in range(blob.start, blob.stop)}
    kept = [index for part in outside(blobs, start, start + length) for index in range(part.start, part.stop)]
    assert kept == [index for index in range(start, start + length) if index not in covered]


@pytest.mark.parametrize(
    "piece",
    ["data:", "data:;", "data:a,", ' d="M1 ', 'd="', "M1", "=", "-", "A1b", "x" * 59 + " ", "x" * 60 + "\n",
     "a" * 64 + " " * 60, "aB3" * 21 + "\n" * 50, "\\n", "A1b" * 20 + "\\n", "A" * 60 + "\n>"],
)  # fmt: skip
def test_the_worst_texts_take_linear_time(piece: str) -> None:
    find_blobs(piece * (2**20 // len(piece)))

"""The bundled encoder: its vectors, its edges, its threads and its end."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import overload

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mempalace_mcp.core.errors import EmbedderUnavailable
from mempalace_mcp.embedding.encoder import REMEMBERED_QUERIES, MiniLm
from mempalace_mcp.embedding.tokens import MAX_CHARACTERS

REFERENCE = Path(__file__).with_name("reference_vectors.json")
CHUNK = "The nightly export finishes around midnight, so the backup starts at two. " * 8


class WatchedTexts(Sequence[str]):
    """The same text many times over; `on_read` is called with the row in the thread that is about to embed it."""

    def __init__(self, count: int, on_read: Callable[[int], None]) -> None:
        self._count = count
        self._on_read = on_read

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, row: int) -> str: ...

    @overload
    def __getitem__(self, row: slice) -> Sequence[str]: ...

    def __getitem__(self, row: int | slice) -> str | Sequence[str]:
        assert isinstance(row, int)
        self._on_read(row)
        return f"text number {row}"


def test_vectors_agree_with_those_of_the_exact_model(minilm: MiniLm) -> None:
    entries = json.loads(REFERENCE.read_text(encoding="utf-8"))
    vectors = minilm.embed([entry["text"] for entry in entries])
    cosines = np.sum(vectors * np.array([entry["vector"] for entry in entries]), axis=1)
    assert len(entries) >= 12
    assert cosines.min() >= 0.97
    assert cosines.mean() >= 0.99


@pytest.mark.parametrize(
    ("question", "answer", "distractors"),
    [
        (
            "When is the backup made?",
            "We copy all data to the second disk every night at two o'clock.",
            ("The recipe needs three eggs.", "Caroline moved to Lisbon in March."),
        ),
        (
            "pet that barks",
            "My neighbour's dog wakes me every morning.",
            ("The cat sleeps all day.", "Shares fell by two percent."),
        ),
        (
            "how do I sort a list in reverse",
            "sorted(items, reverse=True) returns them from largest to smallest",
            ("open(path).read() returns the whole file", "The library closes at eight."),
        ),
    ],
)
def test_what_means_the_same_is_nearer(
    minilm: MiniLm, question: str, answer: str, distractors: tuple[str, ...]
) -> None:
    cosines = minilm.embed([answer, *distractors]) @ minilm.embed_query(question)
    assert cosines.argmax() == 0
    assert cosines[0] > 0.3


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t ",
        "\x00\x01\x7f",
        "a",
        "😀👩‍🚀👍🏽",
        "東京の桜は三月の終わりに咲きます。" * 50,
        "القطار يصل إلى المحطة",
        "e\u0301\u0301\u0301" * 100,
        "x" * 10_000,
        " ".join(f"word{number}" for number in range(10_000)),
        "[CLS] [SEP] [MASK] [PAD]",
        CHUNK * 2_000,
    ],
    ids=lambda text: f"{len(text)} characters {text[:6]!r}",
)
def test_every_text_has_a_unit_vector(minilm: MiniLm, text: str) -> None:
    vector = minilm.embed([text])
    assert vector.shape == (1, minilm.stamp.dimension)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-4)


def test_no_texts_give_no_rows(minilm: MiniLm) -> None:
    assert minilm.embed([]).shape == (0, minilm.stamp.dimension)


def test_only_the_first_256_tokens_count(minilm: MiniLm) -> None:
    beginning = "one " * 254
    vectors = minilm.embed([beginning + "apples", beginning + "submarines", "one " * 253 + "apples"])
    assert np.array_equal(vectors[0], vectors[1])
    assert not np.array_equal(vectors[0], vectors[2])


def test_what_follows_the_longest_text_is_not_read(minilm: MiniLm) -> None:
    beginning = " " * (MAX_CHARACTERS - 4) + "word"
    assert np.array_equal(*minilm.embed([beginning, beginning + " and another"]))


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), min_size=1, max_size=12))
def test_a_vector_does_not_depend_on_its_neighbours(minilm: MiniLm, texts: list[str]) -> None:
    together = minilm.embed(texts)
    alone = np.concatenate([minilm.embed([text]) for text in texts])
    assert np.array_equal(together, alone)


def test_a_query_has_the_vector_of_the_same_text(minilm: MiniLm) -> None:
    assert np.array_equal(minilm.embed_query("where is the key?"), minilm.embed(["where is the key?"])[0])


def test_a_remembered_vector_cannot_be_changed(minilm: MiniLm) -> None:
    with pytest.raises(ValueError, match="read-only"):
        minilm.embed_query("immutable")[0] = 1.0


def test_queries_are_remembered_up_to_a_limit() -> None:
    embedder = MiniLm.load()
    for number in range(REMEMBERED_QUERIES + 3):
        embedder.embed_query(f"{number}")
    embedder.embed_query(f"{REMEMBERED_QUERIES}")
    embedder.embed_query("0")
    statistics = embedder.statistics()
    embedder.close()
    assert statistics.cache_hits == 1
    assert statistics.cache_misses == REMEMBERED_QUERIES + 4
    assert statistics.cache_size == statistics.cache_limit == REMEMBERED_QUERIES


def test_statistics_count_texts_and_calls() -> None:
    embedder = MiniLm.load()
    embedder.embed(["one", "two", "three"])
    embedder.embed_query("four")
    statistics = embedder.statistics()
    embedder.close()
    assert (statistics.texts, statistics.batches) == (4, 2)
    assert statistics.seconds > 0


def test_threads_do_not_disturb_one_another(minilm: MiniLm) -> None:
    texts = [f"{CHUNK[:number]} {number}" for number in range(0, 240, 3)]
    expected = minilm.embed(texts)
    with ThreadPoolExecutor(8) as pool:
        for vectors in pool.map(minilm.embed, [texts] * 4):
            assert np.array_equal(vectors, expected)
        for row, vector in enumerate(pool.map(minilm.embed_query, texts)):
            assert np.array_equal(vector, expected[row])


def test_two_threads_share_many_texts(minilm: MiniLm) -> None:
    together = threading.Barrier(2, timeout=20)

    def meet(row: int) -> None:
        if row < 2:
            together.wait()

    texts = WatchedTexts(5, meet)
    assert minilm.embed(texts).shape[0] == 5
    assert not together.broken


def test_few_texts_stay_in_the_calling_thread(minilm: MiniLm) -> None:
    readers: list[int] = []
    minilm.embed(WatchedTexts(4, lambda row: readers.append(threading.get_ident())))
    assert readers == [threading.get_ident()] * 4


def test_a_query_does_not_wait_for_a_mass_of_texts(minilm: MiniLm) -> None:
    under_way, answered = threading.Event(), threading.Event()

    def stall(row: int) -> None:
        under_way.set()
        assert answered.wait(30)

    with ThreadPoolExecutor(1) as pool:
        mass = pool.submit(minilm.embed, WatchedTexts(20, stall))
        assert under_way.wait(20)
        minilm.embed_query("asked while a mass of texts is being embedded")
        minilm.embed(["one", "two"])
        assert not mass.done()
        answered.set()
        assert mass.result().shape[0] == 20


@pytest.mark.parametrize("in_calling_thread", [True, False])
def test_an_error_in_either_thread_ends_both(minilm: MiniLm, in_calling_thread: bool) -> None:
    caller = threading.get_ident()
    failed = threading.Event()
    rows: list[int] = []

    def fail(row: int) -> None:
        rows.append(row)
        if (threading.get_ident() == caller) is in_calling_thread:
            failed.set()
            raise ValueError("unreadable text")
        assert failed.wait(20)

    with pytest.raises(ValueError, match="unreadable text"):
        minilm.embed(WatchedTexts(100, fail))
    assert len(rows) < 100 or not in_calling_thread


def test_calls_leave_no_threads_or_descriptors(minilm: MiniLm) -> None:
    process = psutil.Process()
    minilm.embed(["first"] * 6)
    before = threading.active_count(), process.num_fds()
    for number in range(30):
        minilm.embed([f"text {number} {row}" for row in range(6)])
    assert (threading.active_count(), process.num_fds()) == before


def test_closed_it_refuses_and_says_why() -> None:
    embedder = MiniLm.load()
    embedder.embed_query("remembered")
    embedder.close()
    embedder.close()
    with pytest.raises(EmbedderUnavailable, match="closed"):
        embedder.embed(["text"])
    with pytest.raises(EmbedderUnavailable, match="closed"):
        embedder.embed_query("remembered")
    assert embedder.statistics().cache_size == 0


def test_calls_under_way_end_although_it_is_closed() -> None:
    embedder = MiniLm.load()
    vectors = embedder.embed(WatchedTexts(8, lambda row: embedder.close()))
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(8), abs=1e-4)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("why is the export late?", True),
        ("PROJ-1234 in src/auth/token.py", True),
        ("데이터베이스를 새 서버로 옮겼다", True),
        ("Мы перенесли базу данных", True),
        ("👍 ok", True),
        ("", True),
        ("数据库", False),
        ("เราตัดสินใจย้ายฐานข้อมูล", False),
        ("🚀🚀", False),
        ("x" * 101, False),
    ],
)
def test_it_tells_which_texts_it_can_read(minilm: MiniLm, text: str, known: bool) -> None:
    assert minilm.reads(text) is known


def test_texts_that_it_cannot_read_look_alike(minilm: MiniLm) -> None:
    database, keys = minilm.embed(["数据库", "服务器"])
    assert database @ keys > 0.99

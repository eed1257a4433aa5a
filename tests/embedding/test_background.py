"""Loading in the background: the results of calls before, during and after it, and when it fails."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

import pytest

from mempalace_mcp.core.errors import EmbedderBroken, EmbedderUnavailable
from mempalace_mcp.embedding.background import BackgroundEmbedder, Loading
from mempalace_mcp.embedding.encoder import Embedder, MiniLm
from mempalace_mcp.embedding.models import MODELS

SECONDS = 30.0


class HeldLoading:
    """Loads the real model, once it is released; counts how often."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_go_on = threading.Event()
        self.loaded: list[Embedder] = []

    def __call__(self) -> Embedder:
        self.begun.set()
        assert self.may_go_on.wait(SECONDS)
        self.loaded.append(MiniLm.load())
        return self.loaded[-1]


def assert_unavailable_for_now(background: BackgroundEmbedder) -> None:
    with pytest.raises(EmbedderUnavailable) as caught:
        background.get()
    assert caught.value.retryable
    assert not isinstance(caught.value, EmbedderBroken)


def test_the_bundled_model_is_loaded() -> None:
    background = BackgroundEmbedder()
    background.start()
    assert background.wait(SECONDS)
    assert background.ready
    assert background.failure is None
    assert background.get().embed(["text"]).shape == (1, 384)
    statistics = background.statistics()
    assert statistics.state is Loading.READY
    assert statistics.load_seconds
    assert statistics.embedder
    assert statistics.embedder.texts == 1
    background.close()


def test_nothing_happens_before_the_start() -> None:
    loading = HeldLoading()
    background = BackgroundEmbedder(loading)
    assert_unavailable_for_now(background)
    assert not background.wait(0)
    assert background.statistics().state is Loading.IDLE
    background.close()
    assert not loading.begun.is_set()


def test_while_loading_an_error_says_to_try_again() -> None:
    loading = HeldLoading()
    background = BackgroundEmbedder(loading)
    background.start()
    assert loading.begun.wait(SECONDS)
    assert not background.ready
    assert not background.wait(0)
    assert background.failure is None
    assert background.statistics().state is Loading.LOADING
    assert_unavailable_for_now(background)
    loading.may_go_on.set()
    assert background.wait(SECONDS)
    assert background.get() is loading.loaded[0]
    background.close()


def test_a_second_start_does_nothing() -> None:
    loading = HeldLoading()
    loading.may_go_on.set()
    background = BackgroundEmbedder(loading)
    background.start()
    background.start()
    assert background.wait(SECONDS)
    background.start()
    background.close()
    assert len(loading.loaded) == 1


def test_a_failure_is_raised_in_every_call(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    background = BackgroundEmbedder(partial(MiniLm.load, tmp_path))
    background.start()
    assert not background.wait(SECONDS)
    assert not background.ready
    assert background.failure
    assert "stamp.json" in background.failure
    assert background.statistics().state is Loading.FAILED
    for _ in range(2):
        with pytest.raises(EmbedderBroken, match=r"stamp\.json") as caught:
            background.get()
        assert not caught.value.retryable
    assert "stamp.json" in caplog.text
    background.close()


def test_an_unforeseen_failure_is_raised_as_well() -> None:
    def load() -> Embedder:
        raise ImportError("libonnxruntime.so: cannot open shared object file")

    background = BackgroundEmbedder(load)
    background.start()
    assert not background.wait(SECONDS)
    with pytest.raises(EmbedderBroken, match="ImportError: libonnxruntime"):
        background.get()
    background.close()


def test_closing_ends_the_embedder() -> None:
    background = BackgroundEmbedder()
    background.start()
    assert background.wait(SECONDS)
    embedder = background.get()
    background.close()
    background.close()
    with pytest.raises(EmbedderUnavailable, match="closed"):
        background.get()
    with pytest.raises(EmbedderUnavailable, match="closed"):
        embedder.embed(["text"])
    assert not background.ready
    assert background.statistics().state is Loading.CLOSED


def test_closing_while_loading_waits_and_leaves_nothing() -> None:
    loading = HeldLoading()
    background = BackgroundEmbedder(loading)
    background.start()
    assert loading.begun.wait(SECONDS)
    closing = threading.Thread(target=background.close)
    closing.start()
    loading.may_go_on.set()
    closing.join(SECONDS)
    assert not background.wait(0)
    with pytest.raises(EmbedderUnavailable, match="closed"):
        background.get()
    with pytest.raises(EmbedderUnavailable, match="closed"):
        loading.loaded[0].embed(["text"])


def test_after_closing_nothing_starts_and_nobody_waits() -> None:
    loading = HeldLoading()
    background = BackgroundEmbedder(loading)
    background.close()
    background.start()
    assert not background.wait()
    assert not loading.begun.is_set()


def test_it_follows_to_another_model() -> None:
    chosen = ["minilm"]
    background = BackgroundEmbedder(lambda: MODELS[chosen[-1]].load())
    background.follow(MODELS["multilingual"].stamp)
    assert background.statistics().state is Loading.IDLE, "it was not started"
    background.start()
    assert background.wait(SECONDS)
    first = background.get()
    background.follow(first.stamp)
    assert background.get() is first
    chosen.append("multilingual")
    background.follow(MODELS["multilingual"].stamp)
    assert background.wait(SECONDS)
    assert background.get().stamp == MODELS["multilingual"].stamp
    assert first.embed(["who uses the former one goes on"]).shape == (1, 384)
    background.close()
    background.follow(first.stamp)
    assert background.statistics().state is Loading.CLOSED


def test_what_is_on_offer_is_taken_without_loading() -> None:
    loading = HeldLoading()
    loading.may_go_on.set()
    background = BackgroundEmbedder(loading)
    background.start()
    assert background.wait(SECONDS)
    other = MODELS["multilingual"].load()
    background.offer(other)
    assert background.get() is loading.loaded[0], "until the palace has its model"
    background.follow(other.stamp)
    assert background.get() is other
    assert len(loading.loaded) == 1
    background.close()
    with pytest.raises(EmbedderUnavailable, match="closed"):
        other.embed(["text"])


def test_an_offer_that_was_taken_back_is_not_taken() -> None:
    loading = HeldLoading()
    background = BackgroundEmbedder(loading)
    other = MODELS["multilingual"].load()
    background.start()
    background.offer(other)
    background.offer(None)
    background.follow(other.stamp)
    assert background.loading
    loading.may_go_on.set()
    assert background.wait(SECONDS)
    assert background.get() is loading.loaded[0]
    background.close()

"""Turns texts into vectors with a bundled sentence encoder in ONNX Runtime, offline, on the CPU.

The files of the models are part of this package and are verified before use.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from mempalace_mcp.core.bounded import LruMap
from mempalace_mcp.core.errors import EmbedderBroken, EmbedderUnavailable
from mempalace_mcp.core.model import ModelStamp
from mempalace_mcp.embedding.token_vectors import TokenVectors, pack
from mempalace_mcp.embedding.tokens import (
    MAX_CHARACTERS,
    SENTENCE_PIECES,
    WORD_PIECES,
    TokenIds,
    Tokenizer,
    open_tokenizer,
)

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

GRAPH = "model.onnx"
TOKENIZER = WORD_PIECES
STAMP = "stamp.json"

BUNDLED = Path(__file__).with_name("minilm")
"""The directory of MiniLM inside this package."""

MULTILINGUAL = Path(__file__).with_name("usem")
"""The directory of the model for sixteen languages."""

_HINT = "Install mempalace-mcp again; search by words works meanwhile."


@dataclass(frozen=True, slots=True)
class ModelBundle:
    """A model whose files have been verified: its stamp, and the paths of its graph and tokenizer."""

    stamp: ModelStamp
    graph: Path
    tokenizer: Path


def verify_bundle(directory: Path) -> ModelBundle:
    """Compare every file of the model with the checksum in its stamp.

    Raises:
        EmbedderBroken: a file is missing, unreadable or damaged.
    """
    try:
        stamp = json.loads((directory / STAMP).read_bytes())
        named = _named_by(stamp)
        for name, digest in stamp["sha256"].items():
            _verify(directory / name, digest)
        tokenizer = SENTENCE_PIECES if SENTENCE_PIECES in stamp["sha256"] else WORD_PIECES
        return ModelBundle(named, directory / GRAPH, directory / tokenizer)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise EmbedderBroken(f"the embedding model cannot be read: {error.filename}: {reason}", hint=_HINT) from error
    except (ValueError, TypeError, KeyError) as error:
        raise EmbedderBroken(f"{STAMP} of the embedding model is damaged: {error!r}", hint=_HINT) from error


def _named_by(stamp: dict[str, Any]) -> ModelStamp:
    return ModelStamp(str(stamp["name"]), str(stamp["quantization"]), int(stamp["dimension"]))


def _verify(path: Path, wanted: str) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != wanted:
        raise EmbedderBroken(f"{path.name} of the embedding model is damaged: its checksum is wrong", hint=_HINT)


@dataclass(frozen=True, slots=True)
class EmbedderStatistics:
    """Figures of an embedder since it was loaded. `batches` counts calls, `seconds` is the time spent in them.

    `cache_hits` and `cache_misses` count queries. The cache holds `cache_size` query vectors, at most `cache_limit`.
    """

    texts: int
    batches: int
    seconds: float
    cache_hits: int
    cache_misses: int
    cache_size: int
    cache_limit: int


class Embedder(Protocol):
    """Turns texts into vectors of unit length: their dot product is their cosine. Thread-safe.

    Every method but `statistics` and `close` raises EmbedderUnavailable once the embedder is closed.
    """

    @property
    def stamp(self) -> ModelStamp:
        """The model of these vectors; only vectors of equal stamps can be compared."""
        ...

    def reads(self, text: str) -> bool:
        """Is at least half of the text known to the model? All that is unknown is the same to it."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row per text, in the same order. A text's vector does not depend on the other texts."""
        ...

    @property
    def gives_tokens(self) -> bool:
        """Does the model give vectors of tokens, too? Those of one model only can be matched."""
        ...

    def embed_with_tokens(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], list[bytes | None]]:
        """As `embed`, and the packed token vectors of each text; None if the model gives none."""
        ...

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of one text, read-only; the latest ones are cached."""
        ...

    def query_tokens(self, text: str) -> TokenVectors | None:
        """The vectors of one text's tokens, read-only, cached with its vector; None if the model gives none."""
        ...

    def statistics(self) -> EmbedderStatistics:
        """The figures since it was loaded."""
        ...

    def close(self) -> None:
        """Free the memory when the calls under way have ended. Idempotent."""
        ...


REMEMBERED_QUERIES = 256
"""With their token vectors they take a megabyte; 16 if all of them are as long as the model reads."""

_ALONE = 4
"""Up to so many texts are embedded by the calling thread alone, more by it and a second thread."""

_RUNS_AT_ONCE = 4
"""Each concurrent run of the graph needs up to 10 MB, which ONNX Runtime keeps for the next one."""


@dataclass(frozen=True, slots=True)
class _Encoded:
    """What the model gives for a text: its vector, the tokens worth keeping, and their vectors, None if it has none."""

    vector: NDArray[np.float32]
    pieces: TokenIds
    tokens: TokenVectors | None


class SentenceEncoder:
    """A bundled model: the first tokens of a text become a unit vector. Thread-safe.

    Texts go through the graph one at a time. In a batch they would share one scale of quantization: a vector would
    depend on the other texts (cosine 0.99 to the one made alone), and long texts would not be faster. Each run of the
    graph is in the thread of its caller: a query does not wait for an import.
    """

    def __init__(self, bundle: ModelBundle) -> None:
        self._stamp = bundle.stamp
        self._tokenizer: Tokenizer = open_tokenizer(bundle.tokenizer)
        self._session: InferenceSession | None = _open_session(bundle.graph)
        self._runs = threading.Semaphore(_RUNS_AT_ONCE)
        self._queries: LruMap[str, _Encoded] = LruMap(REMEMBERED_QUERIES)
        self._counting = threading.Lock()
        self._texts = self._batches = self._cache_hits = self._cache_misses = 0
        self._seconds = 0.0

    @classmethod
    def load(cls, directory: Path = BUNDLED) -> Self:
        """Load the model in a directory of this package.

        Raises:
            EmbedderBroken: a file of the model is missing or damaged.
        """
        return cls(verify_bundle(directory))

    @property
    def stamp(self) -> ModelStamp:
        """The model of these vectors."""
        return self._stamp

    @property
    def gives_tokens(self) -> bool:
        """Does the model give vectors of tokens, too?"""
        return self._tokenizer.telling is not None

    def reads(self, text: str) -> bool:
        """Is at least half of the text known to the model?

        All unknown tokens are the same to it: two texts without any known one have a cosine of 1.
        """
        return self._tokenizer.reads(text)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One unit vector per text, in the same order.

        Raises:
            EmbedderUnavailable: it was closed.
        """
        session, vectors = self._opened(), self._no_vectors(len(texts))

        def encode(row: int) -> None:
            (vectors[row],) = self._run(session, self._tokenizer.ids(texts[row]), "vector")

        self._for_each(len(texts), encode)
        return vectors

    def embed_with_tokens(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], list[bytes | None]]:
        """As `embed`, and the packed token vectors of each text; takes hardly longer.

        Raises:
            EmbedderUnavailable: it was closed.
        """
        session, vectors = self._opened(), self._no_vectors(len(texts))
        tokens: list[bytes | None] = [None] * len(texts)

        def encode(row: int) -> None:
            encoded = self._encode(session, texts[row])
            vectors[row] = encoded.vector
            if encoded.tokens is not None:
                tokens[row] = pack(encoded.pieces, encoded.tokens)

        self._for_each(len(texts), encode)
        return vectors, tokens

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of one text, read-only; the last few hundred are cached.

        Raises:
            EmbedderUnavailable: it was closed.
        """
        return self._query(text).vector

    def query_tokens(self, text: str) -> TokenVectors | None:
        """The vectors of one text's tokens, read-only, cached with its vector; all of them if none tells anything.

        Raises:
            EmbedderUnavailable: it was closed.
        """
        return self._query(text).tokens

    def statistics(self) -> EmbedderStatistics:
        """The figures since it was loaded."""
        with self._counting:
            return EmbedderStatistics(
                texts=self._texts,
                batches=self._batches,
                seconds=self._seconds,
                cache_hits=self._cache_hits,
                cache_misses=self._cache_misses,
                cache_size=len(self._queries),
                cache_limit=self._queries.limit,
            )

    def close(self) -> None:
        """Drop the model; its memory is freed when the calls under way have ended."""
        self._session = None
        self._queries.clear()

    def _opened(self) -> InferenceSession:
        session = self._session
        if session is None:
            raise EmbedderUnavailable("the embedding model is closed", hint="The server is stopping; start it again.")
        return session

    def _query(self, text: str) -> _Encoded:
        session = self._opened()
        key = text[:MAX_CHARACTERS]
        cached = self._queries.get(key)
        with self._counting:
            if cached is None:
                self._cache_misses += 1
            else:
                self._cache_hits += 1
        if cached is not None:
            return cached
        began = time.perf_counter()
        query = self._encode(session, key, every=True)
        for array in (query.vector, query.tokens):
            if array is not None:
                array.setflags(write=False)
        self._queries.put(key, query)
        self._count(1, began)
        return query

    def _encode(self, session: InferenceSession, text: str, *, every: bool = False) -> _Encoded:
        """`every` keeps all tokens but the ends of a text in which none tells anything."""
        token_ids = self._tokenizer.ids(text)
        if self._tokenizer.telling is None:
            (vector,) = self._run(session, token_ids, "vector")
            return _Encoded(vector, token_ids, None)
        vector, tokens = self._run(session, token_ids, "vector", "token_vectors")
        kept = self._tokenizer.telling[token_ids]
        if every and not kept.any():
            kept[1:-1] = True
        return _Encoded(vector, token_ids[kept], tokens[kept])

    def _run(self, session: InferenceSession, token_ids: TokenIds, *outputs: str) -> list[NDArray[np.float32]]:
        with self._runs:
            results: list[NDArray[np.float32]] = session.run(outputs, {"token_ids": token_ids})
        return results

    def _no_vectors(self, texts: int) -> NDArray[np.float32]:
        return np.empty((texts, self._stamp.dimension), np.float32)

    def _for_each(self, texts: int, encode: Callable[[int], None]) -> None:
        """Call `encode` with the row of each text; in two threads if there are many."""
        began = time.perf_counter()
        remaining = deque(range(texts))

        def work() -> None:
            while remaining:
                try:
                    row = remaining.popleft()
                except IndexError:  # the other thread was faster
                    return
                encode(row)

        if texts <= _ALONE:
            work()
        else:
            _work_in_pair(work, remaining)
        self._count(texts, began)

    def _count(self, texts: int, began: float) -> None:
        with self._counting:
            self._texts += texts
            self._batches += 1
            self._seconds += time.perf_counter() - began


class MiniLm(SentenceEncoder):
    """all-MiniLM-L6-v2: up to 256 tokens, about 1,100 characters of English, become 384 numbers."""


def _work_in_pair(work: Callable[[], None], remaining: deque[int]) -> None:
    """Run `work` in this thread and a second one until nothing remains; an error in one ends both."""
    with ThreadPoolExecutor(1, thread_name_prefix="embedder") as helper:
        share = helper.submit(work)
        try:
            work()
        finally:
            remaining.clear()
    share.result()


def _open_session(graph: Path) -> InferenceSession:
    """A session that starts no threads and may be run from several at once."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read by the import below
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # it would keep a block of memory for each length of text
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])

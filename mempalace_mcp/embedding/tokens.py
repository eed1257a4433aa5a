"""How texts become the numbers of tokens: word pieces for MiniLM, sentence pieces for the multilingual model."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mempalace_mcp.embedding.token_vectors import is_telling

TokenIds = NDArray[np.int64]

WORD_PIECES = "tokenizer.json"
SENTENCE_PIECES = "sp.model"

MAX_CHARACTERS = 8 * 1024
"""The part of a text that is tokenized."""

SENTENCE_TOKENS = 512
"""Sentence pieces that are read: a chunk has about 200 of them, 500 in Chinese."""


class Tokenizer(Protocol):
    """Cuts texts into the tokens of one model. Thread-safe.

    `telling` says of each token of the vocabulary whether its vector is worth keeping. It is None if the model gives
    vectors of whole texts only.
    """

    telling: NDArray[np.bool_] | None

    def ids(self, text: str) -> TokenIds:
        """The tokens of a text, as many as the model reads, between those that begin and end a text."""
        ...

    def reads(self, text: str) -> bool:
        """Is at least half of the text known to the model? What it does not know all looks alike to it."""
        ...


class WordPieces:
    """The tokenizer of MiniLM, by the library `tokenizers`: up to 256 word pieces."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(path))
        self.telling: NDArray[np.bool_] | None = np.zeros(self._tokenizer.get_vocab_size(), np.bool_)
        self.telling[[number for piece, number in self._tokenizer.get_vocab().items() if is_telling(piece)]] = True

    def ids(self, text: str) -> TokenIds:
        """The tokens of a text."""
        return np.array(self._tokenizer.encode(text[:MAX_CHARACTERS]).ids, np.int64)

    def reads(self, text: str) -> bool:
        """Is at least half of the tokens known? Most Chinese characters, emoji and words of 100 letters are not."""
        tokens = self._tokenizer.encode(text[:MAX_CHARACTERS], add_special_tokens=False).tokens
        return 2 * tokens.count(_UNKNOWN_WORD) <= len(tokens)


class SentencePieces:
    """The tokenizer of the multilingual model, by the library `sentencepiece`: up to 512 pieces.

    The library `tokenizers` can read the same pieces, but needs four times as much memory for them (114 MB). It also
    loses some characters beside combining marks, and with them the words that the model was trained on.
    """

    def __init__(self, path: Path) -> None:
        from sentencepiece import SentencePieceProcessor

        self._pieces = SentencePieceProcessor(model_file=str(path))
        self.telling: NDArray[np.bool_] | None = None

    def ids(self, text: str) -> TokenIds:
        """The tokens of a text."""
        pieces = self._pieces
        ids = pieces.encode(text[:MAX_CHARACTERS])[: SENTENCE_TOKENS - 2]
        return np.array([pieces.bos_id(), *ids, pieces.eos_id()], np.int64)

    def reads(self, text: str) -> bool:
        """Are at least half of the characters in known pieces?

        Of Greek, Hebrew and other alphabets that the model was not trained on it knows single letters, and nothing of
        their words: unrelated texts have a cosine of 0.6 to 0.9.
        """
        known = unknown = 0
        for number, piece in zip(*self._cut(text[:MAX_CHARACTERS]), strict=True):
            length = len(piece.strip(_WORD_START))
            if number == self._pieces.unk_id() or _is_lone_letter(piece):
                unknown += length
            else:
                known += length
        return unknown <= known

    def _cut(self, text: str) -> tuple[list[int], list[str]]:
        return self._pieces.encode(text), self._pieces.encode(text, out_type=str)


_UNKNOWN_WORD = "[UNK]"
_WORD_START = "▁"


def _is_lone_letter(piece: str) -> bool:
    """Is it a letter of an alphabet other than ours, with nothing beside it? Wide ones are words, as in Chinese."""
    return len(piece) == 1 and not piece.isascii() and unicodedata.east_asian_width(piece) not in "WF"


def open_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a model, by the name of its file.

    Raises:
        ImportError: the library that reads it is missing or broken.
    """
    return SentencePieces(path) if path.name == SENTENCE_PIECES else WordPieces(path)

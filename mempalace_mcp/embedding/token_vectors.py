"""Token vectors: how they are kept, and how well those of a query are matched by those of a text (late interaction).

Each token of a text has a unit vector that knows its context. Tokens that tell nothing are left out, those of the same
word piece become one, and each coordinate is kept in four bits: 32 bytes for a token, about 1,900 for a chunk. Against
exact ones the matches correlate by 0.998.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mempalace_mcp.core.model import TOKEN_BYTES
from mempalace_mcp.core.stop_words import STOP_WORDS

TokenVectors = NDArray[np.float32]
"""One unit vector a row."""

DIMENSION = 2 * TOKEN_BYTES

_RANGE = 0.33
"""The coordinates, whose standard deviation is 1/8, are kept from -0.33 to 0.33 in steps of 0.044."""
_LEVELS = (np.arange(16, dtype=np.float32) - 7.5) * np.float32(_RANGE / 7.5)
_PAIRS = np.stack([np.tile(_LEVELS, 16), np.repeat(_LEVELS, 16)], axis=1).view(np.uint64).ravel()
"""The two coordinates of each byte, the low half first, as one word: they are looked up at once."""

_POWER = 3
"""A token that is met half way counts an eighth. Powers from 2 to 4 rank alike."""
_MET_POWER = 6
"""The same for counting by how many candidates a token is met."""
_UNSEEN = 20
"""With few candidates all tokens weigh about the same: as if so many others had been seen, one of which meets it."""


def is_telling(piece: str) -> bool:
    """Does a word piece of the vocabulary tell anything: has it letters or digits, and is it no stop word?"""
    is_special = piece.startswith("[") and piece.endswith("]")
    return not is_special and piece not in STOP_WORDS and any(map(str.isalnum, piece))


def pack(pieces: NDArray[np.integer], vectors: TokenVectors) -> bytes:
    """The vectors of a text's tokens as they are kept; `pieces` has the word piece of each row."""
    if not len(vectors):
        return b""
    order = np.argsort(pieces, kind="stable")
    starts = np.flatnonzero(np.diff(pieces[order], prepend=-1))
    merged = np.add.reduceat(vectors[order], starts)
    merged /= np.linalg.norm(merged, axis=1, keepdims=True)
    levels = np.clip(np.floor(merged * (7.5 / _RANGE) + 8), 0, 15).astype(np.uint8)
    return bytes(levels[:, ::2] | levels[:, 1::2] << 4)


def unpack(packed: bytes) -> TokenVectors:
    """The vectors that `pack` has kept, of one text or of several whose bytes were joined."""
    return _PAIRS[np.frombuffer(packed, np.uint8)].view(np.float32).reshape(-1, DIMENSION)


def token_match(query: TokenVectors, candidates: Sequence[bytes]) -> NDArray[np.float32]:
    """How well each packed candidate meets the query: from 0, not at all, to about 1, every token by its like.

    Each token of the query is met as well as the nearest token of the candidate is near. A token weighs the more, the
    fewer of the candidates meet it.
    """
    lengths = np.array([len(candidate) // TOKEN_BYTES for candidate in candidates], np.intp)
    filled = np.flatnonzero(lengths)
    matches = np.zeros(len(candidates), np.float32)
    if not len(query) or not len(filled):
        return matches
    cosines = unpack(b"".join(candidates)) @ query.T
    starts = np.cumsum(lengths[filled]) - lengths[filled]
    met = np.maximum(np.maximum.reduceat(cosines, starts), 0)
    weights = _rarities(met)
    matches[filled] = met**_POWER @ weights / weights.sum()
    return matches


def _rarities(met: NDArray[np.float32]) -> NDArray[np.float32]:
    """The weights of the query's tokens, by how well (a row for each candidate) they are met."""
    holders = (met**_MET_POWER).sum(axis=0) + 1
    others = np.maximum(len(met) + _UNSEEN - holders, 0)
    weights: NDArray[np.float32] = np.log1p((others + 0.5) / (holders + 0.5))
    return weights

"""The projection of token vectors: from the numbers of the model's last layer to the few that are kept of them.

Its columns are rows of a Hadamard matrix: orthogonal, and each made of every number with the same weight. Thus all
coordinates are alike, as four bits for each of them need it, and products are kept about as random projections do it
(Johnson and Lindenstrauss 1984). Projections learnt from text gave no better recall: the first eigenvectors of the
tokens of Python's documentation, of a dictionary, of example sentences and of a glossary, whitened or not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def hadamard(order: int) -> NDArray[np.int64]:
    """A matrix of 1 and -1 whose rows are orthogonal (Paley 1933). `order` is 1 above a prime of the form 4k + 3."""
    prime = order - 1
    numbers = np.arange(prime)
    character = np.full(prime, -1)
    character[numbers**2 % prime] = 1
    character[0] = 0
    matrix = np.eye(order, dtype=np.int64)
    matrix[0, 1:] = 1
    matrix[1:, 0] = -1
    matrix[1:, 1:] += character[(numbers - numbers[:, None]) % prime]
    return matrix


def projection(hidden: int, dimension: int) -> NDArray[np.float32]:
    """`hidden` rows and `dimension` orthonormal columns.

    With another projection the token vectors of all palaces must be made anew: a migration has to forget them.
    """
    columns: NDArray[np.float32] = (hadamard(hidden)[1 : dimension + 1].T / np.sqrt(hidden)).astype(np.float32)
    return columns

"""The Universal Sentence Encoder Multilingual as an ONNX graph: token ids of one text in, its unit vector out.

The vectors of the tokens, and what three pairs of convolutions over them give, are summed over the text; dense layers
make the text's vector of the sum. The graph takes a single text, as the one of MiniLM does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from scripts.model.nodes import GraphBuilder

TABLES = 17
"""The vectors of the tokens lie in so many tables, by the remainder of their number; each has a scale of its own."""

WINDOWS = {2: 0, 3: 1, 5: 2}
"""The widths of the convolutions in tokens, and how many of these stand before the one in the middle."""

Arrays = Mapping[str, NDArray[Any]]


def token_table(arrays: Arrays, tokens: int) -> NDArray[np.uint8]:
    """A row of bytes for each token of the vocabulary, as the release has them."""
    first = arrays["q1"]
    table = np.empty((TABLES * len(first), first.shape[1]), np.uint8)
    for number in range(TABLES):
        table[number::TABLES] = arrays[f"q{number + 1}"]
    return table[:tokens]


class ConvolutionGraph(GraphBuilder):
    """Builds the graph node by node.

    `table` is the name of the file with the table of the tokens, beside the graph: ONNX Runtime maps it, so only the
    rows that texts need are ever in memory. `half` keeps all other weights at 16 bits, of which the session makes
    float32 when it is opened: half the size, and the same vectors to five places.
    """

    def __init__(self, arrays: Arrays, table: NDArray[np.uint8], file: str, *, half: bool) -> None:
        super().__init__()
        self._arrays = arrays
        self._table = table
        self._file = file
        self._half = half
        self._epsilon = float(arrays["eps"])

    def build(self) -> onnx.ModelProto:
        """The complete model with input `token_ids` and output `vector`."""
        tokens = self._look_up()
        features = self._layer_norm(
            self._node("Concat", tokens, *self._convolve(tokens), axis=1), self._weight("ln_g"), self._weight("ln_b")
        )
        length = self._node("Cast", self._node("Shape", "token_ids"), to=TensorProto.FLOAT)
        projected = self._node("MatMul", self._summed(features), self._weight("cnn_W"))
        biased = self._node("Add", projected, self._node("Mul", length, self._weight("cnn_b")))
        deepened = self._deepen(self._node("Div", biased, self._node("Sqrt", length)))
        self._normalize(self._node("Squeeze", deepened), "vector")
        return self._model(vector=[self._table.shape[1]])

    def _look_up(self) -> str:
        """The vectors of the tokens: byte times scale plus least value, both of the token's table."""
        self._constants.append(self._external_table())
        number = self._node("Mod", "token_ids", self._integers(TABLES))
        scale, least = (
            self._node("Gather", self._constant(self._arrays[name][:, None]), number) for name in ("scale", "lo")
        )
        rows = self._node("Cast", self._node("Gather", "token_table", "token_ids"), to=TensorProto.FLOAT)
        return self._node("Add", self._node("Mul", rows, scale), least)

    def _external_table(self) -> onnx.TensorProto:
        tensor = onnx.TensorProto(name="token_table", data_type=TensorProto.UINT8, dims=self._table.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": self._file, "offset": "0", "length": str(self._table.nbytes)}.items():
            tensor.external_data.append(onnx.StringStringEntryProto(key=key, value=value))
        return tensor

    def _convolve(self, tokens: str) -> list[str]:
        """What each width gives each token."""
        kernel, bias = self._of_all_widths("proj"), self._of_all_widths("proj_b")
        narrowed = self._node("Add", self._node("MatMul", tokens, kernel), bias)
        normalized = self._layer_norm(narrowed, self._of_all_widths("ln_g"), self._of_all_widths("ln_b"))
        parts = self._split(normalized, [f"width_{width}" for width in WINDOWS])
        return [self._convolve_twice(value, width) for value, width in zip(parts, WINDOWS, strict=True)]

    def _of_all_widths(self, name: str) -> str:
        return self._floats(np.concatenate([self._arrays[f"{name}{width}"] for width in WINDOWS], axis=-1))

    def _convolve_twice(self, value: str, width: int) -> str:
        for layer in ("1", "2"):
            kernel, bias = self._weight(f"w{layer}_{width}"), self._weight(f"b{layer}_{width}")
            product = self._node("Add", self._node("MatMul", self._windows(value, width), kernel), bias)
            value = self._node("Add", self._node("Relu", product), value)
        return value

    def _windows(self, value: str, width: int) -> str:
        """Each token beside its neighbours; beyond the ends of the text there are zeros."""
        before = WINDOWS[width]
        after = width - 1 - before
        padded = self._node("Pad", value, self._integers(before, 0, after, 0))
        shifted = [
            self._node("Slice", padded, self._integers(shift), self._end(shift - width + 1), self._integers(0))
            for shift in range(width)
        ]
        return self._node("Concat", *shifted, axis=1)

    def _end(self, stop: int) -> str:
        """Where a slice ends: so many rows before the last one."""
        return self._integers(stop if stop < 0 else np.iinfo(np.int64).max)

    def _summed(self, features: str) -> str:
        return self._node("ReduceSum", features, self._integers(0), keepdims=1)

    def _deepen(self, value: str) -> str:
        """Four dense layers, of which two also see what was there two layers before."""
        first = self._node("Relu", self._node("MatMul", value, self._weight("d0")))
        second = self._node("Relu", self._joined(first, "d1", value, "p1"))
        third = self._node("Relu", self._node("MatMul", second, self._weight("d2")))
        return self._node("Tanh", self._joined(third, "d3", second, "p3"))

    def _joined(self, value: str, kernel: str, earlier: str, bypass: str) -> str:
        product = self._node("MatMul", value, self._weight(kernel))
        return self._node("Add", product, self._node("MatMul", earlier, self._weight(bypass)))

    def _layer_norm(self, value: str, scale: str, bias: str) -> str:
        return self._node("LayerNormalization", value, scale, bias, axis=-1, epsilon=self._epsilon)

    def _weight(self, name: str) -> str:
        return self._floats(self._arrays[name])

    def _floats(self, array: NDArray[np.float32]) -> str:
        if not self._half:
            return self._constant(array)
        return self._node("Cast", self._constant(array.astype(np.float16)), to=TensorProto.FLOAT)

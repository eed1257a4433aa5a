"""A BERT sentence encoder as an ONNX graph: token ids of one text in, its unit vector and those of its tokens out.

The graph takes a single text, so there is neither padding nor an attention mask, and a vector never depends on which
other texts happen to be embedded at the same time. Pooling (the mean over all tokens) and normalization are inside.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from scripts.model.nodes import GraphBuilder
from scripts.model.weights import Weights

HEAD_SIZE = 32
LAYER_NORM_EPSILON = 1e-12


class BertGraph(GraphBuilder):
    """Builds the float32 graph node by node; every method that adds a node returns the name of its value."""

    def __init__(self, weights: Weights, projection: NDArray[np.float32]) -> None:
        """`projection` takes the last layer of a token to its vector: `hidden` rows, a column for each dimension."""
        super().__init__()
        self.weights = weights
        self.projection = projection
        self.hidden = weights["embeddings.word_embeddings.weight"].shape[1]
        self.layers = sum(name.endswith("attention.self.query.weight") for name in weights)

    def build(self) -> onnx.ModelProto:
        """The complete, checked model with input `token_ids` and outputs `vector` and `token_vectors`."""
        hidden = self._embed()
        for layer in range(self.layers):
            hidden = self._encode(hidden, f"encoder.layer.{layer}")
        self._normalize(self._node("ReduceMean", hidden, self._integers(0), keepdims=0), "vector")
        direction = self._node("LpNormalization", hidden, axis=1, p=2)
        self._normalize(self._node("MatMul", direction, self._constant(self.projection)), "token_vectors", axis=1)
        model = self._model(vector=[self.hidden], token_vectors=["tokens", self.projection.shape[1]])
        onnx.checker.check_model(model, full_check=True)
        return model

    def _embed(self) -> str:
        """Word plus position plus type (always that of a first sentence), normalized."""
        length = self._node("Shape", "token_ids")
        table = self._weight("embeddings.position_embeddings") + self._weight("embeddings.token_type_embeddings")[0]
        positions = self._node("Slice", self._constant(table), self._integers(0), length, self._integers(0))
        summed = self._node("Add", self._look_up("embeddings.word_embeddings", "token_ids"), positions)
        return self._layer_norm(summed, "embeddings.LayerNorm")

    def _encode(self, hidden: str, layer: str) -> str:
        attended = self._linear(self._attend(hidden, layer), f"{layer}.attention.output.dense")
        hidden = self._layer_norm(self._node("Add", attended, hidden), f"{layer}.attention.output.LayerNorm")
        widened = self._node("Gelu", self._linear(hidden, f"{layer}.intermediate.dense"))
        narrowed = self._linear(widened, f"{layer}.output.dense")
        return self._layer_norm(self._node("Add", narrowed, hidden), f"{layer}.output.LayerNorm")

    def _attend(self, hidden: str, layer: str) -> str:
        """Scaled dot-product attention (Vaswani et al. 2017), all heads at once; one product makes q, k and v."""
        projected = self._linear(hidden, *(f"{layer}.attention.self.{part}" for part in ("query", "key", "value")))
        query, key, value = self._split(projected, ("query", "key", "value"))
        scaled = self._node("Mul", self._heads(query, [1, 0, 2]), self._number(HEAD_SIZE**-0.5))
        shares = self._node("Softmax", self._node("MatMul", scaled, self._heads(key, [1, 2, 0])), axis=-1)
        mixed = self._node("MatMul", shares, self._heads(value, [1, 0, 2]))
        joined = self._node("Transpose", mixed, perm=[1, 0, 2])
        return self._node("Reshape", joined, self._integers(0, self.hidden))

    def _heads(self, value: str, order: list[int]) -> str:
        """Tokens by hidden to three axes: tokens, heads, head size, in the order given."""
        shape = self._integers(0, self.hidden // HEAD_SIZE, HEAD_SIZE)
        return self._node("Transpose", self._node("Reshape", value, shape), perm=order)

    def _layer_norm(self, value: str, name: str) -> str:
        scale, bias = self._constant(self._weight(name)), self._constant(self.weights[f"{name}.bias"])
        return self._node("LayerNormalization", value, scale, bias, axis=-1, epsilon=LAYER_NORM_EPSILON)

    def _linear(self, value: str, *names: str) -> str:
        """One product with the kernels of all names side by side."""
        kernel = np.concatenate([self._weight(name) for name in names]).T
        bias = np.concatenate([self.weights[f"{name}.bias"] for name in names])
        return self._node("Add", self._multiply(value, kernel), self._constant(bias))

    def _multiply(self, value: str, kernel: NDArray[np.float32]) -> str:
        return self._node("MatMul", value, self._constant(kernel))

    def _look_up(self, name: str, indices: str) -> str:
        return self._node("Gather", self._constant(self._weight(name)), indices)

    def _weight(self, name: str) -> NDArray[np.float32]:
        return self.weights[f"{name}.weight"]


class QuantizedBertGraph(BertGraph):
    """The same graph with 8-bit weights: symmetric, one scale per output of a kernel and per word of the vocabulary.

    Activations are quantized while it runs (`DynamicQuantizeLinear`). Kernels use 7 of the 8 bits, because processors
    with AVX2 but without VNNI add pairs of 8-bit products in 16 bits, which saturate with the full range. What leaves
    the Gelu differs so much from token to token that each is first brought to the same peak; that halves the error.
    """

    KERNEL_RANGE = 63
    WORD_RANGE = 127

    def _multiply(self, value: str, kernel: NDArray[np.float32]) -> str:
        narrows = kernel.shape[0] > self.hidden
        return self._multiply_leveled(value, kernel) if narrows else self._multiply_quantized(value, kernel)

    def _multiply_leveled(self, value: str, kernel: NDArray[np.float32]) -> str:
        peak = self._node("ReduceMax", self._node("Abs", value), self._integers(1), keepdims=1)
        product = self._multiply_quantized(self._node("Div", value, peak), kernel)
        return self._node("Mul", product, peak)

    def _multiply_quantized(self, value: str, kernel: NDArray[np.float32]) -> str:
        quantized, scale = quantize(kernel, self.KERNEL_RANGE, axis=0)
        activations, step, zero = self._quantize_activations(value)
        product = self._node("MatMulInteger", activations, self._constant(quantized), zero)
        steps = self._node("Mul", step, self._constant(scale[0]))
        return self._node("Mul", self._node("Cast", product, to=TensorProto.FLOAT), steps)

    def _look_up(self, name: str, indices: str) -> str:
        quantized, scale = quantize(self._weight(name), self.WORD_RANGE, axis=1)
        rows = self._node("Cast", self._node("Gather", self._constant(quantized), indices), to=TensorProto.FLOAT)
        return self._node("Mul", rows, self._node("Gather", self._constant(scale), indices))

    def _quantize_activations(self, value: str) -> list[str]:
        names = [f"{value}_{part}" for part in ("quantized", "step", "zero")]
        self._nodes.append(helper.make_node("DynamicQuantizeLinear", [value], names))
        return names


def quantize(values: NDArray[np.float32], largest: int, axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Integers from -`largest` to `largest`, and the scale along `axis` by which they are multiplied to get back."""
    scale = np.abs(values).max(axis=axis, keepdims=True) / np.float32(largest)
    scale[scale == 0] = 1
    return np.rint(values / scale).astype(np.int8), scale

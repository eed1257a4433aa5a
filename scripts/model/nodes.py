"""What every ONNX graph here is built with: nodes and constants that are added one at a time, each with a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
IR_VERSION = 9


class GraphBuilder:
    """A graph with input `token_ids`; a method that adds a node returns the name of its value."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def _model(self, **outputs: Sequence[int | str]) -> onnx.ModelProto:
        """The model of all nodes, with these outputs of these shapes."""
        graph = helper.make_graph(
            self._nodes,
            "sentence_encoder",
            [helper.make_tensor_value_info("token_ids", TensorProto.INT64, ["tokens"])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
            self._constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)

    def _normalize(self, value: str, output: str, axis: int = 0) -> None:
        """An output whose vectors along an axis have unit length."""
        self._nodes.append(helper.make_node("LpNormalization", [value], [output], axis=axis, p=2))

    def _split(self, value: str, parts: Sequence[str]) -> list[str]:
        """Equal parts of the columns, by these names."""
        names = [f"{value}_{part}" for part in parts]
        self._nodes.append(helper.make_node("Split", [value], names, axis=1, num_outputs=len(names)))
        return names

    def _node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def _constant(self, array: NDArray[Any]) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _number(self, value: float) -> str:
        return self._constant(np.array(value, np.float32))

    def _integers(self, *values: int) -> str:
        return self._constant(np.array(values, np.int64))

"""Files in the form in which TensorFlow Lite publishes DeepLabV3 on MobileNetV2, random weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import tflite
import torch
from torch import Tensor

# Channels that a block of half of MobileNetV2 gives, in order.
BLOCKS = (8, 12, 12, 16, 16, 16, 32, 32, 32, 32, 48, 48, 48, 80, 80, 80, 160)


def random_state(
    seed: int = 0, blocks: Sequence[int] = BLOCKS, stem: int = 16, pyramid: int = 256
) -> dict[str, Tensor]:
    """Return weights under the reader's names, drawn so that values neither grow nor vanish.

    Parameters
    ----------
    blocks, stem, pyramid : channels that each block, the first convolution, and the two views
        and their projection give; as published.
    """
    draw = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}

    def layer(name: str, outputs: int, inputs: int, kernel: int) -> None:
        scale = (2 / (inputs * kernel**2)) ** 0.5
        shape = (outputs, inputs, kernel, kernel)
        state[f"{name}.weight"] = scale * torch.randn(shape, generator=draw)
        state[f"{name}.bias"] = 0.1 * torch.randn(outputs, generator=draw)

    layer("stem", stem, 3, 3)
    width = stem
    for number, outputs in enumerate(blocks):
        hidden = width if number == 0 else 6 * width
        if number:
            layer(f"blocks.{number}.expand", hidden, width, 1)
        layer(f"blocks.{number}.depthwise", hidden, 1, 3)
        layer(f"blocks.{number}.project", outputs, hidden, 1)
        width = outputs
    layer("aspp_pool", pyramid, width, 1)
    layer("aspp0", pyramid, width, 1)
    layer("concat_projection", pyramid, 2 * pyramid, 1)
    layer("logits", 21, pyramid, 1)
    return state


@dataclass
class Graph:
    """What a file holds, as it is gathered: numbers of tensors, and operators between them."""

    arrays: list[Any] = field(default_factory=list)
    operators: list[tuple[int, list[int], int]] = field(default_factory=list)

    def tensor(self, values: Any = None) -> int:
        """Add a tensor, of constants or to be computed; return its number."""
        self.arrays.append(values)
        return len(self.arrays) - 1

    def apply(self, kind: int, *inputs: int) -> int:
        """Add an operator; return the number of the tensor that it gives."""
        output = self.tensor()
        self.operators.append((kind, list(inputs), output))
        return output

    def convolve(self, state: dict[str, Tensor], name: str, values: int) -> int:
        """Add a convolution with the weights of ``name``; return what it gives."""
        weight, bias = state[f"{name}.weight"].numpy(), state[f"{name}.bias"].numpy()
        kind = tflite.BuiltinOperator.CONV_2D
        order = (0, 2, 3, 1)
        if name.endswith("depthwise"):
            kind, order = tflite.BuiltinOperator.DEPTHWISE_CONV_2D, (1, 2, 3, 0)
        return self.apply(kind, values, self.tensor(weight.transpose(order)), self.tensor(bias))


def tflite_file(state: dict[str, Tensor], *, near_first: bool = False, half: bool = False) -> bytes:
    """Return ``state`` as a file of one graph.

    Parameters
    ----------
    near_first : the two views are computed and concatenated the other way round; ``state`` then
        is of that order.
    half : float16 numbers.
    """
    graph, kinds = Graph(), tflite.BuiltinOperator
    values = graph.convolve(state, "stem", graph.tensor())
    width = 0
    for number in range(sum(key.endswith("project.bias") for key in state)):
        before = values
        layers = ("depthwise", "project") if number == 0 else ("expand", "depthwise", "project")
        for name in layers:
            values = graph.convolve(state, f"blocks.{number}.{name}", values)
        outputs = len(state[f"blocks.{number}.project.bias"])
        if outputs == width:
            values = graph.apply(kinds.ADD, before, values)
        width = outputs

    def near() -> int:
        return graph.convolve(state, "aspp0", values)

    def whole() -> int:
        pooled = graph.convolve(state, "aspp_pool", graph.apply(kinds.AVERAGE_POOL_2D, values))
        return graph.apply(kinds.RESIZE_BILINEAR, pooled, graph.tensor())

    views = (near(), whole()) if near_first else (whole(), near())
    both = graph.apply(kinds.CONCATENATION, *views)
    merged = graph.convolve(state, "concat_projection", both)
    graph.apply(kinds.RESIZE_BILINEAR, graph.convolve(state, "logits", merged), graph.tensor())
    return to_bytes(graph, half=half)


def to_bytes(graph: Graph, *, half: bool = False) -> bytes:
    """Return the file of a graph."""
    builder = flatbuffers.Builder(1 << 20)
    buffers, tensors = [], []
    for values in graph.arrays:
        stored = None
        if values is not None:
            numbers = np.ascontiguousarray(values, np.float16 if half else np.float32)
            stored = builder.CreateNumpyVector(numbers.view(np.uint8).ravel())
        tflite.BufferStart(builder)
        if stored is not None:
            tflite.BufferAddData(builder, stored)
        buffers.append(tflite.BufferEnd(builder))
    for place, values in enumerate(graph.arrays):
        shape = np.array([1] if values is None else values.shape, np.int32)
        sizes = builder.CreateNumpyVector(shape)
        tflite.TensorStart(builder)
        tflite.TensorAddShape(builder, sizes)
        tflite.TensorAddType(
            builder, tflite.TensorType.FLOAT16 if half else tflite.TensorType.FLOAT32
        )
        tflite.TensorAddBuffer(builder, place)
        tensors.append(tflite.TensorEnd(builder))
    kinds = sorted({kind for kind, _, _ in graph.operators})
    operators = []
    for kind, inputs, output in graph.operators:
        ins = builder.CreateNumpyVector(np.array(inputs, np.int32))
        outs = builder.CreateNumpyVector(np.array([output], np.int32))
        tflite.OperatorStart(builder)
        tflite.OperatorAddOpcodeIndex(builder, kinds.index(kind))
        tflite.OperatorAddInputs(builder, ins)
        tflite.OperatorAddOutputs(builder, outs)
        operators.append(tflite.OperatorEnd(builder))
    codes = []
    for kind in kinds:
        tflite.OperatorCodeStart(builder)
        # As files of before 2020 have it, the published one among them.
        tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, kind)
        codes.append(tflite.OperatorCodeEnd(builder))
    tensors_at, operators_at = _vector(builder, tensors), _vector(builder, operators)
    tflite.SubGraphStart(builder)
    tflite.SubGraphAddTensors(builder, tensors_at)
    tflite.SubGraphAddOperators(builder, operators_at)
    graphs_at = _vector(builder, [tflite.SubGraphEnd(builder)])
    codes_at, buffers_at = _vector(builder, codes), _vector(builder, buffers)
    tflite.ModelStart(builder)
    tflite.ModelAddVersion(builder, 3)
    tflite.ModelAddOperatorCodes(builder, codes_at)
    tflite.ModelAddSubgraphs(builder, graphs_at)
    tflite.ModelAddBuffers(builder, buffers_at)
    builder.Finish(tflite.ModelEnd(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _vector(builder: flatbuffers.Builder, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()

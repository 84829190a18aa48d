"""Reader for the weights in TensorFlow Lite's DeepLabV3 on MobileNetV2; its graph is not run.

The names of tensors depend on the converter, so layers are identified by their order and inputs:
image pooling is the convolution that follows an average pool.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skinray.errors import WeightsError

IDENTIFIER = b"TFL3"
REMEDY = "get the float file of DeepLabV3 on MobileNetV2 that `skinray weights list` names"


@dataclass(frozen=True)
class _Convolution:
    """One convolution in the order of the graph; a weight is (out, in or 1, height, width)."""

    depthwise: bool
    pooled: bool
    weight: Tensor
    bias: Tensor


def is_tflite(path: Path) -> bool:
    """Whether a file's content is of TensorFlow Lite, whatever its name."""
    with path.open("rb") as file:
        return file.read(8)[4:] == IDENTIFIER


def read_tflite(path: Path) -> dict[str, Tensor]:
    """Return the network's weights by layer.

    ``stem``, ``blocks.N.`` ``expand`` (except in the first), ``depthwise`` and ``project``,
    ``aspp_pool``, ``aspp0``, ``concat_projection`` and ``logits``, each with ``weight`` and
    ``bias``. The projection's inputs are the pooled branch, then the other.

    Raises
    ------
    WeightsError
        If the file is damaged, or has another network or numbers other than float32.
    """
    try:
        convolutions, pooled_first = _walk(path.read_bytes())
        state = _named(convolutions)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}; {REMEDY}") from None
    except Exception as error:  # truncated or hostile files raise many kinds of error
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise WeightsError(f"{path}: damaged TensorFlow Lite file ({reason}); {REMEDY}") from None
    if not pooled_first:
        near, pooled = state["concat_projection.weight"].chunk(2, dim=1)
        state["concat_projection.weight"] = torch.cat([pooled, near], dim=1)
    return state


def _walk(data: bytes) -> tuple[list[_Convolution], bool]:
    """Return the convolutions, and whether the pooled branch is concatenated first."""
    from tflite import BuiltinOperator as Kind
    from tflite import Model

    model: Any = Model.GetRootAs(data)
    graph = model.Subgraphs(0)
    convolutions: list[_Convolution] = []
    pooled: set[int] = set()  # tensors computed from an average pool
    pooled_first = True
    for place in range(graph.OperatorsLength()):
        operator = graph.Operators(place)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        inputs = [operator.Inputs(at) for at in range(operator.InputsLength())]
        after_pool = kind == Kind.AVERAGE_POOL_2D or bool(pooled.intersection(inputs))
        if kind in (Kind.CONV_2D, Kind.DEPTHWISE_CONV_2D):
            depthwise = kind == Kind.DEPTHWISE_CONV_2D
            weight, bias = (_numbers(model, graph, at) for at in inputs[1:3])
            # From (out, h, w, in), or for a depthwise convolution from (1, h, w, channels).
            order = (3, 0, 1, 2) if depthwise else (0, 3, 1, 2)
            convolutions.append(
                _Convolution(
                    depthwise,
                    after_pool,
                    torch.from_numpy(np.ascontiguousarray(weight.transpose(order))),
                    torch.from_numpy(bias),
                )
            )
        if kind == Kind.CONCATENATION:
            pooled_first = inputs[0] in pooled
            after_pool = False  # the result depends on both branches
        if after_pool:
            pooled.update(operator.Outputs(at) for at in range(operator.OutputsLength()))
    return convolutions, pooled_first


def _numbers(model: Any, graph: Any, at: int) -> NDArray[np.float32]:
    from tflite import TensorType

    tensor = graph.Tensors(at)
    if tensor.Type() != TensorType.FLOAT32:
        raise WeightsError("has numbers that are not float32 (a quantised network?)")
    shape = [tensor.Shape(axis) for axis in range(tensor.ShapeLength())]
    stored = model.Buffers(tensor.Buffer()).DataAsNumpy()
    return np.frombuffer(stored.tobytes(), "<f4").reshape(shape).astype(np.float32)


def _named(convolutions: list[_Convolution]) -> dict[str, Tensor]:
    """Name the layers by their order: stem, blocks, two branches, projection, logits."""
    kinds = "".join("d" if one.depthwise else "c" for one in convolutions)
    if not re.fullmatch("cdc(cdc)+cccc", kinds):
        raise WeightsError("has another network")
    first, second, projection, logits = range(len(kinds) - 4, len(kinds))
    pooled, near = (second, first) if convolutions[second].pooled else (first, second)
    places = {
        "stem": 0, "aspp_pool": pooled, "aspp0": near, "concat_projection": projection,
        "logits": logits,
    }  # fmt: skip
    for number, block in enumerate(re.finditer("c?dc", kinds[1:-4])):
        layers = ("expand", "depthwise", "project")[-len(block.group()) :]
        for place, layer in enumerate(layers, 1 + block.start()):
            places[f"blocks.{number}.{layer}"] = place
    state = {}
    for name, place in places.items():
        state[f"{name}.weight"] = convolutions[place].weight
        state[f"{name}.bias"] = convolutions[place].bias
    return state

"""Tensors of the Open Inference Protocol v2: as JSON, nested or flat, or as bytes after it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from skinray.service.problems import ProblemError

Array = NDArray[Any]
Datatype = Literal["UINT8", "INT64", "FP32", "FP64"]
# Little-endian, as in the binary extension.
DTYPES: dict[str, np.dtype[Any]] = {
    "UINT8": np.dtype("u1"),
    "INT64": np.dtype("<i8"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_SIZE = "binary_data_size"


class TensorSpec(BaseModel):
    """Name, type and shape of an input or output; -1: any length."""

    model_config = ConfigDict(frozen=True)

    name: str
    datatype: Datatype
    shape: tuple[int, ...]


class InputTensor(BaseModel):
    """A tensor that a client sends."""

    name: str
    shape: list[int] = Field(max_length=8)
    datatype: str
    parameters: dict[str, JsonValue] = {}
    data: list[Any] | None = Field(
        None, description="values, nested by rows or flat; null: they follow as bytes"
    )


class OutputWish(BaseModel):
    """An output that a client asks for."""

    name: str
    parameters: dict[str, JsonValue] = {}


class InferRequest(BaseModel):
    """Inputs for one model, and the outputs wanted; default: all of them."""

    id: str | None = None
    parameters: dict[str, JsonValue] = {}
    inputs: list[InputTensor] = Field(max_length=16)
    outputs: list[OutputWish] = Field([], max_length=16)


class OutputTensor(BaseModel):
    """A tensor that the service sends."""

    name: str
    shape: list[int]
    datatype: Datatype
    parameters: dict[str, JsonValue] | None = None
    data: list[int] | list[float] | None = Field(None, description="flat, by rows")


class InferResponse(BaseModel):
    """Outputs of one model."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


def read_inputs(
    inputs: Iterable[InputTensor], tail: bytes, known: Mapping[str, TensorSpec], max_values: int
) -> dict[str, Array]:
    """Return the input tensors by name.

    Parameters
    ----------
    inputs : as the JSON part describes them, in the order of their bytes.
    tail : what follows the JSON part.
    known : what the model takes.
    max_values : larger tensors are refused.

    Raises
    ------
    ProblemError
        A tensor is unknown, repeated, incomplete, or of the wrong type or shape.
    """
    found: dict[str, Array] = {}
    at = 0
    for tensor in inputs:
        spec = known.get(tensor.name)
        if spec is None or tensor.name in found:
            raise bad(f"input {tensor.name[:40]!r} is unknown or repeated; known: {list(known)}")
        _check(tensor, spec, max_values)
        size = tensor.parameters.get(_SIZE)
        if size is None:
            found[tensor.name] = _from_json(tensor)
        elif isinstance(size, int) and not isinstance(size, bool) and tensor.data is None:
            found[tensor.name] = _from_bytes(tensor, tail[at : at + max(0, size)], size)
            at += size
        else:
            raise bad(f"input {tensor.name}: give data, or {_SIZE} and bytes after the JSON part")
    if at != len(tail):
        raise bad(f"{len(tail)} bytes follow the JSON part, but it describes {at}")
    return found


def write_output(
    spec: TensorSpec, values: Array, binary: bool
) -> tuple[dict[str, Any], bytes | None]:
    """Return an output's JSON, and its bytes if they go after the JSON part."""
    array = np.ascontiguousarray(values, DTYPES[spec.datatype])
    head = {"name": spec.name, "shape": list(array.shape), "datatype": spec.datatype}
    if not binary:
        return {**head, "data": array.ravel().tolist()}, None
    return {**head, "parameters": {_SIZE: array.nbytes}}, array.tobytes()


def bad(detail: str) -> ProblemError:
    """Return the error of an invalid tensor."""
    return ProblemError("bad_tensor", detail)


def _check(tensor: InputTensor, spec: TensorSpec, max_values: int) -> None:
    if tensor.datatype != spec.datatype:
        raise bad(f"input {spec.name}: datatype must be {spec.datatype}")
    fits = len(tensor.shape) == len(spec.shape) and all(
        size >= 1 and wanted in (-1, size)
        for size, wanted in zip(tensor.shape, spec.shape, strict=False)
    )
    if not fits:
        raise bad(f"input {spec.name}: shape must be {list(spec.shape)}, where -1 is any length")
    if math.prod(tensor.shape) > max_values:
        raise ProblemError("too_many_pixels", f"input {spec.name}: at most {max_values} values")


def _from_json(tensor: InputTensor) -> Array:
    """Read values, nested or flat; only those that the type can hold exactly."""
    dtype = DTYPES[tensor.datatype]
    try:
        values = np.array(tensor.data if tensor.data is not None else [])
    except (ValueError, OverflowError, RecursionError):  # ragged, too large, too deep
        values = np.array(["none"])
    whole = values.dtype.kind in "iu"
    if not (whole or (values.dtype.kind == "f" and dtype.kind == "f")):
        raise bad(f"input {tensor.name}: data must be numbers of the type {tensor.datatype}")
    if list(values.shape) != tensor.shape and values.shape != (math.prod(tensor.shape),):
        raise bad(f"input {tensor.name}: data does not fill the shape {tensor.shape}")
    if dtype == np.uint8 and (values.min() < 0 or values.max() > 255):
        raise bad(f"input {tensor.name}: UINT8 holds 0 to 255")
    return values.astype(dtype).reshape(tensor.shape)


def _from_bytes(tensor: InputTensor, data: bytes, size: int) -> Array:
    dtype = DTYPES[tensor.datatype]
    wanted = math.prod(tensor.shape) * dtype.itemsize
    if size != wanted or len(data) != wanted:
        raise bad(f"input {tensor.name}: its shape needs {wanted} bytes")
    return np.frombuffer(data, dtype).reshape(tensor.shape)

"""What the OpenAPI tells of inference beside its types: bodies, examples, refusals."""

from __future__ import annotations

from typing import Any

from skinray.service.tensors import InferRequest

_EXAMPLE = {
    "inputs": [
        {
            "name": "image",
            "shape": [2, 2, 3],
            "datatype": "UINT8",
            "data": [255, 255, 255, 120, 60, 30, 255, 255, 255, 120, 60, 30],
        },
        {"name": "um_per_px", "shape": [1], "datatype": "FP64", "data": [0.5]},
    ],
    "outputs": [{"name": "count"}, {"name": "points"}],
}
_HEADER = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "required": False,
    "description": "bytes of the JSON part, where tensors follow it as bytes",
    "schema": {"type": "integer", "minimum": 0},
}
BODY: dict[str, Any] = {
    "parameters": [_HEADER],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": f"#/components/schemas/{InferRequest.__name__}"},
                "example": _EXAMPLE,
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The outputs asked for",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
REFUSALS = (
    "bad_request", "bad_tensor", "not_found", "slow_upload", "too_many_bytes", "bad_um_per_px",
    "too_many_pixels", "internal", "busy", "timeout",
)  # fmt: skip

"""The models that the Open Inference Protocol offers: what goes into them and comes out."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from skinray.service.tensors import TensorSpec


class Model(BaseModel):
    """A model as the protocol names it."""

    model_config = ConfigDict(frozen=True)

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class ModelMetadata(Model):
    """A model, and the bundle that stands behind it."""

    versions: list[str] = Field(description="SHA-256 that names the bundle")
    platform: str = Field("skinray_bundle", description="what runs it")


class ServerMetadata(BaseModel):
    """The service itself."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """Whether the process answers at all."""

    live: bool


class Ready(BaseModel):
    """Whether every network answers."""

    ready: bool


class ModelReady(Ready):
    """Whether one model answers."""

    name: str


_IMAGE = TensorSpec(name="image", datatype="UINT8", shape=(-1, -1, 3))
_SCALE = TensorSpec(name="um_per_px", datatype="FP64", shape=(1,))
_MAP = TensorSpec(name="probability", datatype="FP32", shape=(-1, -1))
_COUNTED = (
    TensorSpec(name="count", datatype="INT64", shape=(1,)),
    TensorSpec(name="points", datatype="FP64", shape=(-1, 2)),
    TensorSpec(name="boundary_px", datatype="FP64", shape=(1,)),
    TensorSpec(name="boundary_mm", datatype="FP64", shape=(-1,)),
    TensorSpec(name="density_per_mm", datatype="FP64", shape=(-1,)),
)
# All models see the same: an image, and its scale where it is known.
INPUTS = {spec.name: spec for spec in (_IMAGE, _SCALE)}
MODELS = {
    name: Model(name=name, inputs=tuple(INPUTS.values()), outputs=outputs)
    for name, outputs in (("biopsies", _COUNTED), ("nerve", (_MAP,)), ("dermis", (_MAP,)))
}
# Told in the description; one that is unknown is an address without a resource (404).
ModelName = Annotated[str, Path(description="of a model", json_schema_extra={"enum": list(MODELS)})]

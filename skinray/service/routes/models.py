"""The models that the Open Inference Protocol offers: what goes into them and comes out."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from skinray.config.kinds import Kind
from skinray.service.problems import ProblemError
from skinray.service.routes.tensors import TensorSpec


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


def _models(
    inputs: tuple[TensorSpec, ...], outputs: dict[str, tuple[TensorSpec, ...]]
) -> dict[str, Model]:
    return {name: Model(name=name, inputs=inputs, outputs=outs) for name, outs in outputs.items()}


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
_SKIN = (TensorSpec(name="skin", datatype="UINT8", shape=(-1, -1)),)
# By what the bundle is for: the whole, then each network's map. All models of a kind see the same,
# an image, and a biopsy's scale where it is known.
MODELS: dict[Kind, dict[str, Model]] = {
    "biopsy": _models(
        (_IMAGE, _SCALE), {"biopsies": _COUNTED, "nerve": (_MAP,), "dermis": (_MAP,)}
    ),
    "photo": _models((_IMAGE,), {"photos": _SKIN, "skin": (_MAP,)}),
}
_NAMES = [name for models in MODELS.values() for name in models]
# Told in the description; one that is unknown is an address without a resource (404).
ModelName = Annotated[str, Path(description="of a model", json_schema_extra={"enum": _NAMES})]


def find_model(name: str, kind: Kind) -> Model:
    """Return a model of this kind of bundle by its name; ProblemError where there is none."""
    if name not in MODELS[kind]:
        known = ", ".join(MODELS[kind])
        raise ProblemError("not_found", f"no such model; this service has {known}")
    return MODELS[kind][name]

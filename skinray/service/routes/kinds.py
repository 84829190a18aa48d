"""What a service offers for each kind of image: its models, and what it does not take.

Everything that differs between biopsies and photographs, apart from their own routes, is in the
one :class:`ServedKind` that is chosen when the service starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from fastapi import Path
from pydantic import BaseModel, ConfigDict

from skinray.config.kinds import STAGES, Kind
from skinray.service.answers.biopsies import CountWant
from skinray.service.answers.photos import SkinWant
from skinray.service.answers.request import Want
from skinray.service.problems import ProblemError
from skinray.service.routes.tensors import TensorSpec


class Model(BaseModel):
    """A model as the Open Inference Protocol names it."""

    model_config = ConfigDict(frozen=True)

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


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


@dataclass(frozen=True)
class ServedKind:
    """What a service offers for one kind of image.

    Attributes
    ----------
    whole : name of the model of the whole image; every stage is a model of its own.
    outputs : of the model ``whole``; those that ``Answer.tensors`` returns.
    inputs : the same for all models of the kind.
    want : what the model ``whole`` asks the engine for.
    elsewhere : error for another kind of image, saying where to send it.
    labels : whether corrected images can be stored as labels.
    """

    name: Kind
    whole: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    want: Want[Any]
    elsewhere: str
    labels: bool

    @cached_property
    def models(self) -> dict[str, Model]:
        """The models by name: the whole image, then the map of each stage."""
        outputs = {self.whole: self.outputs} | dict.fromkeys(STAGES[self.name], (_MAP,))
        return {
            name: Model(name=name, inputs=self.inputs, outputs=specs)
            for name, specs in outputs.items()
        }

    def model(self, name: str) -> Model:
        """Return one model; ProblemError if there is none with this name."""
        if name not in self.models:
            known = ", ".join(self.models)
            raise ProblemError("not_found", f"no such model; this service has {known}")
        return self.models[name]

    def refuse_other(self, wanted: Kind) -> None:
        """Raise ProblemError if the request is for another kind of image."""
        if wanted != self.name:
            raise ProblemError("wrong_bundle", self.elsewhere)


KINDS: dict[Kind, ServedKind] = {
    "biopsy": ServedKind(
        name="biopsy",
        whole="biopsies",
        inputs=(_IMAGE, _SCALE),
        outputs=_COUNTED,
        want=CountWant(),
        elsewhere="the bundle in service counts nerves in biopsies (POST /v1/biopsies): send "
        "photographs to a service with a bundle for photographs",
        labels=True,
    ),
    "photo": ServedKind(
        name="photo",
        whole="photos",
        inputs=(_IMAGE,),
        outputs=_SKIN,
        want=SkinWant(runs=True),
        elsewhere="the bundle in service finds skin in photographs (POST /v1/photos): send "
        "biopsies to a service with a bundle for biopsies",
        labels=False,
    ),
}
_NAMES = [name for kind in KINDS.values() for name in kind.models]
# Listed in the description only: an unknown name is an address without a resource (404).
ModelName = Annotated[str, Path(description="of a model", json_schema_extra={"enum": _NAMES})]
ModelVersion = Annotated[str, Path(description="one of the model's metadata: SHA-256 of a bundle")]


def refuse_other_version(version: str, bundle: str) -> None:
    """Raise ProblemError unless a model's version is the bundle in service."""
    if version != bundle:
        raise ProblemError("not_found", f"no such version; the bundle in service is {bundle}")

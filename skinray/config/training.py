"""How one network is trained, and what a training asks of the Ray cluster."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from skinray.config.base import Settings

Scalar = bool | int | float | str | None


class ModelSettings(Settings):
    """Which network, how it is built, and which weights it starts from."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict, description="passed to models.build")
    weights: str | None = Field(
        None, description="name in the table of weights, or a .safetensors path; none: random"
    )


class TrainSettings(Settings):
    """One network's training (paper 2.2 and 2.3)."""

    loss: Literal["dice", "bce", "balanced_bce", "jaccard"] = "dice"
    cross_entropy: float = Field(
        0,
        ge=0,
        description="weight of the pixels' cross-entropy added to dice or jaccard, which alone "
        "give little gradient where a network is confident and wrong",
    )
    skeleton_recall: float = Field(
        0,
        ge=0,
        description="weight of the tracings' missed middle lines, added to the loss: fewer gaps in "
        "thin lines (not in the paper)",
    )
    side_weight: float = Field(0, ge=0, description="weight of HED's side outputs in the loss")
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd; adam has its own moments")
    learning_rate: float = Field(1e-4, gt=0)
    rate_fan_in: int | None = Field(
        None,
        ge=1,
        description="largest number of inputs of a neuron (fan-in) that learns at the full rate; "
        "above it the rate falls in proportion, because Adam moves every weight equally far; "
        "none: the full rate everywhere",
    )
    weight_decay: float = Field(
        1e-3, ge=0, description="L2 added to the gradient; with adamw, decoupled weight decay"
    )
    epochs: int = Field(200, ge=1)
    batch_size: int = Field(2, ge=1, description="per worker; the paper does not say")
    draws_per_image: int = Field(1, ge=1, description="augmented crops per image and epoch")
    schedule: Literal["plateau", "cosine"] = Field(
        "plateau",
        description="lower the rate when the loss stops falling, or along a cosine to 0 at the end",
    )
    plateau_factor: float = Field(0.1, gt=0, lt=1)
    plateau_patience_epochs: int = Field(10, ge=0)
    early_stop_epochs: int | None = Field(
        None, ge=1, description="stop after this many epochs without improvement; none: never"
    )
    keep: Literal["last", "best"] = Field("last", description="which epoch's weights are kept")
    average: float = Field(
        0,
        ge=0,
        lt=1,
        description="keep and validate a running mean of the weights, with this decay per step; "
        "0: the weights themselves",
    )
    validate_every_epochs: int = Field(10, ge=1)
    clip_norm: float | None = Field(None, gt=0, description="limit of the gradient norm; none: off")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="auto: bfloat16 on GPUs that support it, float32 elsewhere; on a CPU with "
        "AVX512_BF16 or AMX, bfloat16 trains wide networks about twice as fast",
    )
    batch_norm_crops: int = Field(
        16,
        ge=1,
        description="with a batch_size below this, batch norm is computed over all workers' "
        "crops (on GPUs only: torch cannot do it on CPUs)",
    )
    max_skipped_steps: int = Field(
        5, ge=0, description="steps with a non-finite gradient to skip before the training stops"
    )

    @model_validator(mode="after")
    def _cross_entropy_is_added_to_another_loss(self) -> Self:
        if self.cross_entropy and self.loss not in ("dice", "jaccard"):
            raise ValueError(
                f"cross_entropy is added to dice or jaccard only; loss {self.loss} is already a "
                "cross-entropy"
            )
        return self


class ArmSettings(Settings):
    """One row of table 1 or 2: a network and its training."""

    label: str
    model: ModelSettings
    train: TrainSettings = TrainSettings()
    grid: dict[str, tuple[Scalar, ...]] = Field(
        default_factory=dict,
        description="values to try, by dotted path below the arm or augment; empty: no search",
    )

    @property
    def slug(self) -> str:
        """The label for file names: lower-case letters, digits and single hyphens."""
        return re.sub(r"[^a-z0-9]+", "-", self.label.lower()).strip("-")

    @model_validator(mode="after")
    def _grid_has_values(self) -> Self:
        for path, values in self.grid.items():
            if not values:
                raise ValueError(f"grid '{path}' lists no value")
        return self


class PretrainSettings(Settings):
    """HED's training on the edges of BSDS500, as far as it is published (Xie and Tu 2015)."""

    seed: int = Field(0, ge=0)
    splits: tuple[Literal["train", "val", "test"], ...] = ("train", "val")
    min_annotators: int = Field(
        3, ge=1, description="annotators who must mark a pixel for it to be an edge"
    )
    disputed: Literal["background", "ignore"] = Field(
        "background",
        description="pixels that fewer annotators mark: background as in HED, or left out of the "
        "loss",
    )
    model: ModelSettings = ModelSettings(name="hed")
    epochs: int = Field(100, ge=1)
    batch_size: int = Field(10, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(2e-4, ge=0)
    crop_px: int = Field(320, ge=8)


class ClusterSettings(Settings):
    """What one training asks of Ray. GPU counts are per worker."""

    workers: int | tuple[int, int] | Literal["auto"] = Field(
        "auto",
        description="workers that train one network; a pair LOW,HIGH takes as many as are free. "
        "Each step takes train.batch_size crops for each worker (of HIGH, with a pair). auto: 1, "
        "but 2 for a network of the bundle on CPUs; these share the step of one, if it has at "
        "least 4 crops and the machine 2 cores",
    )
    learning_rate_rule: Literal["same", "sqrt", "linear"] = Field(
        "same",
        description="factor of the learning rate when a step takes the crops of N workers: "
        "1, the square root of N, or N",
    )
    checkpoint_every_s: float = Field(
        120, ge=0, description="seconds between checkpoints: the work that a kill can lose"
    )
    gpus_per_worker: Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["auto"] = Field(
        "auto",
        description="auto: 1 if the cluster has GPUs or its autoscaler can add them, else 0; a "
        "fraction such as 0.5 is allowed for a single worker",
    )
    cpus_per_worker: int = Field(1, ge=1)
    data_workers: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto",
        description="maximum Ray Data actors that augment for each training worker; 0: the "
        "worker makes its own crops (for comparison); auto: the spare CPUs, 1 to 8",
    )
    decoded_cache: Literal["auto", "memory", "disk"] = Field(
        "auto",
        description="memory: keep decoded images in the object store; disk: read them every epoch",
    )
    max_failures: int = Field(3, ge=0, description="restarts of a trial whose worker died")
    resources_timeout_s: float = Field(
        45,
        gt=0,
        description="how long to wait for resources that the cluster lacks, when it is unknown "
        "what its autoscaler can add; for resources that it can add, the wait has no limit",
    )

    @property
    def worker_range(self) -> tuple[int, int]:
        """Fewest and most workers that a step is made for; networks of the bundle may share it."""
        if self.workers == "auto":
            return 1, 1
        if isinstance(self.workers, int):
            return self.workers, self.workers
        return self.workers

    @property
    def rate_factor(self) -> float:
        """What learning rates are multiplied by; see ``learning_rate_rule``."""
        exponent = {"same": 0.0, "sqrt": 0.5, "linear": 1.0}[self.learning_rate_rule]
        return float(self.worker_range[1] ** exponent)

    @field_validator("workers", mode="before")
    @classmethod
    def _pair_as_text(cls, given: object) -> object:
        """Read ``2,8`` from a command line."""
        if not isinstance(given, str) or given == "auto":
            return given
        numbers = given.split(",")
        if len(numbers) > 2 or not all(number.strip().isdecimal() for number in numbers):
            raise ValueError(f"'{given}': write a number such as 4, a range such as 2,8, or auto")
        low, *high = map(int, numbers)
        return (low, *high) if high else low

    @model_validator(mode="after")
    def _range_is_ordered(self) -> Self:
        low, high = self.worker_range
        if not 1 <= low <= high:
            raise ValueError(f"workers must satisfy 1 <= low <= high, got {self.workers}")
        return self

    @model_validator(mode="after")
    def _gpus_are_whole(self) -> Self:
        gpus = self.gpus_per_worker
        if gpus == "auto" or gpus == int(gpus):
            return self
        if self.worker_range[1] > 1:
            raise ValueError(
                f"gpus_per_worker {gpus:g} with several workers: workers that train together "
                "cannot share a GPU; use gpus_per_worker=1, or workers=1"
            )
        if gpus > 1:
            raise ValueError(f"gpus_per_worker {gpus:g}: use a whole number above 1")
        return self

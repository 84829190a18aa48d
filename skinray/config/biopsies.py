"""Every setting of skinray: frozen, validated, with the unit in the name.

The defaults are the figures of "Automated Skin Biopsy Analysis with Limited Data" (Chan et
al.), here "the paper"; where the paper is silent, the field's description says so and
``docs/fidelity.md`` names the test that pins our reading.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from skinray.config.base import Settings

Scalar = bool | int | float | str | None


class ReadSettings(Settings):
    """How images are decoded."""

    max_pixels: int = Field(
        250_000_000, gt=0, description="refuse larger images by their header, before decoding"
    )


class PredictSettings(Settings):
    """How the networks see a whole image. A bundle carries it: all who count share it."""

    max_pixels: int = Field(
        3_000_000, ge=4096, description="larger images go through the networks in tiles"
    )
    tile_px: int = Field(1536, ge=64, multiple_of=32, description="side of a tile")
    overlap_px: int = Field(
        384, ge=32, multiple_of=32, description="shared by neighbouring tiles, and blended"
    )

    mirrored: Literal[1, 2, 4] = Field(
        1,
        description="maps averaged: of the image alone; also mirrored left to right; also upside "
        "down",
    )

    @model_validator(mode="after")
    def _tiles_move_on(self) -> Self:
        if 2 * self.overlap_px > self.tile_px:
            raise ValueError(
                f"overlap_px {self.overlap_px} is above half of tile_px {self.tile_px}"
            )
        return self


class FoldSettings(Settings):
    """How the cohort is split for cross-validation."""

    count: int = Field(5, ge=2, description="number of folds")
    unit: Literal["subject", "image"] = Field(
        "subject",
        description="what stays together; the paper's unit is the image, ours the subject",
    )
    components_held_out: int | None = Field(
        10,
        ge=1,
        description="images held out for tables 1 and 2 (84/10 in the paper); none: fold 1",
    )


class ColourSettings(Settings):
    """Changes of colour in augmentation; neither paper makes them.

    Each is the natural logarithm of the largest factor: with 0.35 values become up to 1.42 times
    as large or as small. 0: none.
    """

    exposure: float = Field(0, ge=0, le=2, description="of all values")
    balance: float = Field(0, ge=0, le=2, description="of red, green and blue, each by itself")
    contrast: float = Field(0, ge=0, le=2, description="of the distance from the image's mean")
    saturation: float = Field(0, ge=0, le=2, description="of the distance from a pixel's own grey")
    gamma: float = Field(0, ge=0, le=2, description="of the exponent of values in 0..1")


class AugmentSettings(Settings):
    """Online augmentation (paper 2.1), composed to one affine map and one warp."""

    translate_px: float = Field(100, ge=0)
    rotate_deg: float = Field(10, ge=0, le=180)
    scale: tuple[float, float] = Field(
        (1.0, 1.0), description="least and most magnification, about the image's centre"
    )
    shear_deg: float = Field(5, ge=0, lt=60)
    shear_axes: Literal["x", "both"] = Field("x", description="the paper names no axis")
    orientations_deg: tuple[Literal[0, 90, 180, 270], ...] = (0, 90, 180, 270)
    crop_px: int = Field(800, ge=8)
    flip_probability: float = Field(0.5, ge=0, le=1)
    flip_axes: Literal["both", "columns"] = Field(
        "both", description="columns: left to right alone, where pictures have an up and a down"
    )
    colour: ColourSettings = ColourSettings()
    fill: Literal["reflect", "constant"] = Field(
        "reflect", description="outside the image; the paper is silent"
    )

    @model_validator(mode="after")
    def _scale_is_a_range(self) -> Self:
        low, high = self.scale
        if not 0.1 <= low <= high <= 10:
            raise ValueError(f"scale needs 0.1 <= least <= most <= 10, got {self.scale}")
        return self


class PhantomSettings(Settings):
    """Painted biopsies with known nerves, dermis and crossings."""

    um_per_px: float = Field(0.5, gt=0, description="scale the pixel figures are drawn at")
    subjects: int = Field(24, ge=1, description="subjects the images are dealt to in turn")
    mean_crossings: float = Field(
        15, ge=0, description="of a control's image whose junction is 1600 px long"
    )
    field_exponent: float = Field(
        0.5, ge=0, le=1, description="crossings grow with this power of the junction's length"
    )
    neuropathy_ratio: float = Field(0.4, ge=0, description="nerve density of neuropathy to control")
    nerve_contrast: float = Field(1.0, gt=0, description="scales the stain in the nerves")
    clutter: float = Field(1.0, ge=0, description="scales what looks like nerve and is none")
    chromogen: Literal["brown", "purple"] = Field("brown", description="colour of the nerves")


class ModelSettings(Settings):
    """Which network, how it is built, and what it starts from."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict, description="passed to models.build")
    weights: str | None = Field(
        None, description="name in the weights table or a .safetensors path; none: random"
    )


class TrainSettings(Settings):
    """One network's training (paper 2.2 and 2.3)."""

    loss: Literal["dice", "bce", "balanced_bce", "jaccard"] = "dice"
    cross_entropy: float = Field(
        0,
        ge=0,
        description="weight of the pixels' cross-entropy beside dice or jaccard, which alone give "
        "little gradient where a network is sure and wrong",
    )
    side_weight: float = Field(0, ge=0, description="weight of HED's side outputs in the loss")
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd; adam has moments of its own")
    learning_rate: float = Field(1e-4, gt=0)
    rate_fan_in: int | None = Field(
        None,
        ge=1,
        description="values a neuron takes in (its fan-in) up to which its weights learn at the "
        "full rate; with more, at that much less of it, since Adam moves each weight equally far; "
        "none: all at the full rate",
    )
    weight_decay: float = Field(
        1e-3, ge=0, description="L2, added to the gradient; adamw shrinks the weights themselves"
    )
    epochs: int = Field(200, ge=1)
    batch_size: int = Field(2, ge=1, description="per worker; the paper is silent")
    draws_per_image: int = Field(1, ge=1, description="augmented crops of an image an epoch")
    schedule: Literal["plateau", "cosine"] = Field(
        "plateau",
        description="lower the rate where the loss flattens, or along a cosine to 0 at the end",
    )
    plateau_factor: float = Field(0.1, gt=0, lt=1)
    plateau_patience_epochs: int = Field(10, ge=0)
    early_stop_epochs: int | None = Field(None, ge=1, description="without improvement; none: off")
    keep: Literal["last", "best"] = Field("last", description="which epoch's weights are kept")
    average: float = Field(
        0,
        ge=0,
        lt=1,
        description="keep and validate a running mean of the weights, of which each step leaves "
        "this share; 0: the weights themselves",
    )
    validate_every_epochs: int = Field(10, ge=1)
    clip_norm: float | None = Field(None, gt=0, description="gradient norm limit; none: off")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="auto: bfloat16 on GPUs that compute in it, float32 elsewhere; on a CPU with "
        "AVX512_BF16 or AMX, bfloat16 trains wide networks about twice as fast",
    )
    batch_norm_crops: int = Field(
        16,
        ge=1,
        description="batch norm of workers whose batch_size is smaller sees the crops of all of "
        "them; on GPUs, as torch cannot elsewhere",
    )
    max_skipped_steps: int = Field(
        5, ge=0, description="steps with a loss that is not finite, skipped before the run stops"
    )

    @model_validator(mode="after")
    def _cross_entropy_is_beside_another(self) -> Self:
        if self.cross_entropy and self.loss not in ("dice", "jaccard"):
            raise ValueError(
                f"cross_entropy is weighed beside dice or jaccard; loss {self.loss} is one itself"
            )
        return self


class PretrainSettings(Settings):
    """HED's training on the edges of BSDS500, as far as it is known (Xie and Tu 2015)."""

    seed: int = Field(0, ge=0)
    splits: tuple[Literal["train", "val", "test"], ...] = ("train", "val")
    min_annotators: int = Field(3, ge=1, description="who must agree that a pixel is an edge")
    disputed: Literal["background", "ignore"] = Field(
        "background", description="edges of fewer annotators: as HED, or left out of the loss"
    )
    model: ModelSettings = ModelSettings(name="hed")
    epochs: int = Field(100, ge=1)
    batch_size: int = Field(10, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(2e-4, ge=0)
    crop_px: int = Field(320, ge=8)


class ArmSettings(Settings):
    """One row of table 1 or 2: a network and its training."""

    label: str
    model: ModelSettings
    train: TrainSettings = TrainSettings()
    grid: dict[str, tuple[Scalar, ...]] = Field(
        default_factory=dict,
        description="dotted paths below the arm or augment -> values to try; empty: no search",
    )

    @property
    def slug(self) -> str:
        """The label as file names show it: small letters, digits and single hyphens."""
        return re.sub(r"[^a-z0-9]+", "-", self.label.lower()).strip("-")

    @model_validator(mode="after")
    def _grid_has_values(self) -> Self:
        for path, values in self.grid.items():
            if not values:
                raise ValueError(f"grid '{path}' lists no value")
        return self


class StageSettings(Settings):
    """The nerve or the dermis stage: the arm that counts, and the baselines beside it."""

    main: ArmSettings
    baselines: tuple[ArmSettings, ...] = ()
    augment: AugmentSettings = AugmentSettings()

    @property
    def arms(self) -> tuple[ArmSettings, ...]:
        """The main arm first, then the baselines."""
        return (self.main, *self.baselines)

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        labels = [arm.label for arm in self.arms]
        if len(set(labels)) != len(labels):
            raise ValueError(f"arms need different labels, got {labels}")
        return self


class CrossingSettings(Settings):
    """The crossing stage (paper 2.4). Lengths are pixels at ``reference_um_per_px``."""

    sigma_px: float = Field(10, gt=0, description="Gaussian smoothing of the dermis map")
    dermis_threshold: float = Field(0.6, gt=0, lt=1)
    min_area_fraction: float = Field(
        0.2, ge=0, le=1, description="enclosed areas below this share of the image are flipped"
    )
    boundary_width_px: float = Field(3, ge=1, description="the paper: 'controllable'")
    nerve_threshold: float = Field(0.5, gt=0, lt=1, description="the paper is silent")
    eps_px: float = Field(3, gt=0, description="DBSCAN radius")
    min_points: int = Field(4, ge=1, description="DBSCAN core size; a point counts itself")
    window_px: int = Field(17, ge=3, description="side of the square round a crossing")
    min_side_pixels: int = Field(5, ge=0, description="nerve pixels asked for on each side")
    reference_um_per_px: float = Field(
        0.5, gt=0, description="scale the pixel figures hold at (20x; the paper gives none)"
    )

    def at_scale(self, um_per_px: float | None) -> CrossingSettings:
        """Return the settings for an image of ``um_per_px``: lengths scale, counts by area."""
        if um_per_px is None or um_per_px == self.reference_um_per_px:
            return self
        factor = self.reference_um_per_px / um_per_px
        return self.override(
            {
                "sigma_px": self.sigma_px * factor,
                "boundary_width_px": max(1.0, self.boundary_width_px * factor),
                "eps_px": max(1.0, self.eps_px * factor),
                "min_points": max(1, round(self.min_points * factor**2)),
                "window_px": max(3, 2 * round((self.window_px * factor - 1) / 2) + 1),
                "min_side_pixels": max(
                    min(1, self.min_side_pixels), round(self.min_side_pixels * factor**2)
                ),
                "reference_um_per_px": um_per_px,
            }
        )


class FitSettings(Settings):
    """Search of the crossing parameters for consistency of truth and model output."""

    enabled: bool = True
    grid: dict[str, tuple[float, ...]] = Field(
        default_factory=lambda: {
            "nerve_threshold": (0.3, 0.4, 0.5, 0.6, 0.7),
            "sigma_px": (6.0, 10.0, 14.0),
            "dermis_threshold": (0.5, 0.6),
            "min_points": (3, 4, 6),
            "min_side_pixels": (3, 5, 8),
        },
        description="values tried, one parameter after the other",
    )
    rounds: int = Field(2, ge=1, description="sweeps over all parameters")
    max_images: int = Field(40, ge=1, description="training images the search looks at")
    max_truth_shift: float = Field(
        0.05,
        ge=0,
        description="parameters that change the truth's own counts by more than this share are "
        "refused: they would agree by not counting",
    )


class TuneSettings(Settings):
    """The cross-validated grid search."""

    epochs_fraction: float = Field(
        1.0, gt=0, le=1, description="share of an arm's epochs that a search trial trains"
    )
    selection: Literal["nested", "pooled"] = Field(
        "nested",
        description="choose each split's configuration by trials that never saw its held-out "
        "images, or one for all splits by the mean over all folds, which makes the figures "
        "optimistic",
    )
    inner_splits: int = Field(
        2,
        ge=1,
        description="parts of its training images that a configuration is scored on, for each "
        "split; folds that are each other's parts share a training, so 2 cost no more than 1",
    )
    validation: Literal["inner", "held_out"] = Field(
        "inner",
        description="score a split's trials on parts of its training images, or on its held-out "
        "images themselves, as the paper's cross-validation can be read",
    )

    @model_validator(mode="after")
    def _nested_keeps_held_out_images_apart(self) -> Self:
        if self.selection == "nested" and self.validation == "held_out":
            raise ValueError(
                "validation held_out shows the search the images that test its choice, so the "
                "choice cannot be nested: use tune.selection=pooled"
            )
        return self


class ClusterSettings(Settings):
    """What one training asks of Ray. GPU counts are per worker."""

    workers: int | tuple[int, int] | Literal["auto"] = Field(
        "auto",
        description="workers of a training; a pair (LOW,HIGH) makes it elastic; a step takes "
        "train.batch_size crops for each, the most of a pair. auto: 1; for a network of the "
        "bundle on CPUs 2 that share the step of one, if it has 4 crops and the machine 2 cores",
    )
    learning_rate_rule: Literal["same", "sqrt", "linear"] = Field(
        "sqrt",
        description="what a learning rate is multiplied by where a step takes the crops of N "
        "workers: 1, the root of N, or N",
    )
    checkpoint_every_s: float = Field(
        120, ge=0, description="seconds between two stored states of a training: what a kill costs"
    )
    gpus_per_worker: Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["auto"] = Field(
        "auto",
        description="auto: 1 where the cluster has GPUs or its autoscaler can add them, else 0; a "
        "share of one, such as 0.5, for a single worker",
    )
    cpus_per_worker: int = Field(1, ge=1)
    data_workers: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto",
        description="most Ray Data actors that augment for each worker of a training; 0: it makes "
        "its own crops, for comparison; auto: what CPUs are spare, 1 to 8",
    )
    decoded_cache: Literal["auto", "memory", "disk"] = Field(
        "auto", description="hold decoded images in the object store, or read them each epoch"
    )
    max_failures: int = Field(3, ge=0, description="restarts of a trial whose worker died")
    resources_timeout_s: float = Field(
        45,
        gt=0,
        description="wait for what the cluster does not have, where nothing says what its "
        "autoscaler can add; what can come is waited for without end",
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
    def _pair_in_words(cls, given: object) -> object:
        """Read a command line's ``2,8``."""
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
            raise ValueError(f"workers need 1 <= low <= high, got {self.workers}")
        return self

    @model_validator(mode="after")
    def _gpus_are_whole(self) -> Self:
        gpus = self.gpus_per_worker
        if gpus == "auto" or gpus == int(gpus):
            return self
        if self.worker_range[1] > 1:
            raise ValueError(
                f"gpus_per_worker {gpus:g} with several workers: workers that train together "
                "cannot share a GPU; take gpus_per_worker=1, or workers=1"
            )
        if gpus > 1:
            raise ValueError(f"gpus_per_worker {gpus:g}: above 1, take a whole number")
        return self


class PoolSettings(Settings):
    """The actors of one stage of scoring, and what each of them takes."""

    actors: int | Literal["auto"] = Field(
        "auto",
        description="most actors: scoring starts with those that fit, and with the rest as a "
        "cluster grows; auto: one a GPU where they take any, else one a core, as there are at the "
        "start",
    )
    cpus_per_actor: float = Field(1, gt=0)
    gpus_per_actor: float | Literal["auto"] = Field(
        "auto",
        description="auto: a GPU's share that lets all networks live on it, if there is one",
    )


class ScoreSettings(Settings):
    """How a cohort is scored: what decides results, then how the work is spread."""

    read: ReadSettings = ReadSettings()
    um_per_px: float | None = Field(
        None, ge=0.01, le=20, description="scale of every image; overrides manifest and files"
    )
    overlays: bool = Field(
        True, description="write a picture of each image, and a GeoJSON file or the mask"
    )
    layout: Literal["auto", "fused", "separate"] = Field(
        "auto",
        description="all stages in one actor, or each in actors of its own; auto: separate "
        "where there are GPUs",
    )
    images_per_part: int = Field(
        8, ge=1, description="committed together: what a kill costs an actor at most"
    )
    threads: int = Field(1, ge=1, description="of a network on the CPU, in each actor")
    fused: PoolSettings = PoolSettings()
    nerve: PoolSettings = PoolSettings()
    dermis: PoolSettings = PoolSettings()
    skin: PoolSettings = PoolSettings()
    decode_cpus: float = Field(1, gt=0, description="of a task that reads and decodes")
    crossing_cpus: float = Field(1, gt=0, description="of a task that counts and writes")
    resources_timeout_s: float = Field(
        45, gt=0, description="wait for a cluster to grow to the actors asked for"
    )

    def stage(self, name: Literal["nerve", "dermis", "skin"]) -> PoolSettings:
        """Return the pool of the stage ``name`` where each has its own."""
        return {"nerve": self.nerve, "dermis": self.dermis, "skin": self.skin}[name]


class ServiceSettings(Settings):
    """What the HTTP service takes in, and how much of it at once."""

    max_body_bytes: int = Field(
        256 << 20, ge=1024, description="larger requests are refused (413), before they are read"
    )
    max_pixels: int = Field(
        100_000_000, gt=0, description="larger images are refused by their header (422)"
    )
    timeout_s: float = Field(
        120,
        gt=0,
        description="from a request's arrival: 503 while it waits, 408 while it sends, then 504",
    )
    max_in_flight: int = Field(4, ge=1, description="images worked on at once")
    max_queued: int = Field(16, ge=0, description="waiting beyond them; more are refused (503)")
    retry_after_s: int = Field(2, ge=1, description="what refused clients are told to wait")
    decode_threads: int = Field(2, ge=1, description="images decoded at once")
    engine_threads: int = Field(
        1, ge=1, description="images that networks in this process see at once"
    )
    labels: str | None = Field(
        None, description="cohort folder that corrections are stored in; none: they are not"
    )
    tokens: str | None = Field(
        None,
        description="file with one token a line, or its hash; every request but that for liveness "
        "must show one. Read again when it changes",
    )
    without_tokens: bool = Field(
        False, description="let anyone in who reaches the port; must be said, else tokens are asked"
    )


class ServeSettings(Settings):
    """One service on Ray Serve: which bundle answers, from how many processes."""

    bundle: str = Field(description="folder of the bundle, seen by every node")
    layout: Literal["separate", "fused"] = Field(
        "separate", description="each stage its own replicas, or all of them in one"
    )
    service: ServiceSettings = ServiceSettings()
    threads: int = Field(
        1,
        ge=1,
        description="of each network on a CPU; as many as in scoring, or sums round otherwise and "
        "a count may differ",
    )
    batch_size: int = Field(
        1,
        ge=1,
        description="images that a network's replica takes up together, in the separate layout; "
        "those of one size share a pass. 1: each alone, and answers are exactly those of scoring. "
        "Above 1 a probability may differ by up to 0.01 on a CPU (not measured on a GPU), so that "
        "a count may depend on who else asks",
    )
    batch_wait_s: float = Field(
        0.01, ge=0, description="wait for a batch to fill, where batch_size is above 1"
    )
    ready_timeout_s: float = Field(20, gt=0, description="for every stage to answer a probe")


class RunSettings(Settings):
    """A whole cross-validated run; recipes.py holds the named ones."""

    recipe: str = "custom"
    seed: int = Field(0, ge=0)
    ensemble: bool = Field(
        False,
        description="the bundle holds every fold's networks, their probabilities averaged, instead "
        "of one pair trained on all images",
    )
    read: ReadSettings = ReadSettings()
    folds: FoldSettings = FoldSettings()
    nerve: StageSettings
    dermis: StageSettings
    crossings: CrossingSettings = CrossingSettings()
    fit: FitSettings = FitSettings()
    tune: TuneSettings = TuneSettings()
    cluster: ClusterSettings = ClusterSettings()

    @model_validator(mode="after")
    def _folds_suffice_for_the_search(self) -> Self:
        inner, count = self.tune.inner_splits, self.folds.count
        needed = max(3, inner + 1)
        if self.tune.validation == "inner" and count < needed:
            raise ValueError(
                f"folds.count {count} is too few for tune.inner_splits {inner}: use {needed} or "
                "more folds, or tune.selection=pooled with tune.validation=held_out"
            )
        return self

    def stage(self, name: str) -> StageSettings:
        """Return the settings of the stage ``name``; ValueError where a run has no such stage."""
        if name not in ("nerve", "dermis"):
            raise ValueError(f"a run on biopsies has no stage {name}")
        return self.nerve if name == "nerve" else self.dermis

"""Settings of a run on biopsies: folds, stages, the counting of crossings, the search.

The defaults are the figures of "Automated Skin Biopsy Analysis with Limited Data" (Chan et
al.), here "the paper". Where the paper does not say, the field's description says so, and
``docs/fidelity.md`` names the test that holds our reading.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from skinray.config.base import Settings
from skinray.config.images import AugmentSettings, ReadSettings
from skinray.config.kinds import Stage
from skinray.config.training import ArmSettings, ClusterSettings


class FoldSettings(Settings):
    """How the cohort is split for cross-validation."""

    count: int = Field(5, ge=2, description="number of folds")
    unit: Literal["subject", "image"] = Field(
        "subject",
        description="what stays together in a fold; the paper uses the image, we the subject",
    )
    components_held_out: int | None = Field(
        10,
        ge=1,
        description="images held out for tables 1 and 2 (84/10 in the paper); none: fold 1",
    )


class PhantomSettings(Settings):
    """Drawn biopsies with known nerves, dermis and crossings."""

    um_per_px: float = Field(0.5, gt=0, description="scale of the drawn images")
    subjects: int = Field(24, ge=1, description="subjects that the images are assigned to in turn")
    mean_crossings: float = Field(
        15, ge=0, description="in a control's image whose junction is 1600 px long"
    )
    field_exponent: float = Field(
        0.5, ge=0, le=1, description="crossings grow with this power of the junction's length"
    )
    neuropathy_ratio: float = Field(
        0.4, ge=0, description="nerve density of neuropathy relative to control"
    )
    nerve_contrast: float = Field(1.0, gt=0, description="scales the nerves' stain")
    clutter: float = Field(1.0, ge=0, description="scales what looks like nerve but is not")
    chromogen: Literal["brown", "purple"] = Field("brown", description="colour of the nerves")


class StageSettings(Settings):
    """The nerve or the dermis stage: the arm used for counting, and the baselines."""

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
    boundary_width_px: float = Field(3, ge=1, description="'controllable' in the paper")
    nerve_threshold: float = Field(0.5, gt=0, lt=1, description="the paper does not say")
    eps_px: float = Field(3, gt=0, description="DBSCAN radius")
    min_points: int = Field(4, ge=1, description="DBSCAN core size; a point counts itself")
    window_px: int = Field(17, ge=3, description="side of the square around a crossing")
    min_side_pixels: int = Field(5, ge=0, description="nerve pixels required on each side")
    reference_um_per_px: float = Field(
        0.5, gt=0, description="scale that the pixel figures are for (20x; the paper gives none)"
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
    """Search for crossing parameters under which truth and model output agree."""

    enabled: bool = True
    grid: dict[str, tuple[float, ...]] = Field(
        default_factory=lambda: {
            "nerve_threshold": (0.3, 0.4, 0.5, 0.6, 0.7),
            "sigma_px": (6.0, 10.0, 14.0),
            "dermis_threshold": (0.5, 0.6),
            "min_points": (3, 4, 6),
            "min_side_pixels": (3, 5, 8),
        },
        description="values to try, one parameter at a time",
    )
    rounds: int = Field(2, ge=1, description="sweeps over all parameters")
    max_images: int = Field(40, ge=1, description="maximum training images for the search")
    max_truth_shift: float = Field(
        0.05,
        ge=0,
        description="parameters that change the truth's own counts by more than this share are "
        "rejected: they would reach agreement by not counting",
    )


class TuneSettings(Settings):
    """The cross-validated grid search."""

    epochs_fraction: float = Field(
        1.0, gt=0, le=1, description="share of an arm's epochs that a search trial trains"
    )
    halving: int = Field(
        1,
        ge=1,
        description="successive halving for a large grid: train all configurations briefly, keep "
        "the best one in so many, train those so many times as long, and repeat. With 3, a grid of "
        "27 takes a third to half of the epochs, depending on how far the folds agree. 1: train "
        "all to the end",
    )
    selection: Literal["nested", "pooled"] = Field(
        "nested",
        description="nested: choose each split's configuration from trials that never saw its "
        "held-out images; pooled: choose one for all splits from the mean over all folds, which "
        "makes the figures optimistic",
    )
    inner_splits: int = Field(
        2,
        ge=1,
        description="for each split, how many parts of its training images score a configuration; "
        "two folds that score each other share a trial, so 2 cost no more than 1",
    )
    second_tries: bool = Field(
        False,
        description="if a network did not learn, train it again with a lower and then a higher "
        "learning rate; if no trial of a search learned, repeat the search for all epochs",
    )
    validation: Literal["inner", "held_out"] = Field(
        "inner",
        description="inner: score a split's trials on parts of its training images; held_out: on "
        "its held-out images themselves, as the paper's cross-validation can be read",
    )

    @model_validator(mode="after")
    def _nested_keeps_held_out_images_apart(self) -> Self:
        if self.selection == "nested" and self.validation == "held_out":
            raise ValueError(
                "validation held_out shows the search the images that test its choice, so the "
                "choice cannot be nested: use tune.selection=pooled"
            )
        return self


class RunSettings(Settings):
    """A whole cross-validated run; recipes.py has the named ones."""

    recipe: str = "custom"
    seed: int = Field(0, ge=0)
    ensemble: bool = Field(
        False,
        description="the bundle holds every fold's networks and averages their probabilities, "
        "instead of one pair trained on all images",
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

    def stage(self, name: Stage) -> StageSettings:
        """Return the settings of the stage ``name``; ValueError where a run has no such stage."""
        if name not in ("nerve", "dermis"):
            raise ValueError(f"a run on biopsies has no stage {name}")
        return self.nerve if name == "nerve" else self.dermis

"""The trials of a run on photographs: three scenarios for each network."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from skinray.config.photos import PhotoSettings
from skinray.config.training import ArmSettings
from skinray.images.photos.labels import superpixels_of
from skinray.images.photos.pairs import Photo, PhotoSplit, with_part_held_out
from skinray.learning.spec import TrialSpec, scaled
from skinray.models.weights.load import why_missing

Scenario = Literal["direct transfer", "direct training", "fine-tuning"]
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)


def photos_fingerprint(photos: Sequence[Photo]) -> str:
    """Return a SHA-256 of the content of photographs and masks, independent of their names."""
    digest = hashlib.sha256()
    for photo in photos:
        marks = hashlib.sha256(photo.mask.read_bytes()).hexdigest()
        if photo.coding == "superpixels":
            marks += hashlib.sha256(superpixels_of(photo.mask).read_bytes()).hexdigest()
        coded = "" if photo.coding == "mask" else f" {photo.coding}"
        digest.update(f"{photo.source} {photo.md5} {marks}{coded}\n".encode())
    return digest.hexdigest()


def with_weights_at_hand(settings: PhotoSettings) -> tuple[PhotoSettings, list[str]]:
    """Use random weights for networks whose published weights are not in the cache.

    Returns
    -------
    The settings, and for each such network a sentence with the remedy.

    Raises
    ------
    WeightsError
        If the weights of a network are neither published nor a file.
    """
    networks, said = [], []
    for arm in settings.networks:
        remedy = why_missing(arm.label, arm.model.weights)
        networks.append(arm.override({"model.weights": None}) if remedy else arm)
        if remedy:
            said.append(f"{arm.label} starts from random weights: {remedy}")
    return settings.model_copy(update={"networks": tuple(networks)}), said


def beginning(asked: ArmSettings, used: ArmSettings) -> str:
    """Describe the weights that a network started from, before any photograph of skin."""
    name = asked.model.weights
    if name is None:
        return "random weights"
    if used.model.weights is None:
        return f"random weights, since {name} was not available"
    return f"weights {name}"


@dataclass(frozen=True)
class PhotoTrials:
    """Makes the trials of a run.

    Attributes
    ----------
    settings : the settings of the run.
    public, clinical : the splits of the public and of the clinical photographs.
    data : fingerprint of all photographs.
    trials : folder of the trials.
    backgrounds : photographs without skin, onto which every training pastes skin.
    """

    settings: PhotoSettings
    public: PhotoSplit
    clinical: PhotoSplit
    data: str
    trials: Path
    backgrounds: tuple[Photo, ...] = ()

    @property
    def photos(self) -> tuple[Photo, ...]:
        """The photographs for training, validation and background; trials use their positions."""
        parts = (self.public, self.clinical)
        with_masks = (p for split in parts for p in (*split.train, *split.validation))
        return (*with_masks, *self.backgrounds)

    def pretraining(self) -> list[TrialSpec]:
        """Return each network's trial on public photographs, which is also direct transfer."""
        most = self.settings.pretraining_epochs
        return [
            self._spec(
                arm,
                "direct transfer",
                arm if most is None else arm.override({"train.epochs": most}),
                self.public,
            )
            for arm in self._networks
        ]

    def direct(self) -> list[TrialSpec]:
        """Return each network's trial on clinical photographs only."""
        return [self._spec(arm, "direct training", arm, self.clinical) for arm in self._networks]

    def fine_tuning(self, member: int = 0) -> list[TrialSpec]:
        """Return each network's trial that starts from its pretrained weights.

        Parameters
        ----------
        member : of the ensemble, from 0; each has other augmentations, and another part of the
            clinical photographs for validation.
        """
        fraction = self.settings.validation_fraction
        split = with_part_held_out(self.clinical, fraction, member)
        specs = []
        for arm in self._networks:
            rate = arm.train.learning_rate * self.settings.fine_tuning_factor
            tuned = arm.override({"model.weights": None, "train.learning_rate": rate})
            specs.append(self._spec(arm, "fine-tuning", tuned, split, member))
        return specs

    def ensembles(self) -> list[tuple[TrialSpec, ...]]:
        """Return, for each network, the fine-tuning trials of all its members."""
        members = [self.fine_tuning(member) for member in range(self.settings.members)]
        return list(zip(*members, strict=True))

    @property
    def _networks(self) -> tuple[ArmSettings, ...]:
        return self.settings.networks

    def _spec(
        self,
        arm: ArmSettings,
        scenario: Scenario,
        trained: ArmSettings,
        split: PhotoSplit,
        member: int = 0,
    ) -> TrialSpec:
        at = {(photo.source, photo.md5): place for place, photo in enumerate(self.photos)}
        # Fine-tuning may use all photographs that its network was trained on.
        seen = (*self.public.train, *split.train) if scenario == "fine-tuning" else split.train
        backgrounds = (*seen, *self.backgrounds)
        places = {
            name: tuple(at[photo.source, photo.md5] for photo in photos)
            for name, photos in (
                ("train", split.train),
                ("validation", split.validation),
                ("backgrounds", backgrounds if self.settings.paste_probability else ()),
            )
        }
        trained, step = scaled(trained, self.settings.cluster)
        return TrialSpec(
            key=key(arm, scenario, member),
            phase="fit",
            stage="skin",
            arm=trained,
            step_crops=step,
            augment=self.settings.augment,
            paste_probability=self.settings.paste_probability,
            goes_on_from=key(arm, "direct transfer") if scenario == "fine-tuning" else None,
            split=f"{scenario}, member {member + 1}" if member else scenario,
            names=tuple(photo.md5 for photo in split.train),
            seed=self.settings.seed + member,
            data=self.data,
            **places,
        )


def key(arm: ArmSettings, scenario: Scenario, member: int = 0) -> str:
    """Return the folder name of a network's trial."""
    # Slugs have no two hyphens in a row, so no key can be mistaken for that of a member.
    name = f"{scenario.replace(' ', '-')}-{arm.slug}"
    return f"{name}--member-{member + 1}" if member else name

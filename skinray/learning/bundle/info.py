"""The description of a bundle, ``bundle.json``: what it was trained on, its files, their hashes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    model_validator,
)

from skinray.config.biopsies import CrossingSettings
from skinray.config.images import PredictSettings
from skinray.config.kinds import STAGES, Kind, Stage
from skinray.config.photos import SkinSettings
from skinray.config.training import ModelSettings
from skinray.crossings import Crossings, find_crossings
from skinray.errors import BundleError
from skinray.files import as_path, sha256_of
from skinray.images.photos.skin import Skin, find_skin

FORMAT = 2
INFO, ASIDE = "bundle.json", ".old"
NOT_TRAINED = "starter, untrained on your images"
ON_DRAWN_IMAGES = "trained on images that skinray drew"
IN_TRAINING = "in the bundle's training set, so its result looks better than it is"
# The figure of a cross-validation that says between which errors 95 of 100 counts lie.
LIMITS = "limits of agreement (crossings per image)"
# The field with the settings of the step that follows the networks.
LAST_STEP: dict[Kind, str] = {"biopsy": "crossings", "photo": "skin"}


class BundleInfo(BaseModel):
    """The content of ``bundle.json``.

    A bundle for biopsies has the settings ``crossings``, one for photographs ``skin``. ``failures``
    says what did not work in the run that made it; ``starter``, that it was trained on drawings
    alone and ships with skinray; ``synthetic``, that skinray drew every image of its training, as
    for a starter. ``trained_on`` has the SHA-256 of the files of its training images; without any,
    they are not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    kind: Kind = "biopsy"
    models: dict[Stage, ModelSettings]
    members: int = Field(1, ge=1)
    crossings: CrossingSettings | None = None
    skin: SkinSettings | None = None
    predict: PredictSettings = PredictSettings()
    um_per_px: float | None
    fold: str
    settings: dict[str, Any]
    metrics: dict[str, Any]
    failures: tuple[str, ...] = ()
    starter: bool = False
    synthetic: bool = False
    trained_on: frozenset[str] = frozenset()
    versions: dict[str, str]
    data_fingerprint: str
    images: int
    subjects: int
    created: str
    sha256: dict[str, str] = {}

    @model_validator(mode="before")
    @classmethod
    def _starters_are_synthetic(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("starter") is True:
            return values | {"synthetic": True}
        return values

    @field_serializer("trained_on")
    def _in_order(self, hashes: frozenset[str]) -> list[str]:
        return sorted(hashes)

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if set(self.models) != set(self.stages):
            raise ValueError(f"a {self.kind} bundle has the models {', '.join(self.stages)}")
        given = [name for name in LAST_STEP.values() if getattr(self, name) is not None]
        if given != [LAST_STEP[self.kind]]:
            raise ValueError(f"a {self.kind} bundle has the settings {LAST_STEP[self.kind]} only")
        return self

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages whose networks the bundle holds."""
        return STAGES[self.kind]

    @property
    def id(self) -> str:
        """SHA-256 of ``bundle.json``, which holds the hashes of all other files."""
        return self.sha256[INFO]

    @property
    def note(self) -> str:
        """What every result of the bundle has to say about it; "" for a bundle without a flaw."""
        said = [NOT_TRAINED] if self.starter else [ON_DRAWN_IMAGES] * self.synthetic
        return "; ".join(said + ["its training did not learn"] * bool(self.failures))

    def note_on(self, image_sha256: str | None) -> str:
        """Return what the result of one image has to say: :attr:`note`, and if it trained on it."""
        seen = [IN_TRAINING] * (image_sha256 in self.trained_on)
        return "; ".join([self.note] * bool(self.note) + seen)

    @property
    def limits_of_agreement(self) -> tuple[float, float] | None:
        """Lowest and highest error of 95 of 100 counts, crossings per image; None: not measured."""
        low, high = self.metrics.get(LIMITS) or (None, None)
        return None if low is None or high is None else (float(low), float(high))

    @property
    def counting(self) -> CrossingSettings:
        """Settings of the crossings; BundleError if the bundle is for photographs."""
        if self.crossings is None:
            raise BundleError("this bundle finds skin in photographs: use a bundle for biopsies")
        return self.crossings

    @property
    def finding(self) -> SkinSettings:
        """Settings of the skin mask; BundleError if the bundle is for biopsies."""
        if self.skin is None:
            raise BundleError("this bundle counts crossings in biopsies: use one for photographs")
        return self.skin

    def refuse_failed(self, folder: Path) -> None:
        """Raise BundleError if a part of the run that made the bundle did not learn."""
        if self.failures:
            lines = "".join(f"\n  {failure}" for failure in self.failures)
            raise BundleError(
                f"{folder}: this bundle did not learn its task, so its results mean nothing; train "
                f"again, or use it all the same with --anyway{lines}"
            )

    def find_crossings(
        self,
        nerve: NDArray[Any],
        dermis: NDArray[np.float32],
        um_per_px: float | None = None,
    ) -> Crossings:
        """Find the crossings from the probability maps of one image.

        Parameters
        ----------
        nerve, dermis : (H, W) float32, probability, on the image's own pixels; ``nerve`` may
            also be a uint8 mask, already above ``crossings.nerve_threshold``.
        um_per_px : the image's scale. None: assumed to be the training scale; the result then
            has no lengths in millimetres.
        """
        settings = self.counting
        if um_per_px is None:
            settings = settings.at_scale(self.um_per_px)
        return find_crossings(nerve, dermis, settings, um_per_px)

    def weight_files(self) -> set[str]:
        """Return the names of all networks' files."""
        return {name for stage in self.stages for name in weight_files(stage, self.members)}

    def find_skin(self, image: NDArray[np.uint8], probability: NDArray[np.float32]) -> Skin:
        """Find the skin from the probability map of one photograph.

        Parameters
        ----------
        image : (H, W, 3) uint8, RGB.
        probability : (H, W) float32, of skin, on the photograph's own pixels.
        """
        return find_skin(image, probability, self.finding)


def read_info(folder: Path) -> BundleInfo:
    """Read ``bundle.json`` alone; BundleError if it is missing or invalid."""
    path, aside = folder / INFO, folder.with_name(folder.name + ASIDE)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        remedy = "give the folder bundle/ that training wrote"
        if (folder / "bundle" / INFO).is_file():
            remedy = f"give {folder / 'bundle'}"
        elif folder.is_file() and (folder.parent / INFO).is_file():
            remedy = f"give its folder, {folder.parent}"
        elif not folder.exists():
            remedy = "there is no such folder: correct the path"
        if aside.is_dir() and not folder.exists():
            remedy = f"saving was interrupted; rename {aside}, the previous bundle, or save again"
        raise BundleError(f"{folder}: no {INFO}; {remedy}") from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BundleError(f"{path}: not valid JSON ({reason}); copy the bundle again") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise BundleError(
            f"{path}: not bundle format {FORMAT}; use the version of skinray that wrote it"
        )
    try:
        info = BundleInfo.model_validate(values)
    except ValidationError as error:
        keys = ", ".join(sorted({".".join(map(str, e["loc"])) for e in error.errors()}))
        raise BundleError(
            f"{path}: missing, unknown or invalid: {keys}; copy the bundle from its source again"
        ) from None
    missing = {INFO, *info.weight_files()} - set(info.sha256)
    if missing:
        raise BundleError(
            f"{path}: has no hash of {', '.join(sorted(missing))}; copy the bundle from its "
            "source again"
        )
    check_hash(path, values_sha256(values), info.sha256[INFO])
    return info


def check(path: Path | str, *, weights: bool = True) -> BundleInfo:
    """Read ``bundle.json`` and verify the hash of every file it names.

    Parameters
    ----------
    weights : also of the networks' files; False: ``load_stage`` verifies each as it loads it.

    Raises
    ------
    BundleError
        If a file is missing or altered, or the bundle is of an unknown format.
    """
    folder = as_path(path, "bundle")
    info = read_info(folder)
    verified = {INFO}  # by read_info
    if not weights:
        verified |= info.weight_files()
    for name, expected in info.sha256.items():
        if name in verified:
            continue
        check_file(folder / name, expected)
    return info


def check_file(file: Path, expected: str) -> None:
    """Raise BundleError if a file cannot be read or has been altered."""
    try:
        found = sha256_of(file)
    except OSError as error:
        raise unreadable(file, error) from None
    check_hash(file, found, expected)


def unreadable(file: Path, error: OSError) -> BundleError:
    """Return the error for a file of a bundle that cannot be read."""
    missing = isinstance(error, FileNotFoundError | IsADirectoryError)
    reason = "missing" if missing else error.strerror
    return BundleError(f"{file}: {reason}; copy the whole bundle folder again")


def check_hash(file: Path, found: str, expected: str) -> None:
    """Raise BundleError if a file has been altered."""
    if found != expected:
        raise BundleError(
            f"{file}: altered since the bundle was written (SHA-256 differs); copy the bundle "
            "from its source again"
        )


def weight_files(stage: Stage, members: int) -> list[str]:
    """Return the names of a stage's weight files."""
    return [f"{stage}.safetensors", *(f"{stage}-{n}.safetensors" for n in range(2, members + 1))]


def values_sha256(values: dict[str, Any]) -> str:
    """Return the hash of the content of ``bundle.json``, without this hash itself."""
    others = {name: value for name, value in values["sha256"].items() if name != INFO}
    text = json.dumps(values | {"sha256": others}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()

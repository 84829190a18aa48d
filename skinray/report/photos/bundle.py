"""The bundle of a run on photographs: its best network, chosen without the test photographs."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

from skinray.config.photos import LOOKED_AT, WHOLE
from skinray.errors import BundleError, TrainingError
from skinray.files import sha256_of
from skinray.learning import bundle as bundles
from skinray.learning.bundle.info import BundleInfo
from skinray.learning.photos.trials import PhotoTrials
from skinray.learning.provenance import now
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import finished, trained_network
from skinray.report.photos.rows import PhotoRow
from skinray.report.photos.table import PhotoResults, unlearned

BUNDLE = "bundle"


def write_photo_bundle(out: Path, trials: PhotoTrials, results: PhotoResults) -> Path:
    """Write ``bundle/`` into the run folder, unless it is there already; return its path.

    It holds the best network of those trained or fine-tuned on clinical photographs, by their
    score on the photographs kept for validation; of an ensemble, all members.

    Raises
    ------
    TrainingError
        No training has a validation score.
    """
    members, score = chosen(trials)
    spec = members[0]
    row = next(
        row
        for row in results.rows
        if (row.network, row.scenario, row.members, row.flips)
        == (spec.arm.label, spec.split, len(members), False)
    )
    folder = out / BUNDLE
    values = {
        "kind": "photo",
        "members": len(members),
        "models": {"skin": spec.arm.model.override({"weights": None})},
        "skin": trials.settings.skin,
        "predict": WHOLE,
        "um_per_px": None,
        "fold": spec.split,
        "settings": trials.settings.model_dump(mode="json"),
        "metrics": _metrics(row, score),
        "failures": tuple(unlearned([row])),
        "trained_on": _trained_on(trials, spec),
        "versions": results.versions,
        "data_fingerprint": results.fingerprint,
        "images": results.train_images,
        "subjects": results.train_images,
        "created": now(),
    }
    info = BundleInfo(**values)
    if not _is_there(folder, info):
        networks = [trained_network(one, trials.trials / one.key) for one in members]
        bundles.save(folder, info, {"skin": networks})
    return folder


def chosen(trials: PhotoTrials) -> tuple[tuple[TrialSpec, ...], float]:
    """Return the trials of the network with the best validation score, and that score.

    One trial, or the members of an ensemble; their score is the mean of each member's own, on the
    photographs it held out.
    """
    scored = []
    for specs in (*((spec,) for spec in trials.direct()), *trials.ensembles()):
        outcomes = [finished(spec, trials.trials / spec.key) for spec in specs]
        scores = [one.score for one in outcomes if one is not None and one.score is not None]
        if len(scores) == len(specs):
            scored.append((fmean(scores), specs))
    if not scored:
        raise TrainingError(
            f"{trials.trials}: no training has a validation score; keep photographs for validation"
        )
    score, specs = max(scored, key=lambda one: one[0])
    return specs, score


def _trained_on(trials: PhotoTrials, spec: TrialSpec) -> frozenset[str]:
    """Return the SHA-256 of the photographs that a network was pretrained or trained on."""
    clinical, public = trials.clinical, trials.public
    seen = [*clinical.train, *clinical.validation]
    if spec.split != "direct training":
        seen += [*public.train, *public.validation]
    return frozenset(sha256_of(photo.image) for photo in seen)


def _metrics(row: PhotoRow, score: float) -> dict[str, Any]:
    found = row.summary
    of_members = " (mean of members, each by itself)" if row.members > 1 else ""
    return {
        f"Jaccard (mean of {found.images} test photographs)": round(found.jaccard.value, 4),
        "Jaccard (all their pixels)": round(found.jaccard_pooled.value, 4),
        "Dice (mean)": round(found.dice.value, 4),
        f"1 - Jaccard loss in validation{of_members}": round(score, 4),
        **({"This training was": LOOKED_AT} if row.looked_at else {}),
    }


def _is_there(folder: Path, info: BundleInfo) -> bool:
    """Return whether the folder has a valid bundle that differs only in its time."""
    try:
        before = bundles.check(folder)
    except BundleError:
        return False
    same: dict[str, Any] = {"created": before.created, "sha256": before.sha256}
    return before == info.model_copy(update=same)

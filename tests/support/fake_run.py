"""A made-up run folder: painted biopsies, labels, predictions and records, all seeded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from skinray.config.base import validate
from skinray.config.biopsies import CrossingSettings, FoldSettings, RunSettings, StageSettings
from skinray.config.kinds import Stage
from skinray.config.training import ArmSettings, ModelSettings, Scalar, TrainSettings
from skinray.report.biopsies.results import (
    ArmRow,
    CountRow,
    Curve,
    CurvePoint,
    FoldRow,
    RunResults,
    TrialRow,
)

SIZE = (240, 320)
RATES, DECAYS = (3e-4, 1e-3, 3e-3), (0.0, 1e-4, 1e-3)
GRID: dict[str, tuple[Scalar, ...]] = {"train.learning_rate": RATES, "train.weight_decay": DECAYS}


def settings() -> RunSettings:
    """Settings in the demo's manner: one measured baseline, one without its weights."""

    def arm(label: str, name: str, loss: str, weights: str | None = None) -> ArmSettings:
        return ArmSettings(
            label=label,
            model=ModelSettings(name=name, weights=weights),
            train=validate(TrainSettings, {"loss": loss}),
            grid=GRID,
        )

    return RunSettings(
        recipe="fake",
        seed=7,
        folds=validate(FoldSettings, {"count": 5, "components_held_out": 10}),
        nerve=StageSettings(
            main=arm("HED from scratch", "hed", "dice"),
            baselines=(
                arm("U-Net, brain MRI", "unet", "dice", "brain-mri"),
                arm("HED, BSDS500", "hed", "dice", "hed-bsds500"),
            ),
        ),
        dermis=StageSettings(
            main=arm("DeepLabV3 from scratch", "deeplabv3_mobilenet", "bce"),
            baselines=(arm("U-Net, brain MRI", "unet", "bce", "brain-mri"),),
        ),
    )


def write_run(folder: Path, images: int = 30, seed: int = 3, draw: bool = True) -> RunResults:
    """Write a cohort and a finished run below ``folder``; ``draw``: with images and maps."""
    cohort, run = folder / "cohort", folder / "run"
    (run / "predictions").mkdir(parents=True)
    cohort.mkdir()
    results = fake_results(cohort, images, seed)
    if draw:
        _draw_cohort(cohort, run, results, seed)
    results.save(run)
    (run / "settings.yaml").write_text(yaml.safe_dump(results.settings), encoding="utf-8")
    return results


def fake_results(cohort: Path, images: int = 30, seed: int = 3, folds: int = 5) -> RunResults:
    """Return records whose counts agree about as well as the paper's."""
    rng = np.random.default_rng(seed)
    counts = [_count_row(cohort, index, images, folds, rng) for index in range(images)]
    used = settings()
    return RunResults(
        recipe=used.recipe,
        seed=used.seed,
        data=str(cohort),
        data_fingerprint="9f2c" * 16,
        images=images,
        subjects=len({row.subject for row in counts}),
        fold_unit="subject",
        counts=counts,
        folds=[_fold_row(fold, counts) for fold in range(1, folds + 1)],
        component_split="components",
        component_counts=counts[:10],
        arms=_arm_rows(counts, rng),
        trials=[*_trials(rng, folds), *_final_trainings(folds)],
        curves=_curves(rng, folds),
        settings=used.model_dump(mode="json"),
        versions={"skinray": "0.1.0", "torch": "2.0", "ray": "2.0", "python": "3.11"},
        hardware="2 CPU cores, no GPU",
        started="2025-01-01T08:00:00+00:00",
        seconds=512.0,
        bundle="bundle",
        notes=["The images are painted, not photographed."],
    )


def _count_row(
    cohort: Path, index: int, images: int, folds: int, rng: np.random.Generator
) -> CountRow:
    expert = int(rng.integers(1, 13))
    subject = index * max(folds, images // 3) // images
    fold = 1 + subject % folds
    name = f"biopsy_{index:02d}"
    return CountRow(
        image=f"images/{name}.png",
        path=str(cohort / "images" / f"{name}.png"),
        subject=f"S{subject:02d}",
        group="patient" if subject % 2 else "control",
        fold=fold,
        expert=expert,
        model=max(0, expert + int(rng.integers(-2, 3))),
        second_expert=max(0, expert + int(rng.integers(-4, 5))),
        nerve_dice={0: _unit(rng, 0.62), 1: _unit(rng, 0.8), 3: _unit(rng, 0.9)},
        dermis_dice=_unit(rng, 0.975, 0.008),
        boundary_px=float(SIZE[1]) * 1.08,
        um_per_px=2.0,
        prediction=f"predictions/{fold}/{name}.npz",
    )


def _unit(rng: np.random.Generator, mean: float, sd: float = 0.04) -> float:
    return float(np.clip(rng.normal(mean, sd), 0, 1))


def _fold_row(fold: int, counts: list[CountRow]) -> FoldRow:
    held = [row for row in counts if row.fold == fold]
    subjects = {row.subject for row in counts}
    out = {row.subject for row in held}
    return FoldRow(
        fold=fold,
        train_images=len(counts) - len(held),
        held_out_images=len(held),
        train_subjects=len(subjects) - len(out),
        held_out_subjects=len(out),
        crossings=_crossings().model_dump(),
        fit_consistency=0.9,
    )


def _crossings() -> CrossingSettings:
    values = {"sigma_px": 3, "nerve_threshold": 0.4, "reference_um_per_px": 2.0}
    return validate(CrossingSettings, values)


def _arm_rows(counts: list[CountRow], rng: np.random.Generator) -> list[ArmRow]:
    def scores(mean: float) -> list[float]:
        return [_unit(rng, mean) for _ in range(10)]

    chosen = {"train.learning_rate": 1e-3, "train.weight_decay": 1e-4}
    images = [row.image for row in counts[:10]]
    nerve = {0: scores(0.6), 1: scores(0.82), 3: scores(0.93)}
    unet = {0: scores(0.55), 1: scores(0.78), 3: scores(0.9)}
    missing = "the published weights hed-bsds500 are not on this machine"
    return [
        ArmRow(stage="nerve", label="HED from scratch", main=True, status="measured",
               chosen=chosen, dice=nerve, images=images),
        ArmRow(stage="nerve", label="U-Net, brain MRI", main=False, status="measured",
               chosen=chosen, pretrained="brain-mri", dice=unet, images=images),
        ArmRow(stage="nerve", label="HED, BSDS500", main=False, status="not measured",
               reason=missing),
        ArmRow(stage="dermis", label="DeepLabV3 from scratch", main=True, status="measured",
               chosen=chosen, dice={0: scores(0.97)}, images=images),
        ArmRow(stage="dermis", label="U-Net, brain MRI", main=False, status="measured",
               chosen=chosen, pretrained="brain-mri", dice={0: scores(0.95)}, images=images),
    ]  # fmt: skip


ARMS: tuple[tuple[Stage, str], ...] = (
    ("nerve", "HED from scratch"),
    ("nerve", "U-Net, brain MRI"),
    ("dermis", "DeepLabV3 from scratch"),
)


def _trials(rng: np.random.Generator, folds: int) -> list[TrialRow]:
    rows: list[TrialRow] = []
    for stage, arm in ARMS:
        for rate in RATES:
            for decay in DECAYS:
                for fold in range(1, folds + 1):
                    failed = stage == "dermis" and rate == 3e-3 and fold == 2
                    level = 0.7 - 0.08 * abs(np.log10(rate / 1e-3)) - 20 * abs(decay - 1e-4)
                    rows.append(
                        TrialRow(
                            trial=f"{stage}-{len(rows):04d}",
                            phase="tune",
                            stage=stage,
                            arm=arm,
                            split=f"fold-{fold}",
                            params={"train.learning_rate": rate, "train.weight_decay": decay},
                            status="failed" if failed else "done",
                            score=None if failed else _unit(rng, level, 0.01),
                            epochs=12,
                            seconds=3.5,
                            images_per_s=14.0,
                            error="the loss was not finite in 6 steps" if failed else "",
                        )
                    )
    return rows


def _final_trainings(folds: int) -> list[TrialRow]:
    """Trainings whose settings differ from fold to fold, as a nested choice may have it."""
    rows: list[TrialRow] = []
    for stage, arm in ARMS:
        main = arm != "U-Net, brain MRI"
        splits = [*(f"fold-{fold}" for fold in range(1, folds + 1)), "all"] if main else []
        for split in [*splits, "components"]:
            rate = 3e-4 if split in ("fold-2", "fold-3") else 1e-3
            rows.append(
                TrialRow(
                    trial=f"fit-{stage}-{len(rows):04d}",
                    phase="fit",
                    stage=stage,
                    arm=arm,
                    split=split,
                    params={"train.learning_rate": rate, "train.weight_decay": 1e-4},
                    status="done",
                    epochs=40,
                    seconds=12.0,
                    images_per_s=14.0,
                )
            )
    return rows


def _curves(rng: np.random.Generator, folds: int) -> list[Curve]:
    curves = []
    for stage, arm in ARMS:
        for fold in range(1, folds + 1):
            points = []
            for epoch in range(1, 41):
                loss = 0.3 + 0.6 * np.exp(-epoch / 8) + rng.normal(0, 0.01)
                checked = epoch % 5 == 0
                points.append(
                    CurvePoint(
                        epoch=epoch,
                        loss=float("nan") if (fold, epoch) == (2, 7) else float(loss),
                        learning_rate=1e-3 if epoch < 30 else 1e-4,
                        validation=float(0.7 - 0.5 * np.exp(-epoch / 10)) if checked else None,
                    )
                )
            curves.append(Curve(stage=stage, arm=arm, split=f"fold-{fold}", points=points))
    return curves


def _draw_cohort(cohort: Path, run: Path, results: RunResults, seed: int) -> None:
    (cohort / "images").mkdir()
    (cohort / "labels").mkdir()
    lines = ["image,subject,group,nerves,dermis,count,second_count,um_per_px"]
    for index, row in enumerate(results.counts):
        rng = np.random.default_rng((seed, index))
        image, nerve, dermis, xs = painted(rng, row.expert)
        name = Path(row.image).stem
        cv2.imwrite(row.path, image[..., ::-1])
        cv2.imwrite(str(cohort / f"labels/{name}_nerve.png"), nerve.astype(np.uint8) * 255)
        cv2.imwrite(str(cohort / f"labels/{name}_dermis.png"), dermis.astype(np.uint8) * 255)
        lines.append(
            f"{row.image},{row.subject},{row.group},labels/{name}_nerve.png,"
            f"labels/{name}_dermis.png,{row.expert},{row.second_expert},{row.um_per_px}"
        )
        _write_prediction(run / str(row.prediction), rng, nerve, dermis, xs[: row.model])
    (cohort / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def painted(
    rng: np.random.Generator, crossings: int
) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], list[int]]:
    """Paint skin with nerves over a wavy junction; image, nerve, dermis, columns of the nerves."""
    height, width = SIZE
    columns = np.arange(width)
    edge = 110 + 12 * np.sin(columns / 23 + rng.uniform(0, 6)) + 4 * np.sin(columns / 7)
    rows = np.arange(height)[:, None]
    dermis = rows > edge
    image = np.where(dermis[..., None], (214, 196, 190), (176, 140, 148)).astype(np.float64)
    image[rows[:, 0] < 45] = (233, 226, 222)
    image += cv2.GaussianBlur(rng.normal(0, 60, (height, width)), (0, 0), 3)[..., None]
    image += rng.normal(0, 5, image.shape)
    nerve = np.zeros((height, width), np.uint8)
    xs = [round(x) for x in np.linspace(18, width - 18, max(crossings, 1))][:crossings]
    for x in xs:
        y = int(edge[x])
        line = np.array(
            [[x - 4, y + 38], [x + 3, y + 14], [x, y], [x - 3, y - 16], [x + 4, y - 40]]
        )
        cv2.polylines(nerve, [line.astype(np.int32)], False, 1, 3)
    dark = cv2.GaussianBlur(nerve.astype(np.float64), (0, 0), 0.8)[..., None]
    image = image * (1 - dark) + dark * (70, 50, 55)
    return np.clip(image, 0, 255).astype(np.uint8), nerve.astype(bool), dermis, xs


def _write_prediction(
    path: Path,
    rng: np.random.Generator,
    nerve: NDArray[np.bool_],
    dermis: NDArray[np.bool_],
    columns: list[int],
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shifted = np.roll(nerve, 1, axis=1).astype(np.float64)
    probability = np.clip(cv2.GaussianBlur(shifted, (0, 0), 1.0) * 300, 0, 255)
    inner = cv2.erode(dermis.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    points = [(float(np.argmax(dermis[:, x])), float(x)) for x in columns]
    np.savez_compressed(
        path,
        nerve=probability.astype(np.uint8),
        dermis=dermis,
        boundary=dermis & ~inner,
        points=np.array(points, dtype=np.float64).reshape(-1, 2),
    )

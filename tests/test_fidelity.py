"""docs/fidelity.md is true; and small tests of readings that no other file tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from skinray.config.base import parse_yaml
from skinray.config.biopsies import CrossingSettings, FitSettings
from skinray.config.recipes import paper
from skinray.config.training import TrainSettings
from skinray.crossings import find_crossings
from skinray.images.augment import Sample
from skinray.learning.checkpoint import TrainState
from skinray.learning.held_out import SplitScores, expert_count, score_split
from skinray.learning.loop import Batch, Objective, fit
from skinray.learning.metrics import tolerant_dice
from skinray.learning.search import SpecMaker, choose, deciding, make_splits
from skinray.learning.validation import image_scores
from tests.support.tiny import (
    DERMIS_TRUTH,
    NERVE_TRUTH,
    Spy,
    biopsy,
    cohort_of,
    drawn_sample,
    tiny_run,
)

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "fidelity.md"
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
TEXT = PAGE.read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip()[1:-1].split("|")]
    for line in TEXT.splitlines()
    if line.startswith("| ") and line.count("|") == 6 and not line.startswith("| Detail ")
]
# How a run is spread over machines, or what it is called, is no reading of the paper.
NO_METHOD = ("recipe", "seed", "read.", "cluster.", "nerve.main.label", "dermis.main.label")
# Tested separately: equal to the nerve stage's, and trained as their stage's main network.
ELSEWHERE = ("dermis.augment.", "nerve.baselines", "dermis.baselines")


def at(place: Any, path: str) -> Any:
    """Return the value at a dotted path; a grid's own keys have dots in them too."""
    keys = path.split(".")
    while keys:
        if isinstance(place, list):
            place = place[int(keys.pop(0))]
            continue
        size = next(n for n in range(len(keys), 0, -1) if ".".join(keys[:n]) in place)
        place, keys = place[".".join(keys[:size])], keys[size:]
    return place


def leaves(place: Any, path: str = "") -> Iterator[str]:
    if isinstance(place, dict) and place:
        for key, value in place.items():
            yield from leaves(value, f"{path}.{key}" if path else key)
    else:
        yield path


def settings_of_the_page() -> list[tuple[str, str]]:
    return re.findall(r"`([\w.]+)` = `([^`]*)`", "\n".join(" ".join(row) for row in ROWS))


def test_settings_are_what_the_page_says() -> None:
    values = paper().model_dump(mode="json")
    told = settings_of_the_page()
    assert len(told) > 60
    for path, value in told:
        assert at(values, path) == parse_yaml(value), path


def test_every_setting_of_the_method_is_on_the_page() -> None:
    told = {path for path, _ in settings_of_the_page()}
    there = leaves(paper().model_dump(mode="json"))
    missing = [path for path in there if not path.startswith(NO_METHOD + ELSEWHERE)]
    missing = [path for path in missing if path not in told]
    assert missing == [], f"add rows to {PAGE} that say what the paper says about these"


def test_baselines_train_as_the_main_network() -> None:
    for stage in (paper().nerve, paper().dermis):
        assert [(arm.train, arm.grid) for arm in stage.baselines] == [
            (stage.main.train, stage.main.grid)
        ] * 2


def test_every_row_names_tests_that_exist() -> None:
    assert len(ROWS) > 90
    for row in ROWS:
        tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row[-1])
        assert tests, f"no test: {row[0]}"
        for file, name in tests:
            text = (ROOT / file).read_text(encoding="utf-8")
            assert f"def {name}(" in text, f"{row[0]}: {file}::{name}"


def test_every_place_in_the_code_exists() -> None:
    texts = [TEXT, *(path.read_text(encoding="utf-8") for path in DECISIONS)]
    places = re.findall(r"`(skinray/[\w/]+\.py)::(\w+)`", "\n".join(texts))
    assert len(places) > 30
    for file, name in places:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"^(?:def |class )?{name}\b", text, re.M), f"{file}::{name}"


def test_every_reading_has_its_decision() -> None:
    for row in ROWS:
        if "⚠" in row[3] or "≠" in row[3]:
            number, target = re.findall(r"\[(\d{4})\]\(([^)]+)\)", row[3])[0]
            assert (PAGE.parent / target).name.startswith(number), row[0]
    for path in (PAGE, *DECISIONS):
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).is_file(), f"{path}: {target}"


def test_decisions_are_numbered_whole_and_linked() -> None:
    for number, path in enumerate(DECISIONS, 1):
        text = path.read_text(encoding="utf-8")
        assert path.name.startswith(f"{number:04d}-")
        assert text.startswith(f"# {number}. ")
        titles = re.findall(r"^## (\w+)$", text, re.M)
        assert titles == ["Context", "Decision", "Consequences"], path
        assert path.name in TEXT, f"{PAGE} does not link {path.name}"


def test_the_papers_p_of_fold_2_needs_19_or_20_images() -> None:
    """The unit that table 3 scores is the image: 94 images in 5 folds make 18 or 19."""
    fits = []
    for n in range(4, 95):
        t = 0.465 * np.sqrt((n - 2) / (1 - 0.465**2))
        if round(2 * stats.t.sf(t, n - 2), 2) == 0.04:
            fits.append(n)
    assert fits == [19, 20]


class Idle(nn.Module):
    """A network whose loss is log 2 whatever its one weight is."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, image: Tensor) -> Tensor:
        return image[:, :1] * 0 * self.weight


def idle_training(validate: Any = None, **changes: Any) -> tuple[Idle, TrainState]:
    network, settings = Idle(), TrainSettings(loss="bce", validate_every_epochs=1, **changes)
    batch = Batch(torch.zeros(2, 8, 8, 3).byte(), torch.zeros(2, 8, 8).byte(), 2)
    state = fit(
        Objective(network, settings), network, settings, lambda epoch, row: [batch],
        seed=0, device=torch.device("cpu"), validate=validate,
    )  # fmt: skip
    return network, state


def test_adam_has_the_penalty_in_its_gradient() -> None:
    """Adam's first step is the rate, however small the gradient; AdamW's would be .1 * .01."""
    network, _ = idle_training(learning_rate=0.1, weight_decay=0.01, epochs=1)
    assert network.weight.item() == pytest.approx(0.9, abs=1e-5)


def test_the_rate_falls_when_the_training_loss_flattens() -> None:
    better = count()  # the validation score keeps rising, and must be ignored
    _, state = idle_training(
        lambda network: float(next(better)),
        learning_rate=1e-3, epochs=7, plateau_factor=0.1, plateau_patience_epochs=2,
    )  # fmt: skip
    rates = [end.learning_rate for end in state.history]
    assert rates == pytest.approx([1e-3] * 4 + [1e-4] * 3)


def test_search_trials_never_see_their_held_out_fold() -> None:
    cohort = cohort_of([2, 3, 1, 2, 2, 4, 1])
    for selection, validation in (("nested", "inner"), ("pooled", "inner"), ("pooled", "held_out")):
        settings = tiny_run(tune__selection=selection, tune__validation=validation)
        splits = make_splits(cohort, settings)
        by_name = {split.name: split for split in (*splits.folds, splits.components)}
        trials = SpecMaker(settings, cohort, "data").search(splits)
        # A training for each pair of neighbouring folds, and two for the component split.
        assert len(trials) == 2 * 2 * (7 if selection == "nested" else 5)
        for trial in trials:
            assert trial.evidence
            for name, scored in trial.evidence.items():
                split = by_name[name]
                assert scored
                assert not set(trial.train) & {*scored, *split.held_out}
                if validation == "inner":
                    assert sorted(trial.train + scored) == sorted(split.train)
                else:
                    assert scored == split.held_out


def test_each_fold_chooses_for_itself_and_the_best_mean_is_for_all_images() -> None:
    cohort, nested = cohort_of([2] * 5), tiny_run(dermis__main__grid={})
    pooled = nested.override({"tune.selection": "pooled"})
    splits = make_splits(cohort, nested)
    search = SpecMaker(nested, cohort, "data").search(splits)
    low, high = ({"train.learning_rate": rate} for rate in (1e-3, 1e-2))
    one_good_fold = {"fold-1": 1.0}
    values: dict[str, dict[str, float] | None] = {
        trial.key: {
            name: 0.5 if trial.params == high else one_good_fold.get(name, 0.3)
            for name in trial.evidence
        }
        for trial in search
    }
    chosen = choose(search, values, deciding(splits, nested))
    assert [chosen["nerve", "U-Net", at] for at in ("fold-1", "fold-2", "all")] == [low, high, high]
    chosen = choose(search, values, deciding(splits, pooled))
    assert all(point == high for point in chosen.values())
    values[next(t.key for t in search if t.params == high and "fold-2" in t.evidence)] = None
    chosen = choose(search, values, deciding(splits, nested))
    assert [chosen["nerve", "U-Net", at] for at in ("fold-2", "fold-4", "all")] == [low, high, low]


def test_a_trial_is_scored_by_the_most_tolerant_dice() -> None:
    drawn = drawn_sample()
    moved = Sample(
        drawn.image,
        {"nerve": np.roll(drawn.masks["nerve"], 2, axis=1), "dermis": drawn.masks["dermis"]},
    )
    expected = [tolerant_dice(s.masks["nerve"], moved.masks["nerve"], 3) for s in (moved, drawn)]
    assert (
        expected[0]
        == 1
        > expected[1]
        > tolerant_dice(drawn.masks["nerve"], moved.masks["nerve"], 1)
    )
    found = fmean(image_scores("nerve", NERVE_TRUTH, [drawn, moved]))
    assert found == pytest.approx(np.mean(expected))


class Faint(nn.Module):
    """Sees every nerve of a drawn biopsy, with a probability of .4."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.where(image[:, :1] > 0.5, -0.4, -9.0)


def test_the_fit_sees_training_images_alone(tmp_path: Path) -> None:
    """What the held-out image holds, and whether it is labelled, changes no parameter."""
    drawn = [drawn_sample(seed, nerves=2 + seed) for seed in range(4)]
    blank = Sample(drawn[3].image, {stage: mask * 0 for stage, mask in drawn[3].masks.items()})
    rows = [biopsy(f"{at}.png") for at in range(4)]

    def scored(samples: Spy) -> SplitScores:
        return score_split(
            (Faint(), DERMIS_TRUTH), samples, rows, [0, 1, 2], [3], CrossingSettings(),
            FitSettings(grid={"nerve_threshold": (0.3, 0.5)}), tmp_path,
        )  # fmt: skip

    first, second = Spy(drawn), Spy([*drawn[:3], blank])
    found = scored(first)
    assert found.crossings.nerve_threshold == 0.3
    assert scored(second).crossings == found.crossings
    assert first.read == second.read
    assert first.read.index(3) == len(first.read) - 1, "held out: read once, after the fit"
    assert [image.position for image in found.images] == [3]


def test_the_experts_count_is_the_manifests_else_that_of_the_labels() -> None:
    drawn = drawn_sample(nerves=3)
    assert find_crossings(drawn.masks["nerve"], drawn.masks["dermis"]).count == 3
    assert expert_count(biopsy("a.png", count=7), drawn) == 7
    assert expert_count(biopsy("a.png"), drawn) == 3

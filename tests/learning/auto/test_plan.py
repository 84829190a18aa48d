"""The recipe ``auto``: what is decided from a cohort, a machine and hours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skinray.config.base import from_yaml, to_yaml
from skinray.config.biopsies import RunSettings
from skinray.config.training import ArmSettings
from skinray.errors import CohortError
from skinray.images.cohort.facts import CohortFacts, stroke_width
from skinray.learning.auto import plan as plans
from skinray.learning.auto.machine import Cost, MachineFacts, measure
from skinray.learning.auto.plan import LEAST_STEPS, MOST_STEPS, Plan, plan_for, plan_run
from tests.support.tiny import tiny_spec, write_drawn_cohort

PAPER = CohortFacts(40, 10, 1200, 1600, 0.5, 3.2, 0.5)
TWO_CORES = MachineFacts(cores=2)


def timer(arm: ArmSettings, crop_px: int, device: torch.device) -> Cost:
    """A machine on which full HED is ten times as slow, and bfloat16 twice as fast."""
    factor = 10 if arm.model.name == "hed" and "width" not in arm.model.options else 1
    half = 0.5 if arm.train.precision == "bfloat16" else 1
    return Cost(0.4 * factor * half * (crop_px / 256) ** 2, 0.5 * factor)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights at hand, and a processor without bfloat16."""
    monkeypatch.setattr(plans, "available", lambda name: False)
    monkeypatch.setattr(plans, "computes_bfloat16", lambda device: False)


def planned(hours: float | None = None, on: MachineFacts = TWO_CORES, **facts: Any) -> Plan:
    return plan_run(replace(PAPER, **facts), on, hours, timer)


def line(plan: Plan, what: str) -> str:
    (found,) = [f"{one.value}: {one.reason}" for one in plan.lines if one.what == what]
    return found


def test_every_line_has_a_reason_and_the_settings_can_be_stored(tmp_path: Path) -> None:
    plan = planned()
    assert all(one.value and one.reason for one in plan.lines)
    (tmp_path / "settings.yaml").write_text(to_yaml(plan.settings), encoding="utf-8")
    assert from_yaml(RunSettings, tmp_path / "settings.yaml") == plan.settings
    assert plan.settings.recipe == "auto"
    assert plan.settings.tune.second_tries


@pytest.mark.parametrize(
    ("stroke", "scale"), [(0.0, 1.0), (3.2, 1.0), (4.9, 1.0), (6.0, 0.5), (12.0, 0.25)]
)
def test_wide_strokes_are_seen_smaller(stroke: float, scale: float) -> None:
    assert planned(stroke_px=stroke).settings.nerve.main.model.options["scale"] == scale


@pytest.mark.parametrize(
    ("short", "scales"),
    [(384, (0.5, 0.25)), (300, (1.0, 0.5)), (1024, (0.25, 0.125)), (1200, (0.25, 0.125)),
     (2048, (0.125,)), (128, (1.0,))],
)  # fmt: skip
def test_the_dermis_is_seen_small_and_two_scales_are_tried(
    short: int, scales: tuple[float, ...]
) -> None:
    stage = planned(height=short, width=2 * short).settings.dermis
    assert stage.main.model.options["scale"] == scales[0]
    grid = {"model.options.scale": scales} if len(scales) > 1 else {}
    assert stage.main.grid == grid
    assert stage.augment.crop_px >= min(short * scales[0] / 2, 320) - 32


@pytest.mark.parametrize(
    ("images", "subjects", "count", "unit"),
    [(40, 10, 5, "subject"), (40, 4, 4, "subject"), (40, 3, 3, "subject"), (30, 2, 5, "image"),
     (30, 1, 5, "image"), (6, 1, 3, "subject")],
)  # fmt: skip
def test_folds_are_of_subjects_if_there_are_enough(
    images: int, subjects: int, count: int, unit: str
) -> None:
    plan = planned(images=images, subjects=subjects)
    assert (plan.settings.folds.count, plan.settings.folds.unit) == (count, unit)
    assert ("new subjects" in line(plan, "folds")) == (unit == "image")


def steps_of(plan: Plan, stage: str) -> int:
    of = getattr(plan.settings, stage)
    crops = PAPER.images * 0.8 * of.main.train.draws_per_image * of.main.train.epochs
    return round(crops / of.main.train.batch_size)


def test_more_hours_are_more_steps_within_limits() -> None:
    found = [steps_of(planned(hours), "nerve") for hours in (0.05, 0.5, 2.0, 40.0)]
    assert found == sorted(found)
    assert found[0] == pytest.approx(LEAST_STEPS, rel=0.3)
    assert found[1] > 1.5 * found[0]
    assert found[-1] == pytest.approx(MOST_STEPS["nerve"], rel=0.1)
    assert steps_of(planned(40.0), "dermis") == pytest.approx(MOST_STEPS["dermis"], rel=0.1)
    assert "too few hours" in line(planned(0.05), "nerve: training")
    assert "too few hours" not in line(planned(2.0), "nerve: training")


def test_the_trainings_fit_the_budget() -> None:
    plan = planned(0.5)
    spent = 0.0
    # Five folds take three rounds on two cores, and the bundle's own network one more.
    for stage, trainings in (("nerve", 4 * 2), ("dermis", 6 + 5)):
        settings = getattr(plan.settings, stage)
        cost = timer(settings.main, settings.augment.crop_px, torch.device("cpu"))
        spent += trainings * steps_of(plan, stage) * cost.step_s / TWO_CORES.at_once
    assert 0.3 * 1800 < spent < 0.85 * 1800


def test_a_gpu_has_more_hours() -> None:
    gpu = MachineFacts(cores=16, gpus=1)
    assert line(planned(on=gpu), "budget").startswith("4 h: 1 GPU")
    assert line(planned(), "budget").startswith("0.5 h: 2 CPU cores")


def test_published_weights_are_used_if_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "fetch hed_bsds500_caffe" in line(planned(), "nerve: network")
    monkeypatch.setattr(plans, "available", lambda name: name == "hed_bsds500_caffe")
    long, short = planned(40.0), planned(8.0)
    assert long.settings.nerve.main.model.weights == "hed_bsds500_caffe"
    assert "starts from hed_bsds500_caffe" in line(long, "nerve: network")
    assert short.settings.nerve.main.model.weights == "starter_nerve"
    assert "learns more in this time" in line(short, "nerve: network")
    # With fewer than all the steps that it gains from, the full width would learn less.
    assert steps_of(long, "nerve") == pytest.approx(MOST_STEPS["nerve"], rel=0.1)
    hours = [float(at) for at in range(1, 41)]
    full = [at for at in hours if "full width" in line(planned(at), "nerve: network")[:16]]
    assert full == hours[-len(full) :] != hours
    assert steps_of(planned(full[0]), "nerve") == pytest.approx(MOST_STEPS["nerve"], rel=0.1)


def test_bfloat16_is_used_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert planned().settings.nerve.main.train.precision == "float32"
    monkeypatch.setattr(plans, "computes_bfloat16", lambda device: True)
    assert planned().settings.nerve.main.train.precision == "bfloat16"
    assert steps_of(planned(), "nerve") > 1.5 * steps_of(planned(0.25), "nerve")


def test_a_cohort_is_measured_on_this_machine(tmp_path: Path) -> None:
    plan = plan_for(write_drawn_cohort(tmp_path, 6), 0.05)
    assert "6 images of" in line(plan, "cohort")
    assert "128x96 px" in line(plan, "cohort")
    assert plan.settings.nerve.augment.crop_px == 96


def test_problems_of_the_cohort_are_listed_before_anything_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "measure", pytest.fail)
    data = write_drawn_cohort(tmp_path, 6)
    for file in sorted((data / "images").iterdir())[:2]:
        file.write_bytes(b"no image")
    with pytest.raises(CohortError, match="2 problems"):
        plan_for(data, 0.05)


def test_a_network_is_timed_with_one_thread() -> None:
    before = torch.get_num_threads()
    cost = measure(tiny_spec().arm, 32, torch.device("cpu"), at_once=2)
    assert cost.step_s > 0
    assert cost.megapixel_s > 0
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8])
def test_the_width_of_strokes_is_measured(width: int) -> None:
    mask = np.zeros((120, 120), np.uint8)
    mask[20 : 20 + width, 10:110] = 1
    mask[60 : 60 + width] = 1
    assert stroke_width(mask) == pytest.approx(width, abs=1)
    assert stroke_width(mask * 0) == 0

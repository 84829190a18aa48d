from __future__ import annotations

import dataclasses
import importlib
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from benchmarks import older_processor
from skinray.errors import SkinrayError
from skinray.images.cohort.manifest import read_manifest
from skinray.images.read import read_image
from skinray.learning.auto.machine import Cost
from skinray.report.photos.rows import LOOKED
from tests.support.drawn_photos import write_photos
from tests.support.fake_photo_run import fake_photo_results
from tests.support.photo_bundles import OPTIONS
from tests.support.tiny import drawn_sample, tiny_spec

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = (
    "accuracy.label_fractions", "accuracy.own_images", "accuracy.paper_fold",
    "accuracy.several_workers", "accuracy.thin_lines", "chaos.run",
    "photos.networks", "photos.table", "photos.wide_conv", "serve.batches", "serve.front_proxy",
    "serve.overhead", "serve.overload", "serve.replica_kill", "serve.stops", "speed.augmentation",
    "speed.backends", "speed.crossing_stage", "speed.data_scheduler", "speed.peers",
    "speed.one_image", "speed.scaling", "speed.score_efficiency", "speed.score_feeding",
    "speed.score_memory", "speed.tolerant_dice", "speed.train_overhead", "speed.training_step",
)  # fmt: skip
MOST_MODULES = 15


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Import a script as running it would; results go to a temporary folder."""

    def module(name: str) -> ModuleType:
        found = importlib.import_module(f"benchmarks.{name}")
        for one in (found, importlib.import_module("benchmarks.measure")):
            monkeypatch.setattr(one, "RESULTS", tmp_path / "results", raising=False)
        return found

    return module


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_explains_itself(name, load, monkeypatch, capsys):
    script = load(name)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as end:
        script.main()
    assert end.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert script.__doc__.split()[:5] == said.partition("[-h]")[2].split("] ")[-1].split()[:5]


def test_readme_names_every_script():
    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    assert [name for name in SCRIPTS if f"`python -m benchmarks.{name}`" not in text] == []


def test_scripts_are_all_that_can_be_run():
    """Except what other scripts or ``make`` start: a generator, a worker, a job, fuzz, the page."""
    found = {
        ".".join(path.relative_to(BENCHMARKS).with_suffix("").parts)
        for path in BENCHMARKS.rglob("*.py")
        if "__main__" in path.read_text(encoding="utf-8")
    }
    assert found - {
        "serve.load",
        "fuzz.run",
        "fuzz.worker",
        "chaos.one_training",
        "performance",
    } == set(SCRIPTS)


def test_no_folder_is_crowded():
    for folder in (BENCHMARKS, *(path for path in BENCHMARKS.iterdir() if path.is_dir())):
        assert len(list(folder.glob("*.py"))) <= MOST_MODULES, folder


# --- thin lines ------------------------------------------------------------------------------


def draw_drive(folder: Path, images: int, size: int = 64) -> None:
    for kind in ("images", "manual1", "fov"):
        (folder / kind).mkdir(parents=True)
    for number in range(images):
        vessels = np.zeros((size, size), np.uint8)
        vessels[:, 20 + number : 23 + number] = 255
        field = np.zeros_like(vessels)
        field[: size // 2] = 255
        colours = np.repeat(200 - vessels[..., None] // 2, 3, axis=2)
        for kind, pixels in (("images", colours), ("manual1", vessels), ("fov", field)):
            cv2.imwrite(str(folder / kind / f"{number:02d}.png"), pixels)


def test_drive_is_scored_inside_its_field_of_view_alone(load, tmp_path, monkeypatch):
    lines = load("accuracy.thin_lines")
    draw_drive(tmp_path / "drive", 2)
    first, second = lines.read_drive(tmp_path / "drive")
    assert second.sample.masks["nerve"][0, 21:24].tolist() == [1, 1, 1]
    assert first.field.sum() == 32 * 64
    # A perfect map inside the field, everything claimed outside.
    claimed = np.ones((64, 64), np.float32)
    claimed[:32] = first.sample.masks["nerve"][:32]
    monkeypatch.setattr(lines, "predict_map", lambda network, image, settings: claimed)
    assert lines.dice(torch.nn.Identity(), [first], 1) == {0: 1.0, 1: 1.0, 3: 1.0}


def test_thin_lines_take_the_steps_that_fit_and_keep_earlier_rows(load, tmp_path, monkeypatch):
    lines = load("accuracy.thin_lines")
    draw_drive(tmp_path / "drive", 3, size=96)
    monkeypatch.setattr(lines, "TRAIN_IMAGES", 2)
    monkeypatch.setattr(lines, "CROPS_PER_EPOCH", 4)
    monkeypatch.setattr(lines, "measure", lambda *of: Cost(1.0, 1.0))
    arguments = ["thin_lines", "--data", str(tmp_path), "--images", "DRIVE vessels"]
    for minutes in ("0.05", "0.1"):
        monkeypatch.setattr(sys, "argv", [*arguments, "--start", "random", "--minutes", minutes])
        lines.main()
    text = (tmp_path / "results" / "thin_lines.md").read_text()
    assert "| DRIVE vessels | 0.05 | random | 3 |" in text
    assert "| DRIVE vessels | 0.1 | random | 6 |" in text


def test_thin_lines_say_where_the_data_should_be(load, tmp_path):
    with pytest.raises(SystemExit, match="give --data"):
        load("accuracy.thin_lines").arguments(["--data", str(tmp_path)])


# --- a lab's own images ------------------------------------------------------------------------


def test_own_images_says_what_was_not_reached(load):
    own = load("accuracy.own_images")
    run = {
        "name": "512x384, drawn", "code": 0, "minutes": 30.0, "images": 40, "r": 0.9,
        "r_interval": [0.8, 0.95], "error": 1.2, "nerve_dice": {"0": 0.7, "3": 0.9},
        "dermis_dice": 0.97, "failures": [], "machine": "two cores",
    }  # fmt: skip
    assert own.verdict(run) == "met"
    text = "\n".join(own.page([run | {"r": 0.4, "code": 4}]))
    assert "| 0.400 (0.80 to 0.95) | 1.20 | 0.900 | 0.970 | 30 | **NOT met**: r 0.85, exit" in text
    assert "1600x1200, drawn: not measured." in text


def test_an_enlarged_cohort_has_finer_pixels(load, tmp_path):
    own = load("accuracy.own_images")
    cohort = dataclasses.replace(own.COHORTS["512x384, drawn"], size=(224, 192), enlarged=2)
    cohort.many(2).write(tmp_path / "cohort", tmp_path)
    found = read_manifest(tmp_path / "cohort")
    assert read_image(found.biopsies[0].image).pixels.shape == (384, 448, 3)
    assert found.biopsies[0].um_per_px == 0.25


# --- paper_fold ----------------------------------------------------------------------------


def test_paper_fold_without_gpu_says_not_measured(load, monkeypatch):
    script = load("accuracy.paper_fold")
    monkeypatch.setattr(sys, "argv", ["paper_fold.py"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    script.main()
    path = script.RESULTS / "paper_fold.md"
    assert "Not measured: no GPU here" in path.read_text(encoding="utf-8")
    path.write_text("measured elsewhere", encoding="utf-8")
    script.main()
    assert path.read_text(encoding="utf-8") == "measured elsewhere"


def test_paper_fold_takes_random_weights_where_published_ones_are_missing(
    load, monkeypatch, tmp_path
):
    script = load("accuracy.paper_fold")
    monkeypatch.setenv("SKINRAY_CACHE", str(tmp_path))
    settings = script.settings_of()
    assert [arm.model.weights for arm in settings.nerve.arms] == [None, None]
    assert [arm.label for arm in settings.nerve.arms] == [
        "HED not pretrained", "U-Net, from random weights",
    ]  # fmt: skip
    assert settings.dermis.main.label == "DeepLabV3 not pretrained"
    assert (settings.nerve.main.train.epochs, settings.dermis.main.train.epochs) == (200, 300)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "hed_bsds500.safetensors").touch()
    settings = script.settings_of()
    assert settings.nerve.main.model.weights == "hed_bsds500"
    assert len(settings.nerve.arms) == 3
    assert script.settings_of(main_only=True).nerve.baselines == ()


def test_paper_fold_runs_through(load, monkeypatch, tmp_path, capsys):
    script = load("accuracy.paper_fold")
    monkeypatch.setattr(
        sys, "argv", ["paper_fold.py", "--tiny", "--threads", "1", "--out", str(tmp_path / "run")]
    )
    script.main()
    said = capsys.readouterr().out
    assert "3 images of 256x192 px, 3 subjects; fold 1 of 3 by subject: 2 train" in said
    for line in (
        "| HED from the starter | 0.",
        "| DeepLabV3 not pretrained | 0.",
        "| this run | 1 |",
    ):
        assert line in said
    assert not script.RESULTS.exists()


# --- photo_networks ------------------------------------------------------------------------


def test_an_epoch_of_a_network_for_photographs_is_measured(load, tmp_path):
    script = load("photos.networks")
    write_photos(tmp_path / "set", 12)
    settings = script.PhotoSettings(train_images=10, test_images=1).lasting(1).only(["skin_unet"])
    narrow = settings.networks[0].override({"model.options": OPTIONS})
    settings = settings.model_copy(update={"networks": (narrow,)})
    row = script.measure(tmp_path / "set", settings, 0)
    assert (row.label, row.images) == ("U-Net", 16)
    assert row.peak > 100 << 20
    assert 0 <= row.skin <= 1
    *_, line = script.lines([row])
    assert line.startswith(f"| U-Net | {row.parameters:,} | 16 |")


# --- photo_table ---------------------------------------------------------------------------


def test_the_table_says_for_every_network_what_was_asked_and_met(load, tmp_path, monkeypatch):
    script = load("photos.table")
    monkeypatch.setattr(script, "ASKED", 0.85)  # between the two
    results = fake_photo_results(tmp_path / "run")
    told = script.lines(results)
    assert "| U-Net | fine-tuning | 7,463,645 | 0.46 s | 20 | " in "\n".join(told)
    assert told[-3].startswith("- U-Net: fine-tuning ")
    assert "(better); at least 0.85 asked after fine-tuning: met." in told[-3]
    assert told[-2].startswith("- U-Net, flips averaged: fine-tuning ")
    assert told[-1].startswith(f"- DeepLabV3 {LOOKED}: fine-tuning ")
    assert told[-1].endswith("asked after fine-tuning: NOT met.")
    assert "with skin marked" not in told[-1]
    row = results.rows[-1]
    photos = [row.photos[0].model_copy(update={"skin": 0, "both": 0}), *row.photos[1:]]
    blank = row.model_copy(update={"photos": photos})
    *_, last = script.lines(results.model_copy(update={"rows": [*results.rows[:-1], blank]}))
    others = sum(photo.jaccard for photo in photos[1:]) / len(photos[1:])
    assert f" ({others:.3f} over the {len(photos) - 1} with skin marked) against " in last


def test_the_tables_networks_and_epochs_can_be_chosen(load, tmp_path):
    script = load("photos.table")
    home = ["--home", str(tmp_path)]
    both = script.settings(script.arguments(home))
    assert [arm.train.epochs for arm in both.networks] == [250, 80]
    assert (both.members, both.pretraining_epochs) == (3, 20)
    told = [*home, "--network", "skin_mobilenet", "--epochs", "7", "--members", "2"]
    told += ["--pretraining-epochs", "3", "--precision", "bfloat16"]
    one = script.settings(script.arguments(told))
    assert [arm.model.name for arm in one.networks] == ["skin_mobilenet"]
    assert (one.networks[0].train.epochs, one.networks[0].train.precision) == (7, "bfloat16")
    assert (one.members, one.pretraining_epochs) == (2, 3)


# --- wide_conv -----------------------------------------------------------------------------


def test_wide_convolutions_are_compared_on_the_same_weights(load):
    script = load("photos.wide_conv")
    before = script.wide_conv.LEAST_BATCH
    seconds, apart = script.measure(2, 4, filters=(2, 3, 4), bottleneck=5)
    assert before == script.wide_conv.LEAST_BATCH
    assert {name: len(values) for name, values in seconds.items()} == {
        "Conv2d": 2, "transforms": 2,
    }  # fmt: skip
    assert 0 < apart < 1e-3
    told = script.lines({4: ({"Conv2d": [2.0, 6.0, 3.0], "transforms": [1.0, 2.0, 2.0]}, 2e-5)})
    assert "| 4 | 3.00 | 2.00 | **2.00** | 1.50 - 3.00 | 3 | 2e-05 |" in told


def test_nothing_is_timed_if_the_gradients_differ(load, monkeypatch):
    script = load("photos.wide_conv")
    monkeypatch.setattr(script, "MOST_APART", 0)
    with pytest.raises(SkinrayError, match="nothing was timed"):
        script.measure(1, 4, filters=(2, 3, 4), bottleneck=5)


# --- serve_batches -------------------------------------------------------------------------


def test_batches_are_compared_with_each_image_alone(load):
    script = load("serve.batches")
    options = script.arguments(["--images", "3", "--rounds", "2", "--steps", "1"])
    model, train = script.NETWORKS["U-Net, the demo's"]
    network = script.trained(model, train, options.steps)
    apart = script.measured(network, 1, options)
    assert apart.pixels == 2 * (3 + 2) * script.SIZE[0] * script.SIZE[1]  # stacks of 3 and of 2
    assert len(apart.gains) == 2
    assert apart.most <= script.STACK_TOLERANCE


def test_the_largest_change_is_compared_with_the_stated_limit(load):
    script = load("serve.batches")
    options = script.arguments([])
    one, stack = np.float32([[[0.4, 0.49]]]), np.float32([[[0.4, 0.51]]])
    apart = script.Apart(gains=[1.0, 3.0, 2.0])
    script.note(apart, one, stack)
    *_, row, _, verdict = script.lines({("a", 1): apart}, options)
    assert row == "| a | 1 | 2.0e-02 | 1 of 2 | 2.00 (1.00 - 3.00) |"
    assert verdict.startswith("Most of all: **2.0e-02** (stated: at most 0.01; NOT met).")
    apart.most = 1e-4
    assert "; met)." in script.lines({("a", 1): apart}, options)[-1]


def test_a_step_is_timed_on_batches_that_are_there(load, monkeypatch):
    script = load("speed.data_scheduler")
    monkeypatch.setattr(script, "LEFT_OUT", 1)
    assert script.seconds(tiny_spec(), script.ready(), 2) > 0
    before = script.data.unhurried
    with script.without_rest():
        assert script.data.unhurried(None) is None
    assert script.data.unhurried is before


def test_backends_are_timed_in_turn_and_gated(load, monkeypatch):
    script = load("speed.backends")
    times = script.in_turn({"a": lambda: 0, "b": lambda: 0}, 2)
    assert {name: len(taken) for name, taken in times.items()} == {"a": 2, "b": 2}
    monkeypatch.setattr(script, "SIZE", (64, 96))
    rows = script.timed("pixel", "pixel", 1, {"float32": 2.0, "bfloat16": 8.0})
    assert [row.split("|")[2].strip() for row in rows][:2] == ["plain torch", "eager"]
    seen = [(drawn_sample(at).image, 0.5) for at in range(2)]
    gated = script.gate(script.STARTER, seen, "drawn")
    assert all(row.startswith("| drawn | ") and row.split("|")[3] == " 1 " for row in gated)


def test_a_pass_is_measured_against_a_product_of_matrices(load, monkeypatch):
    script = load("speed.backends")
    monkeypatch.setattr(script, "SIZE", (10, 20))
    three_by_one = torch.nn.Conv2d(3, 1, 1)
    assert script.operations(three_by_one) == pytest.approx(2 * 3 * 200 / 1e9)
    limits = {"float32": 200.0, "bfloat16": 800.0}
    assert script.share("openvino", 100.0, limits) == "50%"
    assert script.share("openvino_bfloat16", 100.0, limits) == "12%"
    assert script.share("openvino_int8", 100.0, limits) == ""


@pytest.mark.skipif(bool(older_processor.possible()), reason=older_processor.possible())
def test_a_processor_with_avx2_alone_can_be_simulated(capfd):
    asked = (
        "import signal, torch; from skinray.models.compute import instructions\n"
        "signal.signal(signal.SIGSEGV, signal.SIG_DFL)\n"
        "print(torch.backends.cpu.get_cpu_capability(), *instructions())"
    )
    assert older_processor.run_with_avx2_only([sys.executable, "-c", asked]) == 0
    seen = capfd.readouterr().out.split()
    assert seen[0] == "AVX2"
    assert "avx2" in seen
    assert [name for name in seen if "512" in name or "amx" in name or "vnni" in name] == []
    assert older_processor.run_with_avx2_only([sys.executable, "-c", "raise SystemExit(3)"]) == 3


def test_peers_predict_the_same_map(load, tmp_path, monkeypatch):
    script = load("speed.peers")
    monkeypatch.setattr(script, "TILE_PX", 64)
    network = script.build("pixel").eval()
    image = drawn_sample().image
    ways = script.predictions(network, tmp_path)
    assert list(ways)[:2] == ["skinray, eager", "plain torch, whole image"]
    maps = [way(image) for way in ways.values()]
    assert all(np.abs(one - maps[0]).max() < 0.01 for one in maps)


def test_peers_compute_overlaps_again(load):
    script = load("speed.peers")
    assert script.computed((512, 512), 0.25) == 1
    assert script.computed((896, 512), 0.25) == pytest.approx(2 * 512 / 896)


# --- train_overhead ------------------------------------------------------------------------


def test_overhead_ratio_is_the_median_over_rounds(load):
    script = load("speed.train_overhead")
    times = {
        "plain": [1.0, 2.0, 4.0], "Train": [1.02, 2.2, 4.12], "Train and Data": [1.0, 3.3, 8.24],
    }  # fmt: skip
    runs = {
        (name, workers): [script.Run(value, 10 * value, []) for value in values]
        for name, values in times.items()
        for workers in (1, 2)
    }
    demo = script.SCALES["demo"]
    one, two, three, _ = script.table("Seconds a step", "seconds", runs, demo)[-4:]
    told = "**1.030** (at most 1.05: met) | 1.020 - 1.100 |"
    assert one == f"| 1 worker: plain -> Train | 2.000 | 2.200 | {told}"
    assert two.startswith("| 2 workers: plain -> Train |")
    told = "2.200 | 3.300 | **1.500** (at most 1.1: NOT met)"
    assert three.startswith(f"| 1 worker: Train -> Train and Data | {told}")
    cpu = script.table("CPU", "cpu_seconds", runs, demo)[-4]
    assert "20.000 | 22.000 | **1.030** (no limit)" in cpu


def test_cpu_of_a_tree_counts_descendants_and_their_ended_children(load, tmp_path):
    ticks = os.sysconf("SC_CLK_TCK")
    table = {
        10: (1, 2, 3, 0, 0),
        11: (10, 10, 0, 5, 0),
        12: (11, 100, 0, 0, 0),
        13: (1, 7, 0, 0, 0),
    }
    for pid, (parent, *used) in table.items():
        (tmp_path / str(pid)).mkdir()
        fields = ["S", parent, *[0] * 9, *[value * ticks for value in used]]
        line = f"{pid} (a) name) {' '.join(map(str, fields))}\n"
        (tmp_path / str(pid) / "stat").write_text(line)
    assert load("process_tree").tree_cpu_seconds(10, tmp_path) == 2 + 3 + 10 + 5 + 100


def test_cpu_is_recorded_at_every_change(load, tmp_path):
    tree = load("process_tree")
    path = tmp_path / "state"
    with tree.CpuAtChange(path) as cpu:
        for written in (1, 2, 3):
            path.write_text(str(written))
            deadline = time.monotonic() + 20
            while len(cpu.seconds) < written and time.monotonic() < deadline:
                time.sleep(0.01)
            assert len(cpu.seconds) == written
    assert cpu.seconds == sorted(cpu.seconds)


@pytest.mark.slow
@pytest.mark.ray
def test_overhead_compares_the_same_training(load, request):
    from ray import cloudpickle

    script = load("speed.train_overhead")
    # Ray's workers cannot import it; run as a script, it would travel with what it sends them.
    cloudpickle.register_pickle_by_value(script)
    request.addfinalizer(lambda: cloudpickle.unregister_pickle_by_value(script))
    scale = dataclasses.replace(script.SCALES["demo"], crop_px=32, steps=2, epochs=4, left_out=1)
    samples = [script.phantom(index, size=(224, 200)) for index in range(4)]
    runs = {name: script.measure(name, scale, samples, 1) for name in script.VERSIONS}
    for run in runs.values():
        np.testing.assert_allclose(runs["plain"].losses, run.losses, rtol=1e-4)
        assert run.seconds > 0

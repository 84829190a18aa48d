"""Ray Data gives the batches of the plan, whatever the number of actors."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.util.placement_group import placement_group, remove_placement_group

from skinray.cluster.train import data, sources
from skinray.cluster.train.data import RayFeed, plan_dataset, rows_per_block
from skinray.cluster.train.held import held, left_behind
from skinray.cluster.train.sources import Augmenter, Source, open_source
from skinray.config.biopsies import ClusterSettings, ReadSettings, RunSettings
from skinray.errors import ImageError, TrainingError
from skinray.images.augment import Sample
from skinray.images.cohort.common_scale import LabelledReader
from skinray.images.cohort.manifest import read_manifest
from skinray.images.cohort.rows import Biopsy
from skinray.images.photos.pairs import load_photo
from skinray.learning.crops import PlanRow, epoch_plan, remaining_steps
from skinray.learning.feed import ALONE, InProcessFeed
from skinray.learning.loop import Batch, World
from skinray.learning.search import SpecMaker, make_splits
from skinray.learning.spec import TrialSpec

pytestmark = pytest.mark.ray


@pytest.fixture
def spec(small_cohort: Path, small_settings: RunSettings) -> TrialSpec:
    cohort = read_manifest(small_cohort)
    maker = SpecMaker(small_settings, cohort, "data")
    split = make_splits(cohort, small_settings).folds[0]
    return maker.make("fit", "nerve", small_settings.nerve.main, split.name, split.train, {})


@pytest.fixture
def source(ray_session: Any, small_cohort: Path) -> Source:
    reader = LabelledReader(ReadSettings())
    opened = open_source(read_manifest(small_cohort).biopsies, reader, ClusterSettings())
    assert opened.refs
    return opened


ACTORS = [(1, 1), (2, 2)]


def same(ours: Iterator[Batch], theirs: Iterator[Batch]) -> bool:
    return all(
        torch.equal(a.image, b.image) and torch.equal(a.truth, b.truth) and a.step == b.step
        for a, b in zip(ours, theirs, strict=True)
    )


def fed(
    spec: TrialSpec, source: Source, world: World = ALONE, actors: tuple[int, int] = (1, 1)
) -> RayFeed:
    return RayFeed(spec, source, world, actors, 0.25)


def test_an_actor_that_augments_starts_without_torch(
    spec: TrialSpec, small_cohort: Path, tmp_path: Path
) -> None:
    """For biopsies and photographs; what it is sent needs no torch either."""
    biopsies = Source(read_manifest(small_cohort).biopsies, LabelledReader(ReadSettings()))
    photos = Source((), partial(load_photo, side=8, settings=ReadSettings()))
    sent = tmp_path / "sent.pickle"
    sent.write_bytes(pickle.dumps([(Augmenter, spec, biopsies), (Augmenter, spec, photos)]))
    code = (
        "import pickle, sys\n"
        "for augmenter, spec, source in pickle.load(open(sys.argv[1], 'rb')):\n"
        "    augmenter(spec, source)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, sent], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("actors", ACTORS)
def test_any_number_of_actors_gives_the_batches_of_the_training_process(
    spec: TrialSpec, source: Source, actors: tuple[int, int]
) -> None:
    spec = spec.override({"arm.train.epochs": 3, "arm.train.draws_per_image": 50})
    assert len(spec.train) * 50 * 3 > 2 * rows_per_block(spec)
    here, there = InProcessFeed(spec, source), fed(spec, source, actors=actors)
    for epoch in range(3):
        assert same(here.batches(epoch), there.batches(epoch))
    assert there.fed().crops == here.fed().crops == 3 * len(spec.train) * 50
    assert there.fed().by == "ray data"
    there.close()


@pytest.mark.parametrize("actors", [(1, 1), (1, 2)])
def test_a_training_is_fed_where_others_hold_every_cpu(
    spec: TrialSpec, source: Source, actors: tuple[int, int]
) -> None:
    """Its first actor runs on CPUs that it holds itself, so trainings never wait for each other."""
    others = placement_group([{"CPU": ray.cluster_resources()["CPU"]}])
    assert others.wait(30)
    feed = fed(spec, source, actors=actors)
    try:
        assert same(InProcessFeed(spec, source).batches(0), feed.batches(0))
    finally:
        feed.close()
        remove_placement_group(others)


def test_each_worker_gets_its_own_rows_of_the_plan_from_any_step_on(
    spec: TrialSpec, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All workers' rows together are the plan's, once each, even after a restart mid-epoch."""
    spec = spec.override({"step_crops": 6, "arm.train.epochs": 2})
    for row in (0, 6):
        taken = []
        for rank in range(2):
            world = World(rank, 2)
            feed = fed(spec, source, world)
            here = InProcessFeed(spec, source, world=world)
            assert same(here.batches(0, row), feed.batches(0, row))
            assert same(here.batches(1), feed.batches(1))
            feed.close()
            taken += [r for step in remaining_steps(spec, 0, row, rank, 2) for r in step]
        plan = epoch_plan(spec.names, spec.seed, 0, 1, 6)
        assert Counter(taken) == Counter(plan[row:])


@pytest.mark.parametrize("wrong", ["doubled", "left out", "of the other worker"])
def test_rows_that_are_not_the_plans_end_the_training(
    spec: TrialSpec, source: Source, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    def spoilt(spec: TrialSpec, source: Source, rows: list[PlanRow], *more: Any) -> Any:
        other = [r for step in remaining_steps(spec, 0, 0, 1, 2) for r in step]
        changed = {"doubled": [rows[0], *rows], "left out": rows[1:], "of the other worker": other}
        return plan_dataset(spec, source, changed[wrong], *more)

    monkeypatch.setattr(data, "plan_dataset", spoilt)
    feed = fed(spec, source, World(0, 2))
    with pytest.raises(TrainingError, match=r"Ray Data gave .* where the plan has"):
        list(feed.batches(0))
    feed.close()


def test_a_training_that_stops_early_ends_its_pipeline(
    ray_session: Any, spec: TrialSpec, source: Source, tmp_path: Path
) -> None:
    spec = spec.override({"arm.train.epochs": 300, "arm.train.draws_per_image": 20})
    before = held()
    assert before is not None
    feed = RayFeed(spec, source, ALONE, (1, 1), 0.25, tmp_path / "told.txt")
    next(feed.batches(0))
    now = held()
    assert now is not None
    assert any("MapWorker" in name for name in now.beyond(before))
    feed.close()
    assert left_behind(before, 30) == []
    assert "MapBatches(Augmenter)" in (tmp_path / "told.txt").read_text(encoding="utf-8")


def test_the_disk_and_the_object_store_hold_the_same_samples(
    source: Source, small_cohort: Path
) -> None:
    biopsies = read_manifest(small_cohort).biopsies
    reader = LabelledReader(ReadSettings())
    disk = open_source(biopsies, reader, ClusterSettings(decoded_cache="disk"))
    assert not disk.refs
    assert len(disk) == len(source) == len(biopsies)
    for ours, theirs in zip(disk, source, strict=True):
        np.testing.assert_array_equal(ours.image, theirs.image)
        np.testing.assert_equal(ours.masks, theirs.masks)
    assert len(disk[2:5]) == len(source[2:5]) == 3


def test_a_cohort_larger_than_the_object_store_is_read_from_disk(
    ray_session: Any, small_cohort: Path
) -> None:
    biopsies = read_manifest(small_cohort).biopsies * 400
    opened = open_source(biopsies, LabelledReader(ReadSettings()), ClusterSettings())
    assert not opened.refs


def test_images_lost_with_their_node_are_read_from_the_disk(
    ray_session: Any, small_cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting for a CPU to decode them again may never end: here nothing ever decodes one."""
    monkeypatch.setattr(sources, "PATIENCE_S", 0.5)
    biopsies = read_manifest(small_cohort).biopsies[:2]
    reader = LabelledReader(ReadSettings())

    def decode(biopsy: Biopsy) -> Sample:
        return reader(biopsy)

    never = ray_session.remote(num_cpus=1, resources={"a node that is gone": 1})(decode)
    refs = [ray_session.put(reader(biopsies[0])), never.remote(biopsies[1])]
    found = Source(biopsies, reader, refs)
    for at in (0, 1):
        assert np.array_equal(found[at].image, reader(biopsies[at]).image)
    assert found.lost == {1}
    monkeypatch.setattr(ray_session, "get", None)  # what is lost is not waited for again
    assert np.array_equal(found[1].image, reader(biopsies[1]).image)


def test_an_image_that_cannot_be_decoded_gives_its_own_error(ray_session: Any) -> None:
    def broken(name: str) -> Sample:
        raise ImageError(f"{name}: torn")

    ref = ray_session.remote(broken).remote("a.png")
    with pytest.raises(ImageError, match=r"^a.png: torn$"):
        Source(["a.png"], broken, [ref])[0]

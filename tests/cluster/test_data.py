"""Ray Data gives the batches of the plan, whatever the number of actors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skinray.cluster import sources
from skinray.cluster.data import ShardFeed, execution_options, plan_dataset
from skinray.cluster.sources import DiskSource, StoreSource, open_source
from skinray.config import ClusterSettings, ReadSettings, RunSettings
from skinray.errors import ImageError
from skinray.images.manifest import Biopsy, read_manifest
from skinray.images.sample import Sample
from skinray.learning.crossval import SpecMaker, make_splits
from skinray.learning.feed import Feed
from skinray.learning.loop import World
from skinray.learning.plan import remaining_rows
from skinray.learning.scale import LabelledReader
from skinray.learning.trial import TrialSpec

pytestmark = pytest.mark.ray


@pytest.fixture
def spec(small_cohort: Path, small_settings: RunSettings) -> TrialSpec:
    cohort = read_manifest(small_cohort)
    maker = SpecMaker(small_settings, cohort, "data")
    split = make_splits(cohort, small_settings).folds[0]
    return maker.make("fit", "nerve", small_settings.nerve.main, split, {})


@pytest.fixture
def source(ray_session: Any, small_cohort: Path) -> StoreSource:
    reader = LabelledReader(ReadSettings())
    opened = open_source(read_manifest(small_cohort).biopsies, reader, ClusterSettings())
    assert isinstance(opened, StoreSource)
    return opened


def batches_of(dataset: Any, spec: TrialSpec) -> list[tuple[np.ndarray, np.ndarray]]:
    dataset.context.execution_options = execution_options()
    feed = ShardFeed(spec, dataset, (1, 1), 1)
    found = []
    for epoch in range(spec.arm.train.epochs):
        found += [(i.numpy(), m.numpy()) for i, m in feed.batches(epoch)]
    return found


def test_one_and_two_data_workers_and_none_give_the_same_batches(
    spec: TrialSpec, source: StoreSource
) -> None:
    here = Feed(spec, source)
    wanted = [
        (i.numpy(), m.numpy())
        for epoch in range(spec.arm.train.epochs)
        for i, m in here.batches(epoch)
    ]
    one = batches_of(plan_dataset(spec, source, (1, 1), 1), spec)
    two = batches_of(plan_dataset(spec, source, (1, 1), 2), spec)
    assert len(wanted) == len(one) == len(two) == spec.arm.train.epochs * len(spec.train) // 2
    for own, single, double in zip(wanted, one, two, strict=True):
        for part in range(2):
            np.testing.assert_array_equal(own[part], single[part])
            np.testing.assert_array_equal(own[part], double[part])


def test_the_disk_and_the_object_store_hold_the_same_samples(
    source: StoreSource, small_cohort: Path
) -> None:
    biopsies = read_manifest(small_cohort).biopsies
    reader = LabelledReader(ReadSettings())
    disk = open_source(biopsies, reader, ClusterSettings(decoded_cache="disk"))
    assert isinstance(disk, DiskSource)
    assert len(disk) == len(source) == len(biopsies)
    for ours, theirs in zip(disk, source, strict=True):
        for name, array in ours.arrays().items():
            np.testing.assert_array_equal(array, theirs.arrays()[name])
    assert len(disk[2:5]) == len(source[2:5]) == 3


def test_a_cohort_larger_than_the_object_store_is_read_from_disk(
    ray_session: Any, small_cohort: Path
) -> None:
    biopsies = read_manifest(small_cohort).biopsies * 400
    opened = open_source(biopsies, LabelledReader(ReadSettings()), ClusterSettings())
    assert isinstance(opened, DiskSource)


def test_an_epoch_is_shared_evenly_by_any_number_of_workers(spec: TrialSpec) -> None:
    rows = remaining_rows(spec, (1, 3), 0, 0)
    assert len(rows) % (2 * 6) == 0
    assert {row.image for row in rows} == set(range(len(spec.train)))
    rest = remaining_rows(spec, (1, 3), 0, 5)
    assert rest == rows[5 : 5 + len(rest)]
    assert len(rest) % 12 == 0


def test_workers_that_make_their_own_crops_share_each_step(
    spec: TrialSpec, source: StoreSource
) -> None:
    alone = [image.numpy() for image, _ in Feed(spec, source, workers=(2, 2)).batches(0)]
    parts = [
        [image.numpy() for image, _ in Feed(spec, source, 1, World(rank, 2), (2, 2)).batches(0)]
        for rank in (0, 1)
    ]
    assert 2 * len(parts[0]) == 2 * len(parts[1]) == len(alone)
    both = np.stack([np.concatenate(part) for part in parts], axis=1)
    np.testing.assert_array_equal(both.reshape(-1, *both.shape[2:]), np.concatenate(alone))


def test_images_lost_with_their_node_are_read_from_the_disk(
    ray_session: Any, small_cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for a CPU to decode them anew may wait for ever: here nothing ever decodes one."""
    monkeypatch.setattr(sources, "PATIENCE_S", 0.5)
    biopsies = read_manifest(small_cohort).biopsies[:2]
    reader = LabelledReader(ReadSettings())

    def decode(biopsy: Biopsy) -> Sample:
        return reader(biopsy)

    never = ray_session.remote(num_cpus=1, resources={"a node that is gone": 1})(decode)
    refs = [ray_session.put(reader(biopsies[0])), never.remote(biopsies[1])]
    found = StoreSource(refs, DiskSource(biopsies, reader))
    for at in (0, 1):
        assert np.array_equal(found[at].image, reader(biopsies[at]).image)
    assert found.lost == {1}
    monkeypatch.setattr(ray_session, "get", None)  # what is lost is not waited for again
    assert np.array_equal(found[1].image, reader(biopsies[1]).image)


def test_an_image_that_cannot_be_decoded_says_so_itself(ray_session: Any) -> None:
    def broken(name: str) -> Sample:
        raise ImageError(f"{name}: torn")

    ref = ray_session.remote(broken).remote("a.png")
    with pytest.raises(ImageError, match=r"^a.png: torn$"):
        StoreSource([ref], DiskSource(["a.png"], broken))[0]

"""A run on photographs whose processes are killed while networks train, and which is resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from benchmarks.chaos.jobs import Job, epochs_of
from benchmarks.chaos.train import unfinished
from skinray.learning.trial import LOG, STATE, WEIGHTS
from tests.support.commands import Command
from tests.support.drawn_photos import write_photos
from tests.support.fake_photo_run import untimed

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(1800)]

EPOCHS = 8
TABLES = ("table1.csv", "table1.md", "photos.csv", "views.csv")
# Of this seed the network learns to find skin; what calls all of it skin would hide what was lost.
# The last epoch's weights are kept, and with them the trace of every step.
SMALL = (
    "seed=1",
    "networks.0.model.options={filters: [3, 4, 5], bottleneck: 8, dropout: 0.1, noise: 0.025}",
    "networks.0.train.batch_size=2",
    "networks.0.train.learning_rate=0.01",
    "networks.0.train.average=0.8",
    "load_px=32",
    "augment.crop_px=24",
    "resamples=100",
    "cluster.decoded_cache=disk",
    "cluster.checkpoint_every_s=0",  # by default these trainings end before the first
)


class PhotoTraining(Job):
    """``jobs/train_photos.py``."""

    command = ("jobs/train_photos.py",)

    def progress(self) -> int:
        """Return the number of trained epochs, those trained again too."""
        return sum(epochs_of(Path(self.out)).values())


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two members of a small U-Net, with everything in "varied", on few photographs."""
    root = tmp_path_factory.mktemp("photos")
    write_photos(root / "ward", 12)
    write_photos(root / "hands", 8, seed=1)
    (root / "rooms").mkdir()
    Pillow.new("RGB", (50, 40), "teal").save(root / "rooms" / "teal.png")
    named = {
        "data": root / "ward", "public": root / "hands", "backgrounds": root / "rooms",
        "recipe": "varied", "networks": "skin_unet", "epochs": EPOCHS, "train": 8, "test": 4,
        "members": 2,
    }  # fmt: skip
    said = [word for name, value in named.items() for word in (f"--{name}", str(value))]
    return [*said, *(word for change in SMALL for word in ("--set", change))]


def under_way(out: Path, parts: tuple[str, ...]) -> list[str]:
    """Return the trainings of these parts of the run that have a state and epochs left."""
    epochs = epochs_of(out)
    return [
        trial
        for trial in unfinished(out)
        if trial.startswith(parts)
        and 2 <= epochs[trial] < EPOCHS
        and (out / "trials" / trial / STATE).is_file()
    ]


def killed(out: Path, log: Path, words: list[str], parts: tuple[str, ...]) -> list[str]:
    """Kill a run in the middle of a training, and return the trainings that it was in."""
    with PhotoTraining(out, log, words) as job:
        job.wait_until(lambda: under_way(out, parts), f"a training of {parts}")
        job.kill()
    return under_way(out, parts)


def test_a_run_killed_within_trainings_gives_the_same_tables_but_for_their_times(
    ray_session: Any, options: list[str], tmp_path: Path, skinray: Command
) -> None:
    out, calm, log = tmp_path / "killed", tmp_path / "calm", tmp_path / "log"
    first = killed(out, log, options, ("direct-transfer", "direct-training"))
    resumed = [*options, "--resume"]
    second = killed(out, log, resumed, ("fine-tuning",))
    assert first, "killed between trainings"
    assert second, "killed between trainings"
    assert not (out / TABLES[0]).exists()
    for words in ([*resumed, "--out", out], [*options, "--out", calm]):
        ended = skinray("train-photos", *words)
        assert ended.code == 0, ended.err
    assert "has learned nothing" not in (calm / "table1.md").read_text(encoding="utf-8")
    for name in TABLES:
        assert untimed(out / name) == untimed(calm / name), name
    for weights in sorted(calm.glob(f"trials/*/{WEIGHTS}")):
        trial = weights.parent.name
        # Tables round; and what was hit went on from its last epoch, not from the first.
        assert (out / "trials" / trial / WEIGHTS).read_bytes() == weights.read_bytes(), trial
        lines = (out / "trials" / trial / LOG).read_text(encoding="utf-8").splitlines()
        assert {json.loads(line)["epoch"] for line in lines} == set(range(EPOCHS)), trial
        assert len(lines) <= EPOCHS + 1, trial
    assert {*first, *second} <= set(epochs_of(calm))

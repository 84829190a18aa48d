"""A whole run on photographs, small: three scenarios, one table, the same after an interruption."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from skinray.config.images import ReadSettings
from skinray.config.photos import PhotoSettings
from skinray.config.training import ModelSettings
from skinray.errors import CohortError, SettingsError, WeightsError
from skinray.images.photos.pairs import find_photos, split_photos
from skinray.images.photos.skin import Skin
from skinray.images.read import read_image
from skinray.learning import bundle as bundles
from skinray.learning.trial import LOG, OUTCOME, WEIGHTS
from skinray.models import build
from skinray.report.photos.page import write_photo_report
from skinray.report.photos.table import PhotoResults, table_text
from tests.support.drawn_photos import write_photos
from tests.support.fake_photo_run import untimed
from tests.support.tiny import same_weights

# Six runs of Ray: a minute each on an idle machine, many minutes on a busy one. The limit only ends
# a run that hangs: a tight one would interrupt Ray's own calls.
pytestmark = [pytest.mark.ray, pytest.mark.timeout(1200)]

# Two networks that take moments: the dense one needs ten times as long even this small, and its
# layers are tested by themselves.
U_NET = {"filters": (3, 4, 5), "bottleneck": 8, "dropout": 0.1}


SIZES = {"U-Net": build("skin_unet", **U_NET), "Pixels": build("pixel")}


def small(*labels: str) -> PhotoSettings:
    """Settings of a run of seconds a training, with the networks of these labels; none: both."""
    settings = PhotoSettings(train_images=12, test_images=8, resamples=100).lasting(2)
    plain = settings.only(["skin_unet"]).networks[0]
    networks = [
        plain.model_copy(update={"label": label, "model": model}).override(
            {"train.batch_size": 4, "train.learning_rate": 0.3}
        )
        for label, model in (
            ("U-Net", ModelSettings(name="skin_unet", options=U_NET)),
            ("Pixels", ModelSettings(name="pixel")),
        )
        if not labels or label in labels
    ]
    # Read from disk: decoding into the store would start processes for a few dozen small files. One
    # worker of Ray Train starts sooner than two; two are tested with biopsies.
    return settings.model_copy(update={"networks": tuple(networks)}).override(
        {
            "cluster.workers": 1,
            "flips": True,
            "members": 2,
            "paste_probability": 0.5,
            "skin": {"refine": True, "threshold": 0.45},
            "cluster.decoded_cache": "disk",
        }
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    root = tmp_path_factory.mktemp("photos")
    sets = (("hands", 12), ("faces", 16))
    public = [write_photos(root / name, count, seed) for seed, (name, count) in enumerate(sets)]
    (root / "rooms").mkdir()
    for at, colour in enumerate(("teal", "navy", "grey")):
        Pillow.new("RGB", (50, 40), colour).save(root / "rooms" / f"{at}.png")
    ward = write_photos(root / "ward", 24, 7)
    blank = split_photos(find_photos(ward), 12, 8).train[0]
    blank.mask.rename(root / "its-skin.png")
    Pillow.new("L", (80, 60)).save(blank.mask)
    return ward, public


def run(
    folders: tuple[Path, list[Path]],
    out: Path,
    resume: bool = False,
    said: io.StringIO | None = None,
) -> PhotoResults:
    from skinray.cluster.train.photos import train_photos

    console = Console(file=said or io.StringIO())
    rooms = folders[0].parent / "rooms"
    one = small("U-Net")
    return train_photos(*folders, out, one, backgrounds=[rooms], resume=resume, console=console)


@pytest.fixture(scope="module")
def ran(
    ray_session: Any, folders: tuple[Path, list[Path]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out, said = tmp_path_factory.mktemp("run") / "out", io.StringIO()
    results = run(folders, out, said=said)
    (blank,) = results.unmarked
    assert f"1 mask marks no skin: {blank}. If such a photograph does show skin" in said.getvalue()
    return out


def test_every_scenario_is_in_the_table(ran: Path) -> None:
    results = PhotoResults.load(ran)
    told = [(row.scenario, row.network, row.flips) for row in results.rows if row.members == 1]
    scenarios = ("direct transfer", "direct training", "fine-tuning")
    assert told == [(s, "U-Net", flips) for s in scenarios for flips in (False, True)]
    averaged = [(row.scenario, row.label) for row in results.rows[6:]]
    assert averaged == [
        ("fine-tuning", f"U-Net, 2 members{flips} averaged") for flips in ("", " and flips")
    ]
    assert results.pretraining_images == 28
    assert results.sources == {"hands": 12, "faces": 16}  # all: nothing is balanced unasked
    assert results.backgrounds == {"rooms": 3}
    # The blank one trains, so no row is lower for it; those without skin have no mask to lack it.
    (blank,) = results.unmarked
    assert not {blank} & {f"ward/{photo.name}" for row in results.rows for photo in row.photos}
    assert f"1 mask marks no skin: {blank}." in table_text(results)
    assert "no skin marked" not in table_text(results)
    assert "follow the photographs' own edges (skin.refine)" in table_text(results)
    assert "skin at a probability of 0.45 or more" in table_text(results)
    assert "; 3 without skin, as backgrounds. " in table_text(results)
    for row in results.rows:
        assert row.epochs == 2
        assert row.best_epoch in ((1, 2) if row.members == 1 else (None,))
        assert row.begun == "random weights"
        assert row.epoch_s is not None
        assert row.epoch_s > 0
        assert row.parameters == sum(p.numel() for p in SIZES[row.network].parameters())
        assert row.summary.images == len(row.photos) == 8
        assert 0 <= row.summary.jaccard.value <= row.summary.dice.value <= 1
    # A drawn photograph is easy: what has been trained finds more than nothing.
    assert max(row.summary.jaccard.value for row in results.rows) > 0.3
    assert (ran / "table1.md").read_text(encoding="utf-8") == table_text(results)
    with (ran / "table1.csv").open(encoding="utf-8-sig") as file:
        assert len(list(csv.DictReader(file))) == 8
    with (ran / "photos.csv").open(encoding="utf-8-sig") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 8 * 8
    # Drawn skin is warm, so each photograph has a tone.
    assert all(line["ita_deg"] and 0 < float(line["mean_lightness"]) < 100 for line in lines)
    plain, flipped = (
        [line["jaccard"] for line in lines if line["prediction"] == kind]
        for kind in ("plain", "flips")
    )
    assert plain != flipped


def test_the_report_shows_the_table_the_views_and_the_pictures(ran: Path) -> None:
    page = (ran / "report.html").read_text(encoding="utf-8")
    results = PhotoResults.load(ran)
    assert f"{results.rows[0].summary.jaccard.value:.3f}" in page
    assert page.count("data:image/jpeg;base64,") == 8 * 3 * 3
    assert "By skin tone" in page
    assert "Skin: U-Net" in page
    assert write_photo_report(ran).read_text(encoding="utf-8") == page


def test_the_bundle_finds_the_skin_that_its_row_says(
    ran: Path, folders: tuple[Path, list[Path]]
) -> None:
    bundle = bundles.load(ran / "bundle", "cpu")
    info = bundle.info
    (row,) = (
        row
        for row in PhotoResults.load(ran).rows
        if (row.members, row.scenario, row.model, row.flips)
        == (info.members, info.fold, info.models["skin"].name, False)
    )
    for one in row.photos:
        image = read_image(folders[0] / "images" / one.name, ReadSettings()).pixels
        found = bundle.predict(image)
        assert isinstance(found, Skin)
        assert int(found.mask.sum()) == one.predicted


@pytest.mark.slow
def test_an_interrupted_run_gives_the_same_table(
    ran: Path, folders: tuple[Path, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skinray.cluster.train import photos

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    # After the pretraining; and then after the tests, the run's folder moved in between.
    with monkeypatch.context() as patch:
        patch.setattr(photos.PhotoTrials, "fine_tuning", killed)
        with pytest.raises(KeyboardInterrupt):
            run(folders, tmp_path / "out")
    with pytest.raises(SettingsError, match="add --resume"):
        run(folders, tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(photos, "photo_row", killed)
        with pytest.raises(KeyboardInterrupt):
            run(folders, tmp_path / "out", resume=True)
    (tmp_path / "out").rename(tmp_path / "moved")
    again = run(folders, tmp_path / "moved", resume=True)
    first = PhotoResults.load(ran)
    assert [row.model_copy(update={"epoch_s": None}) for row in again.rows] == [
        row.model_copy(update={"epoch_s": None}) for row in first.rows
    ]
    for name in ("table1.csv", "table1.md", "photos.csv", "views.csv"):
        assert untimed(tmp_path / "moved" / name) == untimed(ran / name), name


@pytest.fixture(scope="module")
def unmoved(
    ray_session: Any, folders: tuple[Path, list[Path]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run whose fine-tuning, at a rate that rounds to none, leaves weights as it finds them."""
    from skinray.cluster.train.photos import train_photos

    settings = small().override(
        {
            "pretraining_epochs": 3,
            "fine_tuning_factor": 1e-50,
            "flips": False,
            "skin.refine": False,
            "test_images": 2,
        }
    )
    out = tmp_path_factory.mktemp("unmoved") / "out"
    train_photos(*folders, out, settings, console=Console(file=io.StringIO()))
    return out


@pytest.mark.slow
def test_each_network_is_pretrained_once_however_many_members_it_has(unmoved: Path) -> None:
    outcomes = unmoved.glob(f"trials/*/{OUTCOME}")
    keys = [json.loads(path.read_text(encoding="utf-8"))["key"] for path in outcomes]
    parts = {"direct-transfer": (1, 3), "direct-training": (1, 2), "fine-tuning": (2, 2)}
    assert len(set(keys)) == len(keys) == 2 * sum(trainings for trainings, _ in parts.values())
    logs = {log.parent.name: log for log in unmoved.glob(f"trials/*/{LOG}")}
    assert set(logs) == set(keys)
    for part, (trainings, epochs) in parts.items():
        for label in ("u-net", "pixels"):
            own = [key for key in keys if key.startswith(f"{part}-{label}")]
            assert len(own) == trainings, (part, label)
            for key in own:
                lines = logs[key].read_text(encoding="utf-8").splitlines()
                assert [json.loads(line)["epoch"] for line in lines] == list(range(epochs)), key


@pytest.mark.slow
def test_every_network_in_every_scenario_is_in_the_table(unmoved: Path) -> None:
    results = PhotoResults.load(unmoved)
    scenarios = ("direct transfer", "direct training", "fine-tuning")
    told = [(row.scenario, row.network) for row in results.rows if row.members == 1]
    assert told == [(s, n) for s in scenarios for n in ("U-Net", "Pixels")]
    assert {row.network for row in results.rows if row.members == 2} == {"U-Net", "Pixels"}


@pytest.mark.slow
@pytest.mark.parametrize("label", ["u-net", "pixels"])
def test_every_member_s_fine_tuning_begins_from_the_pretrained_weights(
    unmoved: Path, label: str
) -> None:
    def weights(part: str) -> list[dict[str, Tensor]]:
        found = sorted(unmoved.glob(f"trials/{part}-{label}*/{WEIGHTS}"))
        return [load_file(path) for path in found]

    (pretrained,), (direct,) = weights("direct-transfer"), weights("direct-training")
    members = weights("fine-tuning")
    assert len(members) == 2
    assert all(same_weights(member, pretrained) for member in members)
    assert not same_weights(direct, pretrained)


def test_what_cannot_begin_leaves_nothing(folders: tuple[Path, list[Path]], tmp_path: Path) -> None:
    from skinray.cluster.train.photos import train_photos

    few = write_photos(tmp_path / "few", 5, 99)
    with pytest.raises(CohortError, match="5 photographs cannot be split into 12"):
        train_photos(few, folders[1], tmp_path / "out", small())
    with pytest.raises(CohortError, match="none of the known layouts"):
        train_photos(folders[0], [tmp_path], tmp_path / "out", small())
    rooms, as_they_are = [folders[0].parent / "rooms"], PhotoSettings()
    with pytest.raises(
        SettingsError, match="--backgrounds has no effect while paste_probability is 0"
    ):
        train_photos(*folders, tmp_path / "out", as_they_are, backgrounds=rooms)
    hands = find_photos(folders[1][0])[0]
    for name in ("images", "masks"):
        (tmp_path / "again" / name).mkdir(parents=True)
    shutil.copy(find_photos(folders[0])[-1].image, tmp_path / "again/images/1.jpg")
    shutil.copy(hands.mask, tmp_path / "again/masks/1.png")
    with pytest.raises(
        CohortError, match=r"1\.jpg: the same bytes .*tested on what they are trained"
    ):
        train_photos(folders[0], [tmp_path / "again"], tmp_path / "out", small())
    for changes, error, said in (
        ({"networks.0.model.weights": "typo.safetensors"}, WeightsError, "U-Net: typo.safetensors"),
        (
            {"networks.0.model.options": {"depth": 9}},
            SettingsError,
            "skin U-Net: .* has no option depth",
        ),
    ):
        with pytest.raises(error, match=said):
            train_photos(*folders, tmp_path / "out", small().override(changes))
    assert not (tmp_path / "out").exists()


def test_all_photographs_that_cannot_be_read_are_reported_at_once(
    folders: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    from skinray.cluster.train.photos import train_photos

    ward = tmp_path / "ward"
    shutil.copytree(folders[0], ward)
    (first, second, *_) = sorted((ward / "images").iterdir())
    first.write_bytes(b"no image")
    mask = (ward / "masks" / second.name).with_suffix(".png")
    Pillow.new("L", (9, 9)).save(mask)
    settings = small().override({"test_images": 12})
    with pytest.raises(CohortError) as caught:
        train_photos(ward, folders[1], tmp_path / "out", settings)
    said = str(caught.value)
    assert said.startswith("2 problems\n")
    assert str(first) in said
    assert f"{mask}: mask of 9x9 px" in said
    assert not (tmp_path / "out").exists()

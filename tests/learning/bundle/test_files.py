from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from skinray.config.base import validate
from skinray.config.biopsies import CrossingSettings
from skinray.config.training import ModelSettings
from skinray.crossings import find_crossings
from skinray.errors import BundleError, SkinrayError
from skinray.files import STARTER
from skinray.learning.bundle import check, files, load, load_stage, save
from skinray.learning.bundle.info import (
    IN_TRAINING,
    LIMITS,
    NOT_TRAINED,
    BundleInfo,
    read_info,
    values_sha256,
)
from skinray.learning.bundle.model_card import model_card
from skinray.models import build
from skinray.models.predict import predict_map
from tests.support.tiny import DERMIS_TRUTH, NERVE_TRUTH, UNET, drawn_sample, same_weights


def info(**changes: Any) -> BundleInfo:
    values: dict[str, Any] = {
        "models": {
            stage: ModelSettings(name="unet", options=UNET) for stage in ("nerve", "dermis")
        },
        "crossings": validate(CrossingSettings, {"nerve_threshold": 0.4, "sigma_px": 3}),
        "um_per_px": 0.5,
        "fold": "all",
        "settings": {"seed": 3, "rate": 1 / 3},
        "metrics": {"dermis Dice (mean)": 0.987, "Pearson r": float("nan")},
        "versions": {"skinray": "0.1.0", "torch": "2"},
        "data_fingerprint": "9f2c" * 16,
        "images": 94,
        "subjects": 24,
        "created": "2025-01-01T08:00:00+00:00",
    }
    return BundleInfo(**values | changes)


def networks(seed: int = 0) -> dict[str, nn.Module]:
    """Two random networks, shifted so that their maps have both labels."""
    torch.manual_seed(seed)
    pair = build("unet", **UNET).eval(), build("unet", **UNET).eval()
    with torch.no_grad():
        x = torch.from_numpy(drawn_sample().image).permute(2, 0, 1)[None].float() / 255
        for network in pair:
            network.head.weight *= 1000
            network.head.bias -= network(x).mean()
    return dict(zip(("nerve", "dermis"), pair, strict=True))


def members(pairs: list[tuple[nn.Module, ...]]) -> dict[str, list[nn.Module]]:
    """The networks of an ensemble, by stage."""
    return {
        stage: list(ours)
        for stage, ours in zip(("nerve", "dermis"), zip(*pairs, strict=True), strict=True)
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("made") / "bundle", info(), networks())


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "bundle")


def test_a_bundle_is_a_folder_of_four_files(made: Path) -> None:
    names = ["MODEL_CARD.md", "bundle.json", "dermis.safetensors", "nerve.safetensors"]
    assert sorted(path.name for path in made.iterdir()) == names
    assert sorted(read_info(made).sha256) == names


def test_a_loaded_bundle_equals_the_saved_one(made: Path) -> None:
    loaded = load(made)
    for mine, stage in zip(
        networks().values(), (loaded.stages["nerve"], loaded.stages["dermis"]), strict=True
    ):
        (theirs,) = stage.networks
        assert same_weights(mine.state_dict(), theirs.state_dict())
        assert not theirs.training
    kept = ("models", "crossings", "um_per_px", "fold", "settings", "versions", "created")
    assert all(getattr(loaded.info, name) == getattr(info(), name) for name in kept)
    assert loaded.stages["nerve"].device.type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_prediction_is_that_of_the_networks_and_of_find_crossings(made: Path) -> None:
    sample = drawn_sample()
    nerve, dermis = (predict_map(network, sample.image) for network in networks().values())
    found = load(str(made), "cpu").predict(sample.image, um_per_px=0.5)
    assert np.array_equal(found.nerve, nerve)
    assert np.array_equal(found.dermis, dermis)
    expected = find_crossings(nerve, dermis, info().crossings, 0.5)
    assert expected.count > 0
    assert np.array_equal(found.crossings.points, expected.points)
    assert np.array_equal(found.crossings.boundary, expected.boundary)
    assert found.crossings.boundary_mm == expected.boundary_mm


def test_the_truth_is_counted(made: Path) -> None:
    loaded = load(made, "cpu")
    seeing = replace(
        loaded,
        stages={
            "nerve": replace(loaded.stages["nerve"], networks=(NERVE_TRUTH,)),
            "dermis": replace(loaded.stages["dermis"], networks=(DERMIS_TRUTH,)),
        },
    )
    for nerves in range(4):
        sample = drawn_sample(nerves, nerves=nerves)
        found = seeing.predict(sample.image)
        assert found.crossings.count == nerves
        assert np.array_equal(found.nerve >= 0.5, sample.masks["nerve"] > 0)


def test_an_image_of_unknown_scale_is_assumed_to_have_the_training_scale(made: Path) -> None:
    """Crossing lengths stand at 0.5 um/px; these networks were trained at 0.25."""
    at = {"um_per_px": 0.25}
    plain_bundle = load(made, "cpu")
    loaded = replace(
        plain_bundle,
        stages={
            "nerve": replace(plain_bundle.stages["nerve"], um_per_px=0.25),
            "dermis": replace(
                plain_bundle.stages["dermis"], um_per_px=0.25, networks=(DERMIS_TRUTH,)
            ),
        },
        info=read_info(made).model_copy(update=at),
    )
    image = drawn_sample().image
    known, unknown = loaded.predict(image, 0.25), loaded.predict(image)
    assert np.array_equal(known.nerve, unknown.nerve)
    assert np.array_equal(known.crossings.boundary, unknown.crossings.boundary)
    assert np.array_equal(known.crossings.points, unknown.crossings.points)
    assert known.crossings.boundary_mm is not None
    assert unknown.crossings.boundary_mm is None
    # and that is another answer than lengths of 0.5 um/px give
    plain = find_crossings(unknown.nerve, unknown.dermis, info().crossings)
    assert plain.boundary.sum() < unknown.crossings.boundary.sum()


def test_an_image_at_another_scale_keeps_its_own_pixels(made: Path) -> None:
    found = load(made, "cpu").predict(drawn_sample().image, um_per_px=0.25)
    assert found.nerve.shape == found.dermis.shape == found.crossings.boundary.shape == (96, 128)


@pytest.mark.parametrize("um_per_px", [0, -0.5, float("nan"), float("inf")])
def test_an_invalid_scale_is_refused(made: Path, um_per_px: float) -> None:
    with pytest.raises(SkinrayError, match="um_per_px"):
        load(made, "cpu").predict(drawn_sample().image, um_per_px)


# damage


@pytest.mark.parametrize("name", ["nerve.safetensors", "dermis.safetensors", "MODEL_CARD.md"])
def test_an_altered_byte_is_found(copied: Path, name: str) -> None:
    whole = bytearray((copied / name).read_bytes())
    whole[-1] ^= 1
    (copied / name).write_bytes(whole)
    with pytest.raises(BundleError, match=r"altered since .*copy the bundle") as caught:
        load(copied)
    assert str(copied / name) in str(caught.value)


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "bundle.json"
    values = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(values), encoding="utf-8")


def test_an_altered_threshold_is_found(copied: Path) -> None:
    values = json.loads((copied / "bundle.json").read_text(encoding="utf-8"))
    rewrite(copied, crossings=values["crossings"] | {"nerve_threshold": 0.41})
    with pytest.raises(BundleError, match=r"bundle\.json: altered since .*copy the bundle"):
        load(copied)


def test_the_layout_of_the_text_does_not_matter(copied: Path) -> None:
    rewrite(copied)
    assert read_info(copied).crossings == info().crossings


@pytest.mark.parametrize("name", ["nerve.safetensors", "MODEL_CARD.md"])
def test_a_missing_file_is_named(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(BundleError, match=r"missing; copy the whole bundle folder again") as caught:
        load(copied)
    assert str(caught.value).startswith(str(copied / name))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"no bundle\.json; give the folder bundle/ that training wrote"),
        (b"", r"bundle\.json: not valid JSON"),
        (b"{", r"bundle\.json: not valid JSON"),
        (b"\xff\xfe", r"bundle\.json: not valid JSON"),
        (b"[]", r"bundle\.json: not bundle format 2; use the version of skinray that wrote"),
        (b"{}", r"not bundle format 2"),
        (b'{"format": 1}', r"not bundle format 2"),
        (b'{"format": 2}', r"missing, unknown or invalid: created, data_fingerprint"),
    ],
)
def test_a_bad_description_is_named(copied: Path, content: bytes | None, said: str) -> None:
    path = copied / "bundle.json"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(BundleError, match=said) as caught:
        load(copied)
    assert str(copied) in str(caught.value)


def test_an_unknown_key_is_named(copied: Path) -> None:
    rewrite(copied, tolerance=3)
    with pytest.raises(BundleError, match="invalid: tolerance; copy the bundle"):
        load(copied)


@pytest.mark.parametrize("name", ["bundle.json", "nerve.safetensors"])
def test_a_file_without_its_hash_is_refused(copied: Path, name: str) -> None:
    hashes = dict(read_info(copied).sha256)
    del hashes[name]
    rewrite(copied, sha256=hashes)
    with pytest.raises(BundleError, match=f"has no hash of {name}"):
        load(copied)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"name": "unheard_of"}, "unknown model 'unheard_of'"),
        ({"name": "unet", "options": {"colour": 1}}, "no option colour"),
        ({"name": "unet", "options": {"features": 8, "depth": 2}}, "size mismatch"),
    ],
)
def test_networks_of_another_version_are_refused(
    tmp_path: Path, model: dict[str, Any], said: str
) -> None:
    models = info().models | {"dermis": validate(ModelSettings, model)}
    save(tmp_path / "b", info(models=models), networks())
    with pytest.raises(BundleError, match=r"(?s)use the version of skinray that wrote") as caught:
        load(tmp_path / "b")
    assert said in str(caught.value)
    assert str(tmp_path / "b" / "dermis.safetensors") in str(caught.value)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle\.json"):
        load(tmp_path / "absent")


# saving


def test_a_new_bundle_replaces_the_old(copied: Path) -> None:
    save(copied, info(fold="fold-1"), networks(1))
    assert load(copied).info.fold == "fold-1"
    assert [path.name for path in copied.parent.iterdir()] == ["bundle"]


def test_saving_gives_the_same_bytes_twice(made: Path, tmp_path: Path) -> None:
    again = save(tmp_path / "again", info(), networks())
    for path in made.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()


class _PowerCutError(Exception):
    """Simulates a process that is killed."""


@pytest.mark.parametrize("call", ["save_file", "model_card", "sha256_of", "values_sha256"])
def test_a_killed_save_leaves_the_old_bundle(
    copied: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def die(*arguments: object, **named: object) -> None:
        raise _PowerCutError

    with monkeypatch.context() as patch:
        patch.setattr(files, call, die)
        with pytest.raises(_PowerCutError):
            save(copied, info(fold="new"), networks(1))
    assert load(copied).info.fold == "all"
    save(copied, info(fold="new"), networks(1))
    assert load(copied).info.fold == "new"
    assert [path.name for path in copied.parent.iterdir()] == ["bundle"]


def test_a_save_killed_between_its_last_two_steps_says_where_the_old_one_is(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.replace

    def die_at_the_second(self: Path, target: Path) -> Path:
        if self.name.endswith(".part"):
            raise _PowerCutError
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", die_at_the_second)
        with pytest.raises(_PowerCutError):
            save(copied, info(fold="new"), networks(1))
    with pytest.raises(BundleError, match=r"interrupted; rename .*bundle\.old"):
        load(copied)
    assert load(copied.with_name("bundle.old")).info.fold == "all"
    save(copied, info(fold="new"), networks(1))
    assert load(copied).info.fold == "new"
    assert [path.name for path in copied.parent.iterdir()] == ["bundle"]


# the card


def test_the_card_gives_accuracy_and_limits() -> None:
    card = model_card(info())
    assert "- dermis Dice (mean): 0.987" in card
    assert "94 images of 24 subjects" in card
    assert "at about 0.5 um per pixel" in card
    assert "nerve_threshold 0.4, " in card
    assert "**Limits.** Accuracy was not measured" in card
    assert "Not a medical device" in card
    assert "| nerve | unet | {'features': 4, 'depth': 2} |" in card
    assert "9f2c9f2c9f2c9f2c`" in card


def test_a_bundle_that_did_not_learn_says_so_wherever_it_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failure = "The nerve network of fold 2 did not learn: it marks nothing."
    folder = save(tmp_path / "bundle", info(failures=(failure,)), networks())
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card.index("Do not use its results") < card.index(failure) < card.index("**Use.**")
    assert load(folder, "cpu").info.failures == (failure,)
    assert failure in caplog.text
    with pytest.raises(BundleError, match=r"use it all the same with --anyway\n  The nerve"):
        check(folder).refuse_failed(folder)
    check(save(tmp_path / "good", info(), networks())).refuse_failed(folder)


def test_the_folder_of_the_run_names_the_folder_of_the_bundle(tmp_path: Path) -> None:
    save(tmp_path / "bundle", info(), networks())
    with pytest.raises(BundleError, match=f"no bundle.json; give {tmp_path / 'bundle'}"):
        check(tmp_path)


def test_the_card_of_an_unknown_scale() -> None:
    assert "at about the training images' scale" in model_card(info(um_per_px=None))


def test_the_card_does_not_escape_text() -> None:
    assert "- r & <sd>: 0.5" in model_card(info(metrics={"r & <sd>": 0.5}))


# ensembles


def test_an_ensemble_maps_the_mean_of_its_members(tmp_path: Path) -> None:
    image = drawn_sample().image
    pairs = [tuple(networks(seed).values()) for seed in range(3)]
    folder = save(tmp_path / "bundle", info(), members(pairs))
    assert {f"{stage}-{n}.safetensors" for stage in ("nerve", "dermis") for n in (2, 3)} <= {
        path.name for path in folder.iterdir()
    }
    loaded = load(folder, "cpu")
    assert loaded.info.members == 3
    found = loaded.predict(image, 0.5)
    for at, mine in enumerate((found.nerve, found.dermis)):
        singles = [predict_map(pair[at], image) for pair in pairs]
        np.testing.assert_allclose(mine, np.mean(singles, axis=0), atol=1e-6)
        assert not np.array_equal(mine, singles[0])


def test_a_lost_or_altered_member_is_found(tmp_path: Path) -> None:
    pairs = [tuple(networks(seed).values()) for seed in range(2)]
    folder = save(tmp_path / "bundle", info(), members(pairs))
    member = folder / "dermis-2.safetensors"
    member.write_bytes((folder / "dermis.safetensors").read_bytes())
    with pytest.raises(BundleError, match="altered since"):
        load(folder)
    with pytest.raises(BundleError, match="altered since"):
        load_stage(folder, read_info(folder), "dermis", "cpu")
    member.unlink()
    with pytest.raises(BundleError, match="missing"):
        load(folder)


# what every result says


def test_a_synthetic_bundle_says_so_in_its_note_and_card() -> None:
    plain, synthetic = info(), info(synthetic=True)
    assert (plain.synthetic, plain.note) == (False, "")
    assert synthetic.note == "trained on images that skinray drew"
    assert "**Synthetic: trained on images that skinray drew.**" in model_card(synthetic)
    assert "ynthetic" not in model_card(plain)


def test_the_starter_is_synthetic_though_its_file_does_not_say_so() -> None:
    assert "synthetic" not in json.loads((STARTER / "bundle.json").read_text(encoding="utf-8"))
    starter = read_info(STARTER)
    assert starter.synthetic
    assert starter.note == NOT_TRAINED
    assert starter.limits_of_agreement is None


def test_a_bundle_of_the_last_release_claims_nothing(made: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made, tmp_path / "bundle")
    values = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    for name in ("synthetic", "trained_on"):
        del values[name]
    values["sha256"]["bundle.json"] = values_sha256(values)
    (folder / "bundle.json").write_text(json.dumps(values), encoding="utf-8")
    old = check(folder)
    assert (old.synthetic, old.trained_on, old.limits_of_agreement) == (False, frozenset(), None)
    assert old.note_on("ab" * 32) == ""


def test_an_image_of_the_training_is_known_by_its_file(tmp_path: Path) -> None:
    seen = {f"{at:064x}" for at in range(20)}
    folder = save(tmp_path / "bundle", info(trained_on=seen, failures=("none",)), networks())
    stored = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))["trained_on"]
    assert stored == sorted(seen)
    loaded = read_info(folder)
    assert loaded.note_on(f"{3:064x}") == f"its training did not learn; {IN_TRAINING}"
    for other in (f"{99:064x}", "", None):
        assert loaded.note_on(other) == "its training did not learn"


def test_limits_of_agreement_come_from_the_cross_validation() -> None:
    assert info(metrics={LIMITS: [-2.5, 3.5]}).limits_of_agreement == (-2.5, 3.5)
    assert info(metrics={"dermis Dice (mean)": 0.9}).limits_of_agreement is None

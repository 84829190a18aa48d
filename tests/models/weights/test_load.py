from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from skinray.config.biopsies import RunSettings
from skinray.errors import WeightsError
from skinray.models import build
from skinray.models.weights.load import usable_arms
from tests.support.tiny import UNET, arm, tiny_run


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKINRAY_CACHE", str(tmp_path / "cache"))


def run(**changes: object) -> RunSettings:
    """A nerve stage with a baseline that starts from published weights, and one that does not."""
    baselines = [
        arm("brain MRI").override({"model.weights": "unet_brain_mri"}).model_dump(),
        arm("random").model_dump(),
    ]
    return tiny_run(nerve__baselines=baselines, **changes)


def test_without_weights_to_miss_everything_stays() -> None:
    assert usable_arms(tiny_run()) == (tiny_run(), {})


def test_a_baseline_whose_weights_are_missing_is_left_out_and_says_why() -> None:
    usable, missing = usable_arms(run())
    assert [each.label for each in usable.nerve.arms] == ["U-Net", "random"]
    assert list(missing) == [("nerve", "brain MRI")]
    reason = missing["nerve", "brain MRI"]
    assert "`skinray weights fetch unet_brain_mri`" in reason
    assert "`skinray weights import unet_brain_mri FILE`" in reason
    assert usable.override({"nerve.baselines": run().model_dump()["nerve"]["baselines"]}) == run()


def test_a_main_arm_whose_weights_are_missing_ends_the_run() -> None:
    settings = run(dermis__main__model__weights="deeplabv3_resnet101_coco_voc")
    with pytest.raises(WeightsError) as caught:
        usable_arms(settings)
    text = str(caught.value)
    assert text.startswith("dermis U-Net: weights 'deeplabv3_resnet101_coco_voc' are not on this")
    assert text.endswith("start from random weights with --set dermis.main.model.weights=null")


def test_weights_at_hand_keep_the_arm(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_file(build("unet", **UNET).state_dict(), path)
    settings = run(nerve__main__model__weights=str(path))
    usable, _ = usable_arms(settings)
    assert usable.nerve.main == settings.nerve.main


def test_published_weights_in_the_cache_keep_the_arm(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "weights"
    folder.mkdir(parents=True)
    save_file({"x": torch.zeros(1)}, folder / "unet_brain_mri.safetensors")
    assert usable_arms(run()) == (run(), {})


@pytest.mark.parametrize("place", ["nerve.main", "nerve.baselines.0", "nerve.baselines.1"])
def test_unknown_weights_are_an_error_in_any_arm(place: str) -> None:
    settings = run().override({f"{place}.model.weights": "absent.safetensors"})
    with pytest.raises(WeightsError, match=r"absent\.safetensors is neither a file nor the name"):
        usable_arms(settings)

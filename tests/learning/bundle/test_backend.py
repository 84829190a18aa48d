"""The gate: a backend computes a bundle only where maps and counts stay those of the reference."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skinray.config.biopsies import CrossingSettings
from skinray.config.photos import SkinSettings
from skinray.config.training import ModelSettings
from skinray.errors import BundleError
from skinray.files import cache_folder
from skinray.learning.bundle import backend, gate, load, networks, save
from skinray.learning.bundle.backend import Choice, choose
from skinray.learning.bundle.gate import middle
from skinray.learning.bundle.info import BundleInfo
from skinray.learning.bundle.networks import Seen
from skinray.models import build
from skinray.models.backends import BACKENDS, REFERENCE, Backend, openvino
from tests.support.tiny import drawn_sample

CPU = torch.device("cpu")
WEIGHTS = {"nerve": (20.0, -10.0, -10.0), "dermis": (-10.0, 20.0, -10.0)}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SKINRAY_CACHE", str(tmp_path / "cache"))
    return cache_folder("backends")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle that sees through drawn biopsies."""
    model = ModelSettings(name="pixel")
    info = BundleInfo(
        models={"nerve": model, "dermis": model}, crossings=CrossingSettings(sigma_px=2),
        um_per_px=0.5, fold="all", settings={}, metrics={}, versions={}, data_fingerprint="f",
        images=2, subjects=2, created="2026-11-30",
    )  # fmt: skip
    networks = {s: build("pixel", weights=w, bias=-6.0) for s, w in WEIGHTS.items()}
    return save(tmp_path / "bundle", info, networks)  # type: ignore[arg-type]


def images(count: int = 4) -> list[Seen]:
    return [(drawn_sample(at, nerves=2 + at % 2).image, 0.5) for at in range(count)]


def never() -> list[Seen]:
    raise AssertionError("compared again")


class Changed(nn.Module):
    """A network whose logits are changed."""

    def __init__(self, network: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.change = network, change

    def forward(self, image: Tensor) -> Tensor:
        return self.change(self.network(image))


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Offer one more backend than the reference, which seems faster."""

    def offer(
        change: Callable[[Tensor], Tensor] = lambda logits: logits,
        exact: bool = True,
        calibrate: Any = None,
    ) -> None:
        def prepare(network: nn.Module, device: torch.device, folder: Path) -> nn.Module:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "converted").write_bytes(b"weights")
            return Changed(copy.deepcopy(network), change)

        one = Backend(exact, lambda _: "", prepare, calibrate)
        table = {REFERENCE: BACKENDS[REFERENCE], "openvino": one}
        for name in ("skinray.models.backends", "skinray.learning.bundle.backend",
                     "skinray.learning.bundle.networks"):  # fmt: skip
            monkeypatch.setattr(f"{name}.BACKENDS", table)
        monkeypatch.setattr(
            backend, "seconds", lambda network, _: 1.0 if isinstance(network, Changed) else 3.0
        )

    return offer


def info_of(bundle: Path) -> BundleInfo:
    return load(bundle).info


def test_a_faster_backend_with_equal_results_is_chosen_once(
    bundle: Path, offer: Callable[..., None], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    offer()
    info = info_of(bundle)
    with caplog.at_level(logging.INFO):
        assert choose(bundle, info, CPU, images) == "openvino"
    assert "backend: openvino, 3.0 times as fast as float32 in torch; compared on 4" in caplog.text
    assert choose(bundle, info, CPU, never) == "openvino"
    assert choose(bundle, info, CPU) == "openvino"  # also without images
    (record,) = cache.glob("*.json")
    kept = Choice.model_validate_json(record.read_bytes())
    assert kept.tried["openvino"].images == 4
    assert kept.tried["openvino"].dice == 1
    assert set(kept.files.values()) == {backend.sha256_of(Path(file)) for file in kept.files}
    assert len(kept.files) == 2
    same = load(bundle, "cpu", "openvino")
    expected = load(bundle, "cpu").maps(images(1)[0][0])
    found = same.maps(images(1)[0][0])
    assert all(np.array_equal(found[stage], expected[stage]) for stage in expected)
    assert {model.backend for model in same.stages.values()} == {"openvino"}


@pytest.mark.skipif(bool(openvino.missing(CPU)), reason="OpenVINO is missing")
def test_a_converted_bundle_is_loaded_without_its_networks_but_not_without_their_hashes(
    bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load(bundle, "cpu", "openvino").maps(images(1)[0][0])
    monkeypatch.setattr(networks, "build", never)
    found = load(bundle, "cpu", "openvino").maps(images(1)[0][0])
    assert all(np.array_equal(found[stage], expected[stage]) for stage in expected)
    weights = bundle / "nerve.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(BundleError, match=r"nerve\.safetensors: altered"):
        load(bundle, "cpu", "openvino")
    weights.unlink()
    with pytest.raises(BundleError, match=r"nerve\.safetensors: missing"):
        load(bundle, "cpu", "openvino")


@pytest.mark.parametrize(
    ("change", "exact", "why"),
    [
        (lambda z: z * 1.05 + 0.5, True, "mask pixels differ away from the threshold"),
        (lambda z: z + 3, False, "of mask pixels change sides|probabilities change by"),
        (lambda z: z * float("nan"), False, "not finite"),
        (lambda z: -z, False, "probabilities change by"),
        (lambda z: z - 1e6, False, "probabilities change|masks overlap"),
    ],
)
def test_other_results_are_refused(
    bundle: Path, offer: Callable[..., None], cache: Path, change: Any, exact: bool, why: str
) -> None:
    offer(change, exact)
    assert choose(bundle, info_of(bundle), CPU, images) == REFERENCE
    (record,) = cache.glob("*.json")
    refused = Choice.model_validate_json(record.read_bytes()).tried["openvino"].refused
    assert any(part in refused for part in why.split("|")), refused


def test_small_changes_pass_only_where_sums_are_not_exact(
    bundle: Path, offer: Callable[..., None]
) -> None:
    offer(lambda z: z * 1.001, exact=False)
    assert choose(bundle, info_of(bundle), CPU, images) == "openvino"


@pytest.mark.parametrize("level", [0, 255, None])
def test_images_that_show_nothing_choose_nothing(
    bundle: Path,
    offer: Callable[..., None],
    cache: Path,
    level: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offer()
    info = info_of(bundle)
    blank = [] if level is None else [(np.full((96, 128, 3), level, np.uint8), 0.5)]
    assert choose(bundle, info, CPU) == REFERENCE
    assert choose(bundle, info, CPU, lambda: blank) == REFERENCE
    assert list(cache.glob("*.json")) == []
    with monkeypatch.context() as patch:  # the next process need not look again
        patch.setattr(backend, "_by_trial", lambda *_: pytest.fail("compared again"))
        assert choose(bundle, info, CPU, lambda: blank) == REFERENCE
    assert choose(bundle, info, CPU, images) == "openvino"


def test_a_backend_that_fails_on_an_image_is_refused(
    bundle: Path, offer: Callable[..., None], cache: Path
) -> None:
    def broken(logits: Tensor) -> Tensor:
        raise RuntimeError("no such size")

    offer(broken)
    assert choose(bundle, info_of(bundle), CPU, images) == REFERENCE
    (record,) = cache.glob("*.json")
    tried = Choice.model_validate_json(record.read_bytes()).tried
    assert tried["openvino"].refused == "it fails: RuntimeError"


def test_other_images_than_those_compared_calibrate(
    bundle: Path, offer: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each network sees the images after the sixth, cut, and each network has its own folder."""
    given: dict[Path, list[Tensor]] = {}

    def calibrate(network: nn.Module, folder: Path, frames: Sequence[Tensor]) -> None:
        given[folder] = list(frames)

    offer(calibrate=calibrate)
    monkeypatch.setattr(backend, "CALIBRATED_PX", 64)
    info = info_of(bundle)
    assert choose(bundle, info, CPU, lambda: images(6)) == REFERENCE  # none is left to calibrate
    assert given == {}
    assert choose(bundle, info_of(bundle), CPU, lambda: images(9)) == REFERENCE  # settled before
    for record in cache_folder("backends").glob("*.json"):
        record.unlink()
    assert choose(bundle, info, CPU, lambda: images(9)) == "openvino"
    assert len(given) == 2
    wanted = [middle(seen, 64)[0] for seen in images(9)[6:]]
    for frames in given.values():
        assert [frame.shape for frame in frames] == [(1, 3, 64, 64)] * 3
        for frame, pixels in zip(frames, wanted, strict=True):
            found = (frame[0] * 255).round().numpy().transpose(1, 2, 0)
            assert np.array_equal(found, pixels)


def test_without_a_home_the_reference_computes(
    bundle: Path, offer: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless(name: str) -> Path:
        raise RuntimeError("Could not determine home directory.")

    offer()
    info = info_of(bundle)
    monkeypatch.setattr(backend, "cache_folder", homeless)
    monkeypatch.setattr("skinray.learning.bundle.networks.cache_folder", homeless)
    assert choose(bundle, info, CPU, images) == REFERENCE
    assert load(bundle, "cpu").maps(images(1)[0][0])


@pytest.mark.parametrize(
    "what", ["hardware", "instructions", "threads", "versions", "damaged", "converted"]
)
def test_a_choice_holds_for_nothing_else(
    bundle: Path, offer: Callable[..., None], cache: Path, monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:  # fmt: skip
    offer()
    info = info_of(bundle)
    assert choose(bundle, info, CPU, images) == "openvino"
    (record,) = cache.glob("*.json")
    if what == "hardware":
        monkeypatch.setattr(networks, "hardware", lambda: "another processor")
    elif what == "instructions":  # virtual processors have one name, and differ
        monkeypatch.setattr(networks, "instructions", lambda: ["avx2", "avx512_f"])
    elif what == "versions":
        monkeypatch.setattr(networks, "versions", lambda: {"torch": "9"})
    elif what == "damaged":
        record.write_text(record.read_text()[:-20])
    elif what == "converted":
        altered = next(cache.glob("*/converted"))
        altered.write_bytes(b"other weights")
    else:
        monkeypatch.setattr(backend.torch, "get_num_threads", lambda: 64)
    assert choose(bundle, info, CPU) == REFERENCE
    assert choose(bundle, info, CPU, images) == "openvino"
    if what == "converted":
        assert altered.read_bytes() == b"weights"  # converted again


@pytest.mark.skipif(bool(openvino.missing(CPU)), reason="OpenVINO is missing")
@pytest.mark.parametrize("what", ["altered", "gone"])
def test_weights_of_a_converted_network_are_converted_again(
    bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    table = {name: BACKENDS[name] for name in (REFERENCE, "openvino")}
    monkeypatch.setattr(backend, "BACKENDS", table)
    monkeypatch.setattr("skinray.models.backends.BACKENDS", table)
    is_compiled = lambda network: isinstance(network, openvino.Compiled)  # noqa: E731
    monkeypatch.setattr(backend, "seconds", lambda network, _: 1.0 if is_compiled(network) else 3.0)
    info = info_of(bundle)
    assert choose(bundle, info, CPU, images) == "openvino"
    weights = next(cache.glob("*/openvino.bin"))
    sound = weights.read_bytes()
    if what == "gone":
        weights.unlink()
    else:
        weights.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    assert choose(bundle, info, CPU) == REFERENCE
    assert choose(bundle, info, CPU, images) == "openvino"
    assert weights.read_bytes() == sound


def test_a_change_of_the_networks_code_is_another_choice(
    bundle: Path, offer: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    offer()
    info = info_of(bundle)
    assert choose(bundle, info, CPU, images) == "openvino"
    assert len(networks._code()) == 16
    monkeypatch.setattr(networks, "_code", lambda: "changed")
    assert choose(bundle, info, CPU) == REFERENCE


def test_a_record_moved_to_another_name_does_not_count(
    bundle: Path, offer: Callable[..., None], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer()
    info = info_of(bundle)
    assert choose(bundle, info, CPU, images) == "openvino"
    (record,) = cache.glob("*.json")
    monkeypatch.setattr(networks, "hardware", lambda: "another processor")
    record.rename(record.with_name(f"{backend._digest(backend._made_for(info, CPU))}.json"))
    assert choose(bundle, info, CPU) == REFERENCE


def test_a_backend_that_fails_is_passed_over(
    bundle: Path,
    offer: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(logits: Tensor) -> Tensor:
        raise RuntimeError("no such instruction")

    offer(broken)
    monkeypatch.setattr(
        backend,
        "seconds",
        lambda network, _: float(network(torch.zeros(1, 3, 8, 8)).detach().sum()),
    )
    assert choose(bundle, info_of(bundle), CPU, images) == REFERENCE
    assert "openvino does not work here: no such instruction" in caplog.text


def test_where_nothing_can_be_written_the_reference_computes(
    bundle: Path, offer: Callable[..., None], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    offer()
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text("a file in the way")
    assert choose(bundle, info_of(bundle), CPU, images) == REFERENCE
    assert "computing in float32" in caplog.text


def test_large_images_are_cut_for_the_comparison() -> None:
    wide = np.zeros((10, 4000, 3), np.uint8)
    assert gate.middle((wide, 0.5))[0].shape == (10, gate.SIDE_PX, 3)


def test_photographs_are_compared_by_their_share_of_skin(
    tmp_path: Path, offer: Callable[..., None], cache: Path
) -> None:
    info = BundleInfo(
        kind="photo", models={"skin": ModelSettings(name="pixel")}, skin=SkinSettings(),
        um_per_px=None, fold="all", settings={}, metrics={}, versions={}, data_fingerprint="f",
        images=2, subjects=2, created="2026-11-30",
    )  # fmt: skip
    network = build("pixel", weights=WEIGHTS["dermis"], bias=-6.0)
    bundle = save(tmp_path / "photos", info, {"skin": network})
    offer(lambda z: z + torch.linspace(-40, 40, z.shape[-1]), exact=False)
    assert choose(bundle, info_of(bundle), CPU, images) == REFERENCE
    offer(exact=False)
    for record in cache.glob("*.json"):
        record.unlink()
    assert choose(bundle, info_of(bundle), CPU, images) == "openvino"

"""MobileNetV2 for photographs has the published network's features, from the published file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from benchmarks.photos.phone_files import BLOCKS, Graph, random_state, tflite_file, to_bytes
from skinray.config.images import ReadSettings
from skinray.config.photos import FURTHER
from skinray.errors import SettingsError, WeightsError
from skinray.images.photos.pairs import find_photos, load_photo
from skinray.models import build
from skinray.models.skin_mobilenet import SkinMobileNet
from skinray.models.weights.files import read_state
from skinray.models.weights.load import import_file, load_weights
from skinray.models.weights.published import WEIGHTS
from skinray.models.weights.tflite import read_tflite

PERSON = 15  # of VOC's classes
NAME = "deeplabv3_mobilenet_v2_voc"
# Strides of the blocks' depthwise convolutions (Sandler et al., 2018, table 2) up to a sixteenth
# of the image; the fifth halving becomes a dilation in what follows it.
STRIDES = (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
DILATIONS = (*[1] * 14, 2, 2, 2)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKINRAY_CACHE", str(tmp_path / "cache"))


def published(state: dict[str, Tensor], image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the features at a quarter and the merged ones, written out from the paper's table."""

    def layer(name: str, values: Tensor, **options: int) -> Tensor:
        return F.conv2d(values, state[f"{name}.weight"], state[f"{name}.bias"], **options)

    values = F.relu6(layer("stem", image / 0.5 - 1, stride=2, padding=1))
    for number in range(len(BLOCKS)):
        seen, name = values, f"blocks.{number}"
        if number:
            seen = F.relu6(layer(f"{name}.expand", seen))
        seen = F.relu6(
            layer(
                f"{name}.depthwise", seen, stride=STRIDES[number], padding=DILATIONS[number],
                dilation=DILATIONS[number], groups=seen.shape[1],
            )
        )  # fmt: skip
        seen = layer(f"{name}.project", seen)
        values = values + seen if seen.shape == values.shape else seen
        if number == 2:
            quarter = values
    near = F.relu(layer("aspp0", values))
    whole = F.relu(layer("aspp_pool", values.mean((2, 3), keepdim=True))).expand_as(near)
    return quarter, F.relu(layer("concat_projection", torch.cat([whole, near], 1)))


@pytest.mark.parametrize("kind", ["tflite", "safetensors"])
def test_the_imported_file_gives_the_published_features(tmp_path: Path, kind: str) -> None:
    state, path = random_state(), tmp_path / f"deeplab.{kind}"
    if kind == "tflite":
        path.write_bytes(tflite_file(state))
    else:
        save_file(state, path)
    cached = import_file(NAME, path)
    network = build("skin_mobilenet", side=97).eval()
    assert isinstance(network, SkinMobileNet)
    before = network.end.weight.clone()
    load_weights(network, NAME)
    assert cached.name == f"{NAME}.safetensors"
    assert torch.equal(network.end.weight, before)  # no published decoder
    image = torch.rand(2, 3, 97, 97, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        shallow, deep = network.seen(image)
        quarter, merged = published(state, image)
        assert (quarter.shape[-1], merged.shape[-1]) == (25, 7)
        torch.testing.assert_close(shallow, quarter, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(network.pyramid(deep), merged, rtol=1e-4, atol=1e-4)
    assert merged.std() > 0.1


def test_the_order_of_the_two_views_is_read_from_the_graph(tmp_path: Path) -> None:
    state = random_state()
    (tmp_path / "a.tflite").write_bytes(tflite_file(state, near_first=True))
    read = read_tflite(tmp_path / "a.tflite")
    near, whole = state["concat_projection.weight"].chunk(2, dim=1)
    assert torch.equal(read.pop("concat_projection.weight"), torch.cat([whole, near], 1))
    assert read.keys() == state.keys() - {"concat_projection.weight"}
    assert all(torch.equal(value, state[key]) for key, value in read.items())


def test_other_files_of_tensorflow_lite_are_refused_with_the_remedy(tmp_path: Path) -> None:
    path, data = tmp_path / "a.tflite", tflite_file(random_state())
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsError, match=r"a\.tflite: damaged .* get the float file"):
        import_file(NAME, path)
    path.write_bytes(tflite_file(random_state(), half=True))
    with pytest.raises(WeightsError, match=r"not float32 \(a quantised network\?\); get the float"):
        import_file(NAME, path)
    other = Graph()
    other.convolve(random_state(), "stem", other.tensor())
    path.write_bytes(to_bytes(other))
    with pytest.raises(WeightsError, match="has another network; get the float file"):
        import_file(NAME, path)
    for cut in range(8, 400):  # whatever a hostile file holds, the error is ours
        path.write_bytes(data[:cut])
        with pytest.raises(WeightsError):
            read_tflite(path)
        path.write_bytes(data[:cut] + bytes([data[cut] ^ 255]) + data[cut + 1 : 4000])
        with pytest.raises(WeightsError):
            read_tflite(path)


def test_layers_of_other_names_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    state = random_state()
    save_file({**state, "blocks.first.project.weight": torch.ones(1)}, path)
    import_file(NAME, path)  # what nobody needs is left out, as the classes are
    state["blocks.first.expand.bias"] = state.pop("blocks.1.expand.bias")
    save_file(state, path)
    with pytest.raises(WeightsError, match=r"without tensor 'blocks\.1\.expand\.bias'"):
        import_file(NAME, path)


def test_the_row_of_the_table_begins_from_these_weights() -> None:
    arm = next(arm for arm in FURTHER if arm.model.name == "skin_mobilenet")
    assert arm.model.weights == NAME
    assert WEIGHTS[NAME].model == "skin_mobilenet"


def test_a_photograph_of_any_size_is_seen_at_one_and_answered_at_its_own() -> None:
    torch.manual_seed(0)
    network = build("skin_mobilenet", side=65).eval()
    image = torch.rand(1, 3, 90, 140)
    square = F.interpolate(image, (65, 65), mode="bilinear", antialias=True)
    maps: list[Tensor] = []
    assert isinstance(network, SkinMobileNet)
    network.end.register_forward_hook(lambda _layer, _given, map_: maps.append(map_))
    with torch.inference_mode():
        own, _ = network(image), network(square)
        assert maps[0].std() > 1e-2
        assert torch.equal(maps[0], maps[1])
        back = F.interpolate(maps[0], (90, 140), mode="bilinear", align_corners=False)
    assert torch.equal(own, back)


@pytest.mark.parametrize("options", [{"side": 8}, {"dropout": 1.0}, {"decoder_channels": 0}])
def test_options_that_describe_no_network_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="give a side of at least 16 px"):
        build("skin_mobilenet", **options)


@pytest.mark.real_data
def test_the_real_weights_find_people_behind_their_skin(real_data: Path) -> None:
    path = real_data / "weights" / "deeplabv3_mnv2_dm05_voc.safetensors"
    import_file(NAME, path)
    network = build("skin_mobilenet", side=257).eval()
    load_weights(network, NAME)
    assert isinstance(network, SkinMobileNet)
    classes, _ = read_state(path)
    shares = []
    for photo in find_photos(real_data / "abd_skin")[:20]:
        sample = load_photo(photo, 257, ReadSettings())
        image = torch.from_numpy(sample.image).permute(2, 0, 1)[None] / 255
        with torch.inference_mode():
            deep = network.pyramid(network.seen(image)[1])
            scores = F.conv2d(deep, classes["logits.weight"], classes["logits.bias"])
            person = F.interpolate(scores, (257, 257), mode="bilinear").argmax(1)[0] == PERSON
        shares.append(float(person.numpy()[sample.masks["skin"] > 0].mean()))
    assert np.median(shares) > 0.9  # of the skin, by the traced masks, lies on a person

"""Backends: stand-ins of networks that give nearly the same logits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from skinray.errors import SettingsError
from skinray.models import MODELS, build, working_scale
from skinray.models.backends import BACKENDS, REFERENCE, offered, openvino, seconds
from skinray.models.layers import FramesOnly
from tests.support.tiny import ColourNetwork

CPU = torch.device("cpu")
# Small enough to convert in seconds.
SMALL = {
    "hed": {"width": 0.1, "batch_norm": True}, "deeplab_lite": {}, "unet": {"features": 4},
    "deeplabv3_mobilenet_v3_large": {"width": 0.3, "aspp_channels": 16}, "skin_unet": {},
    "skin_mobilenet": {}, "pixel": {},
}  # fmt: skip
needs_int8 = pytest.mark.skipif(bool(openvino.missing_int8(CPU)), reason="NNCF is missing")
needs_openvino = pytest.mark.skipif(bool(openvino.missing(CPU)), reason="OpenVINO is missing")


def network_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build(name, **SMALL[name], scale=0.5).eval()


def answers(network: nn.Module, height: int, width: int) -> torch.Tensor:
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return torch.sigmoid(network(image))


@needs_openvino
@pytest.mark.parametrize("name", SMALL)
def test_openvino_gives_the_same_map_at_every_size(name: str, tmp_path: Path) -> None:
    network = network_of(name)
    stand_in = BACKENDS["openvino"].prepare(network, CPU, tmp_path)
    assert working_scale(stand_in) == 0.5
    for size in ((64, 96), (50, 130), (37, 41)):
        found, expected = answers(stand_in, *size), answers(network, *size)
        assert found.shape == expected.shape == (1, 1, *size)
        assert torch.allclose(found, expected, rtol=0, atol=2e-5)


@needs_openvino
@pytest.mark.parametrize("name", ["pixel", "unet"])
def test_a_converted_network_needs_no_other(name: str, tmp_path: Path) -> None:
    assert BACKENDS["openvino"].kept(tmp_path) is None
    network = network_of(name)
    prepared = BACKENDS["openvino"].prepare(network, CPU, tmp_path)
    (tmp_path / openvino.FRAMES).unlink()  # from a release that kept none
    assert BACKENDS["openvino"].kept(tmp_path) is None
    BACKENDS["openvino"].prepare(network, CPU, tmp_path)
    kept = BACKENDS["openvino"].kept(tmp_path)
    assert kept is not None
    assert BACKENDS["openvino_int8"].kept(tmp_path) is None  # that is another file
    assert working_scale(kept) == working_scale(network) == 0.5
    for size in ((64, 96), (37, 41)):
        assert torch.equal(answers(kept, *size), answers(prepared, *size))


@pytest.mark.parametrize("name", SMALL)
def test_frames_are_those_of_the_network(name: str) -> None:
    network = network_of(name)
    frames = FramesOnly(**FramesOnly.options(network))
    assert working_scale(frames) == working_scale(network) == 0.5
    assert type(network).fitted is FramesOnly.fitted
    for size in ((64, 96), (37, 41)):
        image = torch.rand(1, 3, *size)
        assert torch.equal(frames.framed(image), network.framed(image))


@needs_openvino
@pytest.mark.parametrize("text", ["", "[]", '{"stride": 8}', '{"stride": 8, "more": 1}'])
def test_damaged_frames_are_written_again(text: str, tmp_path: Path) -> None:
    network = network_of("pixel")
    BACKENDS["openvino"].prepare(network, CPU, tmp_path)
    (tmp_path / openvino.FRAMES).write_text(text)
    assert BACKENDS["openvino"].kept(tmp_path) is None
    BACKENDS["openvino"].prepare(network, CPU, tmp_path)
    assert BACKENDS["openvino"].kept(tmp_path) is not None


@needs_openvino
def test_padding_before_dilated_convolutions_changes_no_map(
    tmp_path: Path,
) -> None:
    network = network_of("deeplabv3_mobilenet_v3_large")
    network.backbone.append(nn.ReLU())  # as the ResNets end; MobileNet's last layer is another
    plain = BACKENDS["openvino"].prepare(network, CPU, tmp_path)
    core = openvino._library().Core()
    model = core.read_model(tmp_path / openvino.CONVERTED)
    assert openvino.pad_before_dilated(model) == 3  # the pyramid's rates 12, 24 and 36
    other = openvino.Compiled(network, tmp_path / openvino.CONVERTED, "f32")
    other._compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for size in ((64, 96), (50, 130), (37, 41)):
        found, expected = answers(other, *size), answers(plain, *size)
        assert torch.allclose(found, expected, rtol=0, atol=2e-6)


@needs_openvino
@pytest.mark.parametrize(("has", "called"), [(["avx512_bf16"], 0), (["amx_bf16"], 1)])
def test_convolutions_are_padded_before_where_amx_computes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has: list[str], called: int
) -> None:
    calls: list[object] = []
    monkeypatch.setattr(openvino, "instructions", lambda: has)
    monkeypatch.setattr(openvino, "pad_before_dilated", calls.append)
    for backend in ("openvino", "openvino_bfloat16"):
        BACKENDS[backend].prepare(network_of("pixel"), CPU, tmp_path)
    assert len(calls) == called


@needs_openvino
def test_a_network_is_converted_once_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, library = network_of("pixel"), openvino._library()

    def killed(model: object, graph: str, weights: str) -> None:
        Path(weights).write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(library, "serialize", killed)
        with pytest.raises(KeyboardInterrupt):
            BACKENDS["openvino"].prepare(network, CPU, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [openvino.FRAMES]
    BACKENDS["openvino"].prepare(network, CPU, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        "frames.json", "openvino.xml", "openvino.bin",
    }  # fmt: skip
    monkeypatch.setattr(library, "convert_model", None)
    again = BACKENDS["openvino"].prepare(network, CPU, tmp_path)
    assert torch.allclose(answers(again, 20, 30), answers(network, 20, 30), rtol=0, atol=1e-5)


@needs_int8
@pytest.mark.parametrize("name", ["hed", "deeplab_lite", "unet"])
def test_integers_give_nearly_the_same_map_at_every_size(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    network, int8 = network_of(name), BACKENDS["openvino_int8"]
    frames = [torch.rand(1, 3, 64, 96) for _ in range(3)]
    assert int8.calibrate is not None
    int8.calibrate(network, tmp_path, frames)
    assert capfd.readouterr().out == ""
    stand_in = int8.prepare(network, CPU, tmp_path)
    assert "FakeQuantize" in (tmp_path / openvino.ROUNDED).read_text()
    for size in ((64, 96), (50, 130), (37, 41)):
        found, expected = answers(stand_in, *size), answers(network, *size)
        assert found.shape == expected.shape == (1, 1, *size)
        assert (found - expected).abs().mean() < 0.05
        assert not torch.equal(found, expected)


@needs_openvino
def test_processes_side_by_side_do_not_share_the_first_cores(tmp_path: Path) -> None:
    stand_in = BACKENDS["openvino"].prepare(network_of("pixel"), CPU, tmp_path)
    assert stand_in._compiled.get_property("ENABLE_CPU_PINNING") is False


@needs_openvino
def test_integers_need_calibration(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match="has no copy of the bundle in 8-bit integers; backend=auto"
    ):
        BACKENDS["openvino_int8"].prepare(network_of("pixel"), CPU, tmp_path)


@needs_openvino
@pytest.mark.parametrize(
    ("asked", "stub"),
    [
        (
            "from skinray.models.backends import openvino; openvino._library();"
            "from openvino.tools.ovc import telemetry; print(type(telemetry).__module__)",
            "openvino.tools.ovc.telemetry_stub",
        ),
        pytest.param(
            "from skinray.models.backends import openvino; openvino._quantization();"
            "from nncf.telemetry.wrapper import telemetry; print(type(telemetry).__name__)",
            "MagicMock",  # NNCF's own stub
            marks=needs_int8,
        ),
    ],
)
def test_openvino_is_used_without_its_telemetry(asked: str, stub: str) -> None:
    found = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True)
    assert found.stdout.strip() == stub, found.stderr


def test_bfloat16_gives_nearly_the_same_map(tmp_path: Path) -> None:
    network = network_of("hed")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    expected = answers(network, 48, 64)
    stand_in = BACKENDS["bfloat16"].prepare(network, CPU, tmp_path).eval()
    found = answers(stand_in, 48, 64)
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, rtol=0, atol=0.1)
    assert not torch.equal(found, expected)
    assert working_scale(stand_in) == 0.5
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(answers(network, 48, 64), expected)


def test_what_is_offered_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    network = network_of("pixel")
    assert offered(network, CPU)[REFERENCE] == ""
    assert "CPUs only" in offered(network, torch.device("cuda"))["openvino"]
    monkeypatch.setattr(openvino.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'skinray[openvino]'" in offered(network, CPU)["openvino"]
    assert "NNCF is not installed: pip" in offered(network, CPU)["openvino_int8"]
    monkeypatch.undo()
    foreign = offered(ColourNetwork(0), CPU)
    assert foreign[REFERENCE] == "" != foreign["openvino"]


def test_a_trial_takes_the_fastest_pass() -> None:
    assert 0 < seconds(network_of("pixel"), CPU) < 10


def test_every_network_frames_images() -> None:
    for name in MODELS:
        with torch.device("meta"):
            network = build(name)
        assert "does not say how it frames" not in " ".join(offered(network, CPU).values())

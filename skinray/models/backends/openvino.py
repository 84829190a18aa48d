"""Networks computed by OpenVINO on CPUs: the extra ``skinray[openvino]``.

A network is converted once, by tracing its logits on one small frame, and kept as a file; every
process compiles it for its own threads. Sizes stay free. For 8-bit integers, NNCF rounds weights
and activations to steps that it finds on typical frames.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skinray.config.scoring import BackendName
from skinray.errors import SettingsError
from skinray.files import whole
from skinray.models import working_scale
from skinray.models.compute import instructions
from skinray.models.layers import FramesOnly, WholeImage

NAMES: tuple[BackendName, ...] = ("openvino", "openvino_bfloat16", "openvino_int8")
CONVERTED, ROUNDED = "openvino.xml", "openvino-int8.xml"
# How the network frames images: with it, the converted network needs no other.
FRAMES = "frames.json"
# Convolutions dilated at least this much are slow on AMX unless their input is padded beforehand.
LARGE_DILATION = 8
# Of the frame that is traced: both sides are multiples of every stride, and differ.
TRACED = (64, 96)
INSTALL = "OpenVINO is not installed: pip install 'skinray[openvino]'"


def missing(device: torch.device) -> str:
    """Say why OpenVINO cannot compute on a device; "" if it can."""
    if device.type != "cpu":
        return "OpenVINO is used on CPUs only"
    return "" if importlib.util.find_spec("openvino") else INSTALL


def missing_int8(device: torch.device) -> str:
    """Say why OpenVINO cannot compute in 8-bit integers; "" if it can."""
    if device.type == "cpu" and not importlib.util.find_spec("nncf"):
        return INSTALL.replace("OpenVINO", "NNCF")
    return missing(device)


def in_float32(network: nn.Module, device: torch.device, folder: Path) -> nn.Module:
    """Return the stand-in of a network that computes in float32."""
    return Compiled(network, _converted(network, folder), "f32")


def in_bfloat16(network: nn.Module, device: torch.device, folder: Path) -> nn.Module:
    """Return the stand-in of a network that computes in bfloat16."""
    return Compiled(network, _converted(network, folder), "bf16")


def in_int8(network: nn.Module, device: torch.device, folder: Path) -> nn.Module:
    """Return the stand-in of a network that computes in 8-bit integers.

    Raises
    ------
    SettingsError
        If it was not calibrated before.
    """
    file = folder / ROUNDED
    if not _complete(file):
        raise SettingsError(
            "backend openvino_int8: this machine has no copy of the bundle in 8-bit integers; "
            "backend=auto makes and checks one when it pays, for slow networks and many images"
        )
    return Compiled(network, file, "f32")


def kept_in(precision: str, name: str = CONVERTED) -> Callable[[Path], nn.Module | None]:
    """Return a function that loads a stand-in from an earlier conversion in a folder.

    It returns None if there is no such conversion.

    Parameters
    ----------
    precision : of what is not in integers: ``f32`` or ``bf16``.
    name : of the file.
    """

    def kept(folder: Path) -> nn.Module | None:
        try:
            frames = FramesOnly(**json.loads((folder / FRAMES).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        file = folder / name
        return Compiled(frames, file, precision) if _complete(file) else None

    return kept


def calibrate_int8(network: nn.Module, folder: Path, frames: Sequence[Tensor]) -> None:
    """Round a network to 8-bit integers, with steps found on frames, (1, 3, h, w) float32 each.

    Activations get a zero point of their own (``MIXED``): as fast here, and closer to float32.
    """
    library, quantization = _library(), _quantization()
    model = library.Core().read_model(_converted(network, folder))
    data = quantization.Dataset([frame.numpy() for frame in frames])
    with contextlib.redirect_stdout(io.StringIO()):  # it draws bars of its own
        rounded = quantization.quantize(
            model, data, subset_size=len(frames), preset=quantization.QuantizationPreset.MIXED
        )
    _write(rounded, folder / ROUNDED)


class Compiled(nn.Module):
    """A network whose logits OpenVINO computes, with as many threads as torch has now.

    Parameters
    ----------
    network : frames images, and fits logits to them.
    file : the converted network.
    precision : of what is not in integers: ``f32`` or ``bf16``.
    """

    def __init__(self, network: nn.Module, file: Path, precision: str) -> None:
        super().__init__()
        assert isinstance(network, WholeImage)  # noqa: S101 - `offered` lets no other pass
        self.network = network
        self.working_scale = working_scale(network)
        core = _library().Core()
        model = core.read_model(file)
        if precision == "bf16" and "amx_bf16" in instructions():
            pad_before_dilated(model)
        self._compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision,
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                "PERFORMANCE_HINT": "LATENCY",
                # Pinned, several processes of one machine would share its first cores.
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._own = threading.local()  # a request serves one thread at a time

    def forward(self, image: Tensor) -> Tensor:
        """Return logits, (N, 1, H, W) float32, of RGB ``image`` (N, 3, H, W) in 0..1."""
        framed = np.ascontiguousarray(self.network.framed(image).numpy())
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        logits = self._own.request.infer([framed])[0]
        # The next call writes over it.
        return self.network.fitted(torch.from_numpy(np.array(logits)), image.shape[-2:])


def pad_before_dilated(model: Any) -> int:
    """Pad the input of a converted network's most dilated convolutions; return how many.

    The sums stay the same. With their own padding, OpenVINO computes the pyramid of DeepLabV3 up
    to five times more slowly on AMX, which made it half of the network's time.
    """
    import openvino.opset13 as ops

    padded = 0
    for node in model.get_ops():
        if node.get_type_name() != "Convolution":
            continue
        layer, maps = node.get_attributes(), node.input_value(0)
        # OpenVINO would fold the padding back into the convolution, if no layer were between them.
        # Values that come from a ReLU pass a second one unchanged.
        dilated = layer["auto_pad"] == "explicit" and min(layer["dilations"]) >= LARGE_DILATION
        if not dilated or maps.get_node().get_type_name() != "Relu":
            continue
        before, after = ([0, 0, *layer[side]] for side in ("pads_begin", "pads_end"))
        larger = ops.relu(ops.pad(maps, before, after, "constant", np.float32(0)))
        same = ops.convolution(
            larger, node.input_value(1), layer["strides"], [0, 0], [0, 0], layer["dilations"]
        )
        node.output(0).replace(same.output(0))
        padded += 1
    model.validate_nodes_and_infer_types()
    return padded


def _converted(network: nn.Module, folder: Path) -> Path:
    """Return the file of a network, which is converted if that was not done before."""
    assert isinstance(network, WholeImage)  # noqa: S101 - `offered` lets no other pass
    file, side = folder / CONVERTED, network.side
    folder.mkdir(parents=True, exist_ok=True)
    with whole(folder / FRAMES, shared=True) as partial:
        partial.write_text(json.dumps(FramesOnly.options(network)))
    if _complete(file):
        return file
    library = _library()
    frame = torch.rand(1, 3, *((side, side) if side else TRACED))
    # Conversion does not work in inference mode.
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing: sizes of a frame need no branch
        converted = library.convert_model(_Logits(network).eval(), example_input=frame)
    converted.reshape([-1, 3, side or -1, side or -1])
    _write(converted, file)
    return file


def _complete(graph: Path) -> bool:
    """Whether a converted network is there: its graph and its weights."""
    return graph.is_file() and graph.with_suffix(".bin").is_file()


def _write(model: Any, file: Path) -> None:
    """Write a converted network, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=file.parent) as part:
        graph = Path(part) / file.name
        weights = graph.with_suffix(".bin")
        _library().serialize(model, str(graph), str(weights))
        # The graph appears last, and then its weights are there.
        weights.replace(file.with_suffix(".bin"))
        graph.replace(file)


class _Logits(nn.Module):
    """The part of a network that is converted."""

    def __init__(self, network: WholeImage) -> None:
        super().__init__()
        self.network = network

    def forward(self, framed: Tensor) -> Tensor:
        return self.network.logits(framed)


def _library() -> Any:
    """Import OpenVINO without its telemetry, which would report every use to its makers."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _quantization() -> Any:
    """Import NNCF, quiet and without telemetry."""
    _library()
    before = logging.getLoggerClass()
    import nncf

    logging.setLoggerClass(before)  # NNCF sets its own for every logger of the process
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf

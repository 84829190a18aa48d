"""Conversion of published weights to the names of our networks.

The naming scheme of a file is recognised by its keys, so users need not specify it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from skinray.errors import WeightsError
from skinray.models.hed import BGR_MEAN

State = dict[str, Tensor]


@dataclass(frozen=True)
class NamingScheme:
    """A publisher's names for the tensors of one network.

    Attributes
    ----------
    name : for messages.
    recognises : whether a state has these names.
    convert : from these names to ours.
    fresh : prefixes of our keys that such files lack; these tensors keep their random values.
    """

    name: str
    recognises: Callable[[State], bool]
    convert: Callable[[State], State]
    fresh: tuple[str, ...] = ()


def to_native(state: State, source: str) -> tuple[State, NamingScheme | None]:
    """Return ``state`` with our names, and its original scheme (None: the names were ours).

    Raises
    ------
    WeightsError
        If a scheme is recognised but some of its tensors are missing.
    """
    scheme = next((one for one in SCHEMES if one.recognises(state)), None)
    if scheme is None:
        return state, None
    try:
        return scheme.convert(state), scheme
    except KeyError as error:
        raise WeightsError(
            f"{source}: {scheme.name} weights without tensor {error}; get the complete file"
        ) from None


# --- HED -----------------------------------------------------------------------------------

_PLACES = ("One", "Two", "Thr", "Fou", "Fiv")


def _from_pytorch_hed(state: State) -> State:
    """pytorch-hed: ``moduleVggTwo.1.weight`` (``net...`` in its later code)."""
    return {_hed_key(key): value for key, value in state.items()}


def _hed_key(key: str) -> str:
    key = re.sub("^(module|net)", "", key)
    for index, place in enumerate(_PLACES):
        key = key.replace(f"Vgg{place}.", f"stages.{index}.").replace(
            f"Score{place}.", f"sides.{index}."
        )
    return key.replace("Combine.0.", "fuse.")


_VGG16_CONVOLUTIONS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
_VGG16_RGB_MEAN = (0.48235 * 255, 0.45882 * 255, 0.40784 * 255)


def _from_vgg16(state: State) -> State:
    """Convert torchvision's VGG16: RGB, 0-255 minus a mean that differs slightly from HED's.

    The input channels of the first convolution are reversed, and its bias absorbs the difference
    of the means (exact except for the zero padding).
    """
    result = {}
    for stage, convolutions in enumerate(_VGG16_CONVOLUTIONS):
        for place, number in enumerate(convolutions):
            for part in ("weight", "bias"):
                key = f"stages.{stage}.{2 * place + (stage > 0)}.{part}"
                result[key] = state[f"features.{number}.{part}"]
    first = result["stages.0.0.weight"].flip(1)
    shift = torch.tensor(BGR_MEAN) - torch.tensor(_VGG16_RGB_MEAN).flip(0)
    result["stages.0.0.weight"] = first
    result["stages.0.0.bias"] = result["stages.0.0.bias"] + first.sum((2, 3)) @ shift
    return result


_KERAS_HED = re.compile(r"(block|dsn|fuse)(\d?)(?:/layers/conv2d(?:_(\d))?)?/vars/([01])")


def _from_keras_hed(state: State) -> State:
    """Keras: ``block2/layers/conv2d_1/vars/0``; kernels are (height, width, inputs, outputs)."""
    result = {}
    for key, value in state.items():
        found = _KERAS_HED.fullmatch(key)
        if found is None:
            raise KeyError(key)
        kind, number, place, part = found.groups()
        at = int(number or 1) - 1
        ours = {
            "block": f"stages.{at}.{2 * int(place or 0) + (at > 0)}",
            "dsn": f"sides.{at}",
            "fuse": "fuse",
        }[kind]
        if part == "0":
            result[f"{ours}.weight"] = value.permute(3, 2, 0, 1) if value.ndim == 4 else value
        else:
            result[f"{ours}.bias"] = value
    return result


# --- DeepLabV3 -----------------------------------------------------------------------------


def _from_torchvision(state: State) -> State:
    """Convert torchvision's DeepLabV3: same names, without the auxiliary head."""
    return {k: v for k, v in state.items() if not k.startswith("aux_classifier.")}


def _from_phone(state: State) -> State:
    """TensorFlow Lite's DeepLabV3 on MobileNetV2, with the names of :func:`read_tflite`."""
    result = {
        "features.0.0.weight": state["stem.weight"],
        "features.0.1.bias": state["stem.bias"],
    }
    blocks = sum(re.fullmatch(r"blocks\.\d+\.project\.weight", key) is not None for key in state)
    for block in range(blocks):
        theirs, ours = f"blocks.{block}", f"features.{block + 1}.conv"
        layers = ["depthwise"] if block == 0 else ["expand", "depthwise"]
        for place, layer in enumerate(layers):
            result[f"{ours}.{place}.0.weight"] = state[f"{theirs}.{layer}.weight"]
            result[f"{ours}.{place}.1.bias"] = state[f"{theirs}.{layer}.bias"]
        result[f"{ours}.{len(layers)}.weight"] = state[f"{theirs}.project.weight"]
        result[f"{ours}.{len(layers) + 1}.bias"] = state[f"{theirs}.project.bias"]
    pyramid = {"near": "aspp0", "whole": "aspp_pool", "merge": "concat_projection"}
    for part in ("weight", "bias"):
        result |= {f"{our}.{part}": state[f"{their}.{part}"] for our, their in pyramid.items()}
    return result


# --- U-Net ---------------------------------------------------------------------------------


def _from_buda(state: State) -> State:
    """Buda's file: ``encoder1.enc1conv1``, ``bottleneck.bottleneckconv1``, ``upconv4``."""
    levels = 1 + sum(re.fullmatch(r"upconv\d+\.weight", key) is not None for key in state)
    blocks = {"bottleneck": f"encoders.{levels - 1}"}
    for level in range(1, levels):
        blocks[f"encoder{level}"] = f"encoders.{level - 1}"
        blocks[f"decoder{level}"] = f"decoders.{levels - 1 - level}"
        blocks[f"upconv{level}"] = f"ups.{levels - 1 - level}"
    blocks["conv"] = "head"
    result = {}
    for key, value in state.items():
        block, *middle, part = key.split(".")
        layer = [re.sub(r"^(enc\d+|dec\d+|bottleneck)", "", name) for name in middle]
        result[".".join([blocks[block], *layer, part])] = value
    return result


def _from_lgg(state: State) -> State:
    """Deodato's ``layers.N``: encoders 0, 2, .., then alternating up-convolutions and decoders.

    A convolution's bias moves into the running mean of the following batch norm, and the
    up-convolutions, published without bias, get a bias of 0: the same function.
    """
    head = max(int(key.split(".")[1]) for key in state)
    levels = (head + 3) // 4
    result = {f"head.{part}": state[f"layers.{head}.{part}"] for part in ("weight", "bias")}
    for level in range(levels):
        result |= _lgg_block(state, f"layers.{2 * level}", f"encoders.{level}")
    for step in range(levels - 1):
        weight = state[f"layers.{2 * (levels + step) - 1}.weight"]
        result[f"ups.{step}.weight"] = weight
        result[f"ups.{step}.bias"] = weight.new_zeros(weight.shape[1])
        result |= _lgg_block(state, f"layers.{2 * (levels + step)}", f"decoders.{step}")
    return result


def _lgg_block(state: State, theirs: str, ours: str) -> State:
    result = {}
    for number in (1, 2):
        result[f"{ours}.conv{number}.weight"] = state[f"{theirs}.conv{number}.weight"]
        for part in ("weight", "bias", "running_var"):
            result[f"{ours}.norm{number}.{part}"] = state[f"{theirs}.bn{number}.{part}"]
        mean = state[f"{theirs}.bn{number}.running_mean"] - state[f"{theirs}.conv{number}.bias"]
        result[f"{ours}.norm{number}.running_mean"] = mean
    return result


SCHEMES = (
    NamingScheme(
        "pytorch-hed",
        lambda state: "moduleVggOne.0.weight" in state or "netVggOne.0.weight" in state,
        _from_pytorch_hed,
    ),
    NamingScheme(
        "Keras HED",
        lambda state: "block1/layers/conv2d/vars/0" in state and "fuse/vars/0" in state,
        _from_keras_hed,
    ),
    NamingScheme(
        "torchvision VGG16",
        lambda state: "features.0.weight" in state and "features.28.weight" in state,
        _from_vgg16,
        fresh=("sides.", "fuse."),
    ),
    NamingScheme(
        "torchvision DeepLabV3",
        lambda state: "classifier.0.convs.0.0.weight" in state and "wrap.weight" not in state,
        _from_torchvision,
        fresh=("wrap.", "head."),
    ),
    NamingScheme(
        "TensorFlow Lite DeepLabV3",
        lambda state: "concat_projection.weight" in state,
        _from_phone,
        fresh=("shallow.", "decoder.", "end."),
    ),
    NamingScheme(
        "U-Net of Buda et al.",
        lambda state: "encoder1.enc1conv1.weight" in state,
        _from_buda,
    ),
    NamingScheme(
        "U-Net of Deodato",
        lambda state: "layers.0.conv1.weight" in state,
        _from_lgg,
    ),
)

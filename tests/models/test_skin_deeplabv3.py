"""DeepLabV3 for photographs is DeepLabV3 at a fixed size, and published weights fit it."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from skinray.config.photos import FURTHER
from skinray.models import build
from skinray.models.weights.published import WEIGHTS


def test_the_published_weights_fit() -> None:
    arm = next(arm for arm in FURTHER if arm.model.name == "skin_deeplabv3")
    assert arm.model.weights is not None
    published = WEIGHTS[arm.model.weights]
    with torch.device("meta"):
        shapes = [
            {key: value.shape for key, value in build(name).state_dict().items()}
            for name in (arm.model.name, published.model)
        ]
    assert shapes[0] == shapes[1]


def test_a_photograph_of_any_size_is_seen_at_one_and_answered_at_its_own() -> None:
    torch.manual_seed(0)
    network = build("skin_deeplabv3", side=64, width=0.25, aspp_channels=8).eval()
    plain = build("deeplabv3_mobilenet_v3_large", width=0.25, aspp_channels=8).eval()
    plain.load_state_dict(network.state_dict())
    image = torch.rand(1, 3, 96, 150)
    square = F.interpolate(image, (64, 64), mode="bilinear", antialias=True)
    with torch.inference_mode():
        assert torch.equal(network(square), plain(square))
        back = F.interpolate(plain(square), (96, 150), mode="bilinear", align_corners=False)
        assert torch.equal(network(image), back)

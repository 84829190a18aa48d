"""Augmentation against a torchvision v2 chain of the same steps, 1600x1200 to 800x800.

Run: ``python -m benchmarks.speed.augmentation``. If both get the same draw they give the same
picture, which is checked.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from benchmarks.measure import figure, interleaved, machine, median_row, versions, write
from skinray.config.biopsies import PhantomSettings
from skinray.config.images import AugmentSettings
from skinray.images.augment import Sample, Transform, apply, draw, generator
from skinray.images.phantoms.phantom import make_phantom

REPEATS, RATIO_FLOOR, CEILING_MS = 40, 20.0, 20.0


def main() -> None:
    """Measure, print and write ``results/augmentation.md``."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    phantom = make_phantom(PhantomSettings(), 40, 0)
    sample, settings = phantom.sample, AugmentSettings()
    check_same_picture(sample)
    tensors = as_tensors(sample)
    fused, stepwise = (torchvision_chain(settings, fused=fused) for fused in (True, False))

    def ours(repeat: int) -> Sample:
        return apply(draw(generator(0, repeat, "phantom"), settings), sample, settings)

    contenders = {
        "torchvision, affine steps as one": lambda _: fused(*tensors),
        "torchvision, step by step": lambda _: stepwise(*tensors),
        "skinray": ours,
    }
    times = interleaved(contenders, REPEATS)
    together, apart, mine = (statistics.median(times[name]) for name in contenders)
    ratio, fast = together / mine, mine <= CEILING_MS
    limit = f">= {RATIO_FLOOR:g}"
    figure("augmentation", "augmentation", ratio, "times as fast as torchvision v2", limit)
    lines = [
        "# Augmentation against torchvision v2",
        "",
        "One phantom of 1600x1200 px with two masks (uint8) to an 800x800 crop: translation,",
        "rotation, shear, quarter turns, crop, flips; every repeat is a fresh draw. torchvision:",
        "`RandomAffine` (for all three affine steps, or once for each), `RandomChoice` of",
        "`RandomRotation`, `RandomCrop` and both flips on a `tv_tensors.Image` and two `Mask`,",
        "which fill with 0. skinray: one `cv2.warpAffine` for the image and one for both masks,",
        "which reflect; random numbers included. One thread, CPU time, all in turn. For one fixed",
        "draw both showed the same picture.",
        "",
        f"Machine: {machine()}. {versions('numpy', 'opencv-python', 'torch', 'torchvision')}.",
        "",
        "| version | median ms | quartiles | repeats |",
        "|---|---|---|---|",
        *(median_row(name, values) for name, values in times.items()),
        "",
        f"Ratio of medians: **{ratio:.1f}** to the affine steps as one (asked: {RATIO_FLOOR:.0f}; "
        f"{'met' if ratio >= RATIO_FLOOR else 'NOT met'}), {apart / mine:.1f} to the chain step "
        f"by step. CPU time per image: **{mine:.1f} ms** (asked: at most {CEILING_MS:.0f}; "
        f"{'met' if fast else 'NOT met'}).",
    ]
    write("augmentation", lines)


def as_tensors(sample: Sample) -> tuple[Any, ...]:
    """Return the sample as torchvision takes it."""
    image = torch.from_numpy(np.ascontiguousarray(sample.image.transpose(2, 0, 1)))
    masks = (
        torch.from_numpy(mask)[None] for mask in (sample.masks["nerve"], sample.masks["dermis"])
    )
    return tv_tensors.Image(image), *(tv_tensors.Mask(mask) for mask in masks)


def torchvision_chain(settings: AugmentSettings, *, fused: bool) -> v2.Transform:
    """Return the steps of the paper as torchvision has them, on a 1600x1200 image."""
    shift = (settings.translate_px / 1600, settings.translate_px / 1200)
    turns = [v2.RandomRotation((a, a), expand=True) for a in settings.orientations_deg]
    linear = {"interpolation": InterpolationMode.BILINEAR}
    rotate, shear = settings.rotate_deg, settings.shear_deg
    if fused:
        affine = [v2.RandomAffine(rotate, translate=shift, shear=shear, **linear)]
    else:
        affine = [
            v2.RandomAffine(0, translate=shift, **linear),
            v2.RandomAffine(rotate, **linear),
            v2.RandomAffine(0, shear=shear, **linear),
        ]
    return v2.Compose([
        *affine,
        v2.RandomChoice(turns),
        v2.RandomCrop(settings.crop_px),
        v2.RandomHorizontalFlip(settings.flip_probability),
        v2.RandomVerticalFlip(settings.flip_probability),
    ])  # fmt: skip


NAMES: tuple[Literal["image", "nerve", "dermis"], ...] = ("image", "nerve", "dermis")


def check_same_picture(sample: Sample) -> None:
    """Stop unless both show one picture for one draw: rotation, quarter turn, crop, flip."""
    settings = AugmentSettings(fill="constant")
    ours = apply(Transform((0, 0), 7.0, (0, 0), 90, (0.5, 0.5), True, False), sample, settings)
    for name, tensor in zip(NAMES, as_tensors(sample), strict=True):
        linear = InterpolationMode.BILINEAR if name == "image" else InterpolationMode.NEAREST
        seen = functional.rotate(tensor, 7.0, interpolation=linear)
        seen = functional.rotate(seen, 90.0, expand=True)
        # The middle of the 801 and 401 places that the crop has.
        seen = functional.crop(seen, 400, 200, settings.crop_px, settings.crop_px)
        seen = functional.horizontal_flip(seen).numpy().transpose(1, 2, 0).squeeze()
        mine = ours.image if name == "image" else ours.masks[name]
        difference = np.abs(seen.astype(int) - mine)
        if difference.mean() > (0.5 if name == "image" else 2e-3):
            sys.exit(f"{name}: the two show different pictures, so their times mean nothing")


if __name__ == "__main__":
    main()

"""Skin of one photograph before the picture of another (Ghiasi et al., 2021)."""

from __future__ import annotations

import numpy as np

from skinray.images.sample import Sample


def paste(front: Sample, back: Sample) -> Sample:
    """Put what is skin in ``front`` before ``back``; skin is then what is skin in either.

    Parameters
    ----------
    front, back : photographs of one size; ``dermis`` holds their skin.

    Raises
    ------
    ValueError
        If their sizes differ.
    """
    if front.shape != back.shape:
        raise ValueError(f"sizes {front.shape} and {back.shape} differ")
    skin = front.dermis > 0
    return Sample(
        image=np.where(skin[..., None], front.image, back.image),
        nerve=back.nerve,
        dermis=np.where(skin, front.dermis, back.dermis),
    )

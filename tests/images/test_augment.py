"""The chain of augmentation: exact where it can be, and one map for image and masks."""

import json
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from skinray.config.images import AugmentSettings, ColourSettings
from skinray.images.augment import (
    UNCHANGED,
    Colour,
    Sample,
    Transform,
    apply,
    draw,
    generator,
    matrix,
    recolour,
)

SMALL = AugmentSettings(crop_px=64)
STILL = Transform()
SHAPES = [(120, 160), (121, 160), (97, 163), (160, 160)]


def noise(shape, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    nerve, dermis = (rng.integers(0, 2, shape, dtype=np.uint8) for _ in range(2))
    return Sample(image, {"nerve": nerve, "dermis": dermis})


def each(function, sample):
    masks = {stage: function(mask) for stage, mask in sample.masks.items()}
    return Sample(function(sample.image), masks)


def assert_same(found, expected):
    np.testing.assert_array_equal(found.image, expected.image)
    assert found.masks.keys() == expected.masks.keys()
    for stage, mask in expected.masks.items():
        np.testing.assert_array_equal(found.masks[stage], mask, err_msg=stage)


def cut(array, crop, side):
    row, column = (
        min(int(share * (size - side + 1)), size - side)
        for share, size in zip(crop, array.shape[:2], strict=True)
    )
    return array[row : row + side, column : column + side]


def pad(array, margin, mode="reflect"):
    return np.pad(array, [(margin, margin)] * 2 + [(0, 0)] * (array.ndim - 2), mode=mode)


@pytest.mark.parametrize("crop", [(0, 0), (0.31, 0.77), (0.5, 0.5), (1, 1)])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_identity_is_the_plain_crop(shape, crop):
    sample = noise(shape)
    found = apply(replace(STILL, crop=crop), sample, SMALL)
    assert_same(found, each(lambda a: cut(a, crop, 64), sample))


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("shape", SHAPES)
def test_orientations_are_numpys(shape, degrees):
    sample, crop = noise(shape), (0.2, 0.9)
    found = apply(replace(STILL, orientation_deg=degrees, crop=crop), sample, SMALL)
    assert_same(found, each(lambda a: cut(np.rot90(a, degrees // 90), crop, 64), sample))


@pytest.mark.parametrize("flips", [(True, False), (False, True), (True, True)])
def test_flips_are_numpys(flips):
    sample, crop = noise((97, 163)), (0.4, 0.1)
    found = apply(
        replace(STILL, flip_columns=flips[0], flip_rows=flips[1], crop=crop), sample, SMALL
    )
    axes = [axis for axis, flip in ((1, flips[0]), (0, flips[1])) if flip]
    assert_same(found, each(lambda a: np.flip(cut(a, crop, 64), axes), sample))


@pytest.mark.parametrize(("x", "y"), [(5, 0), (0, -7), (-31, 12)])
@pytest.mark.parametrize("fill", ["reflect", "constant"])
def test_whole_shifts_are_exact(x, y, fill):
    sample, crop = noise((120, 160)), (0.0, 1.0)

    def shifted(array):
        wide = pad(array, 40, fill)
        return cut(wide[40 - y : 160 - y, 40 - x : 200 - x], crop, 64)

    found = apply(
        replace(STILL, translate_px=(x, y), crop=crop), sample, SMALL.override({"fill": fill})
    )
    assert_same(found, each(shifted, sample))


@pytest.mark.parametrize("degrees", [90, -90, 180])
def test_whole_rotations_of_a_square_are_exact(degrees):
    sample = noise((64, 64))
    found = apply(replace(STILL, rotate_deg=degrees), sample, SMALL)
    assert_same(found, each(lambda a: np.rot90(a, degrees // 90), sample))


def test_combinations_of_exact_elements_are_exact():
    sample, crop = noise((97, 163)), (0.7, 0.2)
    for degrees in (0, 90, 180, 270):
        for columns in (False, True):
            for rows in (False, True):
                found = apply(
                    Transform((3, -9), 0, (0, 0), degrees, crop, columns, rows), sample, SMALL
                )

                def chain(array, turns=degrees // 90, columns=columns, rows=rows):
                    moved = pad(array, 20)[29:126, 17:180]
                    seen = cut(np.rot90(moved, turns), crop, 64)
                    seen = seen[:, ::-1] if columns else seen
                    return seen[::-1] if rows else seen

                assert_same(found, each(chain, sample))


@pytest.mark.parametrize("shape", [(40, 50), (41, 90), (90, 41), (20, 21), (5, 64)])
@pytest.mark.parametrize("fill", ["reflect", "constant"])
def test_an_image_smaller_than_the_crop_is_centred_and_filled(shape, fill):
    sample, crop = noise(shape), (0.3, 0.6)

    def filled(array):
        before = [max(0, -((size - 64) // 2)) for size in shape]
        after = [max(0, 64 - size - space) for size, space in zip(shape, before, strict=True)]
        margins = list(zip(before, after, strict=True)) + [(0, 0)] * (array.ndim - 2)
        return cut(np.pad(array, margins, mode=fill), crop, 64)

    found = apply(replace(STILL, crop=crop), sample, SMALL.override({"fill": fill}))
    assert_same(found, each(filled, sample))


def test_translation_moves_to_the_right_and_down():
    sample = each(np.zeros_like, noise((100, 100)))
    sample.masks["nerve"][40, 30] = 1
    settings = AugmentSettings(crop_px=100)
    found = apply(replace(STILL, translate_px=(8, 3)), sample, settings)
    np.testing.assert_array_equal(np.argwhere(found.masks["nerve"]), [[43, 38]])


def test_shear_leans_about_the_centre():
    """At 45 degrees every row below the centre moves one pixel further to the right."""
    sample = each(np.zeros_like, noise((65, 65)))
    sample.masks["nerve"][:, 32] = 1
    settings = AugmentSettings(crop_px=65, fill="constant")
    found = apply(replace(STILL, shear_deg=(45, 0)), sample, settings)
    np.testing.assert_array_equal(found.masks["nerve"], np.eye(65, dtype=np.uint8))
    sample.masks["nerve"][:] = sample.masks["nerve"].T.copy()
    found = apply(replace(STILL, shear_deg=(0, 45)), sample, settings)
    np.testing.assert_array_equal(found.masks["nerve"], np.eye(65, dtype=np.uint8))


@st.composite
def transforms(draw_value):
    angle = st.floats(-10, 10)
    share = st.floats(0, 1)
    return Transform(
        translate_px=(draw_value(st.floats(-40, 40)), draw_value(st.floats(-40, 40))),
        rotate_deg=draw_value(angle),
        shear_deg=(draw_value(angle), draw_value(angle)),
        orientation_deg=draw_value(st.sampled_from([0, 90, 180, 270])),
        crop=(draw_value(share), draw_value(share)),
        flip_columns=draw_value(st.booleans()),
        flip_rows=draw_value(st.booleans()),
        scale=draw_value(st.sampled_from([1.0, 0.9, 1.15])),
    )


def affine(array, forward, shape):
    size = (shape[1], shape[0])
    return cv2.warpAffine(array, forward, size, flags=cv2.INTER_LINEAR, borderValue=np.nan)


def step_by_step(array, transform, side):
    """The chain as the paper tells it, one step after the other, NaN beyond the image."""
    height, width = array.shape
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    shift = np.float64([[1, 0, transform.translate_px[0]], [0, 1, transform.translate_px[1]]])
    turn = cv2.getRotationMatrix2D(centre.tolist(), transform.rotate_deg, transform.scale)
    lean = np.eye(2)
    lean[0, 1], lean[1, 0] = np.tan(np.radians(transform.shear_deg))
    shear = np.column_stack([lean, centre - lean @ centre])
    for step in (shift, turn, shear):
        array = affine(array, step, array.shape)
    array = cut(np.rot90(array, transform.orientation_deg // 90), transform.crop, side)
    array = array[:, ::-1] if transform.flip_columns else array
    return array[::-1] if transform.flip_rows else array


@settings(max_examples=60, deadline=None)
@given(transforms())
def test_one_warp_is_the_chain_step_by_step(transform):
    """On a smooth image three interpolations differ little from one, inside the image."""
    rows, columns = np.mgrid[:150, :190]
    smooth = 128 + 60 * np.sin(columns / 17 + 1) + 60 * np.cos(rows / 13 + columns / 40)
    image = np.repeat(smooth[..., None], 3, axis=2).astype(np.uint8)
    masks = np.zeros((150, 190), np.uint8)
    found = apply(transform, Sample(image, {"nerve": masks, "dermis": masks}), SMALL).image[..., 0]
    expected = step_by_step(smooth, transform, 64)
    inside = ~np.isnan(expected)
    assume(inside.mean() > 0.2)  # with little of the image in the crop there is little to compare
    np.testing.assert_allclose(found[inside], expected[inside], atol=3)


@settings(max_examples=60, deadline=None)
@given(transforms(), st.sampled_from(["reflect", "constant"]))
def test_image_and_masks_stay_on_one_grid(transform, fill):
    """A drawn grid of 5 px lines is seen at the same place in all three."""
    grid = np.zeros((150, 190), np.uint8)
    for at in range(10, 190, 25):
        grid[at : at + 5], grid[:, at : at + 5] = 1, 1
    sample = Sample(
        np.repeat(grid[..., None] * 255, 3, axis=2), {"nerve": grid, "dermis": 1 - grid}
    )
    found = apply(transform, sample, SMALL.override({"fill": fill}))
    assert set(np.unique(found.masks["nerve"])) <= {0, 1}
    bright = found.image[..., 0]
    # The nearest pixel has the largest weight, so 0 and 255 leave no doubt.
    assert found.masks["nerve"][bright == 255].all()
    assert not found.masks["nerve"][bright == 0].any()
    if fill == "reflect":
        np.testing.assert_array_equal(found.masks["dermis"], 1 - found.masks["nerve"])


def test_matrix_takes_pixels_of_the_crop_to_the_source():
    transform = Transform((3, -9), 0, (0, 0), 90, (0.7, 0.2), True, False)
    sample = noise((97, 163))
    found = apply(transform, sample, SMALL)
    to_source = matrix(transform, sample.shape, SMALL)
    for row, column in ((0, 0), (10, 33), (63, 63)):
        x, y = to_source @ [column, row, 1]
        assert (x, y) == (round(x), round(y))
        np.testing.assert_array_equal(found.image[row, column], sample.image[int(y), int(x)])


def test_apply_leaves_its_input_and_gives_the_crop():
    sample = noise((120, 160))
    for array in (sample.image, *sample.masks.values()):
        array.flags.writeable = False
    found = apply(draw(generator(0, 0, "a"), SMALL), sample, SMALL)
    assert found.image.shape == (64, 64, 3)
    assert found.masks["nerve"].shape == found.masks["dermis"].shape == (64, 64)
    assert {array.dtype for array in (found.image, *found.masks.values())} == {np.dtype(np.uint8)}


def test_masks_of_0_and_255_come_back_as_0_and_1():
    sample = noise((120, 160))
    bright = replace(sample, masks={stage: mask * 255 for stage, mask in sample.masks.items()})
    for epoch in range(3):
        transform = draw(generator(0, epoch, "a"), SMALL)
        assert_same(apply(transform, bright, SMALL), apply(transform, sample, SMALL))


def test_looking_past_the_image_mirrors_all_of_it():
    """A crop far outside sees the image mirrored again and again, as numpy pads it."""
    sample = noise((30, 40))
    found = apply(replace(STILL, translate_px=(-90, 70)), sample, SMALL)
    wide = each(lambda a: pad(a, 200), sample)
    top, left = 200 + (30 - 64) // 2 - 70, 200 + (40 - 64) // 2 + 90
    assert_same(found, each(lambda a: a[top : top + 64, left : left + 64], wide))


def test_the_same_generator_draws_the_same():
    first = draw(generator(7, 3, "fold/a.png"), SMALL)
    assert first == draw(generator(7, 3, "fold/a.png"), SMALL)
    others = [
        generator(8, 3, "fold/a.png"),
        generator(7, 4, "fold/a.png"),
        generator(7, 3, "fold/b.png"),
        generator(7, 3, "fold/a.png", repeat=1),
        generator(73, 0, "fold/a.png"),
    ]
    drawn = [draw(rng, SMALL) for rng in others]
    assert len({first, *drawn}) == 6


def test_another_process_draws_the_same():
    """Python salts its own hash in every process; a worker must not."""
    code = (
        "import json; from skinray.images.augment import generator;"
        "print(json.dumps(generator(5, 2, 'é/ü.png', 1).random(3).tolist()))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert json.loads(told.stdout) == generator(5, 2, "é/ü.png", 1).random(3).tolist()


def test_draws_fill_the_papers_ranges_evenly():
    paper = AugmentSettings()
    drawn = [draw(generator(0, epoch, "a"), paper) for epoch in range(2000)]
    for values, limit in (
        ([d.translate_px[0] for d in drawn], 100),
        ([d.translate_px[1] for d in drawn], 100),
        ([d.rotate_deg for d in drawn], 10),
        ([d.shear_deg[0] for d in drawn], 5),
        ([2 * d.crop[0] - 1 for d in drawn], 1),
        ([2 * d.crop[1] - 1 for d in drawn], 1),
    ):
        assert np.abs(values).max() <= limit
        share, _ = np.histogram(values, bins=10, range=(-limit, limit))
        assert share.min() > 140, "of 200 in each tenth of the range"
    assert {d.shear_deg[1] for d in drawn} == {0}
    turns = np.unique([d.orientation_deg for d in drawn], return_counts=True)
    np.testing.assert_array_equal(turns[0], [0, 90, 180, 270])
    assert turns[1].min() > 420
    for flips in ([d.flip_columns for d in drawn], [d.flip_rows for d in drawn]):
        assert 900 < sum(flips) < 1100


def test_switching_an_element_off_does_not_change_the_others():
    off = {"translate_px": 0, "rotate_deg": 0, "flip_probability": 0, "orientations_deg": (0,)}
    full, still = (draw(generator(1, 1, "a"), AugmentSettings(**some)) for some in ({}, off))
    assert still == Transform(shear_deg=full.shear_deg, crop=full.crop)
    both = draw(generator(1, 1, "a"), AugmentSettings(shear_axes="both"))
    assert both.shear_deg[1] != 0
    assert replace(both, shear_deg=full.shear_deg) == full


def test_scale_magnifies_about_the_centre():
    sample, whole = noise((65, 65)), AugmentSettings(crop_px=65)
    found = apply(replace(STILL, scale=2.0), sample, whole)
    assert_same(each(lambda a: a[::2, ::2], found), each(lambda a: a[16:49, 16:49], sample))


def test_scales_fill_their_range_and_change_nothing_else():
    photo = AugmentSettings(scale=(0.8, 1.25))
    drawn = [draw(generator(0, epoch, "a"), photo) for epoch in range(2000)]
    logs = np.log([d.scale for d in drawn]) / np.log(1.25)
    assert np.abs(logs).max() <= 1
    share, _ = np.histogram(logs, bins=10, range=(-1, 1))
    assert share.min() > 140, "of 200 in each tenth of the range"
    plain = draw(generator(0, 7, "a"), AugmentSettings())
    assert plain == replace(drawn[7], scale=1.0)
    with pytest.raises(ValueError, match="low <= high"):
        AugmentSettings(scale=(1.2, 0.8))


def test_crops_reach_every_place():
    settings = AugmentSettings(
        translate_px=0, rotate_deg=0, shear_deg=0, orientations_deg=(0,), flip_probability=0,
        crop_px=8,
    )  # fmt: skip
    rows, columns = np.mgrid[:10, :11].astype(np.uint8)
    sample = Sample(np.stack([rows, columns, rows], axis=2), {})
    seen = [apply(draw(generator(0, e, "a"), settings), sample, settings) for e in range(300)]
    corners = {tuple(view.image[0, 0, :2].tolist()) for view in seen}
    assert corners == {(row, column) for row in range(3) for column in range(4)}


def test_flips_of_columns_keep_the_top_on_top():
    photo = AugmentSettings(flip_axes="columns")
    for epoch in range(50):
        full = draw(generator(0, epoch, "a"), AugmentSettings())
        assert draw(generator(0, epoch, "a"), photo) == replace(full, flip_rows=False)


def test_colours_fill_their_ranges_and_change_nothing_else():
    most = ColourSettings(exposure=0.3, balance=0.1, contrast=0.4, saturation=0.5, gamma=0.2)
    colourful = AugmentSettings(colour=most)
    drawn = [draw(generator(0, epoch, "a"), colourful) for epoch in range(2000)]
    for values, limit in (
        ([d.colour.exposure for d in drawn], 0.3),
        *(([d.colour.balance[at] for d in drawn], 0.1) for at in range(3)),
        ([d.colour.contrast for d in drawn], 0.4),
        ([d.colour.saturation for d in drawn], 0.5),
        ([d.colour.gamma for d in drawn], 0.2),
    ):
        assert np.abs(values).max() <= limit
        share, _ = np.histogram(values, bins=10, range=(-limit, limit))
        assert share.min() > 140, "of 200 in each tenth of the range"
    plain = draw(generator(0, 7, "a"), AugmentSettings())
    assert plain == replace(drawn[7], colour=UNCHANGED)


def test_colours_change_after_the_warp_and_never_the_masks():
    sample, crop = noise((120, 160)), (0.31, 0.77)
    changed = Colour(exposure=0.2, contrast=-0.3)
    plain = apply(replace(STILL, crop=crop), sample, SMALL)
    found = apply(replace(STILL, crop=crop, colour=changed), sample, SMALL)
    assert_same(found, replace(plain, image=recolour(plain.image, changed)))

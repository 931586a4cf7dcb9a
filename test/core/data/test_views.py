"""Views drawn anew keep sentences true: what may be cut, what stays where it was, and image and mask in step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from jmceln_core.data.grounding import Instance, Picture
from jmceln_core.data.views import LARGEST_FRAME, SMALLEST_CROP, View, extent
from jmceln_core.geometry import PAD_COLOUR

KINDS = ("polygon", "rle", "counts", "box")


def instance(number: int, kind: str, mask: np.ndarray, *, crowd: bool = False) -> Instance:
    """A rectangle, outlined in one of the ways COCO has."""
    rows, columns = np.nonzero(mask)
    x, y, right, bottom = (int(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    outline: object = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    if kind == "polygon":
        outline = [[x, y, right, y, right, bottom, x, bottom]]
    elif kind == "counts":
        runs, last, flat = [0], 0, mask.T.flatten()
        for value in flat:
            if value != last:
                runs.append(0)
                last = value
            runs[-1] += 1
        outline = {"size": list(mask.shape), "counts": runs}
    elif kind == "box":
        outline = []
    return Instance(number, "thing", outline, (x, y, right - x, bottom - y), crowd)


@st.composite
def pictures(draw: st.DrawFn) -> Picture:
    """A picture of any shape with a few rectangles anywhere in it."""
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    instances = []
    for number in range(draw(st.integers(0, 3))):
        left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        mask = np.zeros((height, width), bool)
        mask[top : draw(st.integers(top + 1, height)), left : draw(st.integers(left + 1, width))] = True
        instances.append(instance(number, draw(st.sampled_from(KINDS)), mask, crowd=draw(st.booleans())))
    return Picture(draw(st.integers(0, 99)), Path("nowhere.png"), height, width, tuple(instances), draw(st.booleans()))


def rectangle(height: int, width: int, top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask


WIDE = Picture(7, Path("wide.png"), 300, 400)
TWO = replace(
    WIDE,
    instances=(
        instance(1, "rle", rectangle(300, 400, 100, 80, 180, 170)),
        instance(2, "polygon", rectangle(300, 400, 120, 220, 160, 300)),
    ),
)


def drawn(picture: Picture, seed: int, *, crop: float = 1.0, photometric: float = 1.0) -> View:
    return View.random(picture, np.random.default_rng(seed), crop=crop, photometric=photometric)


@pytest.mark.parametrize("kind", KINDS)
def test_an_extent_holds_box_and_outline(kind: str) -> None:
    mask = rectangle(60, 80, 20, 10, 50, 30)
    assert extent(instance(1, kind, mask), 60, 80) == (9, 19, 31, 51)
    off = replace(instance(1, kind, mask), box=(40.4, 30.0, 60.0, 2.0))  # a box that disagrees with the outline
    left, top, right, bottom = extent(off, 60, 80)
    assert right == 80
    assert (left, top, bottom) == ((39, 29, 33) if kind == "box" else (9, 19, 51))


@given(pictures(), st.integers(0, 2**32))
def test_no_annotated_pixel_is_cut_and_every_thing_stays_on_its_side(picture: Picture, seed: int) -> None:
    view = drawn(picture, seed)
    left, top, right, bottom = view.border
    height, width = picture.height + top + bottom, picture.width + left + right
    assert height >= SMALLEST_CROP * picture.height
    assert width >= SMALLEST_CROP * picture.width
    longest = max(picture.height, picture.width)
    assert max(height - picture.height, width - picture.width) <= (LARGEST_FRAME - 1) * longest
    cut = min(view.border) < 0
    assert not (cut and max(view.border) > 0)
    assert picture.complete or not cut
    for thing in picture.instances:
        rows, columns = np.nonzero(thing.mask(picture.height, picture.width))
        assert left + columns.min() >= 0
        assert left + columns.max() < width
        assert top + rows.min() >= 0
        assert top + rows.max() < height
        a, b, c, d = extent(thing, picture.height, picture.width)
        for before, after in (
            (a + c - picture.width, a + c + 2 * left - width),
            (b + d - picture.height, b + d + 2 * top - height),
        ):
            assert before * after >= 0  # twice the distance from the middle has not changed its sign


@given(pictures(), st.integers(0, 2**32), st.sampled_from([16, 64, 96]), st.booleans())
def test_image_mask_and_coordinates_stay_in_step(picture: Picture, seed: int, size: int, mirrored: bool) -> None:
    view = drawn(picture, seed, photometric=0.0)
    if mirrored:  # the border is that of the mirrored picture
        left, top, right, bottom = view.border
        view = View((right, top, left, bottom), mirrored=True)
    box = view.letterbox(picture, size)
    for thing in picture.instances:
        mask = thing.mask(picture.height, picture.width)
        if not mask.any():  # an outline too small to hold a pixel's centre
            continue
        # drawn in white on the colour of the padding and seen as an image, the thing is its mask
        rgb = np.where(mask[..., None], 255, PAD_COLOUR).astype(np.uint8)
        seen = view.image(picture, rgb, size)
        placed = view.mask(picture, mask, size)
        assert seen.shape == (size, size, 3)
        assert placed.dtype == bool
        if box.scale < 1:  # both are area averages then
            share = (seen[..., 0].astype(float) - PAD_COLOUR[0]) / (255 - PAD_COLOUR[0])
            assert (abs(share[(share > 0.5) != placed] - 0.5) < 0.01).all()  # one grey level
        # its centre and area are where the coordinates say
        rows, columns = np.nonzero(mask[:, ::-1] if mirrored else mask)
        left, top = view.border[:2]
        expected = box.points([[columns.mean() + left, rows.mean() + top]])[0]
        scale_x, scale_y = box.content[0] / box.width, box.content[1] / box.height
        area = mask.sum() * scale_x * scale_y
        extra = (np.ptp(columns) + 1) * scale_x + (np.ptp(rows) + 1) * scale_y + 1  # half a pixel all around
        assert abs(placed.sum() - area) <= extra
        if placed.any():
            y, x = np.nonzero(placed)
            assert abs(x.mean() - expected[0]) <= 1
            assert abs(y.mean() - expected[1]) <= 1


def test_crops_and_frames_come_equally_often_and_use_their_room() -> None:
    borders = np.array([drawn(TWO, seed).border for seed in range(400)])
    cut, framed = (borders < 0).any(1), (borders > 0).any(1)
    assert 150 < cut.sum() < 250
    assert 150 < framed.sum() < 250
    for margins, room in zip(-borders[cut].T, (79, 99, 99, 119), strict=True):
        assert room * 0.6 < margins.max() <= room
    kept = 1 + (borders[cut][:, 0] + borders[cut][:, 2]) / 400
    assert kept.min() < 0.65
    assert borders[framed].max() > 60


def test_the_share_of_views_is_as_asked() -> None:
    assert all(drawn(TWO, seed, crop=0, photometric=0) == View() for seed in range(20))
    views = [drawn(TWO, seed, crop=0.3, photometric=0.6) for seed in range(400)]
    assert 80 < sum(view.border != (0, 0, 0, 0) for view in views) < 160
    assert 200 < sum(view.gain != 1 for view in views) < 280
    assert not any(view.mirrored for view in views)
    assert all(0.75 <= view.gain <= 1.2 and 0.8 <= view.gamma <= 1.25 for view in views)


def test_the_same_generator_draws_the_same_view() -> None:
    assert drawn(TWO, 5) == drawn(TWO, 5)
    assert len({drawn(TWO, seed) for seed in range(20)}) == 20


def test_an_incomplete_picture_is_framed_only() -> None:
    borders = [drawn(replace(TWO, complete=False), seed).border for seed in range(100)]
    assert min(min(b) for b in borders) == 0
    assert max(max(b) for b in borders) > 0


def test_nothing_is_cut_where_something_fills_the_picture() -> None:
    full = replace(WIDE, instances=(instance(1, "box", np.ones((300, 400), bool), crowd=True),))
    assert all(min(drawn(full, seed).border) >= 0 for seed in range(50))


def test_brightness_changes_alike_for_all_colours_and_keeps_their_order() -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(256, 0)
    picture = Picture(1, Path("grey.png"), 256, 256)
    view = View(gain=0.8, gamma=1.2)
    seen = view.image(picture, grey, 256)
    assert (seen[..., 0] == seen[..., 1]).all()
    assert (seen[..., 0] == seen[..., 2]).all()
    assert (np.diff(seen[0, :, 0].astype(int)) >= 0).all()
    assert seen[0, 128, 0] == round(255 * 0.8 * (128 / 255) ** 1.2)


def test_a_crop_shows_the_picture_larger() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    view = View((-100, -50, -60, -30))
    np.testing.assert_array_equal(view.image(WIDE, rgb, 240)[10:230], rgb[50:270, 100:340])
    mask = rgb[..., 0] > 100
    np.testing.assert_array_equal(view.mask(WIDE, mask, 240)[10:230], mask[50:270, 100:340])
    flipped = replace(view, mirrored=True)
    np.testing.assert_array_equal(flipped.image(WIDE, rgb, 240)[10:230], rgb[:, ::-1][50:270, 100:340])
    np.testing.assert_array_equal(flipped.mask(WIDE, mask, 240)[10:230], mask[:, ::-1][50:270, 100:340])


# Features are cached under a view's number: these numbers must not change.
@pytest.mark.parametrize(
    ("index", "border", "mirrored", "gain", "gamma"),
    [
        (0, (0, 0, 0, 0), False, 1.0, 1.0),
        (1, (9, 29, 49, 38), True, 0.9757778121762827, 1.2467719656261846),
        (2, (23, 13, 11, 40), False, 0.8757182462350854, 0.8616070669977324),
        (3, (131, 36, 48, 54), True, 1.112015310041831, 1.2424174843975786),
    ],
)
def test_the_numbered_views_are_what_they_always_were(
    index: int, border: tuple[int, int, int, int], mirrored: bool, gain: float, gamma: float
) -> None:
    assert View.draw(WIDE, index) == View(border, mirrored, gain, gamma)

"""The letterbox: pixels, masks, maps, points and boxes into the square and back."""

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jmceln_core.geometry import PAD_COLOUR, Letterbox

sides = st.integers(1, 700)
sizes = st.integers(1, 500)
RESIZES = ("letterbox", "squash")
letterboxes = st.builds(Letterbox, height=sides, width=sides, size=sizes)
squares = st.builds(Letterbox, height=sides, width=sides, size=sizes, resize=st.sampled_from(RESIZES))


@pytest.mark.parametrize(
    ("height", "width", "size", "scale", "content", "pad"),
    [
        (480, 640, 416, 0.65, (416, 312), (0, 52)),  # the usual camera, into the paper's square
        (640, 480, 416, 0.65, (312, 416), (52, 0)),  # the same, upright
        (416, 416, 416, 1.0, (416, 416), (0, 0)),  # nothing to do
        (100, 200, 400, 2.0, (400, 200), (0, 100)),  # enlarged
        (3, 4, 10, 2.5, (10, 8), (0, 1)),  # 7.5 rows are rounded half up
        (5, 10, 10, 1.0, (10, 5), (0, 2)),  # five rows of padding: two above, three below
        (1, 5000, 416, 0.0832, (416, 1), (0, 207)),  # a tenth of a row is still one row
        (5000, 1, 416, 0.0832, (1, 416), (207, 0)),
        (1, 1, 1, 1.0, (1, 1), (0, 0)),
    ],
)
def test_scale_and_padding(height, width, size, scale, content, pad):
    letterbox = Letterbox(height, width, size)
    assert letterbox.scale == pytest.approx(scale)
    assert letterbox.content == content
    assert letterbox.pad == pad
    assert all(isinstance(value, int) for value in (*letterbox.content, *letterbox.pad))


@given(letterboxes)
def test_content_fills_the_longer_side_and_is_centred(letterbox):
    width, height = letterbox.content
    assert max(width, height) == letterbox.size
    assert min(width, height) >= 1
    left, top = letterbox.pad
    assert 0 <= letterbox.size - width - 2 * left <= 1
    assert 0 <= letterbox.size - height - 2 * top <= 1


@pytest.mark.parametrize("bad", [(0, 4, 8), (4, -1, 8), (4, 4, 0), (4.0, 4, 8), (4, 4, "8")])
def test_bad_sizes_are_refused(bad):
    with pytest.raises(ValueError, match="positive whole number"):
        Letterbox(*bad)


@given(squares, st.lists(st.tuples(st.floats(-50, 900), st.floats(-50, 900)), max_size=5))
def test_points_return(letterbox, points):
    xy = np.array(points, float).reshape(-1, 2)
    np.testing.assert_allclose(letterbox.points_back(letterbox.points(xy)), xy, atol=1e-6)


@given(squares, st.tuples(*[st.floats(-50, 900)] * 4))
def test_boxes_return(letterbox, box):
    np.testing.assert_allclose(letterbox.box_back(letterbox.box(box)), box, atol=1e-6)


@given(squares)
def test_the_whole_picture_is_the_content(letterbox):
    whole = letterbox.box((0, 0, letterbox.width, letterbox.height))
    np.testing.assert_allclose(whole, (*letterbox.pad, *letterbox.content), atol=1e-9)


def test_points_are_pixel_centres_and_boxes_pixel_edges():
    letterbox = Letterbox(2, 4, 8)  # twice as large, two rows of padding
    # Pixel (0, 0) becomes pixels 0, 1 and rows 2, 3: its centre lies between them.
    np.testing.assert_allclose(letterbox.points([[0, 0]]), [[0.5, 2.5]])
    np.testing.assert_allclose(letterbox.box([[0, 0, 1, 1], [1, 0, 2, 2]]), [[0, 2, 2, 2], [2, 2, 4, 4]])


@pytest.mark.parametrize(("height", "width", "size"), [(480, 640, 416), (61, 83, 200), (301, 77, 64), (1, 5000, 416)])
def test_image_is_resized_and_padded(height, width, size):
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    letterbox = Letterbox(height, width, size)
    square = letterbox.image(rgb)
    assert square.shape == (size, size, 3)
    assert square.dtype == np.uint8
    (left, top), (w, h) = letterbox.pad, letterbox.content
    inside = np.zeros((size, size), bool)
    inside[top : top + h, left : left + w] = True
    assert (square[~inside] == PAD_COLOUR).all()
    method = cv2.INTER_AREA if size < max(height, width) else cv2.INTER_LINEAR
    np.testing.assert_array_equal(square[inside].reshape(h, w, 3), cv2.resize(rgb, (w, h), interpolation=method))


def test_shrinking_averages_every_pixel():
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[::2, ::2] = 200
    assert (Letterbox(64, 64, 32).image(rgb) == 50).all()


def test_non_contiguous_picture():
    rgb = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    letterbox = Letterbox(40, 60, 32)
    np.testing.assert_array_equal(letterbox.image(rgb[::-1, ::-1]), letterbox.image(rgb[::-1, ::-1].copy()))


def test_another_size_is_refused():
    with pytest.raises(ValueError, match=r"expected a \(4, 6, 3\) uint8 picture, not \(6, 4, 3\)"):
        Letterbox(4, 6, 8).image(np.zeros((6, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="float64"):
        Letterbox(4, 6, 8).image(np.zeros((4, 6, 3)))
    with pytest.raises(ValueError, match=r"expected a \(4, 6\) mask"):
        Letterbox(4, 6, 8).mask(np.zeros((6, 4), bool))
    with pytest.raises(ValueError, match=r"expected a \(h, w\) map"):
        Letterbox(4, 6, 8).unwarp(np.zeros((2, 3, 3)))


def area_share(mask, letterbox):
    """Naive float64: how much of every letterboxed pixel the mask covers, by overlapping intervals per axis."""

    def overlaps(pixels, content):
        edges = np.arange(pixels + 1) * content / pixels
        cells = np.arange(content)
        return np.clip(np.minimum(edges[1:], cells[:, None] + 1) - np.maximum(edges[:-1], cells[:, None]), 0, None)

    height, width = mask.shape
    share = overlaps(height, letterbox.content[1]) @ mask.astype(float) @ overlaps(width, letterbox.content[0]).T
    square = np.zeros((letterbox.size, letterbox.size))
    (left, top), (w, h) = letterbox.pad, letterbox.content
    square[top : top + h, left : left + w] = share
    return square


@pytest.mark.parametrize(("height", "width", "size"), [(48, 64, 40), (61, 83, 29), (64, 64, 32), (9, 300, 33)])
def test_mask_is_true_where_more_than_half_is_covered(height, width, size):
    mask = cv2.GaussianBlur(np.random.default_rng(1).random((height, width)), (0, 0), 1.5) > 0.5
    letterbox = Letterbox(height, width, size)
    expected = area_share(mask, letterbox)
    clear = abs(expected - 0.5) > 1e-4  # a tie may fall either way in float32
    assert clear.mean() > 0.85
    np.testing.assert_array_equal(letterbox.mask(mask)[clear], expected[clear] > 0.5)


@given(squares)
@settings(max_examples=50, deadline=None)
def test_full_mask_is_the_content_and_empty_mask_stays_empty(letterbox):
    full = np.ones((letterbox.height, letterbox.width), bool)
    assert letterbox.mask(full).sum() == np.prod(letterbox.content)
    assert not letterbox.mask(~full).any()


@pytest.mark.parametrize("factor", [1, 2, 3, 7])
def test_mask_returns_exactly_when_enlarged(factor):
    mask = np.random.default_rng(2).random((21, 33)) > 0.5
    letterbox = Letterbox(21, 33, 33 * factor)
    square = letterbox.mask(mask)
    left, top = letterbox.pad
    np.testing.assert_array_equal(
        square[top : top + 21 * factor, left:], np.repeat(np.repeat(mask, factor, axis=0), factor, axis=1)
    )
    np.testing.assert_array_equal(letterbox.unwarp(square) > 0.5, mask)


@given(st.integers(40, 400), st.integers(40, 400), st.integers(64, 500), st.data())
@settings(max_examples=60, deadline=None)
def test_rectangle_masks_return_within_a_letterboxed_pixel(height, width, size, data):
    letterbox = Letterbox(height, width, size)
    reach = int(np.ceil(1 / letterbox.scale))  # picture pixels per letterboxed pixel, at least one
    x = data.draw(st.integers(0, width - 1))
    y = data.draw(st.integers(0, height - 1))
    mask = np.zeros((height, width), bool)
    mask[y : y + data.draw(st.integers(1, height)), x : x + data.draw(st.integers(1, width))] = True
    back = letterbox.unwarp(letterbox.mask(mask)) > 0.5
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    grown = cv2.dilate(mask.astype(np.uint8), kernel) > 0
    shrunk = cv2.erode(mask.astype(np.uint8), kernel, borderValue=1) > 0
    assert not (back & ~grown).any()
    assert not (shrunk & ~back).any()


def test_a_squashed_picture_fills_the_square():
    box = Letterbox(480, 640, 416, "squash")
    assert (box.content, box.pad) == ((416, 416), (0, 0))
    rgb = np.random.default_rng(4).integers(0, 256, (480, 640, 3), np.uint8)
    np.testing.assert_array_equal(box.image(rgb), cv2.resize(rgb, (416, 416), interpolation=cv2.INTER_AREA))
    np.testing.assert_allclose(box.points([[-0.5, -0.5], [639.5, 479.5]]), [[-0.5, -0.5], [415.5, 415.5]])
    np.testing.assert_allclose(box.box([64, 48, 320, 240]), [41.6, 41.6, 208, 208])


@pytest.mark.parametrize(("height", "width", "size"), [(120, 90, 40), (97, 61, 61), (240, 50, 33)])
def test_a_squashed_mask_is_what_covers_half_of_a_pixel(height, width, size):
    mask = cv2.GaussianBlur(np.random.default_rng(7).random((height, width)), (0, 0), 4) > 0.5
    box = Letterbox(height, width, size, "squash")
    expected = area_share(mask, box)
    clear = abs(expected - 0.5) > 1e-4
    np.testing.assert_array_equal(box.mask(mask)[clear], expected[clear] > 0.5)


def test_a_squashed_axis_that_grows_takes_the_nearest_pixel_and_one_that_shrinks_the_mean():
    mask = np.random.default_rng(5).random((120, 20)) > 0.5
    box = Letterbox(120, 20, 40, "squash")  # a third of the rows, twice the columns
    expected = np.repeat(mask.reshape(40, 3, 20).mean(1) > 0.5, 2, axis=1)
    np.testing.assert_array_equal(box.mask(mask), expected)
    flat = np.full((120, 20, 3), 50, np.uint8)
    assert (box.image(flat) == 50).all()


@given(st.integers(40, 400), st.integers(40, 400), st.integers(64, 500), st.data())
@settings(max_examples=40, deadline=None)
def test_rectangles_return_from_a_squashed_square(height, width, size, data):
    box = Letterbox(height, width, size, "squash")
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    mask = np.zeros((height, width), bool)
    mask[y : y + data.draw(st.integers(1, height)), x : x + data.draw(st.integers(1, width))] = True
    back = box.unwarp(box.mask(mask)) > 0.5
    reach = [int(np.ceil(side / size)) if side > size else 1 for side in (height, width)]
    kernel = np.ones((2 * reach[0] + 1, 2 * reach[1] + 1), np.uint8)
    assert not (back & ~(cv2.dilate(mask.astype(np.uint8), kernel) > 0)).any()
    assert not ((cv2.erode(mask.astype(np.uint8), kernel, borderValue=1) > 0) & ~back).any()


def naive_unwarp(square, letterbox):
    """Naive float64 bilinear sampling, pixel by pixel, of the map pixels that touch the picture."""
    (h, w), size = square.shape, letterbox.size
    (left, top), (width, height) = letterbox.pad, letterbox.content
    columns = [i for i in range(w) if (i + 1) * size > left * w and i * size < (left + width) * w]
    rows = [j for j in range(h) if (j + 1) * size > top * h and j * size < (top + height) * h]
    picture = np.empty((letterbox.height, letterbox.width))
    for v in range(letterbox.height):
        for u in range(letterbox.width):
            x, y = letterbox.points([[u, v]])[0]
            x = min(max((x + 0.5) * w / size - 0.5, columns[0]), columns[-1])
            y = min(max((y + 0.5) * h / size - 0.5, rows[0]), rows[-1])
            picture[v, u] = sum(
                square[j, i] * max(0, 1 - abs(x - i)) * max(0, 1 - abs(y - j)) for j in rows for i in columns
            )
    return picture


@given(
    *(st.integers(1, 12), st.integers(1, 12), st.integers(1, 16), st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from(RESIZES),
)
@example(3, 4, 8, 8, 8, "letterbox")
@example(5, 12, 16, 4, 4, "letterbox")  # the content's border falls inside a map pixel
@example(1, 12, 5, 2, 9, "letterbox")
@example(5, 12, 16, 4, 9, "squash")
@settings(max_examples=60, deadline=None)
def test_unwarp_is_bilinear_at_any_resolution(height, width, size, h, w, resize):
    square = np.random.default_rng(h * 10 + w).random((h, w))
    letterbox = Letterbox(height, width, size, resize)
    picture = letterbox.unwarp(square)
    assert picture.dtype == np.float32
    np.testing.assert_allclose(picture, naive_unwarp(square, letterbox), atol=1e-5)


def test_unwarp_equals_cropping_and_resizing_where_the_crop_is_whole():
    letterbox = Letterbox(480, 640, 416)
    for resolution in (104, 416):  # stride 4 and stride 1: the padding is 13 and 52 map pixels
        square = np.random.default_rng(3).random((resolution, resolution)).astype(np.float32)
        top = 52 * resolution // 416
        expected = cv2.resize(square[top : resolution - top], (640, 480), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(letterbox.unwarp(square), expected, atol=2e-5)


def test_unwarp_never_mixes_the_padding_in():
    letterbox = Letterbox(480, 640, 416)
    square = np.ones((416, 416), np.float32)
    square[52:364] = 0
    assert not letterbox.unwarp(square).any()


@given(squares, st.integers(1, 60))
@settings(max_examples=50, deadline=None)
def test_unwarp_of_a_constant_is_constant(letterbox, resolution):
    picture = letterbox.unwarp(np.full((resolution, resolution), 0.25))
    assert picture.shape == (letterbox.height, letterbox.width)
    np.testing.assert_allclose(picture, 0.25, atol=1e-6)


def test_ramps_come_back_in_place():
    """A picture whose brightness is its own column number tells where every unwarped pixel was taken from."""
    height, width = 120, 200
    letterbox = Letterbox(height, width, 100)
    square = np.zeros((100, 100))
    columns = np.arange(100)
    square[:] = letterbox.points_back(np.stack([columns, columns], axis=1))[:, 0]
    inner = letterbox.unwarp(square)[:, 2:-2]
    np.testing.assert_allclose(inner, np.broadcast_to(np.arange(2, width - 2), inner.shape), atol=1e-3)

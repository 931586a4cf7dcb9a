"""jmceln_core.overlay: what is drawn, where, and what is left alone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from jmceln_core.overlay import draw


def answer(mask, status="FOUND", anchor=None, score=0.5, anchors=()):
    status = SimpleNamespace(name=status, value=status.lower())
    instances = [SimpleNamespace(anchor=a) for a in anchors]
    return SimpleNamespace(mask=mask, status=status, anchor=anchor, score=score, instances=instances)


@pytest.fixture
def picture():
    return np.full((240, 320, 3), 100, np.uint8)


@pytest.fixture
def mask():
    mask = np.zeros((240, 320), bool)
    mask[80:160, 100:200] = True
    return mask


def test_tint_inside_nothing_outside_and_the_input_is_left_alone(picture, mask):
    out = draw(picture, answer(mask), "the box")
    assert (picture == 100).all()
    # 0.6 * 100 + 0.4 * (0, 200, 83), away from the outline
    np.testing.assert_array_equal(out[100:140, 120:180], np.broadcast_to([60, 140, 93], (40, 60, 3)))
    far = np.ones_like(mask)
    far[:60] = far[76:164, 96:204] = False  # the title, and the mask with its outline
    assert (out[far] == 100).all()
    assert out.shape == picture.shape
    assert out.dtype == np.uint8


def test_the_outline_is_the_pure_colour_and_holes_have_one_too(picture, mask):
    mask[110:130, 140:160] = False
    out = draw(picture, answer(mask), "the ring")
    for row, column in ((80, 150), (159, 150), (120, 100), (120, 199), (109, 150)):
        np.testing.assert_allclose(out[row, column], [0, 200, 83], atol=40)
    assert (out[115:125, 145:155] == 100).all()


def test_the_anchor_is_marked_where_it_is(picture, mask):
    plain, marked = (draw(picture, answer(mask, anchor=a), "x") for a in (None, (150.2, 119.8)))
    rows, columns = np.nonzero((plain != marked).any(axis=2))
    assert rows.mean() == pytest.approx(120, abs=0.5)
    assert columns.mean() == pytest.approx(150, abs=0.5)


def test_several_things_are_marked_and_numbered(picture, mask):
    plain = draw(picture, answer(mask, "AMBIGUOUS"), "x")
    one, both = (
        draw(picture, answer(mask, "AMBIGUOUS", anchor=(150, 120), anchors=anchors), "x")
        for anchors in ([(120, 100)], [(120, 100), (180, 140)])
    )
    assert (one[120, 150] != plain[120, 150]).any()  # one thing: the answer's own anchor
    assert (one[100, 120] == plain[100, 120]).all()
    assert (both[120, 150] == plain[120, 150]).all()
    for row, column in ((100, 120), (140, 180)):
        assert (both[row, column] != plain[row, column]).any()
        beside = np.s_[row - 4 : row + 4, column + 5 : column + 12]
        assert (both[beside] != plain[beside]).any()  # the number


def test_nothing_found_changes_the_title_bar_only(picture):
    out = draw(picture, answer(np.zeros((240, 320), bool), "NOT_PRESENT"), "the unicorn")
    assert (out[:8] != 100).any()
    assert (out[60:] == 100).all()


@pytest.mark.parametrize("status", ["FOUND", "LOW_CONFIDENCE", "AMBIGUOUS", "NOT_PRESENT"])
def test_every_status_has_its_own_colour(picture, mask, status):
    others = {"FOUND", "LOW_CONFIDENCE", "AMBIGUOUS", "NOT_PRESENT"} - {status}
    own = draw(picture, answer(mask, status), "x")[120, 150]
    assert all((own != draw(picture, answer(mask, other), "x")[120, 150]).any() for other in others)


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3), (32, 32), (1080, 1920)])
@pytest.mark.parametrize("text", ["", "a cup", "die Tasse für Käthe ☕ 杯", "very " * 100 + "long"])
def test_any_size_and_any_text(size, text):
    mask = np.ones(size, bool)
    out = draw(np.zeros((*size, 3), np.uint8), answer(mask, anchor=(0.0, 0.0)), text)
    assert out.shape == (*size, 3)


def test_a_view_that_is_not_contiguous_and_read_only(mask):
    picture = np.full((240, 640, 3), 100, np.uint8)[:, ::2, ::-1]
    picture.flags.writeable = False
    assert draw(picture, answer(mask), "x").flags.c_contiguous


def test_another_size_is_refused(picture):
    with pytest.raises(ValueError, match="mask is 4x3, the picture 320x240"):
        draw(picture, answer(np.zeros((3, 4), bool)), "x")

"""The gallery: which samples it shows, what is drawn, and that a sentence cannot break the page."""

from __future__ import annotations

import base64
import html
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from jmceln_core import overlay
from jmceln_core.answer import RawAnswer, Segmentation, Status
from jmceln_core.config import DecisionConfig, ModelConfig
from jmceln_core.data.grounding import DataError, Expression, GroundingData, Instance, Picture
from jmceln_core.evaluation import gallery, report
from jmceln_core.evaluation.protocol import named
from jmceln_core.evaluation.run import Record, Report, evaluate

OWN = named("own")
HEIGHT, WIDTH = 60, 90
EVIL = "<script>alert('x')</script> \"the\" & man"
ABOUT = {"checkpoint": "x", "root": "some/<b>folder", "dataset": "coco", "split": "val", "split_by": ""} | {
    "subset": False,
    "limit": None,
}


def record(row, iou, *, score=0.5, targets=(1,), status="found"):
    inside = round(100 * iou)
    return Record(
        *(row, targets, f"sentence {row}", "short", "written", inside, 100, 0, 100),
        **{"area": 100, "pointed": False, "status": status, "score": score},
    )


def chosen(records, count, seed=0):
    return gallery.choose(Report("x", OWN, records), count, seed)


def test_best_and_worst_by_iou_and_the_surer_first_among_equals():
    ious = [0.5, 0.0, 1.0, 0.0, 0.7, 1.0]
    scores = [0.5, 0.3, 0.6, 0.9, 0.5, 0.8]
    found = chosen([record(i, iou, score=score) for i, (iou, score) in enumerate(zip(ious, scores, strict=True))], 3)
    assert found["Best"] == [5, 2, 4]
    assert found["Worst"] == [3, 1, 0]
    assert "Wrong alarms" not in found


def test_sentences_that_mean_nothing_are_shown_where_they_were_answered():
    records = [
        record(0, 0.5),
        record(1, 0, targets=(), score=0.4),
        record(2, 0, targets=(), score=0.8),
        record(3, 0, targets=(), score=0.9, status="not_present"),
    ]
    found = chosen(records, 5)
    assert found["Best"] == found["Worst"] == [0]
    assert found["Wrong alarms"] == [2, 1]
    assert found["Random"] == [0, 1, 2, 3]


def test_random_ones_are_drawn_by_the_seed_without_repeats():
    records = [record(i, 0.5) for i in range(50)]
    draws = {seed: chosen(records, 8, seed)["Random"] for seed in range(5)}
    assert chosen(records, 8, 3)["Random"] == draws[3]
    assert len({tuple(rows) for rows in draws.values()}) == 5
    assert all(len(set(rows)) == 8 for rows in draws.values())


class Half:
    """Answers with the left half of what it sees, surely."""

    name, device, config, decision = "half & half", "cpu", ModelConfig(image_size=48), DecisionConfig()

    def __init__(self):
        self.calls = []

    def set_image(self, rgb):
        self.calls.append(rgb.shape)
        self.shape = rgb.shape[:2]

    def raw_answers(self, texts):
        map_ = np.full(self.shape, 0.1, np.float32)
        map_[:, : self.shape[1] // 2] = 0.75
        return [RawAnswer(map_, None, None) for _ in texts]


@pytest.fixture
def data(tmp_path):
    """Two grey pictures with a target in the upper left quarter; three sentences, one of them hostile."""
    pictures = {}
    for key in (1, 2):
        path = tmp_path / f"{key}.png"
        cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), 100, np.uint8))
        thing = Instance(key, "thing", [[0, 0, 45, 0, 45, 30, 0, 30]], (0, 0, 45, 30))
        pictures[key] = Picture(key, path, HEIGHT, WIDTH, (thing,))
    return GroundingData(pictures, [Expression(1, (1,), EVIL), Expression(1, (), "a cat"), Expression(2, (2,), "café")])


class Page(HTMLParser):
    """The elements of a page and the words in them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.alts, self.words = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "img":
            self.sources.append(dict(attrs)["src"])
            self.alts.append(dict(attrs)["alt"])

    def handle_data(self, data):
        self.words += data


def make(tmp_path, data, size=None, count=2):
    segmenter = Half()
    found = evaluate(segmenter, data, protocol=OWN, size=size)
    summary = report.write(found, tmp_path / "out", about=ABOUT, draws=10)
    segmenter.calls.clear()
    gallery.write(tmp_path / "gallery.html", segmenter, data, found, summary, count=count)
    return segmenter, (tmp_path / "gallery.html").read_text(encoding="utf-8")


def decoded(source):
    head, _, encoded = source.partition("base64,")
    assert head == "data:image/jpeg;"
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(base64.b64decode(encoded), np.uint8), 1), cv2.COLOR_BGR2RGB)


def test_a_page_of_its_own_with_every_sentence_escaped(tmp_path, data):
    segmenter, text = make(tmp_path, data)
    page = Page(text)
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert EVIL in page.words  # as words, not as an element
    assert EVIL in page.alts
    assert html.escape(EVIL) in text
    assert not re.search(r"https?://", text)  # nothing is fetched
    for words in ("café", "half & half on", "IoU 0.500, found, score 0.75", "picture 2", "nothing meant", "own"):
        assert words in page.words
    assert [heading in page.words for heading in ("Best", "Worst", "Wrong alarms", "Random")] == [True] * 4
    # 2 best, 2 worst, 1 alarm, 2 random; each picture is looked at once.
    assert len(page.sources) == 7
    assert len(segmenter.calls) == 2


def test_the_truth_is_outlined_and_the_answer_tinted(tmp_path, data):
    _, text = make(tmp_path, data)
    page = Page(text)
    shown = decoded(page.sources[page.alts.index("café")]).astype(int)
    assert shown.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(shown[50, 30] - [60, 140, 93]).max() < 25  # 0.6 grey and 0.4 green
    assert np.abs(shown[15, 70] - 100).max() < 25  # beyond the answer
    red, green, _ = shown[29, 38]  # the lower edge of the truth: magenta
    assert red > green + 40
    absent = decoded(page.sources[page.alts.index("a cat")]).astype(int)
    assert absent[29, 38, 1] > absent[29, 38, 0]


def test_at_input_size_the_square_is_shown(tmp_path, data):
    segmenter, text = make(tmp_path, data, size="input")
    assert segmenter.calls == [(48, 48, 3)] * 2
    page = Page(text)
    assert all(decoded(source).shape == (48, 48, 3) for source in page.sources)
    assert "letterboxed square, 48 x 48 pixels" in page.words


def test_large_pictures_are_shown_smaller(tmp_path):
    path = tmp_path / "1.png"
    cv2.imwrite(str(path), np.zeros((500, 2000, 3), np.uint8))
    thing = Instance(1, "thing", [[0, 0, 45, 0, 45, 30, 0, 30]], (0, 0, 45, 30))
    data = GroundingData({1: Picture(1, path, 500, 2000, (thing,))}, [Expression(1, (1,), "dog")])
    _, text = make(tmp_path, data)
    assert decoded(Page(text).sources[0]).shape == (200, 800, 3)


def test_an_unreadable_picture_is_named(tmp_path, data):
    found = evaluate(Half(), data, protocol=OWN)
    summary = report.write(found, tmp_path / "out", about=ABOUT, draws=10)
    data.pictures[2].path.write_bytes(b"gone")
    with pytest.raises(DataError, match=r"2\.png"):
        gallery.write(tmp_path / "gallery.html", Half(), data, found, summary, count=2)
    assert not (tmp_path / "gallery.html").exists()


def test_what_cannot_be_read_is_not_shown(tmp_path, data):
    data.pictures[2].path.write_bytes(b"not a picture")
    _, text = make(tmp_path, data)
    assert len(Page(text).sources) == 5  # one best and worst, the alarm, two random
    assert "café" not in text


def test_squashed_the_square_is_shown(tmp_path, data):
    segmenter, text = make(tmp_path, data, size="squashed")
    assert segmenter.calls == [(HEIGHT, WIDTH, 3)] * 2  # the network gets the picture
    page = Page(text)
    assert all(decoded(source).shape == (480, 480, 3) for source in page.sources)
    assert "squashed to 480 x 480 pixels" in page.words


def test_the_overlay_without_a_title_and_with_a_truth():
    picture = np.full((240, 320, 3), 100, np.uint8)
    mask, truth = np.zeros((2, 240, 320), bool)
    truth[80:160, 100:200] = True
    answer = Segmentation(mask, Status.NOT_PRESENT, 0.1, None, None, None, 0, None, 0.0)
    np.testing.assert_array_equal(overlay.draw(picture, answer, None), picture)
    shown = overlay.draw(picture, answer, None, truth=truth).astype(int)
    assert np.abs(shown[80, 150] - [255, 0, 170]).max() < 60
    assert (shown[100:140, 120:180] == 100).all()  # an outline, no tint
    assert (shown[:70] == 100).all()
    with pytest.raises(ValueError, match="mask is 319x240"):
        overlay.draw(picture, answer, None, truth=truth[:, :-1])

"""The evaluation loop, its report and its command line, on drawn pictures and a segmenter that answers by script."""

from __future__ import annotations

import dataclasses
import json

import cv2
import numpy as np
import pytest

from jmceln_core import evaluate as command
from jmceln_core.answer import RawAnswer
from jmceln_core.config import DecisionConfig, ModelConfig
from jmceln_core.data.grounding import DataError, Expression, GroundingData, Instance, Picture, read_coco
from jmceln_core.data.readers import read
from jmceln_core.evaluation import baselines, report
from jmceln_core.evaluation.protocol import named
from jmceln_core.evaluation.run import Record, evaluate, subset
from jmceln_core.evaluation.scene import Scene
from jmceln_core.geometry import Letterbox
from jmceln_core.segmenter import Segmenter
from support import refer_miniature

OWN, LAVT, CRIS, RELA = map(named, ("own", "lavt", "cris", "rela"))
HEIGHT, WIDTH = 40, 60

# Picture 1: two 10x10 balls and a 20x10 (w x h) box; a picture with nothing but absent sentences; one with no sentence.
BOXES = {11: (0, 0, 10, 10, 1), 12: (50, 30, 10, 10, 1), 13: (20, 10, 20, 10, 2), 21: (20, 10, 30, 20, 2)}
SENTENCES = {
    "expressions": [
        {"image_id": 1, "ann_id": 11, "kind": "short", "text": "left ball"},
        {"image_id": 1, "ann_id": 12, "kind": "full", "text": "the ball at the lower right"},
        {"image_id": 1, "ann_id": 13, "kind": "short", "text": "box"},
        {"image_id": 2, "ann_id": 21, "kind": "short", "text": "the only box"},
    ],
    "absent": [{"image_id": 1, "text": "a cat"}, {"image_id": 3, "text": "a dog"}],
    "plural": [{"image_id": 1, "ann_ids": [11, 12], "text": "both balls"}],
}


@pytest.fixture
def root(tmp_path):
    """A data set of drawn pictures in the layout `read_coco` takes, split `drawn`."""
    (tmp_path / "images").mkdir()
    pixels = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    for picture in (1, 2, 3, 4):
        shown = pixels.copy()
        for key, (x, y, w, h, _) in BOXES.items():
            if key // 10 == picture:
                shown[y : y + h, x : x + w] = (200, 40, 40)
        cv2.imwrite(str(tmp_path / "images" / f"{picture}.png"), shown)
    annotations = [
        {
            "id": key,
            "image_id": key // 10,
            "category_id": category,
            "bbox": [x, y, w, h],
            "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
        }
        for key, (x, y, w, h, category) in BOXES.items()
    ]
    images = [{"id": p, "file_name": f"{p}.png", "height": HEIGHT, "width": WIDTH} for p in (1, 2, 3, 4)]
    categories = [{"id": 1, "name": "ball"}, {"id": 2, "name": "box"}]
    (tmp_path / "instances_drawn.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    (tmp_path / "expressions_drawn.json").write_text(json.dumps(SENTENCES))
    return tmp_path


@pytest.fixture
def data(root) -> GroundingData:
    return read_coco(root, "drawn")


def rectangle(x, y, w, h):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y : y + h, x : x + w] = True
    return mask


class Scripted:
    """Says what a network would: of each sentence a probability in so many rectangles, else where 0.1."""

    name, device = "scripted", "cpu"
    decision = DecisionConfig(confident=0.7)

    def __init__(self, **answers):
        self.answers = {text.replace("_", " "): answer for text, answer in answers.items()}
        self.calls = []

    def set_image(self, rgb):
        assert rgb.dtype == np.uint8
        assert rgb.shape == (HEIGHT, WIDTH, 3)
        self.calls.append("image")

    def raw_answers(self, texts):
        self.calls += texts
        return [self.raw(*self.answers.get(text, (0.0,))) for text in texts]

    def raw(self, probability, *rectangles):
        map_ = np.full((HEIGHT, WIDTH), 0.1, np.float32)
        for rectangle_ in rectangles:
            map_[rectangle(*rectangle_)] = probability
        return RawAnswer(map_, None, None)


def scripted():
    return Scripted(
        left_ball=(0.75, (0, 0, 10, 8)),  # I 80, U 100: .8
        the_ball_at_the_lower_right=(0.75, (0, 0, 10, 10)),  # the other ball: 0
        box=(0.75, (20, 10, 5, 10), (35, 10, 5, 10)),  # I 100, U 200: .5; two blobs: ambiguous
        the_only_box=(0.65, (20, 10, 30, 20)),  # 1, but not surely
        both_balls=(0.75, (0, 0, 10, 10)),  # I 100, U 200: .5
        a_cat=(0.75, (0, 0, 6, 10)),  # should have been rejected; "a dog" is
    )


def values(summary):
    return {name: interval["value"] for name, interval in summary["metrics"].items()}


def test_every_sentence_once_and_the_image_half_once_a_picture(data):
    segmenter = scripted()
    found = evaluate(segmenter, data, protocol=OWN)
    # Two calls to warm up, then picture by picture; picture 4 has no sentence and is not read.
    assert segmenter.calls[:2] == ["image", "something"]
    assert segmenter.calls[2:] == [
        *("image", "left ball", "the ball at the lower right", "box", "a cat", "both balls"),
        *("image", "the only box"),
        *("image", "a dog"),
    ]
    assert [record.text for record in found.records if record.first] == ["left ball", "the only box", "a dog"]
    assert all(record.seconds > 0 for record in found.records)


def test_records_hold_the_comparison_at_the_pictures_own_size(data):
    records = {record.text: record for record in evaluate(scripted(), data, protocol=OWN).records}
    left = records["left ball"]
    assert dataclasses.replace(left, seconds=None) == Record(
        *(1, (11,), "left ball", "short", "written"),
        # Boundaries of 1 pixel (2 % of a diagonal of 72): frames of 10x8 and 10x10, alike but for two rows.
        **{"intersection": 80, "union": 100, "boundary_intersection": 24, "boundary_union": 44},
        **{"area": 100, "pointed": True, "landed": "right one"},
        **{"status": "found", "score": 0.75, "first": True, "raw_union": 100, "no_target": False},
    )
    assert (records["both balls"].intersection, records["both balls"].union) == (100, 200)
    assert (records["a cat"].union, records["a cat"].area, records["a cat"].pointed) == (60, 0, False)
    assert records["a dog"].rejected
    assert not records["a cat"].rejected
    assert not records["the ball at the lower right"].pointed


def test_summary_counts_single_targets_apart_from_plural_and_absent(data):
    summary = report.summarise(evaluate(scripted(), data, protocol=OWN), draws=200)
    assert values(summary) == pytest.approx(
        {
            "mIoU": (0.8 + 0 + 0.5 + 1) / 4,
            "oIoU": (80 + 0 + 100 + 600) / (100 + 200 + 200 + 600),
            **{"Pr@0.5": 3 / 4, "Pr@0.6": 2 / 4, "Pr@0.7": 2 / 4, "Pr@0.8": 2 / 4, "Pr@0.9": 1 / 4},
            "pointing": 3 / 4,
            # "left ball" as above; the answer to "box" is both ends of 20x10, two frames of 26 pixels, 18 of each on
            # the true frame of 56.
            "boundary IoU": (24 / 44 + 0 + 36 / (52 + 56 - 36) + 1) / 4,
        }
    )
    assert (summary["sentences"], summary["pictures"]) == (4, 2)
    assert values(summary["plural"])["mIoU"] == 0.5
    # Two absent sentences, one rejected; the five with targets are all kept.
    assert values(summary["gres"]) == pytest.approx(
        {
            "gIoU": (0.8 + 0 + 0.5 + 1 + 0.5 + 0 + 1) / 7,
            "cIoU": (80 + 100 + 600 + 100) / (100 + 200 + 200 + 600 + 200 + 60),
            **{"Pr@0.7": 2 / 5, "Pr@0.8": 2 / 5, "Pr@0.9": 1 / 5},
            "N_acc": 1 / 2,
            "T_acc": 1,
            "N_acc@95": 1 / 2,  # by the score, at least .65: an empty mask's is 0
        }
    )
    assert {name: summary["gres"][name] for name in ("absent", "threshold", "threshold_of")} == {
        **{"absent": 2, "threshold": pytest.approx(0.65), "threshold_of": "score"}
    }
    assert summary["landed"] == {"right one": 3, "same kind, wrong one": 1}
    # Right: "left ball", "both balls" (IoU .5) of the found, "box" (.5), "the only box", and "a dog" rejected.
    assert {status: (part["count"], part["right"]["value"]) for status, part in summary["answers"].items()} == {
        "found": (4, 2 / 4),
        "not_present": (1, 1),
        "low_confidence": (1, 1),
        "ambiguous": (1, 1),
    }
    assert summary["calibration"]["answers"] == 6
    assert summary["calibration"]["error"] == pytest.approx((5 * (0.75 - 3 / 5) + (1 - 0.65)) / 6)
    assert summary["status"]["absent"] == {"found": 1, "not_present": 1}
    assert summary["seconds"]["frame"]["count"] == 3
    assert summary["seconds"]["sentence"]["count"] == 4
    assert summary["machine"]["cores"] >= 1


def test_breakdowns_split_the_single_target_sentences(data):
    summary = report.summarise(evaluate(scripted(), data, protocol=OWN), draws=200)
    assert values(summary["by_kind"]["full"])["mIoU"] == 0
    assert values(summary["by_kind"]["short"])["mIoU"] == pytest.approx(2.3 / 3)
    assert sum(row["sentences"] for row in summary["by_size"].values()) == 4
    assert set(summary["by_size"]) == {"small"}
    assert values(summary["by_size"]["small"])["boundary IoU"] == values(summary)["boundary IoU"]
    assert {row: part["sentences"] for row, part in summary["by_length"].items()} == {
        "1-2 words": 2,  # "left ball", "box"
        "3 words": 1,
        "6-7 words": 1,
    }
    assert values(summary["by_length"]["1-2 words"])["mIoU"] == pytest.approx(1.3 / 2)


@pytest.mark.parametrize(
    ("area", "size"),
    [(0, "small"), (1023, "small"), (1024, "medium"), (9215, "medium"), (9216, "large"), (10**9, "large")],
)
def test_coco_sizes(area, size):
    assert report.size_of(area) == size


@pytest.mark.parametrize(
    ("words", "row"),
    [
        *((1, "1-2 words"), (2, "1-2 words"), (3, "3 words"), (4, "4-5 words"), (5, "4-5 words"), (6, "6-7 words")),
        *((7, "6-7 words"), (8, "8-10 words"), (10, "8-10 words"), (11, "11 words or more"), (40, "11 words or more")),
    ],
)
def test_rows_by_the_number_of_words(words, row):
    assert report.length_of("  ".join(["word"] * words) + " ") == row


def test_rows_stand_from_short_to_long_and_from_small_to_large():
    labels = ["b", "11 words or more", "large", "8-10 words", "1-2 words", "small", "a", "medium", "3 words"]
    assert sorted(labels, key=report._row_order) == [
        *("small", "medium", "large", "1-2 words", "3 words", "8-10 words", "11 words or more", "a", "b")
    ]


def test_the_protocol_decides_what_counts_at_a_threshold(data):
    summary = report.summarise(evaluate(scripted(), data, protocol=CRIS), draws=50)
    assert values(summary)["Pr@0.5"] == 2 / 4  # the IoU of exactly .5 counts no more
    assert summary["protocol"]["name"] == "cris"


def test_generated_sentences_do_not_enter_the_main_metrics(data):
    expressions = [dataclasses.replace(e, origin="generated") if e.text == "left ball" else e for e in data.expressions]
    summary = report.summarise(evaluate(scripted(), GroundingData(data.pictures, expressions), protocol=OWN), draws=50)
    assert (summary["sentences"], summary["generated"]["sentences"]) == (3, 1)
    assert values(summary["generated"])["mIoU"] == 0.8


def test_rule_made_sentences_are_the_main_part_where_none_is_written(data):
    expressions = [dataclasses.replace(e, origin="generated") for e in data.expressions]
    found = evaluate(scripted(), GroundingData(data.pictures, expressions), protocol=OWN)
    summary = report.summarise(found, draws=50)
    written = report.summarise(evaluate(scripted(), data, protocol=OWN), draws=50)
    assert (summary["main"], written["main"]) == ("generated", "written")
    assert "generated" not in summary
    for part in (("metrics",), ("plural",), ("by_kind",), ("trivial",)):
        assert summary[part[0]] == written[part[0]]
    assert "## Rule-made sentences with one target" in report.markdown(summary | ABOUT)


def test_a_sentence_counts_for_every_kind_of_phrase_in_it(data):
    summary = report.summarise(evaluate(scripted(), data, protocol=OWN), draws=50)
    assert {label: part["sentences"] for label, part in summary["by_phrase"].items()} == {
        "location": 2,  # "left ball", "the ball at the lower right"
        "none of these": 2,  # "box", "the only box"
    }
    assert values(summary["by_phrase"]["location"])["mIoU"] == pytest.approx(0.4)


def test_records_of_an_older_version_are_read(data, tmp_path):
    found = evaluate(scripted(), data, protocol=OWN)
    report.write(found, tmp_path, about=ABOUT, draws=10)
    lines = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert [line.pop("landed") for line in lines] == [record.landed for record in found.records]
    assert {line.pop("presence") for line in lines} == {None}
    (tmp_path / "records.jsonl").write_text("\n".join(map(json.dumps, lines)))
    old = [dataclasses.replace(record, landed=None) for record in found.records]
    assert report.read_records(tmp_path / "records.jsonl") == old


def test_a_sentence_without_a_word_counts_as_not_found(data):
    expressions = [*data.expressions, Expression(1, (13,), " \n", "short")]
    found = evaluate(scripted(), GroundingData(data.pictures, expressions), protocol=OWN)
    record = next(record for record in found.records if not record.text.strip())
    assert (record.rejected, record.score, record.intersection, record.union) == (True, 0, 0, 200)


def test_a_sentence_about_a_crowd_alone_counts_by_the_crowds_mask(data):
    picture = data.pictures[1]
    crowd = tuple(dataclasses.replace(i, crowd=i.id == 11) for i in picture.instances)
    pictures = data.pictures | {1: dataclasses.replace(picture, instances=crowd)}
    found = evaluate(scripted(), GroundingData(pictures, data.expressions), protocol=OWN)
    record = next(record for record in found.records if record.text == "left ball")
    assert (record.intersection, record.union) == (80, 100)
    assert record.landed is None  # the table of what answers lie on knows things only
    assert report.summarise(found, draws=10)["sentences"] == 4


# The worked vectors, from pictures to summary -------------------------------------------------------------

# 4x4 masks as row-major pixel indices: predicted, true, whether the presence head rejects.
VECTORS = {
    "A": (range(5), range(4), False),
    "B": (range(4), range(8), False),
    "C": ((14, 15), (0, 1), False),
    "D": ((5, 6, 7), (), True),
    "E": ((5, 6, 7), (), False),
    "F": (range(4), range(4), True),
    "G": (range(8), range(4), True),  # wider than the truth
}


def tiny_mask(pixels):
    mask = np.zeros(16, bool)
    mask[list(pixels)] = True
    return mask.reshape(4, 4)


class Told:
    """Says what a network would, a mask and a presence; the sentence names the vector."""

    name, device, decision = "told", "cpu", DecisionConfig()

    def set_image(self, rgb):
        assert rgb.shape == (4, 4, 3)

    def raw_answers(self, texts):
        return [self.raw(*VECTORS.get(text, ((), (), True))) for text in texts]

    def raw(self, predicted, _, rejected):
        map_ = np.where(tiny_mask(predicted), 0.9, 0.1).astype(np.float32)
        return RawAnswer(map_, 0.1 if rejected else 0.9, None)


def vector_data(folder, names):
    """One picture a vector, its true mask an uncompressed RLE (runs down the columns, as COCO has them)."""
    pictures, expressions = {}, []
    for number, name in enumerate(names):
        path = folder / f"{name}.png"
        cv2.imwrite(str(path), np.zeros((4, 4, 3), np.uint8))
        column_major = tiny_mask(VECTORS[name][1]).T.ravel()
        ends = np.flatnonzero(np.diff(column_major, prepend=False, append=not column_major[-1])).tolist()
        runs = np.diff([0, *ends]).tolist()
        thing = Instance(number, "thing", {"size": [4, 4], "counts": runs}, (0, 0, 4, 4))
        meant = column_major.any()
        pictures[number] = Picture(number, path, 4, 4, (thing,) if meant else ())
        expressions.append(Expression(number, (number,) if meant else (), name))
    return GroundingData(pictures, expressions)


def test_vector_data_says_what_it_should(tmp_path):
    data = vector_data(tmp_path, VECTORS)
    for picture, (_, true, _) in zip(data.pictures.values(), VECTORS.values(), strict=True):
        if picture.instances:
            np.testing.assert_array_equal(picture.instances[0].mask(4, 4), tiny_mask(true))


@pytest.mark.parametrize(
    ("protocol", "at_half", "at_eight_tenths"),
    [(OWN, 2 / 3, 1 / 3), (CRIS, 1 / 3, 0)],  # B's IoU is 1/2 and A's 4/5: neither is *above* the threshold
    ids=lambda value: getattr(value, "name", None),
)
def test_vectors_of_sentences_with_a_target(tmp_path, protocol, at_half, at_eight_tenths):
    summary = report.summarise(evaluate(Told(), vector_data(tmp_path, "ABC"), protocol=protocol), draws=10)
    found = values(summary)
    assert found["mIoU"] == pytest.approx(0.43333, abs=1e-5)
    assert found["oIoU"] == pytest.approx(8 / 17)
    assert found["Pr@0.5"] == pytest.approx(at_half)
    assert found["Pr@0.8"] == pytest.approx(at_eight_tenths)
    assert "gres" not in summary


@pytest.mark.parametrize("protocol", [OWN, CRIS], ids=lambda protocol: protocol.name)
def test_vectors_with_sentences_that_mean_nothing(tmp_path, protocol):
    protocol = dataclasses.replace(protocol, reject=True)
    found = evaluate(Told(), vector_data(tmp_path, "ABCDEF"), protocol=protocol)
    # N_acc@95: F's presence .1 is the lowest of a target; D's is not below it. Only A's IoU, .8, is above .7.
    expected = {"gIoU": 0.38333, "cIoU": 0.33333, "N_acc": 0.5, "T_acc": 0.75, "N_acc@95": 0}
    expected |= {"Pr@0.7": 1 / 4, "Pr@0.8": 0 if protocol.strict else 1 / 4, "Pr@0.9": 0}
    assert values(report.summarise(found, draws=10)["gres"]) == pytest.approx(expected, abs=1e-5)
    # And from the records as they are written.
    report.write(found, tmp_path / "out", about=ABOUT, draws=10)
    records = report.read_records(tmp_path / "out" / "records.jsonl")
    assert records == found.records
    again = report.measure(report.parts(records)[-1], records, protocol)
    assert {name: ratio.value for name, ratio in again.items()} == pytest.approx(expected, abs=1e-5)


def test_a_rejected_mask_still_counts_in_the_union_of_gres(tmp_path):
    """As ReLA's evaluation counts: U is that of the mask before it was rejected."""
    found = evaluate(Told(), vector_data(tmp_path, "ABCDEG"), protocol=OWN)
    # I: A 4, B 4. U: A 5, B 8, C 4, E 3, G 8.
    assert values(report.summarise(found, draws=10)["gres"])["cIoU"] == pytest.approx(8 / 28)
    # What the robot gets is empty: the sentences with one target are measured so.
    assert values(report.summarise(found, draws=10))["oIoU"] == pytest.approx(8 / (5 + 8 + 4 + 4))


def test_without_rejection_every_mask_counts(tmp_path):
    found = evaluate(Told(), vector_data(tmp_path, "ABCDEG"), protocol=named("own", reject=False))
    assert not any(record.rejected for record in found.records)
    summary = report.summarise(found, draws=10)
    assert values(summary)["oIoU"] == pytest.approx((4 + 4 + 0 + 4) / (5 + 8 + 4 + 8))
    assert "none is rejected" in report.markdown(summary | ABOUT)
    assert [record.presence for record in found.records] == [0.9, 0.9, 0.9, 0.1, 0.9, 0.1]  # asked all the same
    assert all(record.no_target for record in found.records)  # not by the head: no mask here has 50 pixels


@pytest.mark.parametrize(("columns", "rows", "no_target"), [(5, 10, False), (7, 7, True)])
def test_a_network_without_a_presence_head_says_no_target_by_a_mask_under_50_pixels(data, columns, rows, no_target):
    segmenter = Scripted(a_cat=(0.75, (0, 0, columns, rows)))  # 50 and 49 pixels
    record = next(r for r in evaluate(segmenter, data, protocol=OWN).records if r.text == "a cat")
    assert (record.no_target, record.rejected) == (no_target, False)


@pytest.mark.parametrize(("name", "threshold"), [("own", 0.3), ("lavt", 0.5), ("cris", 0.35), ("rela", 0.5)])
def test_a_protocol_has_its_own_threshold(data, name, threshold):
    segmenter = Scripted()
    segmenter.decision = DecisionConfig(mask=0.3)
    for value, some in ((threshold - 0.01, False), (threshold + 0.01, True)):
        segmenter.answers = {"box": (value, (20, 10, 20, 10))}
        found = evaluate(segmenter, data, protocol=named(name), baselines=False)
        record = next(record for record in found.records if record.text == "box")
        assert (record.intersection > 0) == some


@pytest.mark.parametrize("protocol", [LAVT, RELA], ids=lambda protocol: protocol.name)
def test_masks_are_compared_squashed_to_480(data, protocol):
    found = evaluate(scripted(), data, protocol=protocol)
    assert (found.size, found.side) == ("squashed", 480)
    # 60x40 to 480x480: each pixel becomes 8x12. The truth is exact, the answer's edge is that of a smooth map.
    record = next(record for record in found.records if record.text == "the only box")
    assert record.area == 600
    assert record.union == pytest.approx(600 * 96, rel=0.05)
    assert record.intersection / record.union > 0.95
    whole = next(record for record in found.trivial["whole picture"] if record.text == "left ball")
    assert (whole.intersection, whole.union) == (100 * 96, 480 * 480)
    assert "squashed to 480 x 480 pixels" in report.markdown(report.summarise(found, draws=10) | ABOUT)


def test_a_truth_is_squashed_to_the_nearest_pixel():
    rng = np.random.default_rng(0)
    mask = rng.random((61, 703)) < 0.5
    rows, columns = (((np.arange(480) + 0.5) * n / 480).astype(int) for n in mask.shape)
    scene = Scene(Picture(1, None, 61, 703, ()), 480, squashed=True)
    np.testing.assert_array_equal(scene.place(mask), mask[np.ix_(rows, columns)])


def test_a_sentence_is_asked_as_a_whole(data, tiny_checkpoint):
    """No rule of words takes part: a table compares networks."""
    segmenter = Segmenter.load(tiny_checkpoint, device="cpu")
    asked = []
    look = segmenter._look_for
    segmenter._look_for = lambda sentences, *rest, **more: asked.append(sentences) or look(sentences, *rest, **more)
    text = "the ball and the box"
    expressions = [Expression(1, (11, 13), text), *data.expressions]
    evaluate(segmenter, GroundingData(data.pictures, expressions), protocol=OWN, baselines=False)
    assert asked[1] == [text]
    assert len(asked[2]) == 5  # the others about the picture, together
    segmenter.segment(text)
    assert asked[-1] == ["the ball", "the box"]


ABOUT = {"checkpoint": "none", "dataset": "coco", "split": "x", "split_by": "", "subset": False, "limit": None} | {
    "root": "."
}


@pytest.mark.parametrize(
    ("line", "message"),
    [('{"picture": 1}\n', r"records\.jsonl:1: not a record.*evaluate the checkpoint again"), ("nonsense", ":1: ")],
)
def test_a_line_that_is_no_record_is_named(tmp_path, line, message):
    (tmp_path / "records.jsonl").write_text(line)
    with pytest.raises(DataError, match=message):
        report.read_records(tmp_path / "records.jsonl")


# At the network's input size --------------------------------------------------------------------------------------


class Square(Scripted):
    """Answers with the upper half of a 30-pixel square, whatever it is asked."""

    config = ModelConfig(image_size=30)

    def set_image(self, rgb):
        self.seen = rgb

    def raw_answers(self, texts):
        map_ = np.full((30, 30), 0.1, np.float32)
        map_[:15] = 0.75
        return [RawAnswer(map_, None, None) for _ in texts]


def test_input_size_compares_in_the_letterboxed_square(data):
    segmenter = Square()
    found = evaluate(segmenter, data, protocol=OWN, size="input")
    letterbox = Letterbox(HEIGHT, WIDTH, 30)  # 60x40 to 30x20 with 5 rows of padding above and below
    np.testing.assert_array_equal(segmenter.seen, letterbox.image(data.pictures[3].load()))
    record = next(record for record in found.records if record.text == "left ball")
    # The ball is 5x5 at (0, 5): all of it in the upper half, and so is the anchor, in the middle.
    assert (record.intersection, record.union, record.pointed) == (25, 450, False)
    assert record.area == 100  # sizes are those of the picture
    # 15 of the 20 + 5 rows of padding and picture: the whole picture is 30x20 of the square.
    whole = next(record for record in found.trivial["whole picture"] if record.text == "left ball")
    assert (whole.intersection, whole.union) == (25, 600)
    summary = report.summarise(found, draws=10)
    assert (summary["size"], summary["side"]) == ("input", 30)
    assert "letterboxed square, 30 x 30 pixels" in report.markdown(summary | ABOUT)


def test_input_size_of_a_network_that_squashes_is_its_square(data):
    segmenter = Square()
    segmenter.config = dataclasses.replace(Square.config, resize="squash")
    found = evaluate(segmenter, data, protocol=LAVT, size="input")
    box = Letterbox(HEIGHT, WIDTH, 30, "squash")
    np.testing.assert_array_equal(segmenter.seen, box.image(data.pictures[3].load()))
    whole = next(record for record in found.trivial["whole picture"] if record.text == "left ball")
    assert whole.union == 900
    summary = report.summarise(found, draws=10)
    assert "squashed square, 30 x 30 pixels" in report.markdown(summary | ABOUT)


def test_the_network_sees_the_same_at_either_size():
    """A square of the network's own size goes through the letterbox, there and back, unchanged."""
    rng = np.random.default_rng(0)
    letterbox = Letterbox(61, 83, 64)
    square = letterbox.image(rng.integers(0, 256, (61, 83, 3), np.uint8))
    identity = Letterbox(64, 64, 64)
    np.testing.assert_array_equal(identity.image(square), square)
    mask = rng.random((64, 64)) < 0.5
    np.testing.assert_array_equal(identity.mask(mask), mask)
    map_ = rng.random((64, 64), np.float32)
    np.testing.assert_array_equal(identity.unwarp(map_), map_)


def test_a_scene_makes_a_truth_once(data):
    scene = Scene(data.pictures[1], 30)
    truth = scene.truth((11, 12))
    assert scene.truth((11, 12)) is truth
    assert (truth.region.mask.sum(), truth.area) == (50, 200)
    assert not scene.truth(()).region.mask.any()


# Trivial answers --------------------------------------------------------------------------------------------------


def test_trivial_answers(data):
    found = evaluate(scripted(), data, protocol=OWN)
    summary = report.summarise(found, draws=50)["trivial"]
    assert list(summary) == list(baselines.TRIVIAL)
    # 100, 100, 200 and 600 pixels of 2400.
    assert values(summary["whole picture"])["mIoU"] == pytest.approx(1000 / 2400 / 4)
    # The middle 30 x 20 pixels: columns 15 to 45, rows 10 to 30.
    assert values(summary["centred box"])["mIoU"] == pytest.approx((0 + 0 + 200 / 600 + 500 / 700) / 4)
    # Its deepest points lie near the picture's middle: inside the only box, far from the balls.
    pointed = {record.text: record.pointed for record in found.trivial["centred box"]}
    assert pointed["the only box"]
    assert not pointed["left ball"]
    # Each ball against both, and the boxes alone of their class.
    of_class = values(summary["all of the right class"])
    assert of_class["mIoU"] == pytest.approx((0.5 + 0.5 + 1 + 1) / 4)
    assert of_class["oIoU"] == pytest.approx(1000 / (200 + 200 + 200 + 600))
    assert values(summary["all of the right class"]["plural"])["mIoU"] == 1
    # They never reject, and say nothing of sentences without a target.
    assert "gres" not in summary["whole picture"]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (5, 4), (480, 640)])
def test_centred_box_is_centred(height, width):
    mask = baselines.centred_box(height, width)
    assert mask.sum() == ((height + 1) // 2) * ((width + 1) // 2)
    rows, columns = np.nonzero(mask)
    assert abs((rows.min() + rows.max()) - (height - 1)) <= 1
    assert abs((columns.min() + columns.max()) - (width - 1)) <= 1


def test_class_oracle_skips_crowds_and_nameless_classes(data):
    picture = data.pictures[1]
    crowd = tuple(dataclasses.replace(i, crowd=i.id == 12) for i in picture.instances)
    assert baselines.all_of_class(dataclasses.replace(picture, instances=crowd), (11,)).sum() == 100
    nameless = tuple(dataclasses.replace(i, category="thing") for i in picture.instances)
    assert baselines.all_of_class(dataclasses.replace(picture, instances=nameless), (11,)) is None


def test_without_a_segmenter_no_picture_is_read(data, root):
    for file in (root / "images").iterdir():
        file.unlink()
    found = evaluate(None, data, protocol=OWN)
    assert found.records == []
    assert len(found.trivial["centred box"]) == 5


def test_an_unreadable_picture_costs_its_sentences(data, root, tmp_path):
    (root / "images" / "2.png").write_bytes(b"not a picture")
    found = evaluate(scripted(), data, protocol=OWN)
    assert [record.text for record in found.records if record.unread] == ["the only box"]
    summary = report.write(found, tmp_path / "out", about=ABOUT, draws=10)
    assert summary["sentences"] == 4
    assert values(summary)["mIoU"] == pytest.approx((0.8 + 0 + 0.5 + 0) / 4)
    assert values(summary)["oIoU"] == pytest.approx((80 + 100) / (100 + 200 + 200 + 600))
    assert (summary["unread"]["pictures"], summary["unread"]["sentences"]) == (1, 1)
    assert "1 pictures cannot be read: their 1 sentences count 0" in (tmp_path / "out" / "table.md").read_text()
    assert "2.png" in summary["unread"]["why"][0]
    assert report.read_records(tmp_path / "out" / "records.jsonl") == found.records


def test_nothing_said_about_an_unreadable_picture_is_no_rejection(data, root):
    (root / "images" / "3.png").write_bytes(b"not a picture")
    gres = report.summarise(evaluate(scripted(), data, protocol=OWN), draws=10)["gres"]
    assert (values(gres)["N_acc"], values(gres)["N_acc@95"]) == (0, 0)  # "a dog" was rejected


def test_nothing_said_about_an_unreadable_picture_keeps_no_target(data, root):
    (root / "images" / "2.png").write_bytes(b"not a picture")
    gres = report.summarise(evaluate(scripted(), data, protocol=OWN), draws=10)["gres"]
    assert values(gres)["T_acc"] == pytest.approx(4 / 5)


def test_rela_rejects_below_a_half_whatever_the_checkpoint_says():
    own = DecisionConfig(present=0.3)
    assert [named(name).decision(own).present for name in ("own", "rela", "lavt", "cris")] == [0.3, 0.5, 0, 0]


def test_a_folder_without_a_readable_picture_is_an_error(data, root):
    for file in (root / "images").iterdir():
        file.write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"3\.png"):
        evaluate(scripted(), data, protocol=OWN)


def test_subset_is_seeded_and_keeps_all_sentences_of_a_picture(data):
    chosen = {seed: subset(data, 2, seed) for seed in range(8)}
    assert all(len(part.pictures) == 2 for part in chosen.values())
    assert len({tuple(part.pictures) for part in chosen.values()}) > 1
    assert subset(data, 2, 3) == chosen[3]
    for part in chosen.values():
        assert part.expressions == [e for e in data.expressions if e.picture_id in part.pictures]
        assert 4 not in part.pictures  # it has no sentence
    assert len(subset(data, 100, 0).pictures) == 3
    assert subset(data, 0, 0).expressions == []


# What is written --------------------------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch, root, tmp_path, capsys):
    """Runs the command line on the drawn data with the scripted segmenter; returns (status, its output folder)."""
    loaded = []
    monkeypatch.setattr(
        Segmenter, "load", classmethod(lambda _, name, **options: loaded.append((name, options)) or scripted())
    )

    def run(checkpoint="some.safetensors", *options, split="drawn"):
        output = tmp_path / "results" / "deep"
        arguments = [checkpoint, "--data.root", str(root), "--data.dataset", "coco", "--split", split]
        status = command.main([*arguments, "--output", str(output), "--draws", "100", *options])
        return status, output, loaded, capsys.readouterr()

    return run


def test_command_writes_json_records_and_tables(run):
    status, output, loaded, printed = run("some.safetensors", "--device", "cpu")
    assert status == 0
    assert loaded == [("some.safetensors", {"device": "cpu", "precision": None})]
    assert sorted(file.name for file in output.iterdir()) == [
        *("gallery.html", "metrics.json", "records.jsonl", "reliability.svg", "table.md")
    ]

    def refuse(constant):
        raise AssertionError(f"{constant} is not json")

    summary = json.loads((output / "metrics.json").read_text(), parse_constant=refuse)
    assert (summary["model"], summary["split"], summary["dataset"]) == ("scripted", "drawn", "coco")
    miou = summary["metrics"]["mIoU"]
    assert miou["low"] <= miou["value"] <= miou["high"]

    records = [json.loads(line) for line in (output / "records.jsonl").read_text().splitlines()]
    assert len(records) == 7
    assert {r["text"]: r["iou"] for r in records}["box"] == 0.5
    assert {r["text"]: r["status"] for r in records}["box"] == "ambiguous"

    table = (output / "table.md").read_text()
    assert table in printed.out
    heads = [line for line in table.splitlines() if "| sentences |" in line]
    assert len(heads) >= 3
    assert all("`own`" in head for head in heads)
    row = next(line for line in table.splitlines() if line.startswith("| scripted |"))
    assert row.startswith("| scripted | 4 | 2 | 0.575 [")
    # Every row of a table has as many cells as its head.
    for block in table.split("\n\n"):
        assert len({line.count("|") for line in block.splitlines() if line.startswith("|")}) <= 1


def test_command_without_a_model_gives_the_trivial_answers(run):
    status, output, loaded, _ = run("none")
    assert status == 0
    assert not loaded
    summary = json.loads((output / "metrics.json").read_text())
    assert summary["model"] is None
    assert "metrics" not in summary
    assert set(summary["trivial"]) == set(baselines.TRIVIAL)
    assert not (output / "records.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "protocol", "size"),
    [
        ((), {"name": "own", "reject": True, "mask": None}, "original"),
        (("--no-reject",), {"name": "own", "reject": False, "mask": None}, "original"),
        (("--protocol", "rela"), {"name": "rela", "reject": True, "mask": 0.5}, "squashed"),
        (("--protocol", "lavt", "--size", "original"), {"name": "lavt", "reject": False, "mask": 0.5}, "original"),
    ],
)
def test_command_measures_by_the_protocol_asked_for(run, options, protocol, size):
    status, output, _, _ = run("some.safetensors", *options)
    assert status == 0
    summary = json.loads((output / "metrics.json").read_text())
    assert protocol.items() <= summary["protocol"].items()
    assert summary["size"] == size
    assert f"`{protocol['name']}`" in (output / "table.md").read_text()


def test_command_limits_pictures(run):
    _, output, _, _ = run("none", "--limit", "1")
    summary = json.loads((output / "metrics.json").read_text())
    assert summary["limit"] == 1
    assert all(row["pictures"] <= 1 for row in summary["trivial"].values())


def test_command_names_a_missing_file_and_writes_nothing(run):
    status, output, _, printed = run(split="nowhere")
    assert status == 2
    assert "instances_nowhere.json" in printed.err
    assert not output.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--limit", "0"), "0 is not positive"),
        (("--draws", "-1"), "-1 is not positive"),
        (("--protocol", "mine"), "lavt"),
        (("--data.dataset", "nothing"), "coco"),
        (("--precision", "fp8"), "fp32"),
        (("--size", "both"), "original"),
        (("--gallery", "-1"), "-1 is negative"),
        (("--data.subset", "maybe"), "'maybe' is neither true nor false"),
    ],
)
def test_command_refuses_before_any_work(run, capsys, options, message):
    with pytest.raises(SystemExit):
        run("none", *options)
    assert message in capsys.readouterr().err


def test_command_refuses_the_input_size_of_no_network(run):
    status, output, _, printed = run("none", "--size", "input")
    assert status == 2
    assert "needs a checkpoint" in printed.err
    assert not output.exists()


def test_command_without_a_gallery(run):
    _, output, _, _ = run("some.safetensors", "--gallery", "0")
    assert not (output / "gallery.html").exists()


def test_command_says_how_the_data_set_is_to_be_read(run, monkeypatch, data):
    asked = []
    monkeypatch.setattr(command, "read", lambda *args, **options: asked.append((args, options)) or data)
    _, output, _, _ = run("none", "--data.dataset", "refcocog", "--data.split_by", "google", "--data.subset", "true")
    assert [(args[0], args[2], options) for args, options in asked] == [
        ("refcocog", "drawn", {"split_by": "google", "subset": True})
    ]
    summary = json.loads((output / "metrics.json").read_text())
    assert (summary["dataset"], summary["split_by"], summary["subset"]) == ("refcocog", "google", True)
    assert "(dataset refcocog google), a subset" in (output / "table.md").read_text()


def test_command_names_what_the_network_could_not_compute(run, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("not finite with precision 'fp16': use 'bf16'")

    monkeypatch.setattr(Scripted, "raw_answers", fail)
    status, _, _, printed = run()
    assert status == 2
    assert "use 'bf16'" in printed.err


def test_command_refuses_a_foreign_checkpoint(root, tmp_path, capsys):
    file = tmp_path / "foreign.safetensors"
    file.write_bytes(b"nonsense")
    assert command.main([str(file), "--data.root", str(root), "--split", "drawn", "--output", str(tmp_path / "o")]) == 2
    assert "foreign.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["original", "input"])
def test_a_checkpoint_of_a_tiny_network_from_file_to_table(root, tmp_path, capsys, tiny_checkpoint, size):
    output = tmp_path / "results"
    arguments = [
        str(tiny_checkpoint),
        "--size",
        size,
        "--data.root",
        str(root),
        "--data.dataset",
        "coco",
        "--split",
        "drawn",
    ]
    assert command.main([*arguments, "--output", str(output), "--device", "cpu"]) == 0
    summary = json.loads((output / "metrics.json").read_text())
    assert summary["model"] == "tiny"
    assert summary["sentences"] == 4
    assert 0 <= summary["metrics"]["mIoU"]["value"] <= 1
    assert summary["seconds"]["frame"]["median"] > 0
    assert summary["side"] == {"original": None, "input": 64}[size]
    assert "| tiny | 4 | 2 |" in capsys.readouterr().out
    assert "data:image/jpeg" in (output / "gallery.html").read_text()


@pytest.mark.parametrize(
    ("dataset", "split", "options"),
    [("refcoco", "testA", ()), ("refcocog", "val", ("--data.split_by", "google")), ("grefcoco", "val", ())],
)
def test_refers_data_sets_from_their_files_to_the_table(tmp_path, capsys, tiny_checkpoint, dataset, split, options):
    """Every sentence of the split once, in the layout REFER and gRefCOCO publish; gRefCOCO has no-target ones."""
    root = refer_miniature.build(tmp_path / "refer")
    output = tmp_path / "results"
    arguments = [str(tiny_checkpoint), "--data.root", str(root), "--data.dataset", dataset, "--split", split, *options]
    arguments += ["--output", str(output), "--device", "cpu", "--draws", "50", "--gallery", "2"]
    assert command.main(arguments) == 2  # not the published counts
    assert "data.subset" in capsys.readouterr().err
    assert command.main([*arguments, "--data.subset", "true"]) == 0
    records = report.read_records(output / "records.jsonl")
    data = read(dataset, root, split, split_by=options[1] if options else "", subset=True)
    assert sorted((r.picture, r.targets, r.text) for r in records) == sorted(
        (e.picture_id, e.targets, e.text) for e in data.expressions
    )
    summary = json.loads((output / "metrics.json").read_text())
    single = [record for record in records if len(record.targets) == 1]
    assert summary["sentences"] == len(single) > 0
    assert sum(part["sentences"] for part in summary["by_length"].values()) == len(single)
    assert ("gres" in summary) == (dataset == "grefcoco")
    if dataset == "grefcoco":
        assert summary["gres"]["sentences"] == len(records)
        assert summary["gres"]["absent"] > 0
        assert summary["plural"]["sentences"] > 0
    # The trivial answer that is told the class knows REFER's category names.
    assert summary["trivial"]["all of the right class"]["sentences"] == len(single)
    assert f"(dataset {dataset}" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_numbers(data):
    found = evaluate(scripted(), data, protocol=OWN)
    assert report.summarise(found, draws=100, seed=4) == report.summarise(found, draws=100, seed=4)

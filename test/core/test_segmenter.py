"""The Segmenter: what it takes, what it answers, and when it works."""

import dataclasses
import itertools
import json
import math
import threading
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import jmceln_core
from jmceln_core import checkpoint, segmenter
from jmceln_core.answer import RawAnswer, Segmentation, Status, decide, deepest_point, surest_point
from jmceln_core.checkpoint import CheckpointError
from jmceln_core.config import DecisionConfig
from jmceln_core.geometry import Letterbox
from jmceln_core.model import TextFeatures, build_model
from jmceln_core.quantity import Part
from jmceln_core.segmenter import MAX_CHARACTERS, Segmenter, normalise_text
from jmceln_core.synthesis import table_scene
from support.tiny import TINY

CONFIG = dataclasses.replace(
    TINY,
    name="little",
    heads=4,
    norm="group",
    presence_head=True,
    iou_head=True,
    decision=DecisionConfig(mask=0.5, present=0.0, confident=0.0, ambiguous=1.0),  # random weights: answer all the same
)
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module", params=["neck", "queries"])
def model(request):
    torch.manual_seed(0)
    config = dataclasses.replace(CONFIG, fusion=request.param)
    network = build_model(config).eval()
    # Random weights say nearly the same everywhere: spread the logits, so that half of the pixels are above 0.5.
    with torch.no_grad():
        image = network.encode_image(torch.rand(1, 3, 64, 64))
        logits = network.decode(image, network.encode_text(["a mug"])).logits
        difference = logits[:, 1] - logits[:, 0]
        network.head.classify.weight /= difference.std()
        network.head.classify.bias -= torch.tensor([0, difference.mean() / difference.std()])
    return network, config


@pytest.fixture
def little(model):
    return Segmenter(*model, device="cpu")


@pytest.fixture
def rgb():
    return RNG.integers(0, 256, (48, 60, 3), np.uint8)


def equal(a, b):
    for field in dataclasses.fields(Segmentation):
        if field.name == "seconds":
            continue
        x, y = getattr(a, field.name), getattr(b, field.name)
        if field.name == "instances":
            x, y = ([(*one.anchor, *one.box, one.area) for one in some] for some in (x, y))
        if isinstance(x, (np.ndarray, float, tuple, list)):
            np.testing.assert_allclose(x, y, atol=1e-5, err_msg=field.name)
        else:
            assert x == y, field.name


# ---- from the network to the answer


@pytest.mark.parametrize("resize", ["letterbox", "squash"])
def test_answer_is_the_network_s_own(model, rgb, resize):
    """Naive: letterbox, network, softmax, un-warp, and only then the threshold."""
    network, config = model
    little = Segmenter(network, dataclasses.replace(config, resize=resize), device="cpu")
    little.set_image(rgb)
    answer = little.segment("the red mug", probability=True)
    letterbox = Letterbox(48, 60, 64, resize)
    pixels = torch.from_numpy(letterbox.image(rgb)).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        prediction = network.decode(network.encode_image(pixels), network.encode_text(["the red mug"]))
    softmax = prediction.logits.double().softmax(1)[0, 1].numpy()
    expected = letterbox.unwarp(softmax)
    assert answer.probability.dtype == np.float32
    np.testing.assert_allclose(answer.probability, expected, atol=1e-5)
    np.testing.assert_array_equal(answer.mask, answer.probability > config.decision.mask)
    assert answer.mask.any()  # or the rest of this test says nothing
    presence, iou = (float(x.sigmoid()) for x in (prediction.presence, prediction.iou))
    inside = float(expected[answer.mask].mean())
    assert answer.score == pytest.approx((inside * presence * iou) ** (1 / 3), abs=1e-5)
    assert answer.seconds > 0
    assert little.segment("the red mug").probability is None


def test_answers_depend_on_picture_and_sentence(little, rgb):
    little.set_image(rgb)
    mug, plate = (little.segment(text, probability=True).probability for text in ("the mug", "a plate"))
    little.set_image(255 - rgb)
    other = little.segment("the mug", probability=True).probability
    assert abs(mug - plate).max() > 1e-4
    assert abs(mug - other).max() > 1e-4


def test_several_sentences_at_once_answer_as_one_by_one(little, rgb):
    texts = [f"thing {i}" for i in range(11)] + ["thing 3", "a  thing  3 "]
    little.set_image(rgb)
    together = little.segment_all(texts, probability=True)
    assert len(together) == 13
    for text, answer in zip(texts, together, strict=True):
        equal(answer, little.segment(text, probability=True))
    assert little.segment_all([]) == []
    with pytest.raises(ValueError, match="takes a list of sentences"):
        little.segment_all("the mug")


@pytest.mark.parametrize("shape", [(48, 60), (1, 1), (1, 5000), (3000, 2), (7, 64), (500, 333)])
def test_any_size(little, shape):
    little.set_image(RNG.integers(0, 256, (*shape, 3), np.uint8))
    answer = little.segment("the mug", probability=True)
    assert answer.mask.shape == answer.probability.shape == shape
    assert answer.mask.dtype == bool


@pytest.mark.slow
def test_huge_picture(little):
    """The largest that is taken: 100 megapixels."""
    little.set_image(np.zeros((10_000, 10_000, 3), np.uint8))
    answer = little.segment("the mug")
    assert answer.mask.shape == (10_000, 10_000)
    assert answer.area == np.count_nonzero(answer.mask)


def test_non_contiguous_pictures(little, rgb):
    for view in (rgb[::-1, ::-1], rgb.transpose(1, 0, 2), rgb[::2, 1::3], rgb[..., ::-1]):
        little.set_image(view)
        answer = little.segment("mug", probability=True)
        little.set_image(view.copy())
        equal(answer, little.segment("mug", probability=True))


def test_the_picture_can_be_overwritten(little, rgb):
    little.set_image(rgb)
    before = little.segment("mug", probability=True)
    rgb[:] = 0
    equal(before, little.segment("mug", probability=True))


# ---- what is refused


@pytest.mark.parametrize(
    ("picture", "remedy"),
    [
        (np.zeros((4, 4, 3)), "not float64: for values from 0 to 1"),
        (np.zeros((4, 4, 3), np.uint16), "not uint16"),
        (np.zeros((4, 4, 3), np.int8), "not int8"),
        (np.zeros((4, 4), np.uint8), "COLOR_GRAY2RGB"),
        (np.zeros((4, 4, 1), np.uint8), "COLOR_GRAY2RGB"),
        (np.zeros((4, 4, 4), np.uint8), "COLOR_BGRA2RGB"),
        (np.zeros((4, 4, 2), np.uint8), r"shape \(height, width, 3\), not \(4, 4, 2\)"),
        (np.zeros((3, 4, 4, 3), np.uint8), r"shape \(height, width, 3\)"),
        (np.zeros((3,), np.uint8), r"shape \(height, width, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.zeros((4, 0, 3), np.uint8), "no pixels"),
        (np.broadcast_to(np.uint8(0), (10_001, 10_000, 3)), "more than 100000000: shrink it"),
        ([[[0, 0, 0]]], "not list: convert with numpy.asarray"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), "not Tensor"),
        (None, "not NoneType"),
    ],
)
def test_pictures_that_are_refused(little, rgb, picture, remedy):
    little.set_image(rgb)
    with pytest.raises(ValueError, match=remedy):
        little.set_image(picture)
    # The refused picture must not be answered with the one before.
    with pytest.raises(RuntimeError, match="call set_image"):
        little.segment("mug")


def test_sentence_before_picture(little):
    with pytest.raises(RuntimeError, match=r"call set_image\(rgb\) before segment"):
        little.segment("mug")


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\u200b", "\x00\x1b", "\ud83d"])
def test_empty_sentences(little, rgb, text):
    little.set_image(rgb)
    with pytest.raises(ValueError, match="is empty: say what to look for"):
        little.segment(text)


@pytest.mark.parametrize("text", [None, 3, b"mug", ["mug"]])
def test_sentences_that_are_no_strings(little, rgb, text):
    little.set_image(rgb)
    with pytest.raises(ValueError, match=f"must be a string, not {type(text).__name__}"):
        little.segment(text)


@pytest.mark.parametrize(
    "text",
    [
        "die rote Tasse links neben dem Teller",
        "左边的红色杯子",
        "الكوب الأحمر",
        "🍎",
        "👩‍🚀🏽",
        "!?",
        "mug\x00\x07\u202e mug",
        "half \ud83d a pair",
        "x" * 100_000,
        "the mug " * 50_000,
        "[SEP] [MASK] <|endoftext|>",
        "\ufdfa" * 5000,  # one letter that NFKC makes eighteen of
    ],
)
def test_unusual_sentences_get_an_answer(little, rgb, text):
    little.set_image(rgb)
    answer = little.segment(text)
    assert answer.status in Status
    assert math.isfinite(answer.score)


def test_normalised_text():
    assert normalise_text("  The\u00a0red\n\tmug\x07 ") == "The red mug"
    assert normalise_text("ﬁsh Ⅳ ｍｕｇ") == "fish IV mug"
    assert normalise_text("cafe\u0301") == "caf\u00e9"
    assert normalise_text("re\u00add \ufeffmug") == "red mug"
    assert len(normalise_text("\ufdfa" * 5000)) == MAX_CHARACTERS


@given(st.text())
def test_normalising_is_idempotent_and_encodable(text):
    try:
        once = normalise_text(text)
    except ValueError:
        return
    assert normalise_text(once) == once
    assert once.encode()
    assert "  " not in once


# ---- the halves run when they must


class Counting:
    """The network's three halves, counted."""

    def __init__(self, network):
        self.network, self.calls = network, []

    def to(self, device):
        return self

    def eval(self):
        return self

    def encode_image(self, image):
        self.calls.append("image")
        return self.network.encode_image(image)

    def encode_text(self, texts):
        self.calls.append(texts)
        return self.network.encode_text(texts)

    def first_queries(self, text):
        return self.network.first_queries(text)

    def decode(self, image, text, start=None):
        self.calls.append(len(text))
        return self.network.decode(image, text, start=start)


def test_each_half_runs_once(model, rgb):
    network = Counting(model[0])
    little = Segmenter(network, model[1], device="cpu")
    little.set_image(rgb)
    little.segment("a mug")
    little.segment(" a\tmug ")
    little.segment_all(["a plate", "a mug", "a plate"])
    little.set_image(rgb)
    little.segment("a plate")
    assert network.calls == ["image", ["a mug"], 1, 1, ["a plate"], 2, "image", 1]


def test_least_recently_used_sentences_leave_the_cache(model, rgb, monkeypatch):
    monkeypatch.setattr(segmenter, "_CACHED_SENTENCES", 2)
    network = Counting(model[0])
    little = Segmenter(network, model[1], device="cpu")
    little.set_image(rgb)
    for text in ("a", "b", "a", "c", "a", "b"):
        little.segment(text)
    assert [call for call in network.calls if isinstance(call, list)] == [["a"], ["b"], ["c"], ["b"]]
    little.segment_all(["d", "e", "f"])  # more at once than the cache holds


def test_threads_take_turns(model, rgb):
    busy = []

    class Slow(Counting):
        def decode(self, image, text, start=None):
            busy.append(1)
            assert sum(busy) == 1
            time.sleep(0.01)
            busy.pop()
            return super().decode(image, text, start)

    little = Segmenter(Slow(model[0]), model[1], device="cpu")
    little.set_image(rgb)
    answers = {}
    threads = [threading.Thread(target=lambda i=i: answers.update({i: little.segment(f"thing {i}")})) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, answer in answers.items():
        equal(answer, little.segment(f"thing {i}"))
    assert len(answers) == 4


def test_output_that_is_not_finite_is_an_error(model, rgb):
    class Broken(Counting):
        def decode(self, image, text, start=None):
            prediction = super().decode(image, text, start)
            return prediction._replace(logits=prediction.logits * float("nan"))

    little = Segmenter(Broken(model[0]), model[1], device="cpu")
    little.set_image(rgb)
    with pytest.raises(RuntimeError, match="not finite with precision 'fp32'"):
        little.segment("mug")


# ---- loading


@pytest.fixture
def saved(model, tmp_path):
    return checkpoint.save(tmp_path / "little.safetensors", model[0].state_dict(), model[1])


def test_loaded_answers_as_the_one_saved(little, saved, rgb):
    loaded = Segmenter.load(saved, device="cpu")
    assert loaded.name == "little"
    assert loaded.device == torch.device("cpu")
    for one in (little, loaded):
        one.set_image(rgb)
    equal(little.segment("a mug", probability=True), loaded.segment("a mug", probability=True))


def test_checkpoint_of_another_shape_names_file_and_key(model, tmp_path):
    state = model[0].state_dict()
    key = next(key for key, value in state.items() if value.ndim == 4)
    shape = tuple(state[key].shape)
    state[key] = torch.zeros(1, 2, 3, 4)
    path = checkpoint.save(tmp_path / "odd.safetensors", state, model[1])
    with pytest.raises(CheckpointError) as caught:
        Segmenter.load(path)
    assert str(path) in str(caught.value)
    assert f"{key} (1, 2, 3, 4) (expected {shape})" in str(caught.value)


def test_unknown_name():
    with pytest.raises(CheckpointError, match="no bundled checkpoint 'bundeld'"):
        Segmenter.load("bundeld")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "device='gpu': no such device; use 'cpu'"),
        ({"device": "cuda:99"}, "PyTorch sees .* CUDA devices; use 'cpu'"),
        ({"device": "cpu", "precision": "fp16"}, "precision='fp16' needs a CUDA device, not cpu: use 'fp32'"),
        ({"device": "cpu", "precision": "bf16"}, "precision='bf16' needs a CUDA device"),
        ({"device": "cpu", "precision": "half"}, "precision='half': must be one of fp32, bf16, fp16"),
    ],
)
def test_devices_and_precisions_that_are_refused(saved, options, message):
    with pytest.raises(ValueError, match=message):
        Segmenter.load(saved, **options)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_gpu_answers_as_the_cpu(saved, rgb, precision):
    cpu, gpu = Segmenter.load(saved, device="cpu"), Segmenter.load(saved, precision=precision)
    for one in (cpu, gpu):
        one.set_image(rgb)
    difference = cpu.segment("mug", probability=True).probability - gpu.segment("mug", probability=True).probability
    assert abs(difference).max() < {"fp32": 1e-3, "bf16": 0.05, "fp16": 0.01}[precision]


def test_public_names():
    assert {"Segmenter", "Segmentation", "Status"} <= set(jmceln_core.__all__)
    assert json.dumps([status.value for status in Status]) == (
        '["found", "not_present", "low_confidence", "ambiguous"]'
    )


# ---- the decision, on probabilities made by hand

SURE = DecisionConfig(mask=0.5, present=0.5, confident=0.5, ambiguous=0.5)


STRICT = dataclasses.replace(SURE, confident=0.7)


def squares(*corners, side=4, value=0.9, shape=(20, 30)):
    probability = np.full(shape, 0.1, np.float32)
    for x, y in corners:
        probability[y : y + side, x : x + side] = value
    return probability


def answer(probability, presence=None, iou=None, decision=SURE):
    return decide(RawAnswer(np.asarray(probability, np.float32), presence, iou), decision)


def test_one_square():
    found = answer(squares((3, 5)))
    assert found.status is Status.FOUND
    assert found.box == (3, 5, 4, 4)
    assert found.area == 16
    assert found.centroid == (4.5, 6.5)
    assert found.mask[5:9, 3:7].all()
    assert found.mask.sum() == 16
    assert found.score == pytest.approx(0.9)
    assert all(isinstance(value, int) for value in (*found.box, found.area))
    assert all(isinstance(value, float) for value in (*found.centroid, *found.anchor, found.score))


def test_score_is_the_geometric_mean_of_what_there_is():
    assert answer(squares((3, 5)), presence=0.6).score == pytest.approx((0.9 * 0.6) ** 0.5)
    assert answer(squares((3, 5)), presence=0.6, iou=0.4).score == pytest.approx((0.9 * 0.6 * 0.4) ** (1 / 3))
    assert answer(np.ones((3, 3))).score == 1.0


def test_nothing_above_the_threshold():
    none = decide(RawAnswer(np.full((6, 7), 0.5, np.float32), None, None), SURE, probability=True)
    assert none.status is Status.NOT_PRESENT
    assert (none.mask.shape, none.mask.any(), none.area, none.score) == ((6, 7), False, 0, 0.0)
    assert none.centroid is None
    assert none.anchor is None
    assert none.box is None
    assert none.probability.shape == (6, 7)


def test_presence_head_says_no():
    none = answer(squares((3, 5)), presence=0.4)
    assert none.status is Status.NOT_PRESENT
    assert not none.mask.any()
    assert none.area == 0
    assert none.score == pytest.approx((0.9 * 0.4) ** 0.5)
    assert none.centroid is none.anchor is none.box is None
    assert answer(squares((3, 5)), presence=0.5).status is Status.FOUND


@pytest.mark.parametrize(
    ("probability", "status"),
    [
        (squares((3, 5), value=0.65), Status.LOW_CONFIDENCE),  # a mask, but not a sure one
        (squares((3, 5), (12, 5)), Status.AMBIGUOUS),  # two alike
        (squares((3, 5), (7, 9)), Status.FOUND),  # touching by a corner: one thing
        (np.maximum(squares((3, 5)), squares((12, 5), side=2)), Status.FOUND),  # a crumb beside it: 4 / 16
        (np.maximum(squares((3, 5)), squares((12, 5), side=3)), Status.AMBIGUOUS),  # 9 / 16
        (np.maximum(squares((3, 5)), squares((12, 5), value=0.6)), Status.FOUND),  # the other is not sure
        (squares((3, 5), (12, 5), value=0.65), Status.LOW_CONFIDENCE),  # neither is
    ],
)
def test_status(probability, status):
    assert answer(probability, decision=STRICT).status is status


@pytest.mark.parametrize(
    ("probability", "expected"),
    [
        (squares((12, 5), (3, 6)), [(3, 6), (12, 5)]),  # from left to right
        (squares((3, 5), (12, 5), (7, 11)), [(3, 5), (7, 11), (12, 5)]),
        (np.maximum(squares((3, 5), (12, 5)), squares((7, 11), side=2)), [(3, 5), (12, 5)]),  # a crumb is none
        (
            np.maximum(squares((3, 5), (12, 5)), squares((7, 11), side=3, value=0.6)),
            [(3, 5), (12, 5)],
        ),  # nor what is not sure
        (squares((3, 5)), [(3, 5)]),
        (np.maximum(squares((3, 5)), squares((12, 5), side=2)), [(3, 5)]),  # the whole, crumbs and all
    ],
)
def test_instances_are_the_things_an_ambiguous_sentence_may_mean(probability, expected):
    found = answer(probability, decision=STRICT)
    ambiguous = len(expected) > 1
    assert [one.box[:2] for one in found.instances] == expected
    assert found.status is (Status.AMBIGUOUS if ambiguous else Status.FOUND)
    in_mask(found)


def in_mask(found):
    for (u, v), (x, y, w, h), area, _ in found.instances:
        part = found.mask[y : y + h, x : x + w]
        assert (part.sum(), part.shape) == (area, (h, w))
        assert part[int(v) - y, int(u) - x]


@pytest.mark.parametrize(
    ("count", "status"),
    [(None, Status.FOUND), (3, Status.FOUND), (2, Status.AMBIGUOUS), (4, Status.FOUND)],
)
def test_plural_is_found_with_all_its_things(count, status):
    several = np.maximum(squares((12, 5), (3, 6), side=4), squares((7, 11), side=2))  # the third is small, but no crumb
    crumb = np.maximum(squares((3, 14), side=1, value=0.99), several)
    found = decide(RawAnswer(crumb, 0.9, None), SURE, part=Part("mugs", plural=True, count=count))
    assert found.status is status
    assert [(one.box, one.area) for one in found.instances] == [
        ((3, 6, 4, 4), 16),
        ((7, 11, 2, 2), 4),
        ((12, 5, 4, 4), 16),
    ]
    assert found.area == 37  # the crumb stays in the mask
    in_mask(found)


@pytest.mark.parametrize("count", [None, 2])
def test_plural_may_be_one_blob_or_nothing(count):
    together = decide(RawAnswer(squares((3, 5)), None, None), SURE, part=Part("both mugs", plural=True, count=count))
    assert together.status is Status.FOUND  # they may touch
    assert len(together.instances) == 1
    unsure = decide(RawAnswer(squares((3, 5), value=0.55), None, None), STRICT, part=Part("mugs", plural=True))
    assert unsure.status is Status.LOW_CONFIDENCE
    none = decide(RawAnswer(squares((3, 5)), 0.1, None), SURE, part=Part("mugs", plural=True, count=count))
    assert (none.status, none.instances) == (Status.NOT_PRESENT, ())


class Said(Segmenter):
    """Says of each sentence what it was told to: the probability map, and the presence."""

    def __init__(self, model, config, said):
        super().__init__(model, config, device="cpu")
        self.decision = SURE
        self.said = said
        self.asked = []

    def _look_for(self, sentences, image, letterbox, *, follow=0.0):
        self.asked += sentences
        said = [self.said.get(text, (np.zeros((20, 30), np.float32), 0.1)) for text in sentences]
        return [RawAnswer(np.asarray(map_, np.float32), presence, None) for map_, presence in said]


@pytest.fixture
def told(model):
    def make(**said):
        network, config = model
        segmenter = Said(network, config, {text.replace("_", " "): about for text, about in said.items()})
        segmenter.set_image(np.zeros((20, 30, 3), np.uint8))
        return segmenter

    return make


MUG, OTHER, SPOON = squares((3, 5)), squares((12, 12)), squares((12, 3))


def test_two_things_are_asked_for_one_by_one_and_found_together(told):
    segmenter = told(the_mug=(MUG, 0.9), the_spoon=(SPOON, 0.8))
    found = segmenter.segment("the mug and the spoon")
    assert segmenter.asked == ["the mug", "the spoon"]
    assert found.status is Status.FOUND
    assert found.score == segmenter.segment("the spoon").score < segmenter.segment("the mug").score
    np.testing.assert_array_equal(found.mask, (MUG > 0.5) | (SPOON > 0.5))
    assert [(one.text, one.box[:2]) for one in found.instances] == [("the mug", (3, 5)), ("the spoon", (12, 3))]
    assert found.probability is None
    in_mask(found)
    kept = segmenter.segment("the mug and the spoon", probability=True)
    np.testing.assert_array_equal(kept.probability, np.maximum(MUG, SPOON).astype(np.float32))
    assert segmenter.segment("the spoon and the mug").instances == found.instances  # from left to right
    both = segmenter.segment_all(["the mug", "the mug and the spoon", "the spoon"])
    assert [one.area for one in both] == [16, 32, 16]


def test_two_things_of_which_one_is_missing(told):
    found = told(the_mug=(MUG, 0.9)).segment("the mug and the spoon")
    assert (found.status, [one.text for one in found.instances]) == (Status.LOW_CONFIDENCE, ["the mug"])
    assert found.score < 0.5
    nothing = told().segment("the mug and the spoon")
    assert (nothing.status, nothing.area, nothing.instances) == (Status.NOT_PRESENT, 0, ())


def test_one_thing_is_not_two(told):
    shifted = squares((4, 5))
    found = told(the_mug=(MUG, 0.9), the_cup=(shifted, 0.9)).segment("the mug and the cup")
    assert found.status is Status.LOW_CONFIDENCE


def test_two_things_of_which_one_fits_several(told):
    found = told(the_mug=(np.maximum(MUG, OTHER), 0.9), the_spoon=(SPOON, 0.9)).segment("the mug and the spoon")
    assert found.status is Status.AMBIGUOUS
    assert sorted(one.text for one in found.instances) == ["the mug", "the mug", "the spoon"]
    several = told(the_mugs=(np.maximum(MUG, OTHER), 0.9), the_spoon=(SPOON, 0.9)).segment("the mugs and the spoon")
    assert (several.status, len(several.instances)) == (Status.FOUND, 3)


def test_all_but_one(told):
    red = np.maximum(0.9 * (MUG > 0.5), 0.6 * (OTHER > 0.5))  # surest of the first
    segmenter = told(every_mug=(np.maximum(MUG, OTHER), 0.9), the_red_mug=(red, 0.9))
    segmenter.decision = dataclasses.replace(SURE, ambiguous=1.0)
    found = segmenter.segment("every mug but the red one", probability=True)
    assert segmenter.asked == ["every mug", "the red mug"]
    assert found.status is Status.FOUND
    np.testing.assert_array_equal(found.mask, OTHER > 0.5)
    assert [one.box[:2] for one in found.instances] == [(12, 12)]
    assert found.probability[MUG > 0.5].max() == 0
    assert found.score == segmenter.segment("the red mug").score
    in_mask(found)


def test_all_but_one_that_is_unsure_missing_or_the_only_one(told):
    mugs = (np.maximum(MUG, OTHER), 0.9)
    unsure = told(every_mug=mugs, the_red_mug=(0.9 * (MUG > 0.5), 0.3))
    unsure.decision = dataclasses.replace(SURE, present=0.2, confident=0.6)
    assert unsure.segment("every mug but the red one").status is Status.LOW_CONFIDENCE
    missing = told(every_mug=mugs).segment("every mug but the red one")
    assert (missing.status, len(missing.instances)) == (Status.FOUND, 2)
    elsewhere = told(every_mug=mugs, the_red_mug=(SPOON, 0.9)).segment("every mug but the red one")
    assert len(elsewhere.instances) == 2
    only = told(every_mug=(MUG, 0.9), the_red_mug=(MUG, 0.9)).segment("every mug but the red one")
    assert (only.status, only.area, only.instances) == (Status.NOT_PRESENT, 0, ())


def test_all_but_one_that_touches_another(told):
    pair = squares((3, 5), (7, 5))
    found = told(every_mug=(pair, 0.9), the_red_mug=(squares((3, 5)), 0.9)).segment("every mug but the red one")
    np.testing.assert_array_equal(found.mask, squares((7, 5)) > 0.5)


def test_all_but_several(told):
    mugs = (squares((3, 5), (12, 12), (12, 3)), 0.9)
    found = told(the_mugs=mugs, the_red_mugs=(squares((3, 5), (12, 3)), 0.9)).segment("the mugs but not the red ones")
    np.testing.assert_array_equal(found.mask, OTHER > 0.5)


masks = arrays.arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14)))


@given(masks)
@settings(max_examples=200, deadline=None)
def test_numbers_of_any_mask(mask):
    found = answer(np.where(mask, 0.8, 0.2))
    np.testing.assert_array_equal(found.mask, mask)
    assert found.area == mask.sum()
    if not mask.any():
        assert found.centroid is found.anchor is found.box is None
        return
    rows, columns = np.nonzero(mask)
    np.testing.assert_allclose(found.centroid, (columns.mean(), rows.mean()), atol=1e-9)
    assert found.box == (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
    u, v = found.anchor
    assert mask[int(v), int(u)]
    # Naive float64: distance of every pixel of the mask to the nearest one outside, beyond the border included.
    outside = np.argwhere(~np.pad(mask, 1)) - 1
    depths = {(x, y): np.hypot(outside[:, 1] - x, outside[:, 0] - y).min() for y, x in np.argwhere(mask)}
    assert depths[u, v] >= 0.95 * max(depths.values())


def test_anchor_lies_on_a_ring_and_its_centroid_does_not():
    ring = np.zeros((101, 101), np.uint8)
    cv2.circle(ring, (50, 50), 40, 1, 15)
    found = answer(ring)
    assert math.dist(found.centroid, (50, 50)) < 0.1
    assert not found.mask[50, 50]
    u, v = found.anchor
    assert 38 < math.hypot(u - 50, v - 50) < 42


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((10, 10, 41, 5), (30, 12)),  # equally deep along its middle: the centre of that
        ((0, 10, 9, 41), (4, 30)),
        ((0, 0, 60, 50), None),  # fills the picture: the border is outside
        ((7, 3, 1, 1), (7, 3)),
    ],
)
def test_anchor_of_bars(box, expected):
    x, y, w, h = box
    mask = np.zeros((60, 60), bool)
    mask[y : y + h, x : x + w] = True
    u, v = deepest_point(mask)
    if expected:
        assert (u, v) == expected
    else:
        assert abs(u - 29.5) <= 0.5
        assert 20 <= v <= 30


@given(seed=st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_surest_point_is_the_deepest_of_the_surest_part(seed):
    """Against a smoothing of the whole picture and a part that grows pixel by pixel."""
    rng = np.random.default_rng(seed)
    height, width = (int(v) for v in rng.integers(40, 160, 2))
    probability = cv2.GaussianBlur(rng.random((height, width)).astype(np.float32), (0, 0), rng.uniform(2, 30))
    probability = (probability - probability.min()) / np.ptp(probability)
    mask = probability > rng.uniform(0.3, 0.9)
    point = surest_point(probability, mask)
    smooth = cv2.GaussianBlur(probability, (0, 0), 0.005 * math.sqrt(height * width))
    peak = max(zip(*np.nonzero(mask), strict=True), key=lambda place: smooth[place])
    part, edge = {peak}, [peak]
    while edge:
        row, column = edge.pop()
        for place in itertools.product((row - 1, row, row + 1), (column - 1, column, column + 1)):
            inside = 0 <= place[0] < height and 0 <= place[1] < width
            if inside and place not in part and mask[place] and smooth[place] >= 0.95 * smooth[peak]:
                part.add(place)
                edge.append(place)
    sure = np.zeros_like(mask)
    sure[tuple(np.array(list(part)).T)] = True
    assert point == deepest_point(sure)
    assert mask[round(point[1]), round(point[0])]


def test_surest_point_leaves_what_is_less_sure():
    probability = np.full((60, 80), 0.01, np.float32)
    probability[5:55, 5:55] = 0.4  # a large thing that the mask takes in ...
    probability[20:30, 60:70] = 0.9  # ... and the small one that is meant
    assert deepest_point(probability > 0.3)[0] < 55
    u, v = surest_point(probability, probability > 0.3)
    assert 62 <= u <= 67
    assert 22 <= v <= 27
    assert surest_point(probability, probability > 1) is None
    answer = decide(RawAnswer(probability, None, None), DecisionConfig(mask=0.3))
    assert answer.anchor == (u, v)


def test_deepest_point_of_nothing_and_of_views():
    assert deepest_point(np.zeros((3, 4), bool)) is None
    mask = np.zeros((40, 60), bool)
    mask[10:15, 20:31] = True
    assert deepest_point(mask.T) == (12, 25)
    assert deepest_point(mask[:, ::-1]) == (59 - 25, 12)


# ---- answering by other means


class Reddest(Segmenter):
    """No network: everything red."""

    def __init__(self):
        super().__init__(SimpleNamespace(to=lambda _: SimpleNamespace(eval=lambda: None)), CONFIG, device="cpu")

    def _see(self, square):
        return square[..., 0] > 200

    def _look_for(self, sentences, image, letterbox):
        return [RawAnswer(letterbox.unwarp(image), None, None) for _ in sentences]


def test_subclass_with_its_own_eyes():
    eyes = Reddest()
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[8:16, 16:32] = (255, 0, 0)
    eyes.set_image(picture)
    found = eyes.segment("whatever is red")
    np.testing.assert_array_equal(found.mask, picture[..., 0] > 0)
    assert found.box == (16, 8, 16, 8)
    with pytest.raises(ValueError, match="is empty"):
        eyes.segment(" ")


def test_text_features_of_different_lengths_stack():
    short, long = (TextFeatures(torch.ones(1, n, 2), torch.ones(1, 2), torch.ones(1, n, dtype=bool)) for n in (3, 5))
    assert TextFeatures.stack([short, long]).mask.sum(1).tolist() == [3, 5]


# ---- following a video


def frames(count):
    return [RNG.integers(0, 256, (48, 60, 3), np.uint8) for _ in range(count)]


def test_follow_starts_from_the_last_pictures_queries(model):
    """Naive: the network's halves by hand, the first queries mixed."""
    network, config = model
    little = Segmenter(network, config, device="cpu")
    letterbox, last = Letterbox(48, 60, 64), None
    for rgb in frames(3):
        little.set_image(rgb)
        answer = little.segment("the  mug", probability=True, follow=0.3)
        pixels = torch.from_numpy(letterbox.image(rgb)).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            text = network.encode_text(["the mug"])
            fresh = network.first_queries(text)
            start = fresh if last is None else 0.7 * fresh + 0.3 * last
            prediction = network.decode(network.encode_image(pixels), text, start=start)
        expected = letterbox.unwarp(prediction.logits.softmax(1)[0, 1].numpy())
        np.testing.assert_allclose(answer.probability, expected, atol=1e-5)
        last = prediction.queries


def test_without_follow_nothing_of_the_last_picture_is_in_the_answer(model):
    first, second = frames(2)
    fresh, following = (Segmenter(*model, device="cpu") for _ in range(2))
    fresh.set_image(second)
    following.set_image(first)
    following.segment("mug", follow=1.0)
    following.set_image(second)
    expected = fresh.segment("mug", probability=True).probability
    np.testing.assert_array_equal(following.segment("mug", probability=True).probability, expected)
    changed = following.segment("mug", probability=True, follow=1.0).probability
    assert abs(changed - expected).max() > 1e-4
    np.testing.assert_array_equal(following.segment("mug", probability=True, follow=1.0).probability, changed)


@pytest.mark.parametrize("reason", ["another sentence", "a picture between", "not asked to follow", "not present"])
def test_nothing_is_carried(model, reason):
    network, config = model
    if reason == "not present":
        config = dataclasses.replace(config, decision=dataclasses.replace(config.decision, present=1.0))
    first, second = frames(2)
    following, fresh = Segmenter(network, config, device="cpu"), Segmenter(network, config, device="cpu")
    following.set_image(first)
    following.segment("plate" if reason == "another sentence" else "mug", follow=0 if "asked" in reason else 1)
    if reason == "a picture between":
        following.set_image(first)
    for one in (following, fresh):
        one.set_image(second)
    answers = [one.segment("mug", probability=True, follow=1).probability for one in (following, fresh)]
    np.testing.assert_array_equal(*answers)


def test_sentences_followed_together_answer_as_one_by_one(model):
    first, second = frames(2)
    together, single = (Segmenter(*model, device="cpu") for _ in range(2))
    for one in (together, single):
        one.set_image(first)
    together.segment_all(["mug", "plate"], follow=0.5)
    for text in ("mug", "plate"):
        single.segment(text, follow=0.5)
    for one in (together, single):
        one.set_image(second)
    texts = ["plate", "fork", "mug"]  # one of them is new
    for text, found in zip(texts, together.segment_all(texts, probability=True, follow=0.5), strict=True):
        equal(found, single.segment(text, probability=True, follow=0.5))


def test_no_more_sentences_are_followed_than_are_cached(model, rgb, monkeypatch):
    monkeypatch.setattr(segmenter, "_CACHED_SENTENCES", 3)
    little = Segmenter(*model, device="cpu")
    little.set_image(rgb)
    little.segment_all([f"thing {i}" for i in range(6)], follow=1)
    assert len(little._queries) == 3


@pytest.mark.parametrize("follow", [-0.1, 1.1, math.nan])
def test_shares_that_are_refused(little, rgb, follow):
    little.set_image(rgb)
    with pytest.raises(ValueError, match=r"follow=.*: a share from 0 \(each picture for itself\) to 1"):
        little.segment("mug", follow=follow)


def test_presence_is_in_the_answer():
    assert answer(squares((3, 5)), presence=0.6).presence == 0.6
    assert answer(squares((3, 5)), presence=0.4).presence == 0.4
    assert answer(squares((3, 5))).presence is None


@pytest.mark.parametrize(("name", "limit"), [("bundled", 95e6), ("nano", 25e6)])
def test_a_bundled_model_and_all_that_it_needs_is_small_enough_for_its_purpose(name: str, limit: float) -> None:
    saved = checkpoint.load(name)
    files = {saved.path, *(saved.path.parent / e.file for e in saved.encoders.values())}
    assert len(files) == 3
    files.add(saved.path.parent / "minilm_l6.tokenizer.json")
    assert sum(file.stat().st_size for file in files) <= limit


@pytest.mark.parametrize("name", ["bundled", "nano"])
def test_a_bundled_model_finds_the_mug_on_the_demos_table(name: str) -> None:
    rgb, owner = table_scene.render()
    segmenter = Segmenter.load(name, device="cpu")
    segmenter.set_image(rgb)
    answer = segmenter.segment("the mug on the left")
    assert answer.status in (Status.FOUND, Status.LOW_CONFIDENCE)
    assert owner[round(answer.anchor[1]), round(answer.anchor[0])] == 0  # the first of table_scene.TABLE

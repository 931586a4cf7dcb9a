"""The Tracker: presence, gate and means over time, on answers made by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jmceln_core.answer import RawAnswer, Segmentation, Status, decide, joined
from jmceln_core.config import DecisionConfig
from jmceln_core.quantity import Part
from jmceln_core.tracking import Tracker

SHAPE = (60, 80)
DECISION = DecisionConfig(mask=0.5, present=0.5, confident=0.0, ambiguous=1.0)


def box_map(u: float, v: float, side: int = 9, value: float = 0.9) -> np.ndarray:
    """(60, 80): a square of that probability around the pixel (u, v)."""
    probability = np.full(SHAPE, 0.1, np.float32)
    cv2.rectangle(
        probability,
        (round(u) - side // 2, round(v) - side // 2),
        (round(u) + side // 2, round(v) + side // 2),
        value,
        -1,
    )
    return probability


def seen(probability: np.ndarray, presence: float | None = 0.9, keep: bool = True) -> Segmentation:
    return decide(RawAnswer(probability, presence, None), DECISION, probability=keep)


def statuses(presences: list[float], **numbers: float) -> str:
    """One letter a frame at 10 Hz: F(ound), N(ot present), L(ow confidence)."""
    tracker = Tracker(**numbers)
    answers = (tracker.update(seen(box_map(30, 30), p), time=0.1 * t, text="mug") for t, p in enumerate(presences))
    return "".join(answer.status.name[0] for answer in answers)


@pytest.mark.parametrize(
    ("presences", "expected"),
    [
        ([0.9, 0.4, 0.4, 0.4, 0.4, 0.4], "FLLLLL"),  # between the thresholds it stays, but the frame's no is told
        ([0.9, 0.2, 0.2, 0.2, 0.2, 0.9], "FLLLNF"),  # 0.3 s below the lower one, from the first low frame on
        ([0.9, 0.2, 0.2, 0.4, 0.2, 0.2, 0.2, 0.2], "FLLLLLLN"),  # what is above the lower one starts the wait anew
        ([0.2, 0.55, 0.59, 0.61, 0.55], "NNNFF"),  # comes from the upper one on only
        ([0.55, 0.55, 0.2, 0.55], "FFLF"),  # the first answer counts as it came
    ],
)
def test_presence_has_hysteresis(presences: list[float], expected: str) -> None:
    assert statuses(presences, appear=0.6, vanish=0.35, patience=0.25) == expected


def test_without_patience_the_second_low_frame_ends_it() -> None:
    assert statuses([0.9, 0.2, 0.9, 0.2, 0.2], patience=0.0) == "FLFLN"


def test_without_a_presence_head_a_mask_is_the_evidence() -> None:
    tracker, nothing = Tracker(patience=0.15), np.zeros(SHAPE, np.float32)
    maps = [box_map(30, 30), nothing, box_map(30, 30), nothing, nothing, nothing, box_map(30, 30, value=0.6)]
    found = [tracker.update(seen(m, None), time=0.1 * t, text="mug").status.name[0] for t, m in enumerate(maps)]
    assert "".join(found) == "FLFLLNF"


def test_a_held_frame_has_its_own_mask_or_none() -> None:
    tracker = Tracker(mask_smoothing=0.0)
    tracker.update(seen(box_map(30, 30)), time=0.0, text="mug")
    doubted = tracker.update(seen(box_map(31, 30), 0.4), time=0.1, text="mug")
    assert doubted.status is Status.LOW_CONFIDENCE
    np.testing.assert_array_equal(doubted.mask, box_map(31, 30) > 0.5)
    assert doubted.box == (27, 26, 9, 9)
    for blank in (seen(box_map(30, 30), 0.4, keep=False), seen(np.zeros(SHAPE, np.float32))):
        held = tracker.update(blank, time=tracker._time + 0.1, text="mug")
        assert held.status is Status.LOW_CONFIDENCE
        assert not held.mask.any()
        assert held.centroid is held.anchor is held.box is None
        assert held.area == 0


def test_held_to_be_absent_nothing_is_shown_and_the_score_stays() -> None:
    tracker = Tracker(appear=0.6, vanish=0.3)
    tracker.update(seen(box_map(30, 30), 0.2), time=0.0, text="mug")
    raw = seen(box_map(30, 30), 0.55)
    assert raw.status is Status.FOUND
    answer = tracker.update(raw, time=0.1, text="mug")
    assert answer.status is Status.NOT_PRESENT
    assert (answer.area, answer.centroid, answer.anchor, answer.box, answer.mask.any()) == (0, None, None, None, False)
    assert answer.score == raw.score
    assert raw.mask.any()  # the answer given is not touched


@pytest.mark.parametrize("times", [[0.0, 0.1, 0.2, 0.3], [0.0, 0.05, 0.25, 0.3]])
@pytest.mark.parametrize("constant", [0.05, 0.2])
def test_points_follow_a_step_as_the_time_constant_says(times: list[float], constant: float) -> None:
    """1 - exp(-t / constant) of the way after t seconds, however many frames that was."""
    tracker = Tracker(smoothing=constant, mask_smoothing=0.0, gate=1.0)
    for t in times:
        answer = tracker.update(seen(box_map(34 if t else 30, 30, side=19)), time=t, text="mug")
    expected = 34 - 4 * math.exp(-times[-1] / constant)
    assert answer.centroid == pytest.approx((expected, 30))
    assert answer.anchor == pytest.approx((expected, 30))


def test_the_map_is_a_mean_with_the_time_constant() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.random(SHAPE, np.float32) for _ in range(4)]
    times = [0.0, 0.1, 0.35, 0.4]
    tracker = Tracker(mask_smoothing=0.3, gate=1.0, mask=0.5)
    mean = maps[0].astype(float)
    for i, (t, probability) in enumerate(zip(times, maps, strict=True)):
        answer = tracker.update(seen(probability), time=t, text="mug")
        if i:
            mean += (1 - math.exp(-(t - times[i - 1]) / 0.3)) * (probability - mean)
        unsure = np.abs(mean - 0.5) < 1e-5
        np.testing.assert_array_equal(answer.mask[~unsure], (mean > 0.5)[~unsure])
        assert answer.area == answer.mask.sum()


@pytest.mark.parametrize("presences", [(0.9, 0.9, 0.9), (0.9, 0.9, 0.4)])  # seen, and held in the last frame
def test_the_anchor_is_where_the_map_is_surest(presences: tuple[float, ...]) -> None:
    probability = np.full(SHAPE, 0.01, np.float32)
    probability[5:55, 5:55] = 0.6  # a large thing that the mask takes in ...
    probability[20:30, 60:70] = 0.9  # ... and the small one that is meant
    tracker = Tracker(smoothing=0.0)
    for t, presence in enumerate(presences):
        answer = tracker.update(seen(probability, presence), time=0.1 * t, text="mug")
    assert answer.mask[10, 10]
    assert answer.anchor is not None
    assert 60 <= answer.anchor[0] < 70


def test_one_glance_at_another_thing_moves_nothing() -> None:
    tracker = Tracker(gate=0.2)
    for t, u in enumerate([20, 20, 60, 20]):
        answer = tracker.update(seen(box_map(u, 30)), time=0.1 * t, text="mug")
        assert answer.centroid == pytest.approx((20, 30))
        assert answer.anchor == pytest.approx((20, 30))
        np.testing.assert_array_equal(answer.mask, box_map(20, 30) > 0.5)
        assert answer.status is (Status.LOW_CONFIDENCE if u == 60 else Status.FOUND)


def test_another_thing_is_taken_whole_in_the_second_frame() -> None:
    """No centroid between the two, no mask over both."""
    tracker = Tracker(gate=0.2)
    found = [tracker.update(seen(box_map(u, 30)), time=0.1 * t, text="mug") for t, u in enumerate([20, 20, 60, 60])]
    assert [answer.centroid for answer in found] == [pytest.approx((u, 30)) for u in (20, 20, 20, 60)]
    np.testing.assert_array_equal(found[3].mask, box_map(60, 30) > 0.5)
    assert found[3].status is Status.FOUND


@pytest.mark.parametrize("numbers", [{"mask_smoothing": 0.0}, {"mask_smoothing": 0.01}])
def test_without_a_mean_the_glance_is_shown_as_a_doubtful_one(numbers: dict[str, float]) -> None:
    tracker = Tracker(gate=0.2, **numbers)
    found = [tracker.update(seen(box_map(u, 30)), time=0.1 * t, text="mug") for t, u in enumerate([20, 60])]
    assert found[1].status is Status.LOW_CONFIDENCE
    assert found[1].centroid == pytest.approx((60, 30))
    np.testing.assert_array_equal(found[1].mask, box_map(60, 30) > 0.5)


def test_what_is_never_seen_again_is_not_held_for_longer_than_patience() -> None:
    tracker = Tracker(gate=0.05, patience=0.25)
    places = [10, 60, 30, 70, 40, 41]
    found = [tracker.update(seen(box_map(u, 30)), time=0.1 * t, text="mug") for t, u in enumerate(places)]
    assert [answer.status.name[0] for answer in found] == list("FLLLFF")
    assert found[3].centroid == pytest.approx((10, 30))
    assert found[4].centroid == pytest.approx((40, 30))


def texture(shift: float) -> np.ndarray:
    """A (60, 80, 3) picture with something to see everywhere, moved to the right by so many pixels."""
    noise = cv2.GaussianBlur(np.random.default_rng(3).random((60, 160)).astype(np.float32), (0, 0), 2)
    moved = cv2.warpAffine(noise, np.array([[1, 0, shift], [0, 1, 0]], float), (160, 60))[:, 40:120]
    return np.repeat(np.clip(128 + 900 * (moved - 0.5), 0, 255).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("presence", [0.9, 0.4])
def test_instances_are_those_of_the_mask(presence: float) -> None:
    """Of two mugs one is not seen for a frame: the mean's mask still has both, and so have the instances."""
    tracker = Tracker(patience=1.0)
    both, one = np.maximum(box_map(20, 30), box_map(50, 30)), box_map(20, 30)
    for t, frame in enumerate([both, both, both, one, both, one, one, one, one, one, one, one]):
        doubt = {"presence": presence} if t == 3 else {"presence": 0.9}
        answer = decide(RawAnswer(frame, doubt["presence"], None), DECISION, probability=True, part=Part("mugs", True))
        found = tracker.update(answer, time=0.1 * t, text="mugs")
        parts = cv2.connectedComponents(found.mask.view(np.uint8))[0] - 1
        assert len(found.instances) == parts, t
        assert sum(instance.area for instance in found.instances) == found.area
        if t < 3 or t == 4:
            assert [instance.box[0] for instance in found.instances] == [16, 46]
    assert len(found.instances) == 1


def test_instances_keep_their_words() -> None:
    tracker = Tracker()
    words = joined(
        [
            replace(a, instances=tuple(one._replace(text=text) for one in a.instances))
            for text, a in (("the spoon", seen(box_map(50, 30))), ("the mug", seen(box_map(20, 30))))
        ]
    )
    for t in range(3):
        found = tracker.update(words, time=0.1 * t, text="the spoon and the mug")
    assert [(one.text, one.box[0]) for one in found.instances] == [("the mug", 16), ("the spoon", 46)]


def test_with_the_picture_the_means_move_along() -> None:
    """A thing that moves with the scene is not trailed; without the picture it is."""
    errors = {}
    for given_picture in (True, False):
        tracker = Tracker(smoothing=0.3, mask_smoothing=0.3, gate=0.5)
        for t in range(10):
            rgb = texture(2 * t) if given_picture else None
            answer = tracker.update(seen(box_map(25 + 2 * t, 30)), time=0.1 * t, text="mug", rgb=rgb)
        assert answer.centroid is not None
        errors[given_picture] = abs(answer.centroid[0] - 43)
        if given_picture:
            union = answer.mask | (box_map(43, 30) > 0.5)
            assert (answer.mask & (box_map(43, 30) > 0.5)).sum() / union.sum() > 0.85
    assert errors[True] < 1
    assert errors[False] > 4


@pytest.mark.parametrize("change", ["text", "size", "back", "far back", "same time", "gap"])
def test_begins_anew(change: str) -> None:
    tracker = Tracker(gate=0.1, forget=2.0)
    tracker.update(seen(box_map(20, 30)), time=10.0, text="mug")
    fresh = seen(box_map(60, 30), 0.51)
    if change == "size":
        fresh = seen(box_map(60, 30)[:50])
    time = {"back": 9.0, "far back": -1e9, "same time": 10.0, "gap": 12.1}.get(change, 10.1)
    answer = tracker.update(fresh, time=time, text="cup" if change == "text" else "mug")
    assert answer is fresh or answer == replace(fresh, mask=answer.mask, probability=answer.probability)
    assert answer.status is Status.FOUND
    np.testing.assert_array_equal(answer.mask, fresh.mask)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (3, 4), (16, 700)])
def test_pictures_of_any_shape(shape: tuple[int, int]) -> None:
    tracker, rng = Tracker(), np.random.default_rng(0)
    for t in range(3):
        rgb = rng.integers(0, 256, (*shape, 3), np.uint8)
        answer = tracker.update(seen(rng.random(shape, np.float32)), time=float(t), text="x", rgb=rgb)
        assert answer.mask.shape == shape


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"appear": 0.3, "vanish": 0.4}, "vanish=0.4, appear=0.3: must be 0 <= vanish <= appear"),
        ({"appear": 1.5}, "appear=1.5"),
        ({"mask": 1.5}, "mask=1.5: must be from 0 to 1"),
        ({"smoothing": -1.0}, "smoothing=-1.0: must be a finite number"),
        ({"patience": math.nan}, "patience=nan"),
        ({"forget": math.inf}, "forget=inf"),
    ],
)
def test_numbers_that_are_refused(numbers: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tracker(**numbers)


def test_times_that_are_refused() -> None:
    with pytest.raises(ValueError, match="time=nan: must be the frame's time"):
        Tracker().update(seen(box_map(3, 3)), time=math.nan, text="mug")


def test_suited_to_a_decision() -> None:
    tracker = Tracker.suited_to(DecisionConfig(mask=0.2, present=0.6), margin=0.2, gate=0.3)
    assert (tracker.mask, tracker.appear, tracker.vanish, tracker.gate) == (0.2, 0.6, pytest.approx(0.4), 0.3)
    assert Tracker.suited_to(DecisionConfig(present=0.1)).vanish == 0.0


frames = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 19), st.integers(0, 14), st.integers(1, 6)), max_size=3),  # squares
        st.sampled_from([None, 0.0, 0.3, 0.45, 0.55, 0.9]),  # presence
        st.booleans(),  # with the probability map
        st.sampled_from([0.03, 0.1, 1.0, 5.0]),  # seconds since the last frame
        st.sampled_from(["mug", "mug", "mug", "cup"]),
    ),
    min_size=1,
    max_size=8,
)


@given(frames, st.sampled_from([0.0, 0.1, 0.5]), st.sampled_from([0.0, 0.3]), st.sampled_from([0.05, 0.5]))
@settings(max_examples=60)
def test_answers_always_fit_together(frames: list, smoothing: float, mask_smoothing: float, gate: float) -> None:
    tracker, time = Tracker(smoothing=smoothing, mask_smoothing=mask_smoothing, gate=gate), 0.0
    for squares, presence, keep, passed, text in frames:
        probability = np.full((15, 20), 0.1, np.float32)
        for x, y, side in squares:
            probability[y : y + side, x : x + side] = 0.9
        time += passed
        raw = seen(probability, presence, keep)
        answer = tracker.update(raw, time=time, text=text)
        assert answer.mask.dtype == bool
        assert answer.area == answer.mask.sum()
        assert answer.score == raw.score
        if not answer.mask.any():
            assert answer.status in (Status.NOT_PRESENT, Status.LOW_CONFIDENCE)
            assert answer.centroid is answer.anchor is answer.box is None
            continue
        assert answer.status is not Status.NOT_PRESENT
        assert answer.centroid is not None
        assert answer.anchor is not None
        assert answer.box is not None
        assert all(math.isfinite(value) for value in (*answer.centroid, *answer.anchor))
        u, v = (math.floor(value + 0.5) for value in answer.anchor)
        assert answer.mask[v, u]
        rows, columns = np.nonzero(answer.mask)
        assert answer.box == (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)

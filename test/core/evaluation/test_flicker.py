"""Moving-camera clips with known truth, what is measured on them, and the command."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jmceln_core import checkpoint
from jmceln_core.answer import RawAnswer, Segmentation, decide
from jmceln_core.config import DecisionConfig, ModelConfig, from_dict
from jmceln_core.evaluation import clips, flicker
from jmceln_core.evaluation.clips import Clip, Frame
from jmceln_core.evaluation.flicker import Trace, Way, measure
from jmceln_core.model import build_model
from jmceln_core.segmenter import Segmenter
from jmceln_core.synthesis import table_scene

TINY: dict[str, Any] = {
    **{"name": "tiny", "image_size": 64, "channels": 8, "stages": 1, "queries": 4, "heads": 2, "window": 4},
    **{"image_encoder": {"name": "tiny", "channels": 8}, "text_encoder": {"name": "tiny", "tokens": 8}},
    **{"dilations": [1, 2], "head_channels": [8, 8, 8], "norm": "group", "presence_head": True},
}
CALM = Frame(np.zeros((40, 60, 3), np.uint8), {}, None)


@pytest.fixture(scope="module")
def tiny() -> Segmenter:
    torch.manual_seed(0)
    config = from_dict(ModelConfig, TINY)
    return Segmenter(build_model(config).eval(), config, device="cpu")


def square(u: int, v: int = 20, side: int = 9) -> np.ndarray:
    mask = np.zeros((40, 60), bool)
    mask[v - side // 2 : v + side // 2 + 1, u - side // 2 : u + side // 2 + 1] = True
    return mask


def answer(mask: np.ndarray, presence: float = 0.9) -> Segmentation:
    return decide(RawAnswer(mask.astype(np.float32), presence, None), DecisionConfig())


def trace(answers: list[Segmentation], truths: list[np.ndarray | None], frame: Frame = CALM) -> Trace:
    made = Trace()
    for a, t in zip(answers, truths, strict=True):
        made.add(a, t, frame)
    return made


def test_a_perfect_answer_is_steady_however_the_thing_moves() -> None:
    masks = [square(10 + t * t // 2) for t in range(9)]
    found = measure([trace([answer(m) for m in masks], list(masks))])
    expected = {"mIoU": 100, "pointing": 100, "flicker": 0, "flips": 0, "unsure": 0, "jitter": 0, "lag": 0}
    assert found == pytest.approx(expected, abs=1e-9)


def test_flicker_and_flips_of_an_answer_that_comes_and_goes() -> None:
    """IoU 1, 0, 1, 0, 1: a change of 1 and a flip at every step."""
    truths: list[np.ndarray | None] = [square(30)] * 5
    found = measure([trace([answer(square(30), 0.9 if t % 2 == 0 else 0.1) for t in range(5)], truths)])
    assert (found["mIoU"], found["flicker"], found["flips"]) == pytest.approx((60, 100, 100))
    assert found["pointing"] == pytest.approx(60)


def test_jitter_is_the_second_difference_of_the_offset() -> None:
    """A still thing, an answer that swings by one pixel each way: second differences of 4 pixels."""
    truths: list[np.ndarray | None] = [square(30)] * 6
    assert measure([trace([answer(square(30 + (-1) ** t)) for t in range(6)], truths)])["jitter"] == pytest.approx(4)


@pytest.mark.parametrize("late", [2, -1])
def test_lag_is_what_the_answer_trails_by(late: int) -> None:
    """There and back at three pixels a frame, `late` frames late: 3 * late pixels; a fixed offset does not count."""
    places = [*range(12, 48, 3), *range(48, 12, -3)] * 2
    shown = places[-late:] + places[:-late]
    answers = [answer(square(u, 24)) for u in shown]
    found = measure([trace(answers, [square(u, 20) for u in places])])
    assert found["lag"] == pytest.approx(3 * late, abs=1.0)


def test_where_nothing_is_meant_only_flips_count() -> None:
    nothing = np.zeros((40, 60), bool)
    found = measure([trace([answer(square(30), p) for p in (0.1, 0.9, 0.9)], [nothing] * 3)])
    assert found["flips"] == pytest.approx(50)
    assert all(math.isnan(found[name]) for name in ("mIoU", "pointing", "flicker", "jitter", "lag"))


def test_without_masks_the_camera_s_motion_is_taken_out() -> None:
    """A centroid fixed to a photograph under a turning, zooming camera does not jitter; a shaken one does."""
    made = {}
    for shake in (0.0, 2.0):
        answers, motions = [], []
        for t in range(12):
            turn, zoom = 0.02 * t * t, 1 + 0.03 * t
            linear = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            motions.append(np.column_stack([linear, [5 * t, -2 * t]]))
            u, v = motions[-1] @ (20, 10, 1)
            answers.append(Segmentation(**{**vars(answer(square(30))), "centroid": (u + shake * (-1) ** t, v)}))
        made[shake] = Trace()
        for a, motion in zip(answers, motions, strict=True):
            made[shake].add(a, None, Frame(CALM.rgb, {}, motion))
    assert measure([made[0.0]])["jitter"] == pytest.approx(0, abs=1e-6)
    assert measure([made[2.0]])["jitter"] == pytest.approx(8, abs=0.5)


def test_a_photograph_s_masks_move_as_its_motion_says() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    mask = np.zeros((90, 120), bool)
    mask[40:55, 50:70] = True
    clip = clips.photograph("noise", rgb, {"it": mask, "unknown": None}, 3, frames=5, rate=10)
    shown = list(clip.frames())
    places = set()
    for frame, again in zip(shown, clip.frames(), strict=True):
        np.testing.assert_array_equal(frame.rgb, again.rgb)
        assert max(frame.rgb.shape) == clips.LONG_SIDE
        truth = frame.truths["it"]
        assert truth is not None
        assert frame.motion is not None
        assert frame.truths["unknown"] is None
        assert truth.shape == frame.rgb.shape[:2]
        rows, columns = np.nonzero(truth)
        np.testing.assert_allclose((columns.mean(), rows.mean()), frame.motion @ (59.5, 47, 1), atol=0.5)
        places.add(round(columns.mean(), 3))
    assert len(places) == 5  # it moves in every frame


def test_the_table_under_a_moving_camera() -> None:
    for seed in (0, 4):
        clip = clips.table(seed, frames=2, rate=1, size=(80, 60))
        shown = list(clip.frames())
        assert set(shown[0].truths) == set(clip.sentences)
        assert any((shown[0].truths[text] != shown[1].truths[text]).any() for text in clip.sentences)
        for frame in shown:
            for text, truth in frame.truths.items():
                assert truth is not None
                assert truth.any() == (text != "the banana")
            means = {text: frame.rgb[t].mean(axis=0) for text, t in frame.truths.items() if t is not None and t.any()}
            assert means["the red mug"].argmax() == 0
            assert means["the blue mug"].argmax() == 2
            assert means["the green apple"].argmax() == 1
            columns = {text: np.nonzero(t)[1].mean() for text, t in frame.truths.items() if t is not None and t.any()}
            assert columns["the mug on the left"] == min(columns[f"the {c} mug"] for c in ("red", "blue", "white"))
            assert columns["the apple on the right"] == max(columns[f"the {c} apple"] for c in ("red", "green"))


def test_the_table_s_camera_moves_what_is_seen() -> None:
    """To the right of where it was, the camera that looks the same way sees everything farther to the left."""
    owners = []
    for shift in (0.0, 0.5):
        eye, look = table_scene.EYE, table_scene.LOOK_AT
        moved = {"eye": (eye[0] + shift, *eye[1:]), "look_at": (look[0] + shift, *look[1:])}
        owners.append(table_scene.render(width=80, height=60, **moved)[1])
    for thing in range(5):
        before, after = (np.nonzero(owner == thing)[1].mean() for owner in owners)
        assert after < before - 1


def test_every_way_answers_every_sentence(tiny: Segmenter) -> None:
    """Each frame for itself is what the Segmenter answers; following and tracking change something."""
    rgb = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
    clip = clips.photograph("noise", rgb, dict.fromkeys(("a mug", "the plate")), 0, frames=4, rate=10)
    chosen = [Way("alone"), Way("follow", follow=1.0), Way("tracked", tracker={"smoothing": 0.2, "gate": 1.0})]
    found = flicker.run(tiny, [clip], chosen, rate=10)["noise"]
    assert [len(traces) for traces in found.values()] == [2, 2, 2]
    for t, frame in enumerate(clip.frames()):
        tiny.set_image(frame.rgb)
        # together, as they are asked there: sentences on their own are other products, equal to rounding only
        for i, expected in enumerate(tiny.segment_all(list(clip.sentences))):
            assert found["alone"][i].present[t] == (expected.status.name != "NOT_PRESENT")
            np.testing.assert_allclose(found["alone"][i].points[t], expected.centroid or (np.nan, np.nan))
    table = flicker.table({"noise": found})
    assert [line.split("|")[1].strip() for line in table.splitlines()] == ["", "---", "alone", "follow", "tracked"]


def test_ways_have_names_of_their_own() -> None:
    names = [way.name for way in flicker.ways()]
    assert len(set(names)) == len(names) == 4 + 2 * len(flicker.FOLLOW)


def test_the_command(tiny: Segmenter, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkpoint.save(tmp_path / "tiny.safetensors", tiny._model.state_dict(), tiny.config)
    arguments = ["--model", str(path), "--device", "cpu", "--frames", "3", "--clips", "photographs", "--follow", "1"]
    assert flicker.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "Model tiny; 3 frames at 10 Hz" in printed
    assert "Photographs without masks: 3 clips, 8 sentences" in printed
    assert "| all, follow 1 |" in printed
    assert flicker.main([*arguments[:4], "--frames", "2"]) == 2
    assert "--frames must be at least 3" in capsys.readouterr().err
    assert flicker.main([*arguments, "--root", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_clips_of_a_data_set(shared_data: Any) -> None:
    from jmceln_core.data.grounding import read_coco

    data = read_coco(shared_data("coco_mini"), "heldout")
    some: list[Clip] = clips.of_pictures(list(data.pictures.values()), data.expressions, 3, 0, frames=2, rate=10)
    assert len({clip.name for clip in some}) == 3
    for clip in some:
        assert 1 <= len(clip.sentences) <= 4
        for frame in clip.frames():
            assert set(frame.truths) == set(clip.sentences)
            assert all(truth is not None and truth.shape == frame.rgb.shape[:2] for truth in frame.truths.values())

"""jmceln_ros.segment.models: one model answers while the next is loaded; what cannot run here is said."""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("jmceln_ros.msg", reason="needs the built messages: run `make test`")

from sensor_msgs.msg import Image

from jmceln_core import Segmenter
from jmceln_ros.common.images import fill_image
from jmceln_ros.segment.answering import Gaze, Steadying
from jmceln_ros.segment.intake import Command
from jmceln_ros.segment.models import Models, check_segmenter, out_of_memory, same_model, set_thresholds
from jmceln_ros.segment.settings import SegmentSettings
from support.ros_colour_node import ColourSegmenter
from support.ros_harness import patches


class Loading:
    """A factory whose models are their names; each is made when it is let through."""

    def __init__(self):
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.through = threading.Semaphore(0)
        self.outcomes = []

    def make(self, settings):
        self.begun.release()
        assert self.go.acquire(timeout=5)
        if settings.model == "broken":
            raise RuntimeError("no such weights")
        return settings.model

    def ended(self, settings, error):
        self.outcomes.append((settings.model, error and str(error)))
        self.through.release()


@pytest.fixture
def loading():
    return Loading()


@pytest.fixture
def models(loading):
    """With the model "first" in use."""
    models = Models(loading.make, loading.ended)
    loading.go.release()
    models.load(SegmentSettings(model="first"))
    assert loading.begun.acquire(timeout=5)
    return models


def test_the_old_model_answers_until_the_new_one_is_there(loading, models):
    models.change(SegmentSettings(model="second"))
    assert loading.begun.acquire(timeout=5)
    assert (models.segmenter, models.loading.model) == ("first", "second")
    loading.go.release()
    assert loading.through.acquire(timeout=5)
    assert (models.segmenter, models.running.model, models.loading) == ("second", "second", None)
    assert loading.outcomes == [("second", None)]


def test_a_failure_leaves_the_old_model_in_use(loading, models):
    loading.go.release()
    models.change(SegmentSettings(model="broken"))
    assert loading.through.acquire(timeout=5)
    assert (models.segmenter, models.running.model, models.loading) == ("first", "first", None)
    assert loading.outcomes == [("broken", "no such weights")]


def test_the_last_change_counts(loading, models):
    models.change(SegmentSettings(model="broken"))
    assert loading.begun.acquire(timeout=5)
    models.change(SegmentSettings(model="third"))
    loading.go.release(2)
    assert loading.through.acquire(timeout=5)
    assert (models.segmenter, loading.outcomes) == ("third", [("third", None)])


def test_another_parameter_does_not_begin_the_loading_anew(loading, models):
    models.change(SegmentSettings(model="second"))
    assert loading.begun.acquire(timeout=5)
    models.change(SegmentSettings(model="second", max_rate=3.0))
    loading.go.release()
    assert loading.through.acquire(timeout=5)
    assert (models.segmenter, loading.outcomes) == ("second", [("second", None)])
    assert not loading.begun.acquire(timeout=0.1)


@pytest.mark.parametrize(
    ("end", "left"), [(lambda models: models.change(SegmentSettings(model="first")), "first"), (Models.release, None)]
)
def test_what_is_no_longer_wanted_is_not_taken_into_use(loading, models, end, left):
    models.change(SegmentSettings(model="second"))
    assert loading.begun.acquire(timeout=5)
    end(models)
    thread = next(thread for thread in threading.enumerate() if thread.name == "load")
    loading.go.release()
    thread.join(5)
    assert (models.segmenter, models.loading, loading.outcomes) == (left, None, [])


def test_without_a_model_in_use_a_change_waits_for_configure(loading):
    models = Models(loading.make, loading.ended)
    models.change(SegmentSettings(model="second"))
    assert (models.segmenter, models.loading) == (None, None)


def test_the_worker_keeps_no_model_that_was_given_up():
    segmenter, gaze, steadying = ColourSegmenter("old"), Gaze(), Steadying()
    image = Image()
    fill_image(image, patches(), "rgb8")
    rgb, _ = gaze.at(segmenter, image, max_side=100)
    answer = segmenter.segment("red", probability=True)
    command = Command("red", image.header.stamp, 1)
    assert steadying.steady(answer, segmenter, command, image.header, rgb, SegmentSettings()).area == 200
    left = weakref.ref(segmenter)
    del segmenter
    gc.collect()
    assert left() is None


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_every_threshold_that_is_allowed_suits_the_tracker(threshold):
    segmenter, steadying = ColourSegmenter("colour"), Steadying()
    names = ("mask_threshold", "presence_threshold", "confidence_threshold", "ambiguity_threshold")
    settings = SegmentSettings(**dict.fromkeys(names, threshold))
    set_thresholds(segmenter, settings)
    segmenter.set_image(patches())
    answer = segmenter.segment("red", probability=True)
    header = Image().header
    steadied = steadying.steady(answer, segmenter, Command("red", header.stamp, 1), header, patches(), settings)
    assert steadied.area == answer.area


def test_other_parameters_do_not_make_another_model():
    settings = SegmentSettings(model="a")
    assert same_model(settings, replace(settings, max_rate=3.0, mask_threshold=0.9))
    for name in ("model", "device", "precision"):
        assert not same_model(settings, replace(settings, **{name: "b"}))


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),  # as a driver call reports it
        (MemoryError(), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_a_full_memory_is_told_from_other_errors(error, full):
    assert out_of_memory(error) is full


def test_a_real_model_is_checked_beforehand_takes_thresholds_and_forgets(tiny_checkpoint):
    path = str(tiny_checkpoint)
    settings = SegmentSettings(model=path, device="cpu")
    assert check_segmenter(settings) == ""
    assert "no such file" in check_segmenter(replace(settings, model="no/such.safetensors"))
    assert "needs a CUDA device" in check_segmenter(replace(settings, precision="bf16"))
    segmenter = Segmenter.load(path, device="cpu")
    own = segmenter.config.decision
    set_thresholds(segmenter, replace(settings, mask_threshold=0.0, presence_threshold=0.0))
    assert segmenter.decision == replace(own, mask=0.0, present=0.0)
    segmenter.set_image(np.zeros((20, 30, 3), np.uint8))
    assert segmenter.segment("cup").area == 600  # every probability is above 0
    set_thresholds(segmenter, replace(settings, mask_threshold=1.0))
    assert segmenter.segment("cup").area == 0
    set_thresholds(segmenter, settings)
    assert segmenter.decision == own
    segmenter.forget()
    with pytest.raises(RuntimeError, match="no picture"):
        segmenter.segment("cup")

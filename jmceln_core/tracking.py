"""Answers about a video that hold together: presence with hysteresis, a mask and points that do not tremble.

`Tracker.update` takes the answer about each frame, for one sentence, and gives a steadier one about the same frame. All
durations are seconds between the frames' own times, so that a camera of 5 Hz and one of 30 Hz are treated alike.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from jmceln_core.answer import Instance, Segmentation, Status, things, with_mask
from jmceln_core.config import DecisionConfig

Point = tuple[float, float]

#: Width and height of the pictures that motion is estimated on, whatever the camera's: OpenCV's DIS crashes on strips.
_FLOW_SIZE = (160, 120)


class Tracker:
    """Steadies the answers to one sentence about one camera's frames. Not thread-safe.

    appear, vanish: of the evidence in [0, 1] that the thing is there: the presence head's probability, or without the
        head 1; and 0 for a mask without a pixel. What was absent is present again from `appear` on; what was present is
        absent once the evidence has been below `vanish` for `patience` seconds: a single frame never does it.
    mask: threshold of the probability map. A frame whose answer was emptied for want of presence has its mask there.
    smoothing: time constant in seconds of the exponential mean of centroid and anchor; 0: none.
    mask_smoothing: the same for the probability map; needs answers with `probability`.
    gate: share of the picture's diagonal. A centroid farther than this from where it was expected is another thing,
        which is believed when the next frame shows it there too, or when the one followed has not been seen for
        `patience` seconds; nothing of the old one is kept then.
    forget: seconds without an answer after which the next one starts anew.

    Raises ValueError for numbers out of range.
    """

    def __init__(
        self,
        *,
        appear: float = 0.5,
        vanish: float = 0.35,
        patience: float = 0.3,
        mask: float = 0.5,
        smoothing: float = 0.1,
        mask_smoothing: float = 0.3,
        gate: float = 0.15,
        forget: float = 3.0,
    ) -> None:
        if not 0 <= vanish <= appear <= 1:
            raise ValueError(f"vanish={vanish}, appear={appear}: must be 0 <= vanish <= appear <= 1")
        if not 0 <= mask <= 1:
            raise ValueError(f"mask={mask}: must be from 0 to 1")
        durations = {"patience": patience, "smoothing": smoothing, "mask_smoothing": mask_smoothing}
        for name, value in {**durations, "gate": gate, "forget": forget}.items():
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}={value}: must be a finite number of at least 0")
        self.appear, self.vanish, self.patience, self.mask = appear, vanish, patience, mask
        self.smoothing, self.mask_smoothing, self.gate, self.forget = smoothing, mask_smoothing, gate, forget
        self._flow: Any = cv2.DISOpticalFlow_create(  # type: ignore[attr-defined]
            cv2.DISOPTICAL_FLOW_PRESET_FAST
        )
        self.reset()

    @classmethod
    def suited_to(cls, decision: DecisionConfig, *, margin: float = 0.15, **numbers: float) -> Tracker:
        """For answers made with these thresholds: `appear` is the decision's own, `vanish` lies `margin` below."""
        appear = decision.present
        fitting = {"appear": appear, "vanish": max(0.0, appear - margin), "mask": decision.mask}
        return cls(**(fitting | numbers))

    def reset(self) -> None:
        """Forget everything: the next answer is the first."""
        self._text: str | None = None
        self._shape: tuple[int, ...] | None = None
        self._time = -math.inf
        self._present: bool | None = None
        self._low_since: float | None = None  # when the evidence fell below `vanish`
        self._picture: np.ndarray | None = None  # the last one, small and grey
        self._lose()

    def _lose(self) -> None:
        """Forget where the thing was."""
        self._map: np.ndarray | None = None  # (H, W) float32, mean probability
        self._centroid: Point | None = None
        self._anchor: Point | None = None
        self._several: tuple[Instance, ...] = ()  # those of the last answer that was believed, if more than one
        self._candidate: Point | None = None  # where another thing was seen last ...
        self._away_since = -math.inf  # ... and since when

    def update(self, answer: Segmentation, *, time: float, text: str, rgb: np.ndarray | None = None) -> Segmentation:
        """The steadied answer about the same frame of H x W pixels.

        `time` is the frame's, in seconds of any clock. `rgb` is the frame itself, (H, W, 3) uint8: with it what is
        remembered moves as the picture does (dense optical flow), without it stays where it was. Another `text` or
        size of picture, a time that does not advance and a gap beyond `forget` begin anew; the first answer is
        returned as it came.

        Mask, centroid and anchor are means over time; the anchor lies inside the mask, whose are box, area and
        instances: its separate parts, where this answer or the last had several. The status is the frame's own, except

        - NOT_PRESENT while the thing is held to be absent;
        - LOW_CONFIDENCE where the frame for itself says NOT_PRESENT and the thing is held to be present: with the mask
          of this frame's probability map, or with none; an old mask is never shown as if it were seen;
        - LOW_CONFIDENCE where another thing is seen and not yet believed: mask and points stay with the one followed,
          so far as the mean over time still has it (a fast camera; at 1 Hz it has not), else they are the new one's.

        Raises ValueError for a time that is not finite.
        """
        if not math.isfinite(time):
            raise ValueError(f"time={time}: must be the frame's time in seconds")
        passed = time - self._time
        if text != self._text or answer.mask.shape != self._shape or not 0 < passed <= self.forget:
            self.reset()
            passed = math.inf  # the first one weighs all
        self._text, self._shape, self._time = text, answer.mask.shape, time
        self._move(rgb)

        absent = answer.status is Status.NOT_PRESENT
        seen = answer.mask if answer.probability is None or not absent else answer.probability > self.mask
        if not self._judge(answer, bool(seen.any()), time):
            self._lose()
            return _nothing(answer)
        if absent:
            answer = self._parted(
                with_mask(replace(answer, status=Status.LOW_CONFIDENCE), seen, answer.probability), ()
            )
        if answer.centroid is None:
            return answer
        return self._smooth(answer, passed) if self._believes(answer.centroid, time) else self._hold(answer, passed)

    def _judge(self, answer: Segmentation, seen: bool, time: float) -> bool:
        """Whether the thing is held to be present; the first answer says so itself."""
        evidence = 0.0 if not seen else 1.0 if answer.presence is None else answer.presence
        if self._present is None:
            self._present = answer.status is not Status.NOT_PRESENT
        elif not self._present:
            self._present = evidence >= self.appear
        elif evidence >= self.vanish:
            self._low_since = None
        elif self._low_since is None:
            self._low_since = time
        elif time - self._low_since >= self.patience:
            self._present, self._low_since = False, None
        return self._present

    def _believes(self, centroid: Point, time: float) -> bool:
        """Whether what is seen is the thing that was followed, or takes its place now."""
        assert self._shape is not None
        reach = self.gate * math.hypot(*self._shape)
        if self._centroid is None or math.dist(centroid, self._centroid) <= reach:
            self._candidate = None
            return True
        if self._candidate is None:
            self._away_since = time
        elif math.dist(centroid, self._candidate) <= reach or time - self._away_since >= self.patience:
            self._lose()
            return True
        self._candidate = centroid
        return False

    def _hold(self, answer: Segmentation, passed: float) -> Segmentation:
        """Another thing is seen for once: the one followed, as far as the mean has it still; else what is seen."""
        answer = replace(answer, status=Status.LOW_CONFIDENCE)
        mean = self._mean(answer, passed)
        if mean is None or self._map is None:
            return answer
        mask = (mean > self.mask) & (self._map > self.mask)
        if not mask.any():
            return answer
        answer = self._parted(with_mask(answer, mask, mean), answer.instances)
        return replace(answer, centroid=self._centroid, anchor=self._anchor_in(answer))

    def _smooth(self, answer: Segmentation, passed: float) -> Segmentation:
        """The means over time, this answer included."""
        known = self._map is not None
        self._map = self._mean(answer, passed)
        if known and self._map is not None and (mask := self._map > self.mask).any():
            answer = self._parted(with_mask(answer, mask, self._map), answer.instances)
        self._several = answer.instances if len(answer.instances) > 1 else ()
        assert answer.centroid is not None
        assert answer.anchor is not None
        share = _share(passed, self.smoothing)
        self._centroid = _between(self._centroid, answer.centroid, share)
        self._anchor = _between(self._anchor, answer.anchor, share)
        self._anchor = self._anchor_in(answer)
        return replace(answer, centroid=self._centroid, anchor=self._anchor)

    def _parted(self, answer: Segmentation, own: tuple[Instance, ...]) -> Segmentation:
        """The answer with its mask's separate things, where its `own` instances or the last ones are several. Each has
        the text of the nearest of these."""
        known = own if len(own) > 1 else self._several
        if not known:
            return answer
        parts = [
            part._replace(text=min(known, key=lambda one: math.dist(one.anchor, part.anchor)).text)
            for part in things(answer.mask)
        ]
        return replace(answer, instances=tuple(parts))

    def _mean(self, answer: Segmentation, passed: float) -> np.ndarray | None:
        """(H, W) float32, the probabilities' mean with this answer's; None if there is none to be had."""
        if answer.probability is None or not self.mask_smoothing:
            return None
        if self._map is None:
            return answer.probability
        share = _share(passed, self.mask_smoothing)
        return cv2.addWeighted(self._map, 1 - share, answer.probability, share, 0)

    def _anchor_in(self, answer: Segmentation) -> Point | None:
        """The mean anchor where the answer's mask has it, else the answer's own."""
        return self._anchor if self._anchor and _inside(self._anchor, answer.mask) else answer.anchor

    def _move(self, rgb: np.ndarray | None) -> None:
        """Take what is remembered from the last frame's pixels to this frame's."""
        last, self._picture = self._picture, None if rgb is None else _small(rgb)
        if last is None or self._picture is None or self._centroid is None:
            return
        flow = self._flow.calc(self._picture, last, None)  # where each pixel of this frame was in the last one
        if self._map is not None:
            self._map = _carry(self._map, flow)
        assert self._shape is not None
        scale = self._shape[1] / flow.shape[1], self._shape[0] / flow.shape[0]
        self._centroid, self._anchor, self._candidate = (
            None if point is None else _carry_point(point, flow, scale)
            for point in (self._centroid, self._anchor, self._candidate)
        )


def _nothing(answer: Segmentation) -> Segmentation:
    """NOT_PRESENT, whatever the frame for itself said; its score stays."""
    if answer.area:
        answer = with_mask(answer, np.zeros_like(answer.mask))
    return replace(answer, status=Status.NOT_PRESENT)


def _share(passed: float, constant: float) -> float:
    """The newest value's weight in an exponential mean with that time constant, both in seconds."""
    return -math.expm1(-passed / constant) if constant else 1.0


def _between(old: Point | None, new: Point, share: float) -> Point:
    if old is None:
        return new
    return old[0] + share * (new[0] - old[0]), old[1] + share * (new[1] - old[1])


def _inside(point: Point, mask: np.ndarray) -> bool:
    column, row = (math.floor(value + 0.5) for value in point)
    return 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1] and bool(mask[row, column])


def _small(rgb: np.ndarray) -> np.ndarray:
    """(h, w) uint8 grey of _FLOW_SIZE."""
    return cv2.cvtColor(cv2.resize(rgb, _FLOW_SIZE, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)


def _carry(map_: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """(H, W) float32 values of the last frame's pixels, at this frame's; `flow` is (h, w, 2), in its own pixels."""
    height, width = map_.shape
    scale = np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
    place = cv2.resize(flow * scale, (width, height))
    cv2.add(place, _places(height, width), place)
    return cv2.remap(map_, place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]


@lru_cache(maxsize=1)
def _places(height: int, width: int) -> np.ndarray:
    """(H, W, 2) float32: every pixel's own (u, v)."""
    return np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))


def _carry_point(point: Point, flow: np.ndarray, scale: tuple[float, float]) -> Point:
    """Where the last frame's point is in this frame: the place whose flow leads back to it, found in two steps."""
    rows, columns = flow.shape[:2]
    place = point
    for _ in range(2):
        column = min(max(math.floor((place[0] + 0.5) / scale[0]), 0), columns - 1)
        row = min(max(math.floor((place[1] + 0.5) / scale[1]), 0), rows - 1)
        du, dv = map(float, flow[row, column])
        place = point[0] - du * scale[0], point[1] - dv * scale[1]
    return place

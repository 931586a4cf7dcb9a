"""From a picture and a sentence to an answer: `Segmenter.load()`, then `set_image(rgb)`, then `segment(text)`.

The image half of the network runs once per picture and serves any number of sentences; a sentence's text features are
cached. Coordinates are the picture's own pixels, (u, v) = (column, row), pixel centres at whole numbers.
"""

from __future__ import annotations

import enum
import math
import threading
import time
import unicodedata
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np
import torch

from jmceln_core import checkpoint
from jmceln_core.config import DecisionConfig, ModelConfig
from jmceln_core.geometry import Letterbox
from jmceln_core.model import JMCELN, ImageFeatures, TextFeatures, build_model

Precision = Literal["fp32", "bf16", "fp16"]

MAX_PIXELS = 100_000_000  # of a picture; the answer takes about 10 bytes a pixel while it is made
MAX_CHARACTERS = 4096  # of a sentence; far beyond what any text encoder's tokens hold
_CACHED_SENTENCES = 512
_SENTENCES_AT_ONCE = 8  # the decoder's memory grows with them
_SMOOTHING, _SURE = 0.005, 0.95  # of `surest_point`; chosen on training pictures: docs/results.md
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Status(enum.Enum):
    """What an answer means for whoever acts on it."""

    FOUND = "found"
    NOT_PRESENT = "not_present"  # no such thing in the picture: the mask is empty
    LOW_CONFIDENCE = "low_confidence"  # a mask, but the score is below the configured one
    AMBIGUOUS = "ambiguous"  # a sure mask over two or more separate things of similar size


class Candidate(NamedTuple):
    """One of several things that an ambiguous sentence may mean: a separate part of the answer's mask."""

    anchor: tuple[float, float]  # (u, v), deep inside it
    box: tuple[int, int, int, int]  # (x, y, w, h)
    area: int  # in pixels


@dataclass(frozen=True)
class Segmentation:
    """The answer to one sentence about one picture of H x W pixels."""

    mask: np.ndarray  # (H, W) bool; all false with NOT_PRESENT
    status: Status
    score: float  # in [0, 1], see `decide`
    centroid: tuple[float, float] | None  # (u, v), mean of the mask's pixels; may lie beside a ring or a banana
    anchor: tuple[float, float] | None  # (u, v), a pixel deep inside the surest part of the mask
    box: tuple[int, int, int, int] | None  # (x, y, w, h) around the mask, in whole pixels
    area: int  # of the mask, in pixels
    probability: np.ndarray | None  # (H, W) float32, if asked for
    seconds: float  # from the sentence to this answer; without the image half
    presence: float | None = None  # probability that the thing is there at all; None without such a head
    candidates: tuple[Candidate, ...] = ()  # with AMBIGUOUS, what may be meant, from left to right


class RawAnswer(NamedTuple):
    """What the network says about one sentence, before any threshold."""

    probability: np.ndarray  # (H, W) float32 at the picture's own size
    presence: float | None  # probability that the thing is there; None without the head
    iou: float | None  # predicted IoU of the mask; None without the head
    queries: torch.Tensor | None = None  # (Q, C), the network's final contextual embeddings


class Segmenter:
    """A network ready to answer.

    `model` is in evaluation mode and moved to `device` by this; `precision` is "fp32", or "bf16" / "fp16" for mixed
    precision on CUDA (None: fp32). All calls are serialised by one lock and may come from any thread; as there is one
    current picture, give every camera a Segmenter of its own.

    `decision` has the thresholds of the next answers; it may be set to others at any time.

    To answer by other means, override `set_image` and `segment`, or `_see` and `_look_for` to keep the checks and the
    decision.
    """

    def __init__(
        self,
        model: JMCELN,
        config: ModelConfig,
        *,
        device: str | torch.device | None = None,
        precision: Precision | None = None,
    ) -> None:
        self.device = _device(device)
        self.precision = _precision(precision, self.device)
        self.config = config
        self.decision = config.decision
        self._model = model.to(self.device).eval()
        self._texts: OrderedDict[str, TextFeatures] = OrderedDict()
        self._picture: tuple[Letterbox, ImageFeatures] | None = None
        # By sentence, the final queries of the answers that `follow`: about this picture, and about the one before.
        self._queries: dict[str, torch.Tensor] = {}
        self._last_queries: dict[str, torch.Tensor] = {}
        self._lock = threading.RLock()

    @classmethod
    def load(
        cls,
        name_or_path: str | Path | None = None,
        *,
        device: str | torch.device | None = None,
        precision: Precision | None = None,
    ) -> Segmenter:
        """Load a checkpoint: the bundled one (None), another bundled one by name, or a .safetensors file.

        `device` None is CUDA if there is one, else the CPU. Raises CheckpointError for the checkpoint and ValueError
        for a device or precision this machine lacks.
        """
        device = _device(device)
        precision = _precision(precision, device)
        saved = checkpoint.load(name_or_path)
        model = build_model(saved.config)
        saved.load_into(model)
        model.to(memory_format=torch.channels_last)  # convolutions are quicker, on the CPU as well
        return cls(model, saved.config, device=device, precision=precision)

    @classmethod
    def check(
        cls,
        name_or_path: str | Path | None = None,
        *,
        device: str | torch.device | None = None,
        precision: Precision | None = None,
    ) -> None:
        """Raises what `load` raises for a missing checkpoint and for a device or precision this machine lacks.

        Nothing is loaded, so `load` can still fail for what is in the file, or for want of memory.
        """
        _precision(precision, _device(device))
        checkpoint.locate(name_or_path)

    @property
    def name(self) -> str:
        """The model's name, from its configuration."""
        return self.config.name

    def set_image(self, rgb: np.ndarray) -> None:
        """Take a picture up: (H, W, 3) uint8 RGB of any size up to MAX_PIXELS; the array is not kept.

        Raises ValueError saying how to convert anything else. There is then no current picture: an answer about the
        one before would pass for one about this.
        """
        with self._lock:
            self._picture = None
            check_picture(rgb)
            height, width = rgb.shape[:2]
            letterbox = Letterbox(height, width, self.config.image_size)
            self._picture = letterbox, self._see(letterbox.image(rgb))
            self._last_queries, self._queries = self._queries, {}

    def forget(self) -> None:
        """Let the picture go, and all that is kept of sentences and earlier pictures: the memory of a full GPU."""
        with self._lock:
            self._picture = None
            for kept in (self._texts, self._queries, self._last_queries):
                kept.clear()

    def segment(self, text: str, *, probability: bool = False, follow: float = 0.0) -> Segmentation:
        """What `text` refers to in the current picture. `probability`: with the (H, W) map behind the mask.

        `follow` in [0, 1], for a video: the share in the network's first contextual embeddings of those that the
        picture before ended with, if it was asked the same sentence with `follow` above 0 and showed the thing; the
        rest is what the sentence alone gives. docs/tracking.md says what it was measured to be good for.

        The text is normalised (see `normalise_text`); what the tokenizer's length cannot hold is cut off at the end.
        Words the tokenizer does not know, in any script, get an answer like others, though a poor one. Raises
        ValueError for a text without content and RuntimeError before the first `set_image`.
        """
        return self.segment_all([text], probability=probability, follow=follow)[0]

    def segment_all(
        self, texts: Sequence[str], *, probability: bool = False, follow: float = 0.0
    ) -> list[Segmentation]:
        """As `segment`, for several sentences about the current picture at once; `seconds` is each one's share."""
        if isinstance(texts, str):
            raise ValueError(f"segment_all takes a list of sentences; for the one sentence {texts!r} call segment")
        if not 0 <= follow <= 1:
            raise ValueError(f"follow={follow}: a share from 0 (each picture for itself) to 1")
        sentences = [normalise_text(text) for text in texts]
        options = {"follow": follow} if follow else {}  # subclasses that cannot follow need not know of it
        with self._lock:
            if self._picture is None:
                raise RuntimeError("there is no picture to look at: call set_image(rgb) before segment(text)")
            letterbox, features = self._picture
            answers: list[Segmentation] = []
            for start in range(0, len(sentences), _SENTENCES_AT_ONCE):
                begin = time.perf_counter()
                some = sentences[start : start + _SENTENCES_AT_ONCE]
                raws = self._look_for(some, features, letterbox, **options)
                made = [decide(raw, self.decision, probability=probability) for raw in raws]
                if follow:
                    self._remember(some, raws, made)
                share = (time.perf_counter() - begin) / len(some)
                answers += [replace(answer, seconds=share) for answer in made]
            return answers

    @torch.inference_mode()
    def _see(self, square: np.ndarray) -> ImageFeatures:
        """The image half on a (S, S, 3) uint8 letterboxed picture."""
        pixels = torch.from_numpy(square).to(self.device).permute(2, 0, 1)[None].float() / 255
        with self._autocast():
            return self._model.encode_image(pixels)

    @torch.inference_mode()
    def _look_for(
        self, sentences: list[str], image: ImageFeatures, letterbox: Letterbox, *, follow: float = 0.0
    ) -> list[RawAnswer]:
        """The sentence half for a few normalised sentences."""
        with self._autocast():
            text = self._text_features(sentences)
            start = self._start(sentences, text, follow) if follow else None
            prediction = self._model.decode(image, text, start=start)
        logits = prediction.logits.float()
        if not logits.isfinite().all():
            raise RuntimeError(
                f"the network's output is not finite with precision {self.precision!r}: use 'bf16' or 'fp32'"
            )
        maps = (logits[:, 1] - logits[:, 0]).sigmoid().cpu().numpy()  # softmax over background and target
        presence, iou = (
            [None] * len(maps) if logit is None else logit.float().sigmoid().tolist()
            for logit in (prediction.presence, prediction.iou)
        )
        queries = [None] * len(maps) if prediction.queries is None else prediction.queries.unbind()
        return [
            RawAnswer(letterbox.unwarp(m), p, i, q) for m, p, i, q in zip(maps, presence, iou, queries, strict=True)
        ]

    def _start(self, sentences: list[str], text: TextFeatures, follow: float) -> torch.Tensor | None:
        """(N, Q, C) first queries, each sentence's own mixed with those the last picture ended with, if there are."""
        fresh = self._model.first_queries(text)
        if fresh is None:
            return None
        last = [self._last_queries.get(sentence, mine) for sentence, mine in zip(sentences, fresh, strict=True)]
        return torch.lerp(fresh, torch.stack(last).to(fresh), follow)

    def _remember(self, sentences: list[str], raws: list[RawAnswer], answers: list[Segmentation]) -> None:
        """Keep the queries for the next picture; those of a thing that was not there would only repeat the no."""
        for sentence, raw, answer in zip(sentences, raws, answers, strict=True):
            known = sentence in self._queries or len(self._queries) < _CACHED_SENTENCES
            if known and raw.queries is not None and answer.status is not Status.NOT_PRESENT:
                self._queries[sentence] = raw.queries

    def _text_features(self, sentences: list[str]) -> TextFeatures:
        """From the cache; what is not there is encoded in one batch. The least recently used leave the cache first."""
        known = {text: self._texts[text] for text in sentences if text in self._texts}
        if new := [text for text in dict.fromkeys(sentences) if text not in known]:
            features = self._model.encode_text(new)
            known |= {text: features.select(slice(i, i + 1)) for i, text in enumerate(new)}
        for text in sentences:
            self._texts[text] = known[text]
            self._texts.move_to_end(text)
        while len(self._texts) > _CACHED_SENTENCES:
            self._texts.popitem(last=False)
        return TextFeatures.stack([known[text] for text in sentences])

    def _autocast(self) -> AbstractContextManager[object]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, _DTYPES[self.precision])


def decide(raw: RawAnswer, decision: DecisionConfig, *, probability: bool = False) -> Segmentation:
    """Thresholds: from the network's numbers to an answer (`seconds` is 0).

    The mask is where the probability is above `decision.mask`. The score is the mean probability inside it, or with a
    presence or IoU head the geometric mean of that and the heads' probabilities, calibrated: its logit times
    `decision.slope` plus `decision.offset` (Platt scaling); 0 for an empty mask. In this order:

    - NOT_PRESENT if the mask is empty or the presence below `decision.present` (the score stays: it says how nearly);
    - LOW_CONFIDENCE if the score is below `decision.confident`;
    - AMBIGUOUS if the mask's second-largest blob (8-connected) has more than `decision.ambiguous` of the largest one's
      area and the score that each of the two would have alone is at least `decision.confident`; all blobs like them
      are the answer's `candidates`;
    - FOUND otherwise.
    """
    mask = raw.probability > decision.mask
    pixels = mask.view(np.uint8)
    x, y, w, h = map(int, cv2.boundingRect(pixels))
    kept = raw.probability if probability else None
    empty = np.zeros_like(mask)
    nothing = Segmentation(empty, Status.NOT_PRESENT, 0.0, None, None, None, 0, kept, 0.0, raw.presence)
    if w == 0:
        return nothing
    inside, values = pixels[y : y + h, x : x + w], raw.probability[y : y + h, x : x + w]
    score = _score(cv2.mean(values, inside)[0], raw, decision)
    if raw.presence is not None and raw.presence < decision.present:
        return replace(nothing, score=score)
    candidates: tuple[Candidate, ...] = ()
    if score < decision.confident:
        status = Status.LOW_CONFIDENCE
    else:
        candidates = _candidates(inside, values, raw, decision, (x, y))
        status = Status.AMBIGUOUS if candidates else Status.FOUND
    answer = with_mask(replace(nothing, status=status, score=score), mask, raw.probability)
    return replace(answer, candidates=candidates)


def with_mask(answer: Segmentation, mask: np.ndarray, probability: np.ndarray | None = None) -> Segmentation:
    """The answer with another (H, W) bool mask, its centroid, box and area, and no candidates. The anchor is the mask's
    surest point by the (H, W) float32 map behind it; without one, its deepest."""
    pixels = np.ascontiguousarray(mask, bool).view(np.uint8)
    x, y, w, h = map(int, cv2.boundingRect(pixels))
    if w == 0:
        return replace(answer, mask=mask, centroid=None, anchor=None, box=None, area=0, candidates=())
    moments = cv2.moments(pixels[y : y + h, x : x + w], binaryImage=True)
    area = int(moments["m00"])
    centroid = (x + moments["m10"] / area, y + moments["m01"] / area)
    anchor = deepest_point(mask) if probability is None else surest_point(probability, mask)
    return replace(answer, mask=mask, centroid=centroid, anchor=anchor, box=(x, y, w, h), area=area, candidates=())


def surest_point(probability: np.ndarray, mask: np.ndarray) -> tuple[float, float] | None:
    """(u, v) of the deepest pixel of the surest part of a (H, W) bool mask; None for an empty one.

    The surest part is the connected one around the mask's highest (H, W) float32 probability (all of them, if several
    are as high) in which it is at least _SURE of that, all after smoothing with a Gaussian of _SMOOTHING times the
    square root of the picture's area. In a mask that is equally sure everywhere this is about its deepest point; where
    the mask has taken in more than the thing, it stays on the thing.
    """
    x, y, w, h = cv2.boundingRect(np.ascontiguousarray(mask, bool).view(np.uint8))
    if w == 0:
        return None
    sigma = _SMOOTHING * math.sqrt(mask.size)
    reach = math.ceil(4 * sigma) + 1  # beyond it, OpenCV's kernel is zero
    top, left = max(0, y - reach), max(0, x - reach)
    part = np.s_[top : y + h + reach, left : x + w + reach]
    smooth = np.where(mask[part], cv2.GaussianBlur(probability[part], (0, 0), sigma), 0)
    peak = smooth.max()
    sure = (smooth >= _SURE * peak) & mask[part]
    _, labels = cv2.connectedComponents(sure.view(np.uint8), connectivity=8)
    point = deepest_point(
        np.isin(labels, labels[(smooth >= (1 - 1e-5) * peak) & sure])
    )  # several parts, if equally sure
    return None if point is None else (point[0] + left, point[1] + top)


def deepest_point(mask: np.ndarray) -> tuple[float, float] | None:
    """(u, v) of the pixel of a (H, W) bool mask that is farthest from everything outside it; None for an empty mask.

    The picture's border counts as outside. Distances are OpenCV's 5x5 approximation (within about 2 %); among equally
    deep pixels, as along the middle of a bar, the one nearest to their mean.
    """
    pixels = np.ascontiguousarray(mask, bool).view(np.uint8)
    x, y, w, h = cv2.boundingRect(pixels)
    if w == 0:
        return None
    framed = cv2.copyMakeBorder(pixels[y : y + h, x : x + w], 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_5)
    rows, columns = np.nonzero(depth > depth.max() - 1e-3)
    nearest = np.hypot(rows - rows.mean(), columns - columns.mean()).argmin()
    return float(columns[nearest] - 1 + x), float(rows[nearest] - 1 + y)


def normalise_text(text: str) -> str:
    """A sentence as the tokenizers get it: NFKC, control characters gone, runs of white space single spaces.

    Cut to MAX_CHARACTERS. Raises ValueError if it is no string or nothing is left.
    """
    if not isinstance(text, str):
        raise ValueError(f"the sentence must be a string, not {type(text).__name__}")
    letters = unicodedata.normalize("NFKC", text[:MAX_CHARACTERS])
    # Categories: Cc control (also new lines: a space), Cf invisible format marks, Cs halves of surrogate pairs, which
    # no tokenizer can encode.
    kinds = {"Cc": " ", "Cf": "", "Cs": ""}
    normalised = " ".join("".join(kinds.get(unicodedata.category(c), c) for c in letters).split())[:MAX_CHARACTERS]
    if not normalised:
        raise ValueError(f"the sentence {text[:40]!r} is empty: say what to look for, for example 'the red mug'")
    return normalised


def check_picture(rgb: np.ndarray) -> None:
    """Raises ValueError, with the remedy, unless this is a (H, W, 3) uint8 array of 1 to MAX_PIXELS pixels."""
    if not isinstance(rgb, np.ndarray):
        raise ValueError(f"the picture must be a numpy array, not {type(rgb).__name__}: convert with numpy.asarray")
    if rgb.ndim == 2 or (rgb.ndim == 3 and rgb.shape[2] == 1):
        raise ValueError(f"the picture is grey {rgb.shape}: convert with cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)")
    if rgb.ndim == 3 and rgb.shape[2] == 4:
        raise ValueError(
            f"the picture has four channels {rgb.shape}: convert with cv2.cvtColor(image, cv2.COLOR_BGRA2RGB)"
        )
    if rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"the picture must have the shape (height, width, 3), not {rgb.shape}")
    if rgb.dtype != np.uint8:
        raise ValueError(
            f"the picture must be uint8 with values 0 to 255, not {rgb.dtype}: "
            "for values from 0 to 1, (image * 255).round().astype(numpy.uint8)"
        )
    pixels = rgb.shape[0] * rgb.shape[1]
    if pixels == 0:
        raise ValueError(f"the picture has no pixels {rgb.shape}: was it read or cropped correctly?")
    if pixels > MAX_PIXELS:
        raise ValueError(f"the picture has {pixels} pixels, more than {MAX_PIXELS}: shrink it with cv2.resize")


def _score(inside: float, raw: RawAnswer, decision: DecisionConfig) -> float:
    """The score of a mask with that mean probability inside."""
    factors = [inside, *(head for head in (raw.presence, raw.iou) if head is not None)]
    score = min(1.0, math.prod(factors) ** (1 / len(factors)))
    if (decision.slope, decision.offset) == (1, 0) or not 0 < score < 1:
        return score
    return 1 / (1 + math.exp(-decision.slope * math.log(score / (1 - score)) - decision.offset))


def _candidates(
    pixels: np.ndarray, probability: np.ndarray, raw: RawAnswer, decision: DecisionConfig, corner: tuple[int, int]
) -> tuple[Candidate, ...]:
    """The separate blobs that could each be the thing meant, from left to right; none if it is one. (h, w) uint8 mask
    and its float32 probabilities, the part of the picture whose left upper `corner` is (x, y)."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]  # 0 is the background
    if len(areas) < 2:
        return ()

    def is_sure(blob: int) -> bool:
        return _score(float(probability[labels == blob + 1].mean()), raw, decision) >= decision.confident

    second, largest = np.argsort(areas, kind="stable")[-2:].tolist()
    if areas[second] <= decision.ambiguous * areas[largest] or not (is_sure(second) and is_sure(largest)):
        return ()
    found = []
    for blob in np.flatnonzero(areas > decision.ambiguous * areas[largest]).tolist():
        x, y, w, h = stats[blob + 1, :4].tolist()
        inside = labels[y : y + h, x : x + w] == blob + 1
        if is_sure(blob) and (anchor := deepest_point(inside)) is not None:
            left, top = corner[0] + x, corner[1] + y
            found.append(Candidate((left + anchor[0], top + anchor[1]), (left, top, w, h), int(areas[blob])))
    return tuple(sorted(found))


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device={device!r}: no such device; use 'cpu', 'cuda' or 'cuda:1'") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device={str(device)!r}: PyTorch sees {torch.cuda.device_count()} CUDA devices; use 'cpu'")
    return device


def _precision(precision: Precision | None, device: torch.device) -> Precision:
    if precision is None or precision == "fp32":
        return "fp32"
    if precision not in get_args(Precision):
        raise ValueError(f"precision={precision!r}: must be one of {', '.join(get_args(Precision))}")
    if device.type != "cuda":
        raise ValueError(f"precision={precision!r} needs a CUDA device, not {device.type}: use 'fp32'")
    if precision == "bf16" and not torch.cuda.is_bf16_supported():
        raise ValueError("precision='bf16': this GPU cannot compute in it; use 'fp16' or 'fp32'")
    return precision

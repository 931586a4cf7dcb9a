"""From a picture and a sentence to an answer: `Segmenter.load()`, then `set_image(rgb)`, then `segment(text)`.

The image half of the network runs once per picture and serves any number of sentences; a sentence's text features are
cached. Coordinates are the picture's own pixels, (u, v) = (column, row), pixel centres at whole numbers.
"""

from __future__ import annotations

import threading
import time
import unicodedata
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from jmceln_core import checkpoint
from jmceln_core.answer import RawAnswer, Segmentation, Status, decide, joined, less
from jmceln_core.config import ModelConfig
from jmceln_core.geometry import Letterbox
from jmceln_core.model import JMCELN, ImageFeatures, TextFeatures, build_model
from jmceln_core.quantity import Part, understand

Precision = Literal["fp32", "bf16", "fp16"]

MAX_PIXELS = 100_000_000  # of a picture; the answer takes about 10 bytes a pixel while it is made
MAX_CHARACTERS = 4096  # of a sentence; far beyond what any text encoder's tokens hold
_CACHED_SENTENCES = 512
_SENTENCES_AT_ONCE = 8  # the decoder's memory grows with them
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Segmenter:
    """A network ready to answer.

    `model` is in evaluation mode and moved to `device` by this; `precision` is "fp32", or "bf16" / "fp16" for mixed
    precision on CUDA (None: fp32). All calls are serialised by one lock and may come from any thread; as there is one
    current picture, give every camera a Segmenter of its own.

    `decision` has the thresholds of the next answers; it may be set to others at any time.

    To answer by other means, override `set_image` and `segment`, or `_see` and `_look_for` to keep the checks, the
    decision and `raw_answers`, which evaluations ask.
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
            letterbox = Letterbox(height, width, self.config.image_size, self.config.resize)
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

        A sentence that joins things ("the mug and the spoon") or leaves some out ("every mug but the red one") is asked
        in parts, each at the price of a sentence, and put together again (`quantity.understand`, `answer.joined`,
        `answer.less`).

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
        with self._lock:
            answers: list[Segmentation] = []
            for start in range(0, len(sentences), _SENTENCES_AT_ONCE):
                begin = time.perf_counter()
                some = [understand(sentence) for sentence in sentences[start : start + _SENTENCES_AT_ONCE]]
                raws = self._ask([text for parts in some for text in _texts(parts)], follow)
                if follow:
                    self._remember(raws)
                made = [self._put_together(parts, raws, probability) for parts in some]
                share = (time.perf_counter() - begin) / len(some)
                answers += [replace(answer, seconds=share) for answer in made]
            return answers

    def raw_answers(self, texts: Sequence[str]) -> list[RawAnswer]:
        """What the network says about each sentence as a whole, before any threshold: tables of networks compare it.

        Nothing is asked in parts, as `segment` does. Raises as `segment`.
        """
        sentences = [normalise_text(text) for text in texts]
        with self._lock:
            raws = self._ask(sentences)
        return [raws[sentence] for sentence in sentences]

    def _ask(self, sentences: Sequence[str], follow: float = 0.0) -> dict[str, RawAnswer]:
        """What the network says about the normalised sentences and the current picture, each asked once."""
        if self._picture is None:
            raise RuntimeError("there is no picture to look at: call set_image(rgb) before segment(text)")
        letterbox, features = self._picture
        options = {"follow": follow} if follow else {}  # subclasses that cannot follow need not know of it
        asked = list(dict.fromkeys(sentences))
        raws: dict[str, RawAnswer] = {}
        for first in range(0, len(asked), _SENTENCES_AT_ONCE):
            together = asked[first : first + _SENTENCES_AT_ONCE]
            raws |= zip(together, self._look_for(together, features, letterbox, **options), strict=True)
        return raws

    def _put_together(self, parts: Sequence[Part], raws: dict[str, RawAnswer], probability: bool) -> Segmentation:
        """Of what the network said about their texts, the answer to a sentence's parts."""
        if len(parts) == 1 and not parts[0].without:
            return decide(raws[parts[0].text], self.decision, probability=probability, part=parts[0])
        answers = []
        for part in parts:
            answer = decide(raws[part.text], self.decision, probability=True, part=part)
            for other in part.without:
                answer = less(answer, self._put_together([other], raws, True), plural=other.plural)
            if len(parts) > 1:
                answer = replace(answer, instances=tuple(one._replace(text=part.text) for one in answer.instances))
            answers.append(answer)
        answer = joined(answers) if len(answers) > 1 else answers[0]
        return answer if probability else replace(answer, probability=None)

    @torch.inference_mode()
    def _see(self, square: np.ndarray) -> ImageFeatures:
        """The image half on a (S, S, 3) uint8 square."""
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

    def _remember(self, raws: dict[str, RawAnswer]) -> None:
        """Keep the queries for the next picture; those of a thing that was not there would only repeat the no."""
        for text, raw in raws.items():
            known = text in self._queries or len(self._queries) < _CACHED_SENTENCES
            if known and raw.queries is not None and decide(raw, self.decision).status is not Status.NOT_PRESENT:
                self._queries[text] = raw.queries

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


def _texts(parts: Sequence[Part]) -> list[str]:
    """What the network is asked about them."""
    return [text for part in parts for text in (part.text, *_texts(part.without))]


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

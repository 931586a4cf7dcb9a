"""Configuration: dataclasses with one commented field a line, YAML presets, dotted overrides, and where the files are.

A preset is a file `config/model/NAME.yaml`. `resource` finds it in a checkout, after `pip install` and after
`colcon build` alike.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import yaml

T = TypeVar("T")


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the field and what is allowed."""


@dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`, the latter left out if `below`: what a field's type allows (`Annotated`)."""

    low: float
    high: float = math.inf
    below: bool = False

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, (int, float)) or not math.isfinite(number):
            return False
        return self.low <= number <= self.high and not (self.below and number == self.high)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"at least {self.low:g}"
        return f"from {self.low:g} to {'below ' * self.below}{self.high:g}"


Natural = Annotated[int, Range(0)]
Positive = Annotated[int, Range(1)]
Amount = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
Decay = Annotated[float, Range(0, 1, below=True)]
Block = Annotated[int, Range(1, 12)]  # of DINOv2
Blocks = Annotated[int, Range(0, 12)]


def ranges(cls: type) -> dict[str, Range]:
    """What the types of a configuration's numbers allow, by field; of a tuple, each of its numbers."""
    found = {}
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        kind = typing.get_args(hint)[0] if typing.get_origin(hint) is tuple else hint
        for allowed in getattr(kind, "__metadata__", ()):
            found[name] = allowed
    return found


@dataclass(frozen=True)
class Checked:
    """A configuration that refuses, however it is made, a number outside its field's `Range`: ConfigError names it."""

    AT: ClassVar[str] = ""  # what stands before the fields' names where users write them

    def __post_init__(self) -> None:
        for name, allowed in ranges(type(self)).items():
            value = getattr(self, name)
            several = isinstance(value, tuple)
            if not all(number in allowed for number in (value if several else (value,))):
                raise ConfigError(f"{self.AT}{name}={list(value) if several else value}: must be {allowed}")


@dataclass(frozen=True)
class ImageEncoderConfig(Checked):
    """Which network turns the image into feature levels."""

    name: Literal["clip_rn101", "dinov2_vits14", "tiny_vit_5m", "tiny"] = "clip_rn101"  # registry name, model/encoders
    pretrained: bool | str = True  # the published weights first (CLIP's are downloaded), or a file's; false: random
    frozen: bool = False  # true: never trained, kept in eval mode, features can be cached
    c5: Literal["layer4", "attention"] = "layer4"  # CLIP: last stage, or its attention pool made dense
    blocks: tuple[Block, ...] = (8, 12)  # DINOv2: outputs of these blocks (counted from 1) feed the pyramid
    channels: Positive = 192  # DINOv2, tiny: width of the pyramid's levels
    tuned_blocks: Blocks = 0  # DINOv2, frozen: the last so many blocks, and the norm after them, learn all the same
    fine_channels: Annotated[int, Range(2)] = 32  # DINOv2: width of the stride-4 level
    fine_layers: Positive = 1  # DINOv2: convolutions of it that see the image alone; 2 and more begin at stride 2

    AT = "image_encoder."

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tuned_blocks and not (self.frozen and self.name == "dinov2_vits14"):
            raise ConfigError(
                f"image_encoder.tuned_blocks={self.tuned_blocks}: 1 to 12 blocks of a dinov2_vits14 with frozen=true; "
                "an encoder that is not frozen learns as a whole"
            )
        if not self.blocks:
            raise ConfigError("image_encoder.blocks=[]: must name one block or more")
        if self.fine_channels % 2:
            raise ConfigError(f"image_encoder.fine_channels={self.fine_channels}: must be even")


@dataclass(frozen=True)
class TextEncoderConfig(Checked):
    """Which network turns the sentence into word and sentence features."""

    name: Literal["clip_rn101", "minilm_l6", "minilm_l2", "tiny"] = "clip_rn101"  # registry name, model/encoders
    pretrained: bool | str = True  # the published weights first, or a file's; false: random
    frozen: bool = False  # true: never trained, kept in eval mode, features can be cached
    tokens: Annotated[int, Range(3, 512)] = 30  # L, special ones included; longer sentences are cut, their end is kept

    AT = "text_encoder."

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name == "clip_rn101" and self.tokens > 77:
            raise ConfigError(f"text_encoder.tokens={self.tokens}: clip_rn101 reads no more than 77")


@dataclass(frozen=True)
class DecisionConfig(Checked):
    """What turns a prediction into an answer (Segmenter); chosen on training pictures, not on a test set."""

    mask: Share = 0.5  # a pixel belongs to the mask where its probability is above this
    present: Share = 0.5  # presence probability below this: NOT_PRESENT (only with a presence head)
    confident: Share = 0.5  # score below this: LOW_CONFIDENCE
    ambiguous: Share = 0.5  # second-largest blob / largest blob (area) above this, both confident: AMBIGUOUS
    slope: Amount = 1.0  # calibration of the score: its logit times this ...
    offset: float = 0.0  # ... plus this is the logit of the share of such answers that are right (IoU of 0.5 or more)

    AT = "decision."


@dataclass(frozen=True)
class ModelConfig(Checked):
    """The network. The defaults are the paper's (section 4, implementation details) or say what they are; but for
    `resize`, which older checkpoints lack: they are letterboxed."""

    name: str = "paper"  # shown by Segmenter.name
    image_size: Positive = 416  # S, side of the square input in pixels (paper)
    resize: Literal["letterbox", "squash"] = "letterbox"  # into the square: padded, or stretched (paper)
    image_encoder: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    text_encoder: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    channels: Positive = 1024  # C (paper)
    stages: Positive = 6  # n (paper)
    queries: Positive = 20  # Q, learnable contextual embeddings (paper)
    heads: Positive = 8  # of every multi-head attention (paper)
    fusion: Literal["neck", "queries"] = "neck"  # where the sentence enters; neck is the paper's, queries is ours
    norm: Literal["batch", "group"] = "batch"  # normalisation of neck, LSRAN and head (paper: batch norm in the neck)
    # rows of the paper's Table 2
    lsran: bool = True  # off: F_mt = F_m (rows 1, 3)
    cascade: bool = True  # off: no stages, the head reads F_mt (rows 1, 2)
    pan: bool = True  # off: a stage's output is Eq. 4 alone (rows 3, 4)
    adaptive: bool = True  # off: every stage's Eq. 3 reads F_mt^0 instead of F_mt^i (row 6)
    contextual: bool = True  # off: no contextual embeddings; every stage's Eq. 4 reads the sentence's words (our row 7)
    # LSRAN; Fig. 2b's values are not in the text
    window: Positive = 13  # side of an attention window; other sizes are padded
    dilations: tuple[Positive, ...] = (1, 6, 12, 18)  # of the 3x3 branches, each C / 4 wide
    # head
    head_channels: tuple[Positive, ...] = (512, 256, 128)  # width after each (3x3, norm, act, x2) step; not the paper's
    # beyond the paper, all off in its preset
    positions: bool = False  # sine-cosine positions added to F_m
    words: bool = False  # queries read the words by cross-attention in every stage
    query_mixing: bool = False  # self-attention among the queries and a feed-forward layer in every stage
    dense_from: Natural = 0  # stages before this one update the queries only (Eq. 3); their F_mt is the image's own
    pan_projection: bool = False  # a 1x1 convolution after PAN's SwitchNorm
    pan_gates: Literal["product", "bounded"] = "product"  # PAN's gates: the paper's, or sigmoids of normalised filters
    colour_path: bool = False  # the picture's local colours are added to F_m and F_mt
    fine_skip: bool = False  # a stride-4 level joins the head
    deep_supervision: bool = False  # each stage predicts a coarse mask from its queries and F_mt
    mask_prompt: bool = False  # a stage's coarse mask is added to the F_mt its dense part reads
    coarse_residual: bool = False  # the head's logits are added to the last coarse mask's, enlarged
    presence_head: bool = False  # "there is no such thing here", from the mean final query
    iou_head: bool = False  # predicted IoU of the mask, from the mean final query
    decision: DecisionConfig = field(default_factory=DecisionConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("dilations", "head_channels"):
            if not getattr(self, name):
                raise ConfigError(f"{name}=[]: must be one or more numbers")
        if self.channels % 4:
            raise ConfigError(f"channels={self.channels}: must be divisible by 4 (LSRAN and PAN split it)")
        if self.channels % self.heads:
            raise ConfigError(f"channels={self.channels}: must be divisible by heads={self.heads}")
        if self.fusion == "queries" and not self.cascade:
            raise ConfigError("fusion=queries needs cascade=true: without stages the sentence would enter nowhere")
        if self.mask_prompt and not self.deep_supervision:
            raise ConfigError("mask_prompt=true needs deep_supervision=true: it feeds on the stages' coarse masks")
        if self.coarse_residual and not self.deep_supervision:
            raise ConfigError("coarse_residual=true needs deep_supervision=true: it adds to the stages' coarse masks")
        if (self.presence_head or self.iou_head) and not self.cascade:
            raise ConfigError("presence_head and iou_head need cascade=true: they read the final queries")
        if not self.contextual:
            self._check_static_words()
        if self.dense_from >= self.stages:
            raise ConfigError(f"dense_from={self.dense_from}: must be below stages={self.stages}")

    def _check_static_words(self) -> None:
        """Fields that say something about the contextual embeddings mean nothing without them."""
        if not self.cascade:
            raise ConfigError("contextual=false needs cascade=true: it says what the stages read")
        if not self.adaptive:
            raise ConfigError("contextual=false needs adaptive=true: without embeddings there is no Eq. 3 to change")
        for name in ("presence_head", "iou_head", "words", "query_mixing", "dense_from"):
            if getattr(self, name):
                raise ConfigError(f"contextual=false leaves {name} nothing to work on; turn it off (it needs queries)")

    @property
    def mask_size(self) -> int:
        """Side of the mask logits, which cover the whole square."""
        if self.fine_skip:
            return self.image_size // 4
        stride = 14 if self.image_encoder.name == "dinov2_vits14" else 8
        return self.image_size // stride * 2 ** len(self.head_channels)


def resource(name: str) -> Path:
    """Path of a file of the folder `config/`, for example "model/paper.yaml".

    In a checkout that is REPO/config; an installed package carries the folder as jmceln_core/_config. Raises
    ConfigError with the places looked at.
    """
    here = Path(__file__).resolve().parent
    places = [here / "_config" / name, here.parent / "config" / name]
    for place in places:
        if place.is_file():
            return place
    raise ConfigError(f"{name}: not found; looked at " + " and ".join(map(str, places)))


def from_dict(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build a dataclass from nested plain values; unknown fields and wrong types are errors that name the field."""
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    built: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, 1)
            hint = f"; did you mean {close[0]}?" if close else f"; the fields are {', '.join(fields)}"
            raise ConfigError(f"{where}{key}: no such field of {cls.__name__}{hint}")
        built[key] = _convert(hints[key], value, f"{where}{key}")
    return cls(**built)


def _convert(kind: Any, value: Any, where: str) -> Any:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected fields of {kind.__name__}, got {value!r}")
        return from_dict(kind, value, where + ".")
    origin = typing.get_origin(kind)
    if origin is Literal:
        if value not in typing.get_args(kind):
            raise ConfigError(f"{where}: {value!r} is not one of {', '.join(map(str, typing.get_args(kind)))}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where}: expected a list, got {value!r}")
        return tuple(_convert(typing.get_args(kind)[0], v, where) for v in value)
    if choices := typing.get_args(kind):  # a union: Path | None, bool | str
        if type(value) in choices:
            return value
        if bool in choices:
            raise ConfigError(f"{where}: expected true, false or a text, got {value!r}")
        return _convert(next(a for a in choices if a is not type(None)), value, where)
    if kind is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)  # a string, too: YAML reads 6e-4 as one (6.0e-4 is its number)
        except ValueError:
            pass
    if kind is Path and isinstance(value, (str, Path)):
        return Path(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{where}: expected {kind.__name__}, got {value!r}")
    return value


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain values of a config dataclass: json and YAML can hold them; `from_dict` reads them back."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return str(value) if isinstance(value, Path) else value

    return plain(dataclasses.asdict(config))


def apply_overrides(values: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Apply "a.b=c" overrides (values are YAML) to nested plain values, in place, and return them."""
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator:
            raise ConfigError(f"{override!r}: an override is written field=value")
        *parents, last = path.strip().split(".")
        node = values
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(f"{override!r}: {parent} is a value, it has no fields")
        try:
            node[last] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"{override!r}: the value is not valid YAML") from None
    return values


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file (empty file: empty). Raises ConfigError naming the file."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML ({error})") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected fields, got {type(values).__name__}")
    return values


def load_model_config(name_or_path: str | Path, overrides: Iterable[str] = ()) -> ModelConfig:
    """A model configuration: a preset (paper, base, bundled) or a YAML file, with "field=value" overrides."""
    text = str(name_or_path)
    if text.endswith((".yaml", ".yml")) or "/" in text:
        path = Path(name_or_path)
    else:
        try:
            path = resource(f"model/{text}.yaml")
        except ConfigError:
            known = sorted(p.stem for p in resource("model/paper.yaml").parent.glob("*.yaml"))
            raise ConfigError(f"no model preset {text!r}; the presets are {', '.join(known)}") from None
    return from_dict(ModelConfig, apply_overrides(read_yaml(path), overrides))


COMPOSED = ("tables", "people")  # kinds of pictures that are made on the fly


@dataclass(frozen=True)
class CompositionConfig(Checked):
    """Pictures made on the fly, in the place of some of a step's (docs/synthesis.md)."""

    share: Share = 0.0  # of a step's pictures
    photographs: bool = False  # also show what can be cut out of the training pictures
    kinds: tuple[str, ...] = ("tables",)  # tables (cutouts/), people (people/); each as likely as it is often named

    AT = "data.composition."

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.kinds or not set(self.kinds) <= set(COMPOSED):
            raise ConfigError(f"data.composition.kinds={list(self.kinds)}: one or more of {', '.join(COMPOSED)}")


@dataclass(frozen=True)
class DataConfig(Checked):
    """What to train on. docs/data.md has the layouts."""

    root: Path = Path(".")  # the data set's folder
    dataset: str = "coco"  # coco, refcoco, refcoco+, refcocog or grefcoco; several joined by commas train together
    split: str = "train"  # REFER's data sets: the split to train on
    val_split: str = "val"  # and the one that chooses the best epoch (of the first data set named)
    split_by: str = ""  # refcocog has the splits umd and google; empty: umd, and unc for the others
    subset: bool = False  # true: a part of a known data set is meant; its counts are not compared
    sources: tuple[str, ...] = ()  # coco: FOLDER/SPLIT below root, one or more
    repeat: tuple[Positive, ...] = ()  # coco: how often an epoch takes up each source's pictures; empty: once
    val_sources: tuple[str, ...] = ()  # coco: the same for validation; none: pictures of the first source are held out
    left_out: bool = False  # coco: true: pictures that config/eval/left_out.txt keeps for measuring are not trained on
    composition: CompositionConfig = field(default_factory=CompositionConfig)  # pictures made in the workers
    validation: Natural = 40  # coco without val_sources: how many pictures are held out
    val_pictures: Natural = 0  # validate on so many pictures only, drawn once; 0: all of them
    val_sentences: Natural = 0  # and on so many sentences of each; 0: all of them
    shards: str = ""  # folder or URL of shards (python -m jmceln_core.data.shard) to stream the training samples from
    workers: Natural = 0  # processes a GPU (or CPU) process reads its samples with; 0: itself
    # sentences
    # an epoch: every object once, with one of its sentences drawn; every sentence once; or every picture as often as
    # its sentences fill, with sorts mixed as below
    sampling: Literal["object", "sentence", "mixture"] = "object"  # what an epoch takes up
    generated: Natural = 0  # rule-made sentences drawn for each instance (docs/expressions.md; mixture)
    plurals: Natural = 0  # rule-made sentences about several instances drawn for each picture (mixture)
    absent: Natural = 0  # rule-made near misses drawn for each picture: they match nothing there
    names: Natural = 0  # bare names drawn for each picture, and half as many denials and words for nothing (mixture)
    borrowed: Natural = 0  # other pictures' sentences, about kinds of things this picture has none of, drawn for each
    written: Share = 0.65  # mixture: share of a picture's sentences that are written ones
    absent_share: Share = 0.0  # share of the drawn sentences replaced by one that matches nothing in the picture
    # views
    mirror: Share = 0.0  # share of views that are mirrored, with mirrored words
    crop: Share = 0.0  # share of views cropped or framed; a crop never cuts an instance (data/views.py)
    photometric: Share = 0.0  # share of views with other brightness and contrast, alike for all colours
    cache: Path | None = None  # folder of frozen encoders' features; none: encoders run in every step
    views: Positive = 1  # cached views of each picture, the plain one included
    shuffle: Positive = 1000  # shards: pictures held in memory and shuffled

    AT = "data."


@dataclass(frozen=True)
class OptimConfig(Checked):
    """How long and how fast. The defaults are the paper's or say what they are."""

    epochs: Positive = 60  # (paper)
    steps: Natural = 0  # optimiser steps, instead of epochs; 0: epochs count
    images: Positive = 20  # pictures in a step, all processes together (paper: batch 20)
    sentences: Positive = 1  # sentences of each picture in a step, sharing its image half
    dense: Natural = 0  # of these, how many go through the dense stages and the mask head; 0: all
    accumulate: Positive = 1  # parts a process works off its pictures of a step in, one after the other, to save memory
    lr: Amount = 6e-6  # AdamW, peak (paper)
    encoder_lr: Amount = 1.0  # factor on the encoders' rate; the paper names none
    new_lr: Amount = 1.0  # factor on the rate of parts that start_from's checkpoint lacks
    schedule: Literal["polynomial", "cosine", "constant"] = "polynomial"  # of the rate, after the warm-up (paper)
    power: Amount = 0.9  # of the polynomial (paper)
    warmup: Natural = 0  # steps of linear warm-up; the paper names none
    weight_decay: Amount = 0.01  # AdamW's own default; the paper names none
    decay_vectors: bool = True  # false: no decay on norms, biases and other vectors
    beta2: Decay = 0.999  # AdamW's own default
    clip: Amount = 0.0  # largest norm of the gradient; 0: not clipped (the paper names none)
    ema: Decay = 0.0  # decay of averaged weights, which are then what is validated and kept; 0: none (paper)
    seed: Natural = 0  # of the data's order, the views, the new weights

    AT = "optim."

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dense > self.sentences:
            raise ConfigError(
                f"optim.dense={self.dense}: must be at most optim.sentences={self.sentences}, or 0 for all"
            )


@dataclass(frozen=True)
class LossConfig(Checked):
    """Weights of the terms; 0 leaves a term out. The paper's loss is cross-entropy alone (section 3.5)."""

    cross_entropy: Amount = 1.0  # of the mask's two classes
    focal: Amount = 0.0  # focal loss of the mask
    focal_gamma: Amount = 2.0  # its exponent
    focal_alpha: Share = 0.25  # its weight of target pixels; background pixels have one minus that
    dice: Amount = 0.0  # of the mask
    coarse: Amount = 0.0  # deep supervision: cross-entropy + Dice of every stage's coarse mask, mean over stages
    contrast: Amount = 0.0  # which of the picture's instances: softmax over pooled coarse logits, mean over stages
    presence: Amount = 0.0  # binary cross-entropy of the presence head
    iou: Amount = 0.0  # binary cross-entropy of the predicted IoU against the IoU the mask has now

    AT = "loss."


@dataclass(frozen=True)
class DistilConfig(Checked):
    """A larger network's answers as a further target (docs/training.md). Weights; 0 leaves a term out."""

    teacher: str = ""  # checkpoint, by name or path; empty: none
    mask: Amount = 0.0  # cross-entropy + Dice of the mask against the teacher's probabilities
    coarse: Amount = 0.0  # the same of every stage's coarse mask, mean over stages
    presence: Amount = 0.0  # binary cross-entropy against the teacher's presence probability

    AT = "distil."

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = {name: getattr(self, name) for name in ("mask", "coarse", "presence")}
        if self.teacher and not any(weights.values()):
            names = ", ".join(f"distil.{name}" for name in weights)
            raise ConfigError(f"distil.teacher={self.teacher} teaches nothing: give one of {names} a weight")
        if not self.teacher and any(weights.values()):
            given = ", ".join(f"distil.{name}={weight}" for name, weight in weights.items() if weight)
            raise ConfigError(f"{given} without a teacher: give distil.teacher a checkpoint")


@dataclass(frozen=True)
class TrainConfig(Checked):
    """Everything a training run depends on. The defaults are the paper's recipe."""

    model: str = "paper"  # preset or YAML file
    model_overrides: tuple[str, ...] = ()  # "field=value" on top of it
    start_from: str = ""  # checkpoint that a new run starts from (what it lacks starts new); empty: the encoders' own
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    distil: DistilConfig = field(default_factory=DistilConfig)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"  # Lightning Fabric's names
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"  # several processes: auto is ddp; fsdp for what does not fit
    sync_norm: bool = False  # batch statistics over all processes instead of each one's own
    validate_every: Natural = 0  # steps between validations, checkpoints and lines of metrics.jsonl; 0: every epoch
    save_every: Natural = 0  # steps between states to resume from, besides those at validations; 0: only those
    overlays: Natural = 4  # validation pictures drawn into TensorBoard
    threads: Natural = 0  # PyTorch's threads; 0 leaves its own choice

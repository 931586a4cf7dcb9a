"""From pictures and sentences to the tensors of a training step.

What a step reads is a function of (seed, step) alone, whatever reads it: one process or many, at the first attempt or
after a restart.

Shapes: B pictures, S sentences of each (N = B * S, a picture's sentences together), K instances of the picture with the
most, h w the size of the mask logits, H W = image_size // 8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from jmceln_core.config import DataConfig
from jmceln_core.data.grounding import DataError, Expression, GroundingData, Picture
from jmceln_core.data.mirror import can_mirror, mirror_text
from jmceln_core.data.sampling import Group, outline, plan_picture
from jmceln_core.data.views import View
from jmceln_core.geometry import Resize

SAME = 0.8  # instances that overlap by more IoU than this are the same thing annotated twice
ATTEMPTS = 20  # pictures tried in the place of one that cannot be read


class Batch(NamedTuple):
    """A step's data, or a part of it."""

    images: Tensor  # (B, 3, side, side) uint8 letterboxed RGB; side is image_size, or a multiple that a teacher sees
    trunk: tuple[Tensor, ...]  # cached features of a frozen image encoder, (B, C, h, w) each; () without a cache
    texts: list[str]  # N
    truth: Tensor  # (B, S, h, w) uint8: 255 * share of each mask pixel's area covered by what the sentence means
    present: Tensor  # (B, S) bool: the sentence means something in its picture
    instances: Tensor  # (B, K, H, W) uint8: 255 * coverage of each instance; K = 0 where no loss reads them
    targets: Tensor  # (B, S, K) bool: the instances a sentence means
    rivals: Tensor  # (B, S, K) bool: those it chooses among: no crowds, no second outline of a target; targets included
    skipped: tuple[str, ...] = ()  # what could not be read and was replaced, in words

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""

        def move(x: Tensor) -> Tensor:
            return x.to(device, non_blocking=True)

        return self._replace(
            images=move(self.images),
            trunk=tuple(move(x) for x in self.trunk),
            truth=move(self.truth),
            present=move(self.present),
            instances=move(self.instances),
            targets=move(self.targets),
            rivals=move(self.rivals),
        )


class Sample(NamedTuple):
    """One picture with S sentences: a Batch's fields without B, as arrays."""

    image: np.ndarray
    trunk: tuple[Tensor, ...]
    texts: list[str]
    truth: np.ndarray
    present: np.ndarray
    instances: np.ndarray
    targets: np.ndarray
    rivals: np.ndarray


class FeatureCache(Protocol):
    """Where the features of a frozen image encoder are read (`training.features.ImageFeatureCache`)."""

    def read(self, picture: Picture, view: int, *, mirrored: bool = False) -> tuple[np.ndarray, tuple[Tensor, ...]]:
        """The (S, S, 3) uint8 RGB square of a view and the encoder's maps of it, (C, h, w) float32 each. Raises
        DataError for what cannot be read."""


# So many sentences about a picture made for them, or None where a photograph stays in its place (`composition.live`).
Composition = Callable[[int, np.random.Generator], tuple[Picture, list[Expression]] | None]


def all_texts(data: GroundingData, config: DataConfig) -> set[str]:
    """Every text a sample can hold, mirrored ones included."""
    plain = {e.text for e in data.expressions}
    return plain | ({mirror_text(t) for t in plain if can_mirror(t)} if config.mirror or config.views > 1 else set())


@dataclass(frozen=True)
class SampleBuilder:
    """Turns a picture and S sentences about it into a Sample.

    image_size: side of the square; mask_size: of the mask logits, which cover it. With `instances` the
    instances' own coverages are made as well (for a contrast between them). `cache` holds features of a frozen image
    encoder: then views are the cached ones. `composition` now and then puts a picture of its own in the place of a
    training picture. `view_size`: side of the square of training's views where a teacher sees more of them than the
    network does; 0: image_size. `resize`: how the picture fills the square.
    """

    config: DataConfig
    image_size: int
    mask_size: int
    instances: bool = False
    cache: FeatureCache | None = None
    composition: Composition | None = None
    view_size: int = 0
    resize: Resize = "letterbox"

    def __call__(
        self, picture: Picture, sentences: Sequence[Expression], rng: np.random.Generator | None = None
    ) -> Sample:
        """Without `rng`: the plain view, not mirrored. Raises DataError if the picture cannot be read."""
        size = self.image_size if rng is None else self.view_size or self.image_size
        index, view, flip = 0, View(), False
        if rng is not None and self.composition is not None and (made := self.composition(len(sentences), rng)):
            picture, sentences = made
        texts = [e.text for e in sentences]
        if rng is not None:
            if self.cache is not None:
                index = int(rng.integers(self.config.views))
                view = View.draw(picture, index)
            elif self.config.crop or self.config.photometric:
                view = View.random(picture, rng, crop=self.config.crop, photometric=self.config.photometric)
            flip = bool(rng.random() < self.config.mirror)
            if view.mirrored != flip and not all(can_mirror(t) for t in texts):
                flip = not flip  # a sentence about lettering, or one whose sides cannot be told: leave it as it is
            if view.mirrored != flip:
                texts = [mirror_text(t) for t in texts]
        trunk: tuple[Tensor, ...] = ()
        if self.cache is not None:
            image, trunk = self.cache.read(picture, index, mirrored=flip)
        else:
            image = view.image(picture, picture.load(), size, self.resize)
            image = image[:, ::-1] if flip else image
        means = {target for e in sentences for target in e.targets}
        masks = {
            i.id: view.mask(picture, i.mask(picture.height, picture.width), size, self.resize)
            for i in picture.instances
            if self.instances or i.id in means
        }
        truth = np.zeros((len(sentences), self.mask_size, self.mask_size), np.uint8)
        for row, expression in zip(truth, sentences, strict=True):
            if expression.targets:
                union = np.logical_or.reduce([masks[t] for t in expression.targets])
                row[:] = _coverage(union, self.mask_size)
        side = self.image_size // 8
        count = len(picture.instances) if self.instances else 0
        instances = np.zeros((count, side, side), np.uint8)
        targets, rivals = np.zeros((2, len(sentences), count), bool)
        if count:
            instances[:] = np.stack([_coverage(masks[i.id], side) for i in picture.instances])
            single = np.array([not i.crowd for i in picture.instances], bool)
            twin = _same(instances)
            numbers = {i.id: n for n, i in enumerate(picture.instances)}
            for n, expression in enumerate(sentences):
                meant = [numbers[t] for t in expression.targets]
                targets[n, meant] = True
                rivals[n] = single & ~twin[meant].any(0)
            rivals |= targets
        if flip:
            truth, instances = truth[..., ::-1], instances[..., ::-1]
        present = np.array([bool(e.targets) for e in sentences], bool)
        return Sample(image, trunk, texts, truth, present, instances, targets, rivals)


def _coverage(mask: np.ndarray, side: int) -> np.ndarray:
    """(S, S) bool -> (side, side) uint8: 255 times the share of each pixel's area that the mask covers."""
    return cv2.resize(255 * mask.astype(np.uint8), (side, side), interpolation=cv2.INTER_AREA)


def _same(instances_Khw: np.ndarray) -> np.ndarray:
    """(K, K) bool: instances that nearly coincide (IoU above SAME), COCO has a few; each with itself as well."""
    flat = (instances_Khw.reshape(len(instances_Khw), -1) > 127).astype(np.float32)
    inter = flat @ flat.T
    area = flat.sum(1)
    return inter > SAME * np.maximum(area[:, None] + area - inter, 1e-6)


def collate(samples: Sequence[Sample], skipped: Sequence[str] = ()) -> Batch:
    """Samples of equal S as a Batch; K is padded with instances that cover nothing."""
    count = max(len(s.instances) for s in samples)

    def stack(arrays: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(np.stack(arrays)))

    def padded(name: str, axis: int) -> Tensor:
        arrays = [getattr(s, name) for s in samples]
        shape = list(arrays[0].shape)
        shape[axis] = count
        whole = np.zeros((len(arrays), *shape), arrays[0].dtype)
        for row, array in zip(whole, arrays, strict=True):
            row[tuple(map(slice, array.shape))] = array
        return torch.from_numpy(whole)

    return Batch(
        stack([np.stack(cv2.split(s.image)) for s in samples]),
        tuple(torch.stack(maps) for maps in zip(*(s.trunk for s in samples), strict=True)),
        [text for s in samples for text in s.texts],
        stack([s.truth for s in samples]),
        stack([s.present for s in samples]),
        padded("instances", 0),
        padded("targets", 1),
        padded("rivals", 1),
        tuple(skipped),
    )


class StepDataset(Dataset[list[Batch]]):
    """A training step's data by its number: the `parts` batches that this process works off in that step.

    `images` pictures with `sentences` sentences each make a step, over all `world` processes together; process `rank`
    reads its share. An epoch's groups are shuffled; the few that do not fill a last step are left out. A picture that
    cannot be read is replaced by another one and named in the batch.
    """

    def __init__(
        self,
        data: GroundingData,
        builder: SampleBuilder,
        *,
        images: int,
        sentences: int,
        seed: int,
        parts: int = 1,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.builder, self.images, self.sentences, self.seed = builder, images, sentences, seed
        self.parts, self.rank, self.share = parts, rank, share_of(images, world=world, parts=parts)
        by_picture = data.by_picture()
        self.pictures = [data.pictures[key] for key in sorted(by_picture)]
        self.expressions = [by_picture[key] for key in sorted(by_picture)]
        self.outlines = [outline(expressions) for expressions in self.expressions]
        self._epochs: dict[int, list[Group]] = {}
        self.groups = len(self._plan(0))  # the same in every epoch
        if self.groups < images:
            raise DataError(
                f"the training pictures give {self.groups} groups of {sentences} sentences an epoch, a step takes "
                f"optim.images={images}: lower it, or give more data"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over the data."""
        return self.groups // self.images

    def _plan(self, epoch: int) -> list[Group]:
        if epoch not in self._epochs:
            groups = [
                group
                for number, about in enumerate(self.outlines)
                for turn in range(self.pictures[number].repeat)
                for group in plan_picture(
                    number, about, self.builder.config, sentences=self.sentences, seed=self.seed, epoch=epoch, turn=turn
                )
            ]
            order = np.random.default_rng([self.seed, epoch]).permutation(len(groups))
            self._epochs = {epoch: [groups[i] for i in order]}
        return self._epochs[epoch]

    def __len__(self) -> int:
        return 2**62  # steps go on for as long as they are asked for

    def __getitem__(self, step: int) -> list[Batch]:
        epoch, place = divmod(step, self.steps_per_epoch)
        first = place * self.images + self.rank * self.share * self.parts
        batches = []
        for part in range(self.parts):
            skipped: list[str] = []
            begin = first + part * self.share
            samples = [self._sample(epoch, n, skipped) for n in range(begin, begin + self.share)]
            batches.append(collate(samples, skipped))
        return batches

    def _sample(self, epoch: int, number: int, skipped: list[str]) -> Sample:
        plan = self._plan(epoch)

        def build(group: Group, rng: np.random.Generator) -> Sample:
            sentences = [self.expressions[group.picture][i] for i in group.sentences]
            return self.builder(self.pictures[group.picture], sentences, rng)

        return sample_or_another(build, plan, number, np.random.default_rng([self.seed, epoch, number]), skipped)


def sample_or_another(
    build: Callable[[Group, np.random.Generator], Sample],
    plan: Sequence[Group],
    number: int,
    rng: np.random.Generator,
    skipped: list[str],
) -> Sample:
    """The sample of a plan's group, or of another one if its picture cannot be read, which `skipped` then says.

    Raises DataError if ATTEMPTS in a row cannot be read.
    """
    group = plan[number]
    for _ in range(ATTEMPTS):
        try:
            return build(group, rng)
        except DataError as error:
            skipped.append(str(error))
            group = plan[int(rng.integers(len(plan)))]
    raise DataError(f"{ATTEMPTS} pictures in a row cannot be read, the last one: {skipped[-1]}")


def share_of(images: int, *, world: int, parts: int) -> int:
    """Pictures of a step in one of a process's parts. Raises DataError if they cannot be shared out evenly."""
    if images % (world * parts):
        raise DataError(
            f"optim.images={images} cannot be shared out evenly over {world} processes with "
            f"optim.accumulate={parts}: make it a multiple of {world * parts}"
        )
    return images // (world * parts)


_NONE = GroundingData()


class Asked(NamedTuple):
    """Sentences that validation asks about a picture. `existence`: bare names, denials and words for nothing, which say
    whether the network sees what is there and denies what is not, beside those by which models are compared."""

    picture: Picture
    sentences: list[Expression]
    existence: bool = False


class ValidationDataset(Dataset[Batch]):
    """Every picture's written sentences, or the rule-made ones of a picture that has no others, in batches of one
    picture and at most CHUNK sentences; plain views. After them those of `existence`, if `config.names` makes them.

    With `config.val_sentences`, so many of each picture, and a third as many of those that match nothing.
    """

    CHUNK = 8

    def __init__(self, data: GroundingData, builder: SampleBuilder, existence: GroundingData = _NONE) -> None:
        self.builder = builder
        self.items: list[Asked] = []
        limit = builder.config.val_sentences
        for key, expressions in sorted(data.by_picture().items()):
            said = [e for e in expressions if e.origin == "written"] or expressions
            meant, absent = [e for e in said if e.targets], [e for e in said if not e.targets]
            if limit:
                meant = meant[:: max(1, len(meant) // limit)][:limit]
                absent = absent[: max(1, limit // 3)]
            some = meant + absent
            self._ask(data.pictures[key], some)
        if not any(e.targets for asked in self.items for e in asked.sentences):
            raise DataError("the validation pictures have no sentence that means something: choose another split")
        for key, expressions in sorted(existence.by_picture().items()):
            self._ask(data.pictures[key], expressions, existence=True)

    def _ask(self, picture: Picture, sentences: list[Expression], *, existence: bool = False) -> None:
        for start in range(0, len(sentences), self.CHUNK):
            self.items.append(Asked(picture, sentences[start : start + self.CHUNK], existence))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> Batch:
        """A batch; in the place of one whose picture cannot be read, the next one, with `skipped` saying so."""
        skipped: list[str] = []
        for offset in range(len(self.items)):
            picture, sentences, _ = self.items[(number + offset) % len(self.items)]
            try:
                return collate([self.builder(picture, sentences)], skipped)
            except DataError as error:
                skipped.append(str(error))
        raise DataError(f"none of the validation pictures can be read, for example: {skipped[0]}")

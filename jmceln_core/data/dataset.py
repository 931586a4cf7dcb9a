"""What a training step reads: a few pictures, many sentences of each, and what the sentences mean.

Batches are a pure function of (seed, step): a resumed run sees what the uninterrupted one would have seen.

Shapes: B pictures, S sentences of each (N = B * S, a picture's sentences together), K instances of the picture with the
most, H W the coarse map's size, h w the mask's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from jmceln_core.config import DataConfig
from jmceln_core.data import expressions
from jmceln_core.data.grounding import Expression, GroundingData, Picture, read_coco
from jmceln_core.data.mirror import can_mirror, mirror_text
from jmceln_core.data.views import View

SAME = 0.8  # instances that overlap by more IoU than this are the same thing annotated twice


class Batch(NamedTuple):
    """One step's data."""

    pictures: list[Picture]
    views: list[tuple[int, bool]]  # (view, mirrored) of each picture
    texts: list[str]  # N
    masks: Tensor  # (B, K, h, w) share of each mask pixel's area that the instance covers; padded with zeros
    targets: Tensor  # (B, S, K) bool: the instances a sentence means; none if it matches nothing
    rivals: Tensor  # (B, S, K) bool: the instances it chooses among: no crowds, no second outline of a target


@dataclass
class Pool:
    """The sentences of one picture, by what they are good for."""

    written: list[Expression]
    generated: list[Expression]
    absent: list[Expression]

    def all(self) -> list[Expression]:
        return self.written + self.generated + self.absent


def build_pools(data: GroundingData, config: DataConfig, *, seed: int) -> dict[int, Pool]:
    """The written sentences of every picture, and the rule-made ones drawn for it (seeded by picture)."""
    pools = {}
    written = data.by_picture()
    for picture in tqdm(data.pictures.values(), desc="sentences", unit="picture"):
        scene = expressions.Scene(picture, picture.load())
        rng = np.random.default_rng([seed, picture.id])
        pools[picture.id] = Pool(
            [e for e in written[picture.id] if e.targets],
            expressions.describe(scene, rng, limit=config.generated)
            + expressions.plurals(scene, rng, limit=config.plurals),
            [e for e in written[picture.id] if not e.targets] + expressions.absent(scene, rng, limit=config.absent),
        )
    return pools


def read_sources(config: DataConfig) -> tuple[GroundingData, GroundingData]:
    """All sources together, and the validation pictures taken out of them: (train, validation)."""
    data = GroundingData()
    held: list[int] = []
    for source in config.sources:
        folder, _, split = source.rpartition("/")
        part = read_coco(config.root / folder, split)
        if not held:
            order = np.random.default_rng(0).permutation(sorted(part.pictures))
            held = [int(i) for i in order[: config.validation]]
        data = data.merge(part)
    apart = set(held)

    def only(keep: Callable[[int], bool]) -> GroundingData:
        return GroundingData(
            {k: p for k, p in data.pictures.items() if keep(k)}, [e for e in data.expressions if keep(e.picture_id)]
        )

    return only(lambda k: k not in apart), only(lambda k: k in apart)


class GroundingBatches:
    """Draws batches from pools of sentences."""

    def __init__(
        self,
        data: GroundingData,
        pools: dict[int, Pool],
        config: DataConfig,
        *,
        images: int,
        sentences: int,
        image_size: int,
        mask_size: int,
        seed: int,
    ) -> None:
        self.data, self.pools, self.config = data, pools, config
        self.images, self.sentences, self.seed = images, sentences, seed
        self.image_size, self.mask_size = image_size, mask_size
        # a picture with many written sentences comes up more than once an epoch
        self.ids = [
            k
            for k, p in sorted(pools.items())
            if p.written or p.generated
            for _ in range(max(1, round(len(p.written) / sentences)))
        ]
        self._masks: dict[tuple[int, int], np.ndarray] = {}

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over the pictures."""
        return len(self.ids) // self.images

    def texts(self) -> set[str]:
        """Every text a batch can hold, mirrored ones included."""
        plain = {e.text for pool in self.pools.values() for e in pool.all()}
        return plain | {mirror_text(t) for t in plain if can_mirror(t)}

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.ids))
        rng = np.random.default_rng([self.seed, epoch, place])
        some = [self.ids[i] for i in order[place * self.images : (place + 1) * self.images]]
        return self.collate([self.data.pictures[i] for i in some], [self._draw(i, rng) for i in some], rng)

    def _draw(self, picture_id: int, rng: np.random.Generator) -> list[Expression]:
        """S sentences: no repeats while there are others, sorts mixed as configured, in random order."""
        pool = self.pools[picture_id]
        groups = [list(pool.written), list(pool.generated), list(pool.absent)]
        shares = np.array([self.config.written, 1 - self.config.written, 0.0]) * (1 - self.config.absent_share)
        shares[2] = self.config.absent_share
        drawn: list[Expression] = []
        while len(drawn) < self.sentences:
            weights = shares * [bool(g) for g in groups]
            if not (weights[:2] > 0).any():
                groups = [list(pool.written), list(pool.generated), list(pool.absent)]
                continue
            group = groups[rng.choice(3, p=weights / weights.sum())]
            drawn.append(group.pop(rng.integers(len(group))))
        return drawn

    def collate(
        self, pictures: Sequence[Picture], drawn: Sequence[Sequence[Expression]], rng: np.random.Generator | None = None
    ) -> Batch:
        """Pictures and S sentences of each. Without `rng`: the plain view, not mirrored."""
        views, texts, masks = [], [], []
        for picture, sentences in zip(pictures, drawn, strict=True):
            view = 0 if rng is None else int(rng.integers(self.config.views))
            mirrored = View.draw(picture, view).mirrored
            flip = rng is not None and bool(rng.random() < self.config.mirror)
            wanted = [e.text for e in sentences]
            if mirrored != flip and not all(can_mirror(t) for t in wanted):
                flip = not flip  # a sentence about lettering, or one whose sides cannot be told: leave it as it is
            wanted = [mirror_text(t) for t in wanted] if mirrored != flip else wanted
            views.append((view, flip))
            texts += wanted
            stack = self._coverage(picture, view)
            masks.append(stack[..., ::-1] if flip else stack)
        count = max(max(len(m) for m in masks), 1)
        padded = np.zeros((len(masks), count, self.mask_size, self.mask_size), np.float32)
        targets = np.zeros((len(masks), len(drawn[0]), count), bool)
        rivals = np.zeros_like(targets)
        for b, (picture, sentences) in enumerate(zip(pictures, drawn, strict=True)):
            padded[b, : len(masks[b])] = masks[b] / np.float32(255)
            ids = [i.id for i in picture.instances]
            single = np.array([not i.crowd for i in picture.instances], bool)
            twin = _same(padded[b, : len(ids)])
            for n, expression in enumerate(sentences):
                meant = [ids.index(t) for t in expression.targets]
                targets[b, n, meant] = True
                rivals[b, n, : len(ids)] = single & ~twin[meant].any(0)
        rivals |= targets
        return Batch(
            list(pictures), views, texts, torch.from_numpy(padded), torch.from_numpy(targets), torch.from_numpy(rivals)
        )

    def _coverage(self, picture: Picture, view: int) -> np.ndarray:
        """(K, h, w) uint8: 255 times the share of each mask pixel that the instance covers, kept once computed."""
        key = (picture.id, view)
        if key not in self._masks:
            seen = View.draw(picture, view)
            side = (self.mask_size, self.mask_size)
            stack = np.zeros((len(picture.instances), *side), np.uint8)
            for row, instance in zip(stack, picture.instances, strict=True):
                mask = seen.mask(picture, instance.mask(picture.height, picture.width), self.image_size)
                row[:] = cv2.resize(255 * mask.astype(np.uint8), side, interpolation=cv2.INTER_AREA)
            self._masks[key] = stack
        return self._masks[key]


def _same(masks_Khw: np.ndarray) -> np.ndarray:
    """(K, K) bool: instances that nearly coincide (IoU above SAME), COCO has a few; each with itself as well."""
    count, h, w = masks_Khw.shape  # there may be no instance at all
    flat = (masks_Khw.reshape(count, h * w) > 0.5).astype(np.float32)
    inter = flat @ flat.T
    area = flat.sum(1)
    return inter > SAME * np.maximum(area[:, None] + area - inter, 1e-6)

"""Losses: cross-entropy (the paper's section 3.5), and beyond it focal, Dice, coarse masks, contrast, presence, IoU;
and the distance from a teacher's answers (distillation).

Every term is a sum over sentences divided by a number of sentences. Where a step's pictures are worked off in parts
(micro-batches, processes), each part divides its sums by the numbers of the whole step (`counts`), so that the parts'
terms, and their gradients, add up to those of the step.

Shapes: B pictures, S sentences of each (N = B * S, a picture's sentences together), K instances, h w a map's size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from jmceln_core.config import ConfigError, DistilConfig, LossConfig, ModelConfig
from jmceln_core.model import Prediction

if TYPE_CHECKING:
    from jmceln_core.data.dataset import Batch

TERMS = ("cross_entropy", "focal", "dice", "coarse", "contrast", "presence", "iou")
LEAST_COVER = 0.05  # a coarse map's pixels an instance covers; with less it is no rival
TRUSTED = 0.5  # IoU with the truth from which a teacher's mask is learned from


class Lesson(NamedTuple):
    """What a teacher answers to N sentences, as probabilities: `mask` (N, h, w) over the whole square; `presence` (N,),
    None without the head."""

    mask: Tensor
    presence: Tensor | None


def check(loss: LossConfig, model: ModelConfig) -> None:
    """Raise ConfigError if a term has no output of the model to work on, a head no term, or if no term is left."""
    if not any(getattr(loss, name) for name in TERMS):
        raise ConfigError(f"all weights of the loss are 0; give one of {', '.join(TERMS)} a weight")
    for name, switch in (
        ("coarse", "deep_supervision"),
        ("contrast", "deep_supervision"),
        ("presence", "presence_head"),
        ("iou", "iou_head"),
    ):
        if getattr(loss, name) and not (getattr(model, switch) and model.cascade):
            raise ConfigError(
                f"loss.{name}={getattr(loss, name)} needs a model with {switch}=true and cascade=true; "
                f"set them or loss.{name}=0"
            )
    for name, head in (("presence", "presence_head"), ("iou", "iou_head")):
        if getattr(model, head) and not getattr(loss, name):
            raise ConfigError(
                f"{head}=true with loss.{name}=0: it would stay random, and answers are decided with it; give the loss "
                f"a weight, or set {head}=false"
            )


def counts(batch: Batch, dense: int | None = None) -> Tensor:
    """The numbers of sentences that the terms' means divide by (4,) float32: those with a target among the first
    `dense` of each picture (None or 0: all), which go through the dense stages; those with a target; and, with a target
    or without, those that go through the dense stages, and all.

    Add them up over the parts of a step.
    """
    further = batch.present[:, : dense or None]
    totals = further.numel(), batch.present.numel()
    return torch.stack([further.sum(), batch.present.sum(), *map(torch.as_tensor, totals)]).float()


def dice_loss(logits_Nhw: Tensor, target_Nhw: Tensor) -> Tensor:
    """1 - (2 sum p t + 1) / (sum p + sum t + 1) for each sentence (N,), p = sigmoid(logits) (V-Net's, smoothed)."""
    p = logits_Nhw.sigmoid().flatten(1)
    t = target_Nhw.flatten(1)
    return 1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)


def cross_entropy(logits_Nhw: Tensor, truth_Nhw: Tensor) -> Tensor:
    """-log p of the true class, mean over pixels (N,). The softmax of two classes is the sigmoid of the difference of
    their logits, target minus background, which `logits` is; `truth` is bool."""
    return -F.logsigmoid(torch.where(truth_Nhw, logits_Nhw, -logits_Nhw)).mean((1, 2))


def focal_loss(logits_Nhw: Tensor, truth_Nhw: Tensor, *, gamma: float, alpha: float) -> Tensor:
    """-a (1 - p)^gamma log p of the true class, a = alpha for the target and 1 - alpha for the background, mean over
    pixels (N,) (Lin et al., ICCV 2017, Eq. 5; theirs is divided by the number of anchors with an object). `logits` and
    `truth` as in `cross_entropy`."""
    sure = torch.where(truth_Nhw, logits_Nhw, -logits_Nhw)
    # (1 - p)^gamma by its logarithm: no infinite slope at p = 1
    loss = -(gamma * F.logsigmoid(-sure)).exp() * F.logsigmoid(sure)
    return (loss * (1 - alpha + (2 * alpha - 1) * truth_Nhw.to(loss.dtype))).mean((1, 2))


def soft_mask_loss(logits_Nhw: Tensor, target_Nhw: Tensor) -> Tensor:
    """Cross-entropy, mean over pixels, + Dice (N,) against probabilities, p = sigmoid(logits).

    Dice is sum |p - t| / (sum p + sum t + 1): `dice_loss` where t is 0 or 1, and least at p = t, which `dice_loss` is
    not for a t between (Wang et al., Dice semimetric losses, MICCAI 2023; smoothed).
    """
    pixel = F.binary_cross_entropy_with_logits(logits_Nhw, target_Nhw, reduction="none").mean((1, 2))
    p, t = logits_Nhw.sigmoid().flatten(1), target_Nhw.flatten(1)
    return pixel + (p - t).abs().sum(1) / (p.sum(1) + t.sum(1) + 1)


def contrast_loss(logits_BShw: Tensor, instances_BKhw: Tensor, targets_BSK: Tensor, rivals_BSK: Tensor) -> Tensor:
    """Which of the picture's instances is meant (B, S): minus the log of the targets' share in a softmax over the
    instances' mean logits.

    `instances` are coverages in [0, 1]; an instance too small to cover anything is no rival. A sentence without a
    target that covers something has loss 0.
    """
    if not instances_BKhw.shape[1]:
        return 0 * logits_BShw.sum((2, 3))
    area_B1K = instances_BKhw.flatten(2).sum(-1)[:, None]
    pooled = torch.einsum("bshw,bkhw->bsk", logits_BShw, instances_BKhw) / area_B1K.clamp_min(1e-6)
    valid = rivals_BSK & (area_B1K > LEAST_COVER)
    targets = targets_BSK & valid
    some = targets.any(-1, keepdim=True)
    # sentences without a target keep a finite path for the gradient and are multiplied away
    among = pooled.masked_fill(~valid & some, float("-inf"))
    chosen = pooled.masked_fill(~targets & some, float("-inf"))
    return (among.logsumexp(-1) - chosen.logsumexp(-1)) * some[..., 0]


def grounding_loss(
    prediction: Prediction, batch: Batch, config: LossConfig, counts: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Total loss and its terms, detached and before their weights; terms of weight 0 are left out.

    `batch` is on the prediction's device. The prediction may hold the first sentences of each picture only
    (`JMCELN.decode`, `dense`). `counts` (4,) are those of the whole step where this batch is a part of it; without, the
    batch's own. Sentences without a target count for presence alone; where it has no weight, for their mask instead,
    which should be empty, as published work on gRefCOCO trains. Computed in float32 (in float64 for float64 logits),
    also under autocast.
    """
    with torch.autocast(prediction.logits.device.type, enabled=False):
        terms = _terms(prediction, batch, config, counts)
        total = torch.stack([getattr(config, name) * value for name, value in terms.items()]).sum()
    return total, {name: value.detach() for name, value in terms.items()}


def distillation_loss(
    prediction: Prediction, lesson: Lesson, batch: Batch, config: DistilConfig, counts: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Total distance from the teacher's answers and its terms `distil_...`, detached and before their weights; terms of
    weight 0 are left out. `distil_trusted` is the share of the sentences with a target whose mask is learned from.

    `lesson` is about the prediction's sentences (N), those that went through the dense stages. The truth has the last
    word: a mask counts where the sentence has a target that the teacher found (IoU of TRUSTED or more at the mask's
    size), a presence where it is on the right side of one half. What does not count is 0 in a mean over the same
    sentences as those of `grounding_loss`, whose `counts` and precision are these as well.
    """
    with torch.autocast(prediction.logits.device.type, enabled=False):
        terms = _distances(prediction, lesson, batch, config, counts)
        total = torch.stack([getattr(config, name) * value for name, value in terms.items() if name != "trusted"]).sum()
    return total, {f"distil_{name}": value.detach() for name, value in terms.items()}


def _distances(
    prediction: Prediction, lesson: Lesson, batch: Batch, config: DistilConfig, counts_4: Tensor | None
) -> dict[str, Tensor]:
    b, count = len(batch.present), len(prediction.logits)
    kind = torch.float64 if prediction.logits.dtype == torch.float64 else torch.float32
    if counts_4 is None:
        counts_4 = counts(batch, count // b)
    meant, _, further, _ = counts_4.to(prediction.logits.device, kind).clamp_min(1)
    present = _rows(batch.present, count)
    terms: dict[str, Tensor] = {}
    if config.mask or config.coarse:
        logits, taught = prediction.logits.to(kind), lesson.mask.to(kind)
        mask = _averaged(taught, logits)
        truth, guess = _rows(batch.truth, count) > 127, mask > 0.5
        iou = (guess & truth).sum((1, 2)).to(kind) / (guess | truth).sum((1, 2)).clamp_min(1)
        trusted = (present & (iou >= TRUSTED)).to(kind)
        terms["trusted"] = trusted.sum() / meant
        if config.mask:
            terms["mask"] = (trusted * soft_mask_loss(logits[:, 1] - logits[:, 0], mask)).sum() / meant
        if config.coarse:
            target = _averaged(taught, prediction.coarse[0])
            maps = [_rows(x.to(kind).unflatten(0, (b, -1)), count) for x in prediction.coarse]
            terms["coarse"] = torch.stack([trusted * soft_mask_loss(x, target) for x in maps]).mean(0).sum() / meant
    if config.presence:
        assert prediction.presence is not None  # `Teacher` has looked
        assert lesson.presence is not None
        there = lesson.presence.to(kind)
        loss = F.binary_cross_entropy_with_logits(prediction.presence.to(kind), there, reduction="none")
        terms["presence"] = (loss * ((there > 0.5) == present)).sum() / further
    return terms


def _averaged(maps_Nhw: Tensor, like_NHW: Tensor) -> Tensor:
    """Maps over the whole square, averaged to another one's size."""
    height, width = like_NHW.shape[-2:]
    return F.adaptive_avg_pool2d(maps_Nhw, (height, width))


def _terms(prediction: Prediction, batch: Batch, config: LossConfig, counts_4: Tensor | None) -> dict[str, Tensor]:
    b, s = batch.present.shape
    dense = prediction.logits.shape[0] // b
    kind = torch.float64 if prediction.logits.dtype == torch.float64 else torch.float32
    if counts_4 is None:
        counts_4 = counts(batch, dense)
    meant_further, meant, further, every = counts_4.to(prediction.logits.device, kind).clamp_min(1)
    present = batch.present.to(kind)

    def mean_of_meant(loss_N: Tensor) -> Tensor:
        """Mean over the sentences that have a target."""
        count = loss_N.shape[0]
        return (loss_N * _rows(present, count)).sum() / (meant if count == b * s else meant_further)

    def mean_of(loss_N: Tensor) -> Tensor:
        """Mean over the sentences that teach a mask: without a presence head to learn of them, those that mean nothing
        teach an empty one."""
        if config.presence:
            return mean_of_meant(loss_N)
        return loss_N.sum() / (every if loss_N.shape[0] == b * s else further)

    logits = prediction.logits.to(kind)
    difference = logits[:, 1] - logits[:, 0]
    truth = _rows(batch.truth, b * dense) > 127  # more than half of the pixel
    terms: dict[str, Tensor] = {}
    if config.cross_entropy:
        terms["cross_entropy"] = mean_of(cross_entropy(difference, truth))
    if config.focal:
        loss = focal_loss(difference, truth, gamma=config.focal_gamma, alpha=config.focal_alpha)
        terms["focal"] = mean_of(loss)
    if config.dice:
        terms["dice"] = mean_of(dice_loss(difference, truth.to(kind)))
    coarse = [x.to(kind) for x in prediction.coarse]
    if config.coarse:
        cover = _share(batch.truth, coarse[0])
        losses = []
        for x in coarse:
            target = _rows(cover, x.shape[0])
            pixel = F.binary_cross_entropy_with_logits(x, target, reduction="none").mean((1, 2))
            losses.append(mean_of(pixel + dice_loss(x, target)))
        terms["coarse"] = torch.stack(losses).mean()
    if config.contrast:
        cover = _share(batch.instances, coarse[0])
        losses = []
        for x in coarse:
            count = x.shape[0] // b
            loss = contrast_loss(x.unflatten(0, (b, -1)), cover, batch.targets[:, :count], batch.rivals[:, :count])
            losses.append(mean_of_meant(loss.flatten()))
        terms["contrast"] = torch.stack(losses).mean()
    if config.presence:
        assert prediction.presence is not None  # `check`
        there = _rows(present, b * dense)
        loss = F.binary_cross_entropy_with_logits(prediction.presence.to(kind), there, reduction="sum")
        terms["presence"] = loss / further
    if config.iou:
        assert prediction.iou is not None
        guess = difference.detach() > 0
        iou = (guess & truth).sum((1, 2)).to(kind) / (guess | truth).sum((1, 2)).clamp_min(1)
        loss = F.binary_cross_entropy_with_logits(prediction.iou.to(kind), iou, reduction="none")
        terms["iou"] = mean_of(loss)
    return terms


def _rows(x_BS: Tensor, count: int) -> Tensor:
    """(B, S, ...) -> (count, ...): the first count / B sentences of each picture."""
    return x_BS[:, : count // len(x_BS)].flatten(0, 1)


def _share(cover_BKhw: Tensor, like_NHW: Tensor) -> Tensor:
    """uint8 coverages (B, K, h, w) -> shares in [0, 1] (B, K, H, W), averaged to a map's size and of its type."""
    return _averaged(cover_BKhw.to(like_NHW.dtype) / 255, like_NHW)

"""Losses: cross-entropy (the paper's section 3.5), and beyond it Dice, coarse masks, contrast, presence, IoU.

Shapes: N sentences, K instances of a picture, h w a map's size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from jmceln_core.config import LossConfig
from jmceln_core.model import Prediction


def dice_loss(logits_Nhw: Tensor, target_Nhw: Tensor) -> Tensor:
    """1 - (2 sum p t + 1) / (sum p + sum t + 1) for each sentence (N,), p = sigmoid(logits) (V-Net's, smoothed)."""
    p = logits_Nhw.sigmoid().flatten(1)
    t = target_Nhw.flatten(1)
    return 1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)


def contrast_loss(logits_Nhw: Tensor, masks_NKhw: Tensor, targets_NK: Tensor, rivals_NK: Tensor) -> Tensor:
    """Which of the picture's instances is meant (N,): minus the log of the targets' share in a softmax over the
    instances' mean logits.

    `masks` are coverages in [0, 1]; an instance too small to cover anything is no rival. A sentence without a target
    that covers something has loss 0.
    """
    area = masks_NKhw.flatten(2).sum(-1)
    pooled = torch.einsum("nhw,nkhw->nk", logits_Nhw, masks_NKhw) / area.clamp_min(1e-6)
    valid = rivals_NK & (area > 0.05)
    targets = targets_NK & valid
    pooled = pooled.masked_fill(~valid, float("-inf"))
    some = targets.any(1)
    # sentences without a target keep a finite path for the gradient and are multiplied away
    pooled = torch.where(some[:, None], pooled, torch.zeros_like(pooled))
    chosen = pooled.masked_fill(~targets & some[:, None], float("-inf"))
    return (torch.logsumexp(pooled, 1) - torch.logsumexp(chosen, 1)) * some


def grounding_loss(
    prediction: Prediction, masks_BKhw: Tensor, targets_BSK: Tensor, rivals_BSK: Tensor, config: LossConfig
) -> tuple[Tensor, dict[str, float]]:
    """Total loss and its terms (before their weights).

    `masks` are the instances' coverages in [0, 1] at the size of the mask logits; `targets` and `rivals` (bool) say for
    every sentence which instances it means and which it chooses among. A prediction may hold the first sentences of
    each picture only (`JMCELN.decode`, `dense`). Sentences without a target count for presence alone.
    """
    b = targets_BSK.shape[0]

    def rows(x_BS: Tensor, count: int) -> Tensor:
        """(B, S, ...) -> (count, ...): the first count / B sentences of each picture."""
        return x_BS[:, : count // b].flatten(0, 1)

    def union_of(masks: Tensor) -> Tensor:
        return torch.einsum("bsk,bkhw->bshw", targets_BSK.float(), masks).clamp(max=1)

    n = prediction.logits.shape[0]
    has_BS = targets_BSK.any(-1).float()
    has = rows(has_BS, n)

    def mean_of(loss: Tensor) -> Tensor:
        """Mean over the sentences that have a target."""
        there = rows(has_BS, loss.shape[0])
        return (loss * there).sum() / there.sum().clamp_min(1)

    terms: dict[str, Tensor] = {}
    truth = (rows(union_of(masks_BKhw), n) > 0.5).long()
    difference = prediction.logits[:, 1] - prediction.logits[:, 0]
    terms["cross_entropy"] = mean_of(F.cross_entropy(prediction.logits, truth, reduction="none").mean((1, 2)))
    terms["dice"] = mean_of(dice_loss(difference, truth.float()))
    if prediction.coarse:
        h, w = prediction.coarse[0].shape[-2:]
        small_BKhw = F.adaptive_avg_pool2d(masks_BKhw, (h, w))
        union_BShw = union_of(small_BKhw)
        coarse, contrast = [], []
        for logits in prediction.coarse:
            m = logits.shape[0]
            union = rows(union_BShw, m)
            pixel = F.binary_cross_entropy_with_logits(logits, union, reduction="none").mean((1, 2))
            coarse.append(mean_of(pixel + dice_loss(logits, union)))
            masks = small_BKhw.repeat_interleave(m // b, dim=0)
            contrast.append(mean_of(contrast_loss(logits, masks, rows(targets_BSK, m), rows(rivals_BSK, m))))
        terms["coarse"] = torch.stack(coarse).mean()
        terms["contrast"] = torch.stack(contrast).mean()
    if prediction.presence is not None:
        terms["presence"] = F.binary_cross_entropy_with_logits(prediction.presence, has)
    if prediction.iou is not None:
        with torch.no_grad():
            guess, real = difference > 0, truth > 0
            iou = (guess & real).sum((1, 2)) / (guess | real).sum((1, 2)).clamp_min(1)
        terms["iou"] = mean_of(F.binary_cross_entropy_with_logits(prediction.iou, iou, reduction="none"))
    total = torch.stack([getattr(config, name) * value for name, value in terms.items()]).sum()
    return total, {name: float(value.detach()) for name, value in terms.items()}

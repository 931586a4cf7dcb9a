"""Validation: what is asked of the network between steps, and the numbers that come of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from tqdm import tqdm

from jmceln_core.data.dataset import Batch
from jmceln_core.model import Prediction
from jmceln_core.model.pan import LiveChannels, live_share
from jmceln_core.training.board import Board, enlarged
from jmceln_core.training.engine import summed
from jmceln_core.training.feed import Feed
from jmceln_core.training.step import Learner

# What validation adds up: sentences with a target and their IoUs and hits; then, of each sort, sentences whose presence
# is asked and those for which it was told rightly: with a target, without, bare names and denials, words for nothing.
_SUMS = (
    *("meant", "ious", "hits"),
    *("there", "accepted", "absent", "rejected", "names", "names_accepted", "nothing", "nothing_rejected", "skipped"),
)
_RIGHT = {"there": "accepted", "absent": "rejected", "names": "names_accepted", "nothing": "nothing_rejected"}


@torch.no_grad()
def validate(
    learner: Learner, feed: Feed, board: Board | None = None, *, step: int = 0, overlays: int = 0
) -> dict[str, float]:
    """The model as it is on the validation data, at the network's own resolution, shared out over processes: mIoU
    and pointing (most probable pixel in the target) over the sentences with a target. With a presence head, the
    share of all sentences whose presence is told rightly, of those with a target that are accepted, and of those
    without that are rejected; with `data.names`, the last two of bare names and denials, and of words for nothing,
    too (`val_names_accepted`, `val_nothing_rejected`), which count for nothing else. Of several `data.val_sources`
    each is measured as well: `val_miou/SOURCE`. `val_pan_live`: with PANs, the share of the channels that they add
    which are live. `val_skipped`: batches of an unreadable picture. The first `overlays` pictures go to the board."""
    fabric = learner.fabric
    learner.wrapped.eval()
    items = feed.validation.items
    rounds = math.ceil(len(items) / fabric.world_size)  # the same for all: they gather sharded weights together
    numbers = [(fabric.global_rank + i * fabric.world_size) for i in range(rounds)]
    sources = sorted({asked.picture.source for asked in items})
    each = torch.zeros(len(sources), len(_SUMS), dtype=torch.float64)
    loader = feed.loader(feed.validation, [n % len(items) for n in numbers])
    with LiveChannels(learner.model) as live:
        for number, batch in zip(numbers, loader, strict=True):
            prediction = learner.predict(batch.to(fabric.device), dense=None)
            if number >= len(items):
                continue
            sums = each[sources.index(items[number].picture.source)]
            if batch.skipped:
                tqdm.write(f"skipped: {batch.skipped[0]}")
                sums[_SUMS.index("skipped")] += 1
                continue
            live.add()
            sums += _measured(prediction, batch, existence=items[number].existence)
            if board is not None and number < overlays * fabric.world_size:
                _draw(board, f"val/{number // fabric.world_size}", prediction, batch, step)
    learner.wrapped.train()
    each = summed(fabric, each.to(fabric.device)).cpu()
    scores = _scores(each.sum(0))
    for source, own in zip(sources, each, strict=True) if len(sources) > 1 else ():
        scores |= {f"{name}/{source}": value for name, value in _scores(own).items()}
    if live.pans:
        scores["val_pan_live"] = live_share(summed(fabric, live.sums.to(fabric.device)).cpu())
    skipped = float(each[:, _SUMS.index("skipped")].sum())
    return scores | ({"val_skipped": skipped} if skipped else {})


def _draw(board: Board, name: str, prediction: Prediction, batch: Batch, step: int) -> None:
    """A validation picture's first answer beside the truth."""
    rgb = batch.images[0].permute(1, 2, 0).numpy()
    masks = (_difference(prediction)[0] > 0).numpy(), (batch.truth[0, 0] > 127).numpy()
    drawn, true = (enlarged(mask, rgb.shape[0]) for mask in masks)
    board.answer(name, rgb, drawn, true, batch.texts[0], step)


def _difference(prediction: Prediction) -> Tensor:
    """Mask logits, target minus background, (N, h, w) float32 on the CPU."""
    return (prediction.logits[:, 1] - prediction.logits[:, 0]).float().cpu()


def _measured(prediction: Prediction, batch: Batch, *, existence: bool) -> Tensor:
    """The sums of one picture's sentences, in the order of _SUMS."""
    sums = dict.fromkeys(_SUMS, 0.0)
    present = batch.present[0]
    if not existence:
        logits, truth = _difference(prediction), batch.truth[0] > 127
        guess, there = logits > 0, present & truth.any(2).any(1)
        inter, union = (guess & truth).sum((1, 2)), (guess | truth).sum((1, 2))
        hit = truth.flatten(1).gather(1, logits.flatten(1).argmax(1)[:, None])[:, 0]
        sums["meant"], sums["hits"] = float(there.sum()), float(hit[there].sum())
        sums["ious"] = float((inter / union.clamp_min(1))[there].double().sum())
    if prediction.presence is not None:
        told = prediction.presence.cpu() > 0
        sorts = ("names", "nothing") if existence else ("there", "absent")
        for sort, asked, right in zip(sorts, (present, ~present), (told & present, ~told & ~present), strict=True):
            sums[sort] = float(asked.sum())
            sums[_RIGHT[sort]] = float(right.sum())
    return torch.tensor(list(sums.values()), dtype=torch.float64)


def _scores(sums: Tensor) -> dict[str, float]:
    """Validation's scores from its sums."""
    of = dict(zip(_SUMS, sums.tolist(), strict=True))
    scores = {"val_miou": of["ious"] / max(1, of["meant"]), "val_pointing": of["hits"] / max(1, of["meant"])}
    if told := of["there"] + of["absent"]:
        scores["val_presence"] = (of["accepted"] + of["rejected"]) / told
    return scores | {f"val_{right}": of[right] / of[sort] for sort, right in _RIGHT.items() if of[sort]}

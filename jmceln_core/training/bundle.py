"""From a run to the bundled checkpoint: `python -m jmceln_core.training.bundle RUN --data.root DATA`.

Takes the SwitchNorms' statistics anew, for the averaged weights, over training pictures; chooses the answer's
thresholds on the run's validation pictures (a slice of the training pictures, never trained on and never reported); and
writes config/weights/bundled.safetensors: what was trained, in fp16, beside the frozen encoders' files, which it names
by hash.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from jmceln_core import checkpoint
from jmceln_core.answer import RawAnswer, Segmentation, Status, decide, deepest_point
from jmceln_core.config import DataConfig, DecisionConfig, ModelConfig, from_dict
from jmceln_core.data.dataset import Batch, SampleBuilder, StepDataset
from jmceln_core.data.grounding import GroundingData
from jmceln_core.data.readers import read_training
from jmceln_core.evaluation.metrics import points_inside
from jmceln_core.model import JMCELN, build_model
from jmceln_core.model.switch_norm import SwitchNorm
from jmceln_core.segmenter import Segmenter
from jmceln_core.synthesis.enrich import enrich

AMBIGUOUS_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
MASK_THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
ACCEPTED = 0.98  # share of the sentences with a target that must not be called absent, of those that mean one thing and
# of those that mean several
RIGHT = 0.5  # an answer is right if its IoU reaches this
PLURALS, NAMES = 4, 6  # rule-made sentences about several things, and bare names, of each validation picture
STATISTICS = 24  # batches of 8 pictures with 5 sentences each, over which the norms' statistics are taken


@dataclass(frozen=True)
class Observation:
    """One sentence about a validation picture: what the network said, the truth (None: nothing is meant), and whether
    it means several things."""

    raw: RawAnswer
    truth: np.ndarray | None
    several: bool = False


class _Watched(Segmenter):
    """A Segmenter that hands out what it knew before it decided."""

    def raw(self, texts: Sequence[str]) -> list[RawAnswer]:
        assert self._picture is not None
        letterbox, features = self._picture
        return self._look_for(list(texts), features, letterbox)


@torch.no_grad()
def take_statistics(model: JMCELN, batches: Iterable[Batch]) -> None:
    """Set every SwitchNorm's running statistics to the mean over these batches.

    Those of training are of weights that changed meanwhile, and averaged weights have none of their own. All of the
    sentences go through the dense stages. The model is left in evaluation mode.
    """
    norms = [module for module in model.modules() if isinstance(module, SwitchNorm)]
    momenta = [norm.momentum for norm in norms]
    means = [torch.zeros_like(norm.running_mean) for norm in norms]
    variances = [torch.zeros_like(norm.running_var) for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # what is kept is the last batch's alone
    model.train()
    for count, batch in enumerate(batches, start=1):
        model(batch.images, model.text_encoder.tokenize(batch.texts))
        for norm, mean, variance in zip(norms, means, variances, strict=True):
            mean.lerp_(norm.running_mean, 1 / count)
            variance.lerp_(norm.running_var, 1 / count)
    for norm, momentum, mean, variance in zip(norms, momenta, means, variances, strict=True):
        norm.momentum = momentum
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
    model.eval()


def _batches(training: GroundingData, config: DataConfig, model: ModelConfig, count: int) -> Iterator[Batch]:
    """So many batches of training pictures, in a drawn order."""
    steps = StepDataset(
        training,
        SampleBuilder(config, model.image_size, model.mask_size, resize=model.resize),
        images=8,
        sentences=5,
        seed=5,
    )
    for step in tqdm(range(count), desc="statistics", unit="batch"):
        yield steps[step][0]


def observe(segmenter: _Watched, data: GroundingData, *, per_picture: int = 12) -> list[Observation]:
    """The network's raw answers to sentences: of each picture at most `per_picture` with one target, all others."""
    seen = []
    for picture_id, expressions in tqdm(data.by_picture().items(), desc="thresholds", unit="picture"):
        picture = data.pictures[picture_id]
        meant = [e for e in expressions if len(e.targets) == 1]
        chosen = np.linspace(0, len(meant) - 1, min(per_picture, len(meant))).astype(int)  # written and rule-made ones
        some = [meant[k] for k in chosen] + [e for e in expressions if len(e.targets) != 1]
        if not some:
            continue
        segmenter.set_image(picture.load())
        for expression, raw in zip(some, segmenter.raw([e.text for e in some]), strict=True):
            truth = None
            if expression.targets:
                masks = [picture.instance(t).mask(picture.height, picture.width) for t in expression.targets]
                truth = np.logical_or.reduce(masks)
            kept = RawAnswer(raw.probability.astype(np.float16), raw.presence, raw.iou)
            seen.append(Observation(kept, truth, len(expression.targets) > 1))
    return seen


def choose(seen: Sequence[Observation], decision: DecisionConfig) -> tuple[DecisionConfig, dict[str, float]]:
    """Thresholds and what they give on these observations.

    mask: best mIoU. present: `choose_present`. slope, offset: the score becomes the share of answers that are right
    (`calibrate`), those to sentences that mean nothing included.
    confident: the score from which an answer is more often right than not (the cut that errs least between right and
    wrong answers).
    ambiguous: of the answers that are sure, those to sentences that mean several things shall be AMBIGUOUS and those to
    others shall not; the best mean of the two shares. All but this and `present` see the sentences that mean one
    thing or none.
    """
    several = [o for o in seen if o.several]
    meant = [o for o in seen if o.truth is not None and not o.several]
    means = {t: float(np.mean([_iou(o.raw.probability > t, o.truth) for o in meant])) for t in MASK_THRESHOLDS}
    mask = max(means, key=lambda t: means[t])
    presences = [_presences(some) for some in (meant, several, [o for o in seen if o.truth is None])]
    present = choose_present(*presences) if presences[0].size else decision.present
    chosen = replace(decision, mask=mask, present=round(present, 4), confident=0.0, slope=1.0, offset=0.0)
    nothing = [_decided(o, chosen) for o in seen if o.truth is None]
    wrong = [answer.score for answer in nothing if answer.status is not Status.NOT_PRESENT]
    answered, raw_scores, right, hits = [], [], [], np.zeros(2)
    for o in meant:
        assert o.truth is not None
        answer = _decided(o, chosen)
        if answer.status is not Status.NOT_PRESENT:
            answered.append(o)
            raw_scores.append(answer.score)
            right.append(_iou(answer.mask, o.truth) >= RIGHT)
            hits += [points_inside(point, o.truth) for point in (answer.anchor, deepest_point(answer.mask))]
    slope, offset = calibrate([*wrong, *raw_scores], [*[False] * len(wrong), *right])
    chosen = replace(chosen, slope=round(slope, 4), offset=round(offset, 4))
    scores = [_decided(o, chosen).score for o in answered]
    order = np.argsort(scores)
    good = np.array(right, bool)[order]
    # cutting before position k calls the first k wrong: errors = right ones among them + wrong ones after them
    errors = np.concatenate([[0], np.cumsum(good)]) + (~good).sum() - np.concatenate([[0], np.cumsum(~good)])
    cut = int(errors.argmin())
    lowest = float(np.array(scores)[order][min(cut, len(scores) - 1)])
    confident = math.floor(1e4 * lowest) / 1e4  # rounded down, so that it is no higher than its own answer's score
    chosen = replace(chosen, confident=confident)
    chosen, apart = _choose_ambiguous(meant, several, chosen)
    found = {
        "sentences": len(meant),
        "mIoU": means[mask],
        "mIoU at 0.5": means[0.5],
        "pointing": hits[0] / len(meant),
        "pointing, deepest point": hits[1] / len(meant),
        "accepted": float(np.mean(presences[0] >= present)) if presences[0].size else 1.0,
        "several accepted": float(np.mean(presences[1] >= present)) if presences[1].size else 1.0,
        "absent rejected": float(np.mean(presences[2] < present)) if presences[2].size else 0.0,
        "confident share": float(np.mean(np.array(scores) >= confident)),
        "confident and right": float(np.mean(np.array(right)[np.array(scores) >= confident])),
        **apart,
    }
    return chosen, found


def choose_present(one: np.ndarray, several: np.ndarray, none: np.ndarray) -> float:
    """The presence from which on something is there, by the presences (N,) that sentences got which mean one thing,
    several, and none: least wrong of the thresholds that accept ACCEPTED of one and of several, where the shares
    denied of these two count half each and the share accepted of none counts whole; the highest, if several are."""
    there = [some for some in (one, several) if some.size]
    highest = min(float(np.quantile(some, 1 - ACCEPTED, method="lower")) for some in there)
    tried = np.unique(np.concatenate([one, several, none]))
    tried = tried[tried <= highest]
    wrong = np.mean([[np.mean(some < t) for t in tried] for some in there], axis=0)
    if none.size:
        wrong += [np.mean(none >= t) for t in tried]
    return float(tried[np.flatnonzero(wrong <= wrong.min() + 1e-12)[-1]])


def _presences(seen: Sequence[Observation]) -> np.ndarray:
    return np.array([o.raw.presence for o in seen if o.raw.presence is not None])


def _choose_ambiguous(
    single: Sequence[Observation], several: Sequence[Observation], decision: DecisionConfig
) -> tuple[DecisionConfig, dict[str, float]]:
    """The best `ambiguous`, and the shares of sure answers that it calls AMBIGUOUS; as it is where there are none."""

    def share(observations: Sequence[Observation], ambiguous: float) -> float:
        thresholds = replace(decision, ambiguous=ambiguous)
        answers = [_decided(o, thresholds) for o in observations]
        sure = [a.status is Status.AMBIGUOUS for a in answers if a.status in (Status.AMBIGUOUS, Status.FOUND)]
        return float(np.mean(sure)) if sure else float("nan")

    shares = {t: (share(several, t), share(single, t)) for t in AMBIGUOUS_THRESHOLDS}
    known = {t: a - b for t, (a, b) in shares.items() if not np.isnan(a - b)}
    if not known:
        return decision, {}
    best = max(known, key=lambda t: known[t])
    names = ("ambiguous of several", "ambiguous of single")
    return replace(decision, ambiguous=best), dict(zip(names, shares[best], strict=True))


def calibrate(scores: Sequence[float], right: Sequence[bool]) -> tuple[float, float]:
    """Slope and offset of Platt scaling (1999): the logistic regression of right answers on the logit of the score.

    By Newton's method, with a small ridge towards (1, 0), which is what comes back where one cannot tell: all answers
    right or all wrong, or a score that says the opposite.
    """
    truth = np.array(right, float)
    if len(set(right)) < 2:
        return 1.0, 0.0
    clipped = np.clip(np.array(scores, float), 1e-6, 1 - 1e-6)
    design = np.stack([np.log(clipped / (1 - clipped)), np.ones(len(clipped))], 1)
    start = np.array([1.0, 0.0])
    weights, ridge = start, 1e-2 * np.eye(2)
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ weights))
        gradient = design.T @ (p - truth) + ridge @ (weights - start)
        step = np.linalg.solve((design * (p * (1 - p))[:, None]).T @ design + ridge, gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-8:
            break
    return (float(weights[0]), float(weights[1])) if weights[0] > 0 else (1.0, 0.0)


def _decided(observation: Observation, decision: DecisionConfig) -> Segmentation:
    raw = observation.raw
    return decide(raw._replace(probability=raw.probability.astype(np.float32)), decision)


def _iou(guess: np.ndarray, truth: np.ndarray | None) -> float:
    assert truth is not None
    union = np.logical_or(guess, truth).sum()
    return float(np.logical_and(guess, truth).sum() / union) if union else 0.0


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="choose thresholds and write the bundled checkpoint")
    parser.add_argument("run", type=Path, help="folder of a finished run (best.safetensors)")
    parser.add_argument("--data.root", dest="root", type=Path, default=None, help="default: the run's own")
    parser.add_argument("--out", type=Path, default=Path("config/weights/bundled.safetensors"))
    parser.add_argument("--statistics", type=int, default=STATISTICS, help="batches; 0: keep the run's own")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    saved = checkpoint.load(arguments.run / "best.safetensors")
    data_config = from_dict(DataConfig, saved.extra["train"]["data"], "data.")
    if arguments.root is not None:
        data_config = replace(data_config, root=arguments.root)
    training, validation = read_training(data_config)
    model = build_model(saved.config)
    saved.load_into(model)
    if arguments.statistics:
        take_statistics(model, _batches(training, data_config, saved.config, arguments.statistics))
    # few written sentences mean several things, and none is a bare name
    asked = enrich(validation, DataConfig(plurals=PLURALS, names=NAMES), seed=0)
    decision, found = choose(observe(_Watched(model, saved.config), asked), saved.config.decision)
    config = replace(saved.config, decision=decision)
    folder = arguments.out.parent
    image, text = f"{config.image_encoder.name}.safetensors", f"{config.text_encoder.name}.safetensors"
    tuned = tuple(
        name.removeprefix("image_encoder.net.")
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and name.startswith("image_encoder.net.")
    )
    encoders = {
        "image_encoder": checkpoint.EncoderFile(image, checkpoint.sha256(folder / image), "image_encoder.net.", tuned),
        "text_encoder": checkpoint.EncoderFile(text, checkpoint.sha256(folder / text), "text_encoder.net."),
    }
    # the run's folders are this machine's; what is kept is what the weights depend on
    train = {k: v for k, v in saved.extra["train"].items() if k not in ("data", "threads")}
    train["data"] = {k: v for k, v in saved.extra["train"]["data"].items() if k not in ("root", "cache")}
    extra = {"step": saved.extra["step"], "train": train, "validation": found}
    checkpoint.save(arguments.out, model.state_dict(), config, storage="fp16", encoders=encoders, extra=extra)
    print(json.dumps({"file": arguments.out.name, "bytes": arguments.out.stat().st_size, **found, **asdict(decision)}))


if __name__ == "__main__":
    main()

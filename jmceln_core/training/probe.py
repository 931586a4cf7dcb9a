"""Which image encoder, at which side? `python -m jmceln_core.training.probe --data.root DATA --output DIR`.

A matcher on frozen features answers in minutes: an encoder's maps are averaged under each annotated mask, once, and a
small scorer learns which of a picture's things a written sentence means. No masks are predicted; what is compared is
how much the features know about things, beside the milliseconds they take. docs/encoders.md has what came out.

Shapes: B pictures, S sentences of each (N = B * S, a picture's together), K things of the picture with the most, L
tokens, F pooled features, C channels of the scorer, R sentences that are tested.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import cv2
import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from timm.models.resnet import Bottleneck
from torch import Tensor, nn
from tqdm import tqdm

from jmceln_core.command import refused
from jmceln_core.config import ConfigError, DataConfig, ImageEncoderConfig, TextEncoderConfig
from jmceln_core.data.grounding import DataError, GroundingData, Instance, Picture
from jmceln_core.data.readers import read_training
from jmceln_core.evaluation import machine, report, sections
from jmceln_core.evaluation.bootstrap import differences
from jmceln_core.evaluation.metrics import Ratio
from jmceln_core.geometry import Letterbox
from jmceln_core.model.encoders import TextFeatures, build_image_encoder, build_text_encoder
from jmceln_core.model.encoders.base import normalise
from jmceln_core.model.layers import MultiHeadAttention, repeat
from jmceln_core.training.features import TextFeatureCache, fingerprint, write_features

SIDES = {"dinov2_vits14": (336, 448, 504), "tiny_vit_5m": (224, 320, 448)}
ENCODERS = [f"{name}:{side}" for name, sides in SIDES.items() for side in sides]
SIZES = ("small", "medium", "large")
IMAGES, SENTENCES = 16, 4  # of a step, B and S
THREADS = (1, 2)


# ---- what is asked


@dataclass(frozen=True)
class Choice:
    """A picture, the K things of it to choose among, and sentences that mean one of them, by its place in `things`."""

    picture: Picture
    things: tuple[Instance, ...]
    texts: tuple[str, ...]
    targets: tuple[int, ...]

    def places(self) -> Tensor:
        """(K, 4) centre and size of the things' boxes: from the picture's middle, its longer side being 1."""
        x, y, w, h = torch.tensor([thing.box for thing in self.things]).T
        width, height = self.picture.width, self.picture.height
        return torch.stack([x + w / 2 - width / 2, y + h / 2 - height / 2, w, h], dim=1) / max(width, height)


def choices(data: GroundingData, *, limit: int = 0) -> list[Choice]:
    """The written sentences that mean one thing, in pictures that have others to choose from; crowds are none.

    With `limit`, at most so many pictures of each folder, always the same ones.
    """
    found: dict[Path, list[Choice]] = defaultdict(list)
    for key, expressions in sorted(data.by_picture().items()):
        picture = data.pictures[key]
        things = tuple(i for i in picture.instances if not i.crowd)
        number = {(thing.id,): n for n, thing in enumerate(things)}
        said = [(e.text, number[e.targets]) for e in expressions if e.origin == "written" and e.targets in number]
        if len(things) > 1 and said:
            texts, targets = zip(*said, strict=True)
            found[picture.path.parent].append(Choice(picture, things, texts, targets))
    drawn = ([some[i] for i in np.random.default_rng(0).permutation(len(some))] for some in found.values())
    return [choice for some in drawn for choice in some[: limit or None]]


# ---- encoders


class Trunk(Protocol):
    """What is asked of an encoder here; every ImageEncoder has it."""

    trunk_module: nn.Module

    def trunk(self, image_B3SS: Tensor) -> tuple[Tensor, ...]:
        """Feature maps, (B, channels, h, w) each; the image is RGB in [0, 1]."""


class TimmTrunk(nn.Module):
    """Any of timm's networks that gives a pyramid, at strides 4, 8, 16 and 32, with weights from a safetensors file.

    The file has timm's names; it may have more than the pyramid needs (a classifier). `resnet50_v1` and the like are
    the networks of Caffe and Keras. Raises ConfigError if the file has less than is needed.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: str, file: str | Path) -> None:
        super().__init__()
        try:
            net: Any = timm.create_model(model.removesuffix("_v1"), features_only=True, out_indices=(1, 2, 3, 4))
            missing = net.load_state_dict(load_file(file), strict=False).missing_keys
        except (OSError, RuntimeError) as error:
            raise ConfigError(f"timm:{model}@{file}: {error}") from None
        if missing:
            raise ConfigError(f"timm:{model}@{file}: the file lacks {missing[0]}; it needs timm's names")
        for block in net.modules():  # theirs stride in a bottleneck's first convolution, timm's in its second
            if model.endswith("_v1") and isinstance(block, Bottleneck):
                block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
        self.trunk_module = net
        self.register_buffer("mean", torch.tensor(net.default_cfg["mean"]))
        self.register_buffer("std", torch.tensor(net.default_cfg["std"]))

    def trunk(self, image_B3SS: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.trunk_module(normalise(image_B3SS, self.mean, self.std)))


class Spec(NamedTuple):
    """An encoder and the side of the square it is given, as written: NAME:SIDE or timm:MODEL@FILE:SIDE."""

    name: str
    side: int

    @staticmethod
    def parse(text: str) -> Spec:
        """Raises ConfigError for anything else."""
        name, _, side = text.rpartition(":")
        if not name or not side.isdecimal() or not int(side):
            raise ConfigError(f"--encoders {text}: expected NAME:SIDE or timm:MODEL@FILE:SIDE, as dinov2_vits14:448")
        return Spec(name, int(side))

    def build(self) -> Trunk:
        """The encoder with its published weights, as a Segmenter lays it out. Raises ConfigError if there is none."""
        if self.name.startswith("timm:"):
            model, _, file = self.name.removeprefix("timm:").partition("@")
            encoder: Any = TimmTrunk(model, file)
        else:
            encoder = build_image_encoder(ImageEncoderConfig(name=cast(Any, self.name)), pretrained=True)
        return cast(Trunk, encoder.eval().to(memory_format=torch.channels_last))

    def __str__(self) -> str:
        """Without a file."""
        return f"{self.name.partition('@')[0]}:{self.side}"


@torch.inference_mode()
def milliseconds(encoder: Trunk, side: int, *, threads: int, count: int) -> float:
    """Median time of `count` pictures, in ms each, on so many threads; two before these do not count."""
    image = torch.rand(1, 3, side, side).to(memory_format=torch.channels_last)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        seconds = []
        for _ in range(2 + count):
            begin = time.perf_counter()
            encoder.trunk(image)
            seconds.append(time.perf_counter() - begin)
    finally:
        torch.set_num_threads(before)
    return 1e3 * statistics.median(seconds[2:])


# ---- pooling


def mean_under(map_Chw: Tensor, masks: Sequence[np.ndarray]) -> Tensor:
    """(K, C) means of a map under K masks of its square, (S, S) bool each, none of them empty.

    A place of the map counts as much as the mask covers of its area.
    """
    height, width = map_Chw.shape[-2:]
    covers = [cv2.resize(m.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) for m in masks]
    weight_KP = torch.from_numpy(np.stack(covers)).flatten(1)
    return (weight_KP @ map_Chw.flatten(1).T) / weight_KP.sum(1, keepdim=True)


@torch.inference_mode()
def pool(encoder: Trunk, side: int, choice: Choice) -> Tensor:
    """(K, F) means of all the encoder's maps under a picture's things. Raises DataError if it cannot be read."""
    picture = choice.picture
    letterbox = Letterbox(picture.height, picture.width, side)
    masks = []
    for thing in choice.things:
        mask = letterbox.mask(thing.mask(picture.height, picture.width))
        if not mask.any():  # thinner than a pixel of the square
            x, y, w, h = letterbox.box(np.array(thing.box))
            mask[min(int(y + h / 2), side - 1), min(int(x + w / 2), side - 1)] = True
        masks.append(mask)
    image = torch.from_numpy(letterbox.image(picture.load())).permute(2, 0, 1)[None]  # channels last, as it came
    return torch.cat([mean_under(m[0], masks) for m in encoder.trunk(image.float() / 255)], dim=1)


def pooled(spec: Spec, asked: Sequence[Choice], folder: Path) -> list[Tensor]:
    """`pool` of every picture, (K, F) each; kept in a file of the folder, named by all that they depend on."""
    encoder = spec.build()
    things = [(c.picture.content, [(i.box, i.segmentation) for i in c.things]) for c in asked]
    path = folder / f"pooled_{fingerprint(encoder.trunk_module, spec, things)}.safetensors"
    if not path.exists():
        rows = [pool(encoder, spec.side, c) for c in tqdm(asked, str(spec), unit="picture", mininterval=5)]
        write_features(path, {"features": torch.cat(rows)})
    return list(load_file(path)["features"].split([len(c.things) for c in asked]))


# ---- the matcher


class Layer(nn.Module):
    """Each thing reads the sentence's words, then the other things, then a feed-forward layer (pre-norm, residual)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.words = MultiHeadAttention(channels, heads)
        self.things = MultiHeadAttention(channels, heads)
        self.feed_forward = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))

    def forward(self, x_NKC: Tensor, real_NK: Tensor, words_NLC: Tensor, mask_NL: Tensor) -> Tensor:
        x_NKC = x_NKC + self.words(self.norms[0](x_NKC), words_NLC, words_NLC, mask_NL)
        normed = self.norms[1](x_NKC)
        x_NKC = x_NKC + self.things(normed, normed, normed, real_NK)
        return x_NKC + self.feed_forward(self.norms[2](x_NKC))


class Things(NamedTuple):
    """What the matcher sees of a picture: (K, F) pooled features and (K, 4) places."""

    features: Tensor
    places: Tensor


class Matcher(nn.Module):
    """Which of its picture's things does a sentence mean? `mean` and `std` (F,) are the pooled features' own.

    forward: B pictures, N sentences -> (N, K) logits, -inf where a picture has fewer things.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: Tensor, std: Tensor, *, words: int, channels: int = 128, heads: int = 4, layers: int = 2
    ) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.features = nn.Sequential(nn.Linear(len(mean), channels), nn.Dropout(0.1))
        self.places = nn.Sequential(nn.Linear(4, channels), nn.GELU(), nn.Linear(channels, channels))
        self.words = nn.Linear(words, channels)
        self.layers = nn.ModuleList(Layer(channels, heads) for _ in range(layers))
        self.score = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, 1, bias=False))

    def forward(self, seen: Sequence[Things], text: TextFeatures) -> Tensor:
        features_BKF = nn.utils.rnn.pad_sequence([things.features for things in seen], batch_first=True)
        places_BK4 = nn.utils.rnn.pad_sequence([things.places for things in seen], batch_first=True)
        counts = torch.tensor([len(things.features) for things in seen])
        real_BK = torch.arange(features_BKF.shape[1])[None] < counts[:, None]
        x_BKC = self.features((features_BKF - self.mean) / self.std) + self.places(places_BK4)
        x_NKC, real_NK = repeat(x_BKC, len(text)), repeat(real_BK, len(text))
        words_NLC = self.words(text.words)
        for layer in self.layers:
            x_NKC = layer(x_NKC, real_NK, words_NLC, text.mask)
        return self.score(x_NKC).squeeze(-1).masked_fill(~real_NK, -math.inf)


def learn(
    seen: Sequence[Things], asked: Sequence[Choice], texts: TextFeatureCache, *, steps: int, seed: int, lr: float = 1e-3
) -> Matcher:
    """A matcher trained on these pictures, with `steps` steps of IMAGES pictures and SENTENCES of each."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    every = torch.cat([things.features for things in seen])
    matcher = Matcher(every.mean(0), every.std(0).clamp(min=1e-6), words=texts.encoder.channels)
    optimiser = torch.optim.AdamW(matcher.parameters(), lr=lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.1)
    for _, numbers in zip(range(steps), _batches([len(c.things) for c in asked], rng), strict=False):
        drawn = [(asked[i], s) for i in numbers for s in _some(len(asked[i].texts), SENTENCES, rng)]
        logits_NK = matcher([seen[i] for i in numbers], texts.read([choice.texts[s] for choice, s in drawn]))
        loss = F.cross_entropy(logits_NK, torch.tensor([choice.targets[s] for choice, s in drawn]))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(matcher.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return matcher.eval()


def _batches(counts: Sequence[int], rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Endless batches of IMAGES numbers of pictures, those with about as many things together: less is padded."""
    size = min(IMAGES, len(counts))
    while True:
        order = np.argsort(np.log(counts) + rng.random(len(counts)))
        order = order[rng.integers(len(order) % size + 1) :]  # what does not fill a batch is left out at either end
        yield from rng.permutation(order[: len(order) // size * size].reshape(-1, size))


def _some(total: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of the numbers below `total`, repeated only if there are too few."""
    return rng.choice(total, count, replace=total < count)


# ---- measuring


class Answers(NamedTuple):
    """What the matcher on one encoder's features chose for each of R sentences, the mean over seeds."""

    right: np.ndarray  # (R,) float64: share of the seeds that chose the thing that is meant
    kind: np.ndarray  # (R,) float64: share that chose one of its kind, or itself
    seeds: list[float]  # each seed's share of right answers

    def ratios(self, sizes: np.ndarray) -> dict[str, Ratio]:
        """The metrics by name; `sizes` (R,) are those of the things that are meant."""
        every = np.ones(len(sizes))
        parts = {size: (sizes == size).astype(np.float64) for size in SIZES}
        return {"right": Ratio(self.right, every), "kind": Ratio(self.kind, every)} | {
            size: Ratio(self.right * part, part) for size, part in parts.items()
        }


def answer(
    features: Sequence[Tensor],
    training: Sequence[Choice],
    validation: Sequence[Choice],
    texts: TextFeatureCache,
    *,
    steps: int,
    seeds: int,
) -> Answers:
    """Train a matcher with each seed on the training pictures and ask it, once, about the validation pictures.

    `features` (K, F) are those of the training pictures and then of the validation pictures.
    """
    seen = [Things(f, c.places()) for f, c in zip(features, [*training, *validation], strict=True)]
    meant = [choice.things[target] for choice in validation for target in choice.targets]
    right, kind = [], []
    for seed in range(seeds):
        matcher = learn(seen[: len(training)], training, texts, steps=steps, seed=seed)
        with torch.inference_mode():
            chosen = [
                choice.things[number]
                for things, choice in zip(seen[len(training) :], validation, strict=True)
                for number in matcher([things], texts.read(choice.texts)).argmax(1).tolist()
            ]
        right.append([a is b for a, b in zip(chosen, meant, strict=True)])
        kind.append([a.category == b.category for a, b in zip(chosen, meant, strict=True)])
    return Answers(np.mean(right, axis=0), np.mean(kind, axis=0), np.mean(right, axis=1).tolist())


def sizes_of(asked: Sequence[Choice]) -> np.ndarray:
    """(R,) COCO's small, medium or large, of what each sentence means."""
    sizes = []
    for choice in asked:
        height, width = choice.picture.height, choice.picture.width
        size = {n: report.size_of(int(choice.things[n].mask(height, width).sum())) for n in set(choice.targets)}
        sizes += [size[n] for n in choice.targets]
    return np.array(sizes)


def accuracy(
    specs: Sequence[Spec],
    training: Sequence[Choice],
    validation: Sequence[Choice],
    text: TextEncoderConfig,
    folder: Path,
    *,
    steps: int,
    seeds: int,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each encoder and its metrics as plain containers, each with its 95 % bootstrap interval by picture.

    `minus the first` is the paired difference of the shares of right answers. What is pooled is kept in `folder`.
    Raises DataError or ConfigError.
    """
    asked = [*training, *validation]
    encoder: Any = build_text_encoder(text, pretrained=True)
    texts = TextFeatureCache(folder, encoder.eval(), text)
    texts.fill(t for choice in asked for t in choice.texts)
    pictures = np.repeat(np.arange(len(validation)), [len(choice.texts) for choice in validation])
    sizes = sizes_of(validation)
    first: dict[str, Ratio] = {}
    for spec in specs:
        answers = answer(pooled(spec, asked, folder), training, validation, texts, steps=steps, seeds=seeds)
        ratios = answers.ratios(sizes)
        first = first or ratios
        _, _, value, low, high, _ = differences(first, ratios, pictures)["right"]
        yield (
            str(spec),
            report.bootstrapped(ratios, pictures)
            | {
                "minus the first": report.without_nan({"value": value, "low": low, "high": high}),
                "seeds": answers.seeds,
            },
        )


def times(specs: Sequence[Spec], count: int) -> dict[str, dict[str, float]]:
    """Each encoder's `milliseconds` by the number of threads."""
    found = {}
    for spec in specs:
        encoder = spec.build()
        found[str(spec)] = {str(n): milliseconds(encoder, spec.side, threads=n, count=count) for n in THREADS}
    return found


# ---- the command


def markdown(found: dict[str, Any]) -> str:
    """The table of a probe.json, and above it what it was measured on."""
    lines = []
    known, timed = found.get("accuracy"), found.get("time")
    if known:
        lines.append(
            "Learned from {train} pictures in {steps} steps, {seeds} seeds; tested on {sentences} sentences about "
            "{pictures} others, where a guess is right in {chance:.1%}. Words by {text}.".format(**known)
        )
    if timed:
        about = ", ".join(f"{name} {value}" for name, value in timed["machine"].items() if name != "threads")
        lines.append(f"Times: median of {timed['count']}, load average {timed['load']:.1f} before. Machine: {about}.")
    rows = known["encoders"] if known else {}
    taken = timed["encoders"] if timed else {}
    cells = []
    for name in rows | taken:
        row, ms = rows.get(name, {"metrics": {}}), taken.get(name)
        shares = [row["metrics"].get("right"), row.get("minus the first")]
        shares += [row["metrics"].get(metric) for metric in ("kind", *SIZES)]
        cells.append(((name,), (*map(sections.cell, shares), *(f"{ms[str(n)]:.0f}" if ms else "–" for n in THREADS))))
    heads = ("right one", "minus the first", "right kind", *SIZES, *(f"ms, threads: {n}" for n in THREADS))
    return "\n".join([*lines, "", *sections.table("encoder, side", heads, cells), ""])


def write(found: dict[str, Any], folder: Path) -> None:
    """probe.json and table.md."""
    report.write_text(folder / "probe.json", json.dumps(found, indent=1, allow_nan=False) + "\n")
    report.write_text(folder / "table.md", markdown(found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jmceln_core.training.probe", description="measure image encoders by what their features know"
    )
    parser.add_argument("--data.root", dest="root", type=Path, default=Path("."), help="folder of the sources")
    parser.add_argument("--sources", nargs="+", default=["coco_mini/train", "more/train"], metavar="FOLDER/SPLIT")
    parser.add_argument("--validation", type=int, default=80, help="pictures of the first source to test on (80)")
    parser.add_argument("--pictures", type=int, default=500, help="most pictures of a source to learn from (500)")
    parser.add_argument(
        "--encoders", nargs="+", default=ENCODERS, metavar="NAME:SIDE", help="or timm:MODEL@FILE.safetensors:SIDE"
    )
    parser.add_argument("--text", default="minilm_l6", help="text encoder (minilm_l6)")
    parser.add_argument("--steps", type=int, default=400, help="training steps of a matcher (400)")
    parser.add_argument("--seeds", type=int, default=3, help="matchers trained on each encoder's features (3)")
    parser.add_argument("--times", type=int, default=20, help="pictures timed; 0 leaves earlier times (20)")
    parser.add_argument("--only-time", action="store_true", help="leave earlier accuracies as they are")
    parser.add_argument("--output", type=Path, required=True, help="folder of probe.json, table.md and what is pooled")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args = _parser().parse_args(arguments)
    try:
        specs = [Spec.parse(text) for text in args.encoders]
        args.output.mkdir(parents=True, exist_ok=True)
        earlier = args.output / "probe.json"
        found: dict[str, Any] = json.loads(earlier.read_text()) if earlier.is_file() else {}
        if args.times:
            about: dict[str, Any] = {"count": args.times, "load": os.getloadavg()[0], "machine": machine.describe()}
            found["time"] = about | {"encoders": times(specs, args.times)}
        if not args.only_time:
            config = DataConfig(root=args.root, sources=tuple(args.sources), validation=args.validation)
            learned, held = read_training(config)
            training, validation = choices(learned, limit=args.pictures), choices(held)
            guesses = [1 / len(choice.things) for choice in validation for _ in choice.texts]
            options = {"steps": args.steps, "seeds": args.seeds}
            about = {"sources": args.sources, "text": args.text, "train": len(training), **options}
            about |= {"sentences": len(guesses), "pictures": len(validation), "chance": statistics.mean(guesses)}
            text = TextEncoderConfig(name=args.text)
            rows: dict[str, Any] = {}
            found["accuracy"] = about | {"encoders": rows}
            for name, row in accuracy(specs, training, validation, text, args.output, **options):
                rows[name] = row
                write(found, args.output)  # what there is, should the rest take too long
        write(found, args.output)
    except (ConfigError, DataError, OSError, ValueError) as error:
        return refused("probe", error)
    print(markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())

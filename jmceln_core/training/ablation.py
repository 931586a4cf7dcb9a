"""The paper's Table 2 on any data set and budget: which part of the network helps, and how sure is that?

Every row is trained with every seed, all else equal; with the same seed all rows see the same samples in the same
order, which is what pairs them. What is compared is the state after the last step, so that nothing is selected on the
pictures that are evaluated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from jmceln_core.config import ConfigError, ModelConfig, TrainConfig, from_dict, load_model_config, to_dict
from jmceln_core.evaluation.bootstrap import Interval
from jmceln_core.model import build_model
from jmceln_core.training import losses
from jmceln_core.training.loop import Trainer
from jmceln_core.training.optimiser import learning
from jmceln_core.training.run_folder import RunFolder

LEVEL = 0.95
FULL = 5  # the row the others are compared with: the whole network
# fields that may differ between the starts of a run: what it learns does not depend on them
_FREE = tuple(f"train.data.{name}" for name in ("root", "cache", "workers")) + tuple(
    f"train.{name}" for name in ("threads", "overlays", "save_every", "validate_every")
)


class Published(NamedTuple):
    """A row of the paper's Table 2: RefCOCO testB, in percent."""

    miou: float
    pr50: float
    pr90: float


@dataclass(frozen=True)
class Row:
    """A network: which of the paper's parts it has (ModelConfig's fields of the same names)."""

    name: str
    paper: Published | None
    lsran: bool = True
    cascade: bool = True
    pan: bool = True
    adaptive: bool = True
    contextual: bool = True

    @property
    def overrides(self) -> tuple[str, ...]:
        """For TrainConfig.model_overrides."""
        return tuple(f"{name}={str(on).lower()}" for name, on in self.parts.items())

    @property
    def parts(self) -> dict[str, bool]:
        """The switches by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("name", "paper")}


ROWS = {
    1: Row("baseline", Published(62.57, 70.11, 23.73), lsran=False, cascade=False),
    2: Row("+ LSRAN", Published(68.03, 77.53, 27.36), cascade=False),
    3: Row("+ cascade", Published(69.23, 78.08, 29.54), lsran=False, pan=False),
    4: Row("without PAN", Published(69.46, 78.86, 30.56), pan=False),
    5: Row("whole network", Published(70.43, 79.88, 31.54)),
    6: Row("embeddings not adaptive", Published(69.11, 77.60, 29.22), adaptive=False),
    7: Row("static words instead of embeddings", None, contextual=False),  # argued against in section 3, not measured
}


class Part(NamedTuple):
    """What two rows differ by: `row` has it, `without` has not."""

    name: str
    row: int
    without: int


PARTS = (
    Part("LSRAN, without a cascade", 2, 1),
    Part("LSRAN, in front of a cascade", 4, 3),
    Part("the cascade with contextual embeddings, without LSRAN", 3, 1),
    Part("the cascade with contextual embeddings, after LSRAN", 4, 2),
    Part("PAN", 5, 4),
    Part("reading each stage's own output (adaptive embeddings)", 5, 6),
    Part("contextual embeddings instead of the sentence's words", 5, 7),
    Part("all of it together", 5, 1),
)


class Outcome(NamedTuple):
    """A finished run, in percent, at its last step."""

    miou: float
    pointing: float


def row_config(config: TrainConfig, number: int, seed: int) -> TrainConfig:
    """The training of a row: `config` with the row's switches and with this seed."""
    overrides = (*config.model_overrides, *ROWS[number].overrides)
    return replace(config, model_overrides=overrides, optim=replace(config.optim, seed=seed))


def folder(output: Path, number: int, seed: int) -> Path:
    """Where a run lies."""
    return output / f"row{number}_seed{seed}"


def run(
    config: TrainConfig,
    output: Path,
    *,
    rows: Sequence[int],
    seeds: int,
    device: str | None = None,
    say: Callable[[str], object] = print,
) -> Ablation:
    """Train what is not finished yet, a seed's rows after each other; table.md and table.json are written after each
    run. The seeds are config.optim.seed and those that follow. Stops early, with what there is, where a run was asked
    to stop.

    Raises ConfigError before anything is trained if a row cannot be built or a run in `output` was of another
    configuration; and what Trainer raises.
    """
    if unknown := [n for n in rows if n not in ROWS]:
        raise ConfigError(f"row {unknown[0]}: the rows are {', '.join(map(str, ROWS))}")
    if not rows or seeds < 1:
        raise ConfigError(f"rows={list(rows)}, seeds={seeds}: there must be one of each at least")
    numbers = sorted(set(rows))
    drawn = range(config.optim.seed, config.optim.seed + seeds)
    todo = [(number, seed) for seed in drawn for number in numbers]
    for number, seed in todo:
        _check(row_config(config, number, seed), folder(output, number, seed))
    learned = {n: _learned(row_config(config, n, drawn[0])) for n in numbers}
    outcomes: dict[tuple[int, int], Outcome] = {}
    ablation = Ablation(config, learned, drawn, outcomes)
    results = RunFolder(output)
    for count, (number, seed) in enumerate(todo, 1):
        own, path = row_config(config, number, seed), folder(output, number, seed)
        if _finished(own, path) is None:
            say(f"run {count} of {len(todo)}: row {number} ({ROWS[number].name}), seed {seed}")
            Trainer(own, path, device=device).run()
        outcome = _finished(own, path)
        if outcome is None:
            say(f"{path}: not finished; the same command goes on from there")
            break
        outcomes[number, seed] = outcome
        results.write("table.md", ablation.markdown())
        results.write("table.json", json.dumps(ablation.plain(), indent=1) + "\n")
    return ablation


def _check(config: TrainConfig, path: Path) -> None:
    """Raise ConfigError if the run's network cannot be built, or if the run in `path` is another one."""
    model = load_model_config(config.model, config.model_overrides)
    losses.check(config.loss, model)
    known = path / "config.json"
    if not known.exists():
        return
    read = json.loads(known.read_text(encoding="utf-8"))
    # by way of the classes: a field that came later has the value that it had then
    old = {"train": from_dict(TrainConfig, read["train"]), "model": from_dict(ModelConfig, read["model"])}
    new = {"train": config, "model": model}
    if changes := [c for k in old for c in _changes(to_dict(old[k]), to_dict(new[k]), k)]:
        raise ConfigError(f"{path}: is a run of another configuration ({changes[0]}); give another --output")


def _changes(old: Any, new: Any, where: str) -> list[str]:
    """Fields that differ, but for those that what is learned does not depend on."""
    if where in _FREE:
        return []
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = sorted(old.keys() | new.keys())
        return [c for k in keys for c in _changes(old.get(k), new.get(k), f"{where}.{k}")]
    return [] if old == new else [f"{where}: {old} -> {new}"]


def _learned(config: TrainConfig) -> int:
    """How many numbers the network learns."""
    with torch.device("meta"):
        model = build_model(load_model_config(config.model, config.model_overrides))
    return sum(parameter.numel() for parameter in learning(model).values())


def _finished(config: TrainConfig, path: Path) -> Outcome | None:
    """The last line of a run's metrics.jsonl, None before the run's end."""
    lines = RunFolder(path).metrics()
    if not lines:
        return None
    last, optim = lines[-1], config.optim
    done = last["step"] >= optim.steps if optim.steps else last["epoch"] >= optim.epochs
    return Outcome(100 * last["val_miou"], 100 * last["val_pointing"]) if done else None


# the table


def t_quantile(probability: float, freedom: int) -> float:
    """The quantile of Student's t distribution with `freedom` degrees of freedom, for a probability above one half.

    By bisection on the distribution function, which is elementary for whole degrees of freedom (Abramowitz and Stegun,
    26.7.3 and 26.7.4).
    """
    if not 0.5 < probability < 1 or freedom < 1:
        raise ValueError(f"probability={probability} must lie between 0.5 and 1, freedom={freedom} be at least 1")
    low, high = 0.0, 1.0
    while _t_inside(high, freedom) < 2 * probability - 1:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        if _t_inside(middle, freedom) < 2 * probability - 1:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _t_inside(t: float, freedom: int) -> float:
    """P(-t < T < t)."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine, odd = math.cos(angle), freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(3 if odd else 2, freedom, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    inside = math.sin(angle) * total
    return 2 / math.pi * (angle + inside) if odd else inside


def t_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """The mean and its Student t interval, m -/+ t s / sqrt(n) with n - 1 degrees of freedom: what the mean over many
    more seeds would be. One value has no interval (NaN), none has no mean either."""
    count = len(values)
    if not count:
        return Interval(math.nan, math.nan, math.nan)
    mean = math.fsum(values) / count
    if count == 1:
        return Interval(mean, math.nan, math.nan)
    variance = math.fsum((v - mean) ** 2 for v in values) / (count - 1)
    half = t_quantile((1 + level) / 2, count - 1) * math.sqrt(variance / count)
    return Interval(mean, mean - half, mean + half)


class Ablation:
    """What was found. `outcomes` (row, seed) may lack runs; a difference is taken over the seeds both rows have."""

    def __init__(
        self,
        config: TrainConfig,
        learned: Mapping[int, int],
        seeds: Sequence[int],
        outcomes: Mapping[tuple[int, int], Outcome],
    ) -> None:
        self.config, self.learned, self.seeds, self.outcomes = config, learned, seeds, outcomes
        self.rows = list(learned)

    def values(self, row: int, metric: str = "miou") -> dict[int, float]:
        """A metric of the finished runs of a row, by seed."""
        return {s: getattr(self.outcomes[row, s], metric) for s in self.seeds if (row, s) in self.outcomes}

    def interval(self, row: int, metric: str = "miou") -> Interval:
        """Its mean over seeds."""
        return t_interval(list(self.values(row, metric).values()))

    def difference(self, row: int, without: int, metric: str = "miou") -> Interval:
        """Row minus row, paired by seed."""
        a, b = self.values(row, metric), self.values(without, metric)
        return t_interval([a[s] - b[s] for s in a if s in b])

    def verdict(self, part: Part) -> str:
        """A plain sentence; empty where one of the two rows has no finished run."""
        found = self.difference(part.row, part.without)
        if math.isnan(found.value):
            return ""
        count = len(self.values(part.row).keys() & self.values(part.without).keys())
        what = f"{part.name} (row {part.row} - row {part.without}): "
        if count == 1:
            return f"{what}{found.value:+.2f} points with one seed: cannot tell, the next seed may say otherwise."
        says = "helps" if found.low > 0 else "hurts" if found.high < 0 else "cannot tell at this budget"
        return f"{what}{_signed(found)} points over {count} seeds: {says}.{_published(part)}"

    def markdown(self) -> str:
        """The table, what it says about each part, and how it was made."""
        head = ["row", "network", *_SWITCHES.values(), "mIoU (95 %)", "each seed", "pointing (95 %)"]
        head += [f"minus row {FULL}, paired", "learned (M)", "paper"]
        lines = [_line(head), _line(["---:", "---", *["---"] * len(_SWITCHES), *["---:"] * 6])]
        lines += [_line(self._cells(row)) for row in self.rows]
        sentences = [f"- {text}" for part in PARTS if (text := self.verdict(part))]
        blocks = [self._head(), "\n".join(lines), "\n".join(sentences), *_NOTES]
        return "\n\n".join(block for block in blocks if block) + "\n"

    def _head(self) -> str:
        data, optim = self.config.data, self.config.optim
        evaluated = ", ".join(data.val_sources) or (
            f"{data.validation} pictures held out of {data.sources[0]}"
            if data.dataset == "coco" and data.sources
            else f"{data.dataset} {data.val_split}"
        )
        trained = ", ".join(data.sources) or f"{data.dataset} {data.split}"
        length = f"{optim.steps} steps" if optim.steps else f"{optim.epochs} epochs"
        batch = f"{optim.images} pictures with {optim.sentences} sentence{'s' * (optim.sentences > 1)} each"
        seeds = ", ".join(map(str, self.seeds))
        text = (
            f"Model `{self.config.model}`, trained on {trained} for {length} of {batch}; evaluated on {evaluated}; "
            f"seeds {seeds}."
        )
        if len(self.seeds) == 1:
            text += " One seed: there are no intervals, and a difference may be the seed's."
        return text

    def _cells(self, row: int) -> list[str]:
        about = ROWS[row]
        means_something = {"pan": about.cascade, "adaptive": about.cascade, "contextual": about.cascade}
        marks = [
            "-" if not means_something.get(name, True) else "on" if about.parts[name] else "off" for name in _SWITCHES
        ]
        difference = self.difference(row, FULL) if row != FULL else Interval(math.nan, math.nan, math.nan)
        return [
            str(row),
            about.name,
            *marks,
            _plain(self.interval(row)),
            ", ".join(f"{v:.2f}" for v in self.values(row).values()) or "-",
            _plain(self.interval(row, "pointing")),
            _signed(difference),
            f"{self.learned[row] / 1e6:.2f}",
            f"{about.paper.miou:.2f}" if about.paper else "-",
        ]

    def plain(self) -> dict[str, Any]:
        """The same as plain values, for JSON; None where there is nothing to say."""
        return {
            "train": to_dict(self.config),
            "seeds": list(self.seeds),
            "unit": "percent; differences in points",
            "level": LEVEL,
            "rows": [
                {
                    "row": row,
                    "name": ROWS[row].name,
                    "parts": ROWS[row].parts,
                    "learned": self.learned[row],
                    **{metric: self._metric(row, metric) for metric in Outcome._fields},
                    "paper": paper._asdict() if (paper := ROWS[row].paper) else None,
                }
                for row in self.rows
            ],
            "parts": [
                {**part._asdict(), "miou": _dict(self.difference(part.row, part.without)), "verdict": text}
                for part in PARTS
                if (text := self.verdict(part))
            ],
        }

    def _metric(self, row: int, metric: str) -> dict[str, Any]:
        return {
            **_dict(self.interval(row, metric)),
            "by_seed": self.values(row, metric),
            f"minus_row_{FULL}": _dict(self.difference(row, FULL, metric)),
        }


_SWITCHES = {
    "lsran": "LSRAN",
    "cascade": "cascade",
    "pan": "PAN",
    "adaptive": "adaptive",
    "contextual": "embeddings",
}
_NOTES = (
    "mIoU (at the network's own resolution) and pointing (the most probable pixel lies in the target) in percent, over "
    "all sentences with a target, after the last step: no checkpoint was selected on the evaluated pictures. "
    "Intervals: Student's t over seeds; they hold for other seeds, not for other pictures or budgets.",
    "Paper: mIoU of Table 2, RefCOCO testB (C = 1024, CLIP, 60 epochs, the epoch best on val). On other data or at "
    "another budget only the signs of the differences can be compared.",
)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(found: Interval) -> str:
    if math.isnan(found.value):
        return "-"
    return f"{found.value:.2f}" + ("" if math.isnan(found.low) else f" ({found.low:.2f} to {found.high:.2f})")


def _signed(found: Interval) -> str:
    if math.isnan(found.value):
        return "-"
    return f"{found.value:+.2f}" + ("" if math.isnan(found.low) else f" ({found.low:+.2f} to {found.high:+.2f})")


def _published(part: Part) -> str:
    a, b = ROWS[part.row].paper, ROWS[part.without].paper
    return f" In the paper: {a.miou - b.miou:+.2f}." if a and b else " The paper has no number for it."


def _dict(found: Interval) -> dict[str, float | None]:
    names = {"mean": found.value, "low": found.low, "high": found.high}
    return {name: None if math.isnan(value) else value for name, value in names.items()}

"""Which part helps, and how sure is that? Rows that differ in what is asked about, each trained with several seeds.

The rows are the paper's Table 2, or those of a study's file (docs/ablation.md). All else is equal between them; with
the same seed, rows that train on the same data see the same samples in the same order, which is what pairs them. What
is compared is the state after the last step, so that nothing is selected on the pictures that are evaluated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from scipy import stats

from jmceln_core.config import (
    ConfigError,
    ModelConfig,
    TrainConfig,
    apply_overrides,
    from_dict,
    load_model_config,
    read_yaml,
    to_dict,
)
from jmceln_core.evaluation.bootstrap import Interval
from jmceln_core.markdown import table
from jmceln_core.model import build_model
from jmceln_core.training import losses
from jmceln_core.training.loop import Trainer
from jmceln_core.training.optimiser import learning
from jmceln_core.training.run_folder import RunFolder

LEVEL = 0.95
METRICS = ("miou", "pointing", "presence")
T = TypeVar("T")
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
    """What is trained: the command's configuration with these fields changed."""

    name: str
    train: tuple[str, ...] = ()  # "field=value" of TrainConfig
    model: tuple[str, ...] = ()  # "field=value" of ModelConfig, after TrainConfig.model_overrides


@dataclass(frozen=True)
class Part:
    """What two rows differ by: `row` has it, `without` has not."""

    name: str
    row: int
    without: int
    metric: str = "miou"  # what it is judged by, one of METRICS


@dataclass(frozen=True)
class Study:
    """Rows by number, and what is asked about them."""

    rows: Mapping[int, Row]
    parts: tuple[Part, ...]
    reference: int  # the row the others are compared with
    switches: Mapping[str, str] = field(default_factory=dict)  # ModelConfig's fields with columns of their own: titles
    paper: Mapping[int, Published] = field(default_factory=dict)  # what the paper found, by row

    def __post_init__(self) -> None:
        for part in self.parts:
            if part.metric not in METRICS:
                raise ConfigError(f"metric {part.metric!r} of {part.name}: the metrics are {', '.join(METRICS)}")
        asked = [self.reference, *(n for part in self.parts for n in (part.row, part.without))]
        if unknown := [n for n in asked if n not in self.rows]:
            raise ConfigError(f"row {unknown[0]}: the rows are {', '.join(map(str, self.rows))}")


def read_study(path: Path) -> Study:
    """A study from its YAML file: `rows` (number: fields of Row), `parts` (a list of Part's fields) and `reference` (a
    row's number). Raises ConfigError naming the file and the field."""
    values = read_yaml(path)
    try:
        if unknown := sorted(map(str, values.keys() - {"rows", "parts", "reference"})):
            raise ConfigError(f"{unknown[0]}: no such field of a study; the fields are rows, parts, reference")
        rows = values.get("rows")
        if not isinstance(rows, dict) or not rows or not all(isinstance(n, int) for n in rows):
            raise ConfigError("rows: expected what each row is by its number, for example 1: {name: whole}")
        return Study(
            {n: _fields(Row, row, f"rows.{n}") for n, row in rows.items()},
            tuple(_fields(Part, part, f"parts.{i}") for i, part in enumerate(values.get("parts") or [])),
            values.get("reference", min(rows)),
        )
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _fields(kind: type[T], values: Any, where: str) -> T:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected fields of {kind.__name__}, got {values!r}")
    if missing := [n for n in ("name", "row", "without") if n in kind.__annotations__ and n not in values]:
        raise ConfigError(f"{where}: {missing[0]} is missing")
    return from_dict(kind, values, f"{where}.")


_SWITCHES = {
    "lsran": "LSRAN",
    "cascade": "cascade",
    "pan": "PAN",
    "adaptive": "adaptive",
    "contextual": "embeddings",
}


def _network(name: str, *without: str) -> Row:
    """A row of Table 2: a network without some of the paper's parts."""
    return Row(name, model=tuple(f"{switch}={str(switch not in without).lower()}" for switch in _SWITCHES))


TABLE_2 = Study(
    {
        1: _network("baseline", "lsran", "cascade"),
        2: _network("+ LSRAN", "cascade"),
        3: _network("+ cascade", "lsran", "pan"),
        4: _network("without PAN", "pan"),
        5: _network("whole network"),
        6: _network("embeddings not adaptive", "adaptive"),
        # argued against in section 3, not measured
        7: _network("static words instead of embeddings", "contextual"),
    },
    (
        Part("LSRAN, without a cascade", 2, 1),
        Part("LSRAN, in front of a cascade", 4, 3),
        Part("the cascade with contextual embeddings, without LSRAN", 3, 1),
        Part("the cascade with contextual embeddings, after LSRAN", 4, 2),
        Part("PAN", 5, 4),
        Part("reading each stage's own output (adaptive embeddings)", 5, 6),
        Part("contextual embeddings instead of the sentence's words", 5, 7),
        Part("all of it together", 5, 1),
    ),
    reference=5,
    switches=_SWITCHES,
    paper={
        1: Published(62.57, 70.11, 23.73),
        2: Published(68.03, 77.53, 27.36),
        3: Published(69.23, 78.08, 29.54),
        4: Published(69.46, 78.86, 30.56),
        5: Published(70.43, 79.88, 31.54),
        6: Published(69.11, 77.60, 29.22),
    },
)

Outcome = Mapping[str, float]  # of a finished run at its last step, in percent: miou, pointing, miou/SOURCE, ...


def row_config(config: TrainConfig, row: Row, seed: int) -> TrainConfig:
    """The training of a row: `config` with the row's fields and with this seed. Raises ConfigError for a field that is
    not there."""
    own = from_dict(TrainConfig, apply_overrides(to_dict(config), row.train))
    overrides = (*own.model_overrides, *row.model)
    return replace(own, model_overrides=overrides, optim=replace(own.optim, seed=seed))


def folder(output: Path, number: int, seed: int) -> Path:
    """Where a run lies."""
    return output / f"row{number}_seed{seed}"


def run(
    config: TrainConfig,
    output: Path,
    *,
    study: Study = TABLE_2,
    rows: Sequence[int] = (),
    seeds: int,
    device: str | None = None,
    say: Callable[[str], object] = print,
) -> Ablation:
    """Train what is not finished yet, a seed's rows after each other; table.md and table.json are written after each
    run. `rows` are all of the study's if none are named. The seeds are config.optim.seed and those that follow. Stops
    early, with what there is, where a run was asked to stop.

    Raises ConfigError before anything is trained if a row cannot be built or a run in `output` was of another
    configuration; and what Trainer raises.
    """
    if unknown := [n for n in rows if n not in study.rows]:
        raise ConfigError(f"row {unknown[0]}: the rows are {', '.join(map(str, study.rows))}")
    if seeds < 1:
        raise ConfigError(f"seeds={seeds}: there must be one at least")
    numbers = sorted(set(rows or study.rows))
    drawn = range(config.optim.seed, config.optim.seed + seeds)
    todo = [(number, seed) for seed in drawn for number in numbers]
    for number, seed in todo:
        _check(row_config(config, study.rows[number], seed), folder(output, number, seed))
    learned = {n: _learned(row_config(config, study.rows[n], drawn[0])) for n in numbers}
    outcomes: dict[tuple[int, int], Outcome] = {}
    ablation = Ablation(config, learned, drawn, outcomes, study)
    results = RunFolder(output)
    for count, (number, seed) in enumerate(todo, 1):
        row, path = study.rows[number], folder(output, number, seed)
        own = row_config(config, row, seed)
        if _finished(own, path) is None:
            say(f"run {count} of {len(todo)}: row {number} ({row.name}), seed {seed}")
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
    scores = {name.removeprefix("val_"): 100 * value for name, value in last.items() if name.startswith("val_")}
    scores.pop("skipped", None)
    return scores if done else None


# the table


def t_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """The mean and its Student t interval, m -/+ t s / sqrt(n) with n - 1 degrees of freedom: what the mean over many
    more seeds would be. One value has no interval (NaN), none has no mean either. ValueError: no such `level`."""
    if not 0 < level < 1:
        raise ValueError(f"level={level} must lie between 0 and 1")
    count = len(values)
    if not count:
        return Interval(math.nan, math.nan, math.nan)
    mean = math.fsum(values) / count
    if count == 1:
        return Interval(mean, math.nan, math.nan)
    variance = math.fsum((v - mean) ** 2 for v in values) / (count - 1)
    half = float(stats.t.ppf((1 + level) / 2, count - 1)) * math.sqrt(variance / count)
    return Interval(mean, mean - half, mean + half)


class Ablation:
    """What was found. `outcomes` (row, seed) may lack runs; a difference is taken over the seeds both rows have.

    A metric is one of METRICS, over all evaluated sentences, or miou/SOURCE and so on where several `data.val_sources`
    were evaluated.
    """

    def __init__(
        self,
        config: TrainConfig,
        learned: Mapping[int, int],
        seeds: Sequence[int],
        outcomes: Mapping[tuple[int, int], Outcome],
        study: Study = TABLE_2,
    ) -> None:
        self.config, self.learned, self.seeds, self.outcomes, self.study = config, learned, seeds, outcomes, study
        self.rows = list(learned)
        sources = config.data.val_sources
        self.places = [f"/{source}" for source in sources] if len(sources) > 1 else [""]  # ends of the metrics' names

    def values(self, row: int, metric: str = "miou") -> dict[int, float]:
        """A metric of the finished runs of a row, by seed."""
        return {s: o[metric] for s in self.seeds if metric in (o := self.outcomes.get((row, s), {}))}

    def interval(self, row: int, metric: str = "miou") -> Interval:
        """Its mean over seeds."""
        return t_interval(list(self.values(row, metric).values()))

    def difference(self, row: int, without: int, metric: str = "miou") -> Interval:
        """Row minus row, paired by seed."""
        a, b = self.values(row, metric), self.values(without, metric)
        return t_interval([a[s] - b[s] for s in a if s in b])

    def verdict(self, part: Part, place: str = "") -> str:
        """A plain sentence; empty where one of the two rows has no finished run."""
        metric = part.metric + place
        found = self.difference(part.row, part.without, metric)
        if math.isnan(found.value):
            return ""
        count = len(self.values(part.row, metric).keys() & self.values(part.without, metric).keys())
        judged = "" if part.metric == "miou" else f"{part.metric}, "
        what = f"{part.name} ({judged}row {part.row} - row {part.without}): "
        if count == 1:
            return f"{what}{found.value:+.2f} points with one seed: cannot tell, the next seed may say otherwise."
        says = "helps" if found.low > 0 else "hurts" if found.high < 0 else "cannot tell at this budget"
        return f"{what}{_signed(found)} points over {count} seeds: {says}.{self._published(part)}"

    def _published(self, part: Part) -> str:
        a, b = (self.study.paper.get(n) for n in (part.row, part.without))
        if a and b:
            return f" In the paper: {a.miou - b.miou:+.2f}."
        return " The paper has no number for it." if self.study.paper else ""

    def markdown(self) -> str:
        """The table, of each evaluated source if there are several, what it says about each part, how it was made."""
        blocks = [self._head(), self._changes()]
        for place in self.places:
            sentences = [f"- {text}" for part in self.study.parts if (text := self.verdict(part, place))]
            blocks += [f"### {place[1:]}" if place else "", self._table(place), "\n".join(sentences)]
        blocks += [_NOTE, _PRESENCE if self._metrics("presence") else "", _PAPER if self.study.paper else ""]
        return "\n\n".join(block for block in blocks if block) + "\n"

    def _metrics(self, start: str = "") -> list[str]:
        """The names of what was measured that begin so."""
        return sorted({name for outcome in self.outcomes.values() for name in outcome if name.startswith(start)})

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

    def _changes(self) -> str:
        """The rows' fields, where they have no columns."""
        if self.study.switches:
            return ""
        rows = {n: self.study.rows[n] for n in self.rows}
        changes = {n: ", ".join(f"`{c}`" for c in (*row.train, *row.model)) for n, row in rows.items()}
        return "\n".join(f"- row {n}, {rows[n].name}: {changes[n] or 'as above'}" for n in rows)

    def _table(self, place: str) -> str:
        titles = self.study.switches.values()
        head = ["row", "network" if titles else "what", *titles, "mIoU (95 %)", "each seed", "pointing (95 %)"]
        head += ["presence (95 %)"] if self._metrics("presence") else []
        head += [f"minus row {self.study.reference}, paired", "learned (M)", *(["paper"] if self.study.paper else [])]
        left = 2 + len(titles)
        align = "r" + "l" * (left - 1) + "r" * (len(head) - left)
        return "\n".join(table(head, (self._cells(row, place) for row in self.rows), align=align))

    def _switches(self, row: int) -> dict[str, bool]:
        """ModelConfig's switches that have a column."""
        model = load_model_config(self.config.model, (*self.config.model_overrides, *self.study.rows[row].model))
        return {name: getattr(model, name) for name in self.study.switches}

    def _cells(self, row: int, place: str) -> list[str]:
        on, reference, paper = self._switches(row), self.study.reference, self.study.paper.get(row)
        means_something = {name: on["cascade"] for name in on if name in ("pan", "adaptive", "contextual")}
        marks = ["-" if not means_something.get(name, True) else "on" if on[name] else "off" for name in on]
        difference = self.difference(row, reference, f"miou{place}")
        return [
            str(row),
            self.study.rows[row].name,
            *marks,
            _plain(self.interval(row, f"miou{place}")),
            ", ".join(f"{v:.2f}" for v in self.values(row, f"miou{place}").values()) or "-",
            _plain(self.interval(row, f"pointing{place}")),
            *([_plain(self.interval(row, f"presence{place}"))] if self._metrics("presence") else []),
            "-" if row == reference else _signed(difference),
            f"{self.learned[row] / 1e6:.2f}",
            *([f"{paper.miou:.2f}" if paper else "-"] if self.study.paper else []),
        ]

    def plain(self) -> dict[str, Any]:
        """The same as plain values, for JSON; None where there is nothing to say."""
        return {
            "train": to_dict(self.config),
            "seeds": list(self.seeds),
            "unit": "percent; differences in points",
            "level": LEVEL,
            "rows": [self._row(row) for row in self.rows],
            "parts": [
                {
                    "name": part.name,
                    "row": part.row,
                    "without": part.without,
                    part.metric + place: _dict(self.difference(part.row, part.without, part.metric + place)),
                    "verdict": text,
                }
                for place in self.places
                for part in self.study.parts
                if (text := self.verdict(part, place))
            ],
        }

    def _row(self, row: int) -> dict[str, Any]:
        about, paper = self.study.rows[row], self.study.paper.get(row)
        return {
            "row": row,
            "name": about.name,
            "train": list(about.train),
            "model": list(about.model),
            **({"parts": self._switches(row)} if self.study.switches else {}),
            "learned": self.learned[row],
            **{metric: self._metric(row, metric) for metric in self._metrics()},
            **({"paper": paper._asdict() if paper else None} if self.study.paper else {}),
        }

    def _metric(self, row: int, metric: str) -> dict[str, Any]:
        return {
            **_dict(self.interval(row, metric)),
            "by_seed": self.values(row, metric),
            f"minus_row_{self.study.reference}": _dict(self.difference(row, self.study.reference, metric)),
        }


_NOTE = (
    "mIoU (at the network's own resolution) and pointing (the most probable pixel lies in the target) in percent, over "
    "all sentences with a target, after the last step: no checkpoint was selected on the evaluated pictures. "
    "Intervals: Student's t over seeds; they hold for other seeds, not for other pictures or budgets."
)
_PRESENCE = (
    "Presence: the share of all sentences, those that match nothing included, of which it is told rightly whether they "
    "match something."
)
_PAPER = (
    "Paper: mIoU of Table 2, RefCOCO testB (C = 1024, CLIP, 60 epochs, the epoch best on val). On other data or at "
    "another budget only the signs of the differences can be compared."
)


def _plain(found: Interval) -> str:
    if math.isnan(found.value):
        return "-"
    return f"{found.value:.2f}" + ("" if math.isnan(found.low) else f" ({found.low:.2f} to {found.high:.2f})")


def _signed(found: Interval) -> str:
    if math.isnan(found.value):
        return "-"
    return f"{found.value:+.2f}" + ("" if math.isnan(found.low) else f" ({found.low:+.2f} to {found.high:+.2f})")


def _dict(found: Interval) -> dict[str, float | None]:
    names = {"mean": found.value, "low": found.low, "high": found.high}
    return {name: None if math.isnan(value) else value for name, value in names.items()}

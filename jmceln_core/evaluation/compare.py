"""Is B better than A? Two evaluations of the same sentences, compared by a paired bootstrap:

    python -m jmceln_core.evaluation.compare A B

A and B are the folders two runs of `python -m jmceln_core.evaluate` wrote, or the records.jsonl in them. Prints
Markdown; `--output FILE` also writes the numbers as json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmceln_core.command import refused
from jmceln_core.data.grounding import DataError
from jmceln_core.evaluation import bootstrap, protocol, report, sections
from jmceln_core.evaluation.run import Record
from jmceln_core.markdown import table

_METRICS = (*report.BRIEF, "gIoU", "cIoU", "N_acc", "T_acc")
_SHOWN = 3  # unmatched sentences named in the error

# A sentence: its picture, its targets, its text, and how many such came before (some are given twice).
Key = tuple[int, tuple[int, ...], str, int]


@dataclass(frozen=True)
class Evaluation:
    """One evaluation as it was written."""

    path: Path
    summary: dict[str, Any]  # its metrics.json
    records: dict[Key, Record]


def read(path: Path) -> Evaluation:
    """A folder that `evaluate` wrote, or its records.jsonl. Raises DataError naming the file and the remedy."""
    directory = path if path.is_dir() else path.parent
    records = report.read_records(directory / "records.jsonl" if path.is_dir() else path)
    metrics = directory / "metrics.json"
    try:
        summary = json.loads(metrics.read_text(encoding="utf-8"))
        for name in ("model", "checkpoint", "protocol", "size", "side"):
            summary[name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{metrics}: not what evaluate writes beside its records ({error!r}): it says how they were measured; "
            "keep the two together, or evaluate again"
        ) from None
    seen: Counter[tuple[int, tuple[int, ...], str]] = Counter()
    keyed = {}
    for record in records:
        sentence = record.picture, record.targets, record.text
        keyed[(*sentence, seen[sentence])] = record
        seen[sentence] += 1
    return Evaluation(path, summary, keyed)


def compare(
    a: Evaluation, b: Evaluation, *, draws: int = bootstrap.DRAWS, level: float = 0.95, seed: int = 0
) -> dict[str, Any]:
    """The differences b - a as plain containers, each part of the sentences where it stands in metrics.json.

    Raises DataError if the two were measured differently or on different sentences.
    """
    for name, words in (("protocol", "protocols"), ("size", "sizes"), ("side", "sizes")):
        ours, theirs = (evaluation.summary[name] for evaluation in (a, b))
        if ours != theirs:
            if _plain(ours) != _plain(theirs):  # else one name, and other settings
                ours, theirs = _plain(ours), _plain(theirs)
            raise DataError(
                f"different {words}: A has {name} {ours}, B {theirs}; evaluate both with the same --protocol and --size"
            )
    _check_same_sentences(a, b)
    rule = protocol.named(a.summary["protocol"]["name"])
    of_a = list(a.records.values())
    of_b = [b.records[key] for key in a.records]

    def measured(part: report.Part) -> dict[str, Any]:
        groups = report.pictures_of(part, of_a)
        ratios_a, ratios_b = (report.measure(part, records, rule) for records in (of_a, of_b))
        chosen = {name: ratio for name, ratio in ratios_a.items() if name in _METRICS}
        found = bootstrap.differences(chosen, ratios_b, groups, draws=draws, level=level, seed=seed)
        return {
            "sentences": len(groups),
            "pictures": len(set(groups.tolist())),
            "metrics": {name: report.without_nan(difference._asdict()) for name, difference in found.items()},
        }

    return {
        **{
            name: {"path": str(e.path), "model": e.summary["model"], "checkpoint": e.summary["checkpoint"]}
            | ({"unread": e.summary["unread"]} if "unread" in e.summary else {})
            for name, e in (("a", a), ("b", b))
        },
        **{name: a.summary[name] for name in ("protocol", "size", "side")},
        "interval": {"level": level, "draws": draws, "seed": seed, "method": "paired percentile bootstrap by picture"},
        "main": report.main_origin(of_a),
        "absent": sum(not record.targets for record in of_a),
        **report.nested((part, measured(part)) for part in report.parts(of_a)),
    }


def markdown(found: dict[str, Any]) -> str:
    """The tables of a comparison."""
    interval = found["interval"]
    lines = [
        "# B against A",
        "",
        *(f"- {name.upper()}: {_named(found[name])}" for name in ("a", "b")),
        "",
        f"Brackets: {interval['level']:.0%} interval of B - A, paired bootstrap by picture ({interval['draws']:,} "
        "draws, the same pictures for both). \"B better\": share of the draws in which B's value is above A's. "
        f"Masks are compared {report.compared_at(found)}.",
    ]
    for name in ("a", "b"):
        if "unread" in found[name]:
            lines += ["", f"{name.upper()}: {report.unread_about(found[name]['unread'])}"]

    def section(heading: str, label: str, rows: list[tuple[str, dict[str, Any]]]) -> None:
        name = found["protocol"]["name"]
        header = (f"{label} (`{name}`)", "sentences", "pictures", "metric", "A", "B", "B - A", "B better")
        cells = (
            (sections.named(row), part["sentences"], part["pictures"], metric, *_cells(values))
            for row, part in rows
            for metric, values in part["metrics"].items()
        )
        lines.extend(report.section(heading, table(header, cells, align="lrrlrrrr")))

    section(report.MAIN[found["main"]], "part", [("all", found)])
    for name in report.BREAKDOWNS:
        rows = found.get(f"by_{name}", {})
        if len(rows) > 1:
            section(f"By {name}", name, list(rows.items()))
    for part, heading in report.APART.items():
        if part in found:
            section(heading, "part", [("all", found[part])])
    if "gres" in found:
        section(report.gres_heading(found["absent"]), "part", [("all", found["gres"])])
    return "\n".join(lines) + "\n"


def _check_same_sentences(a: Evaluation, b: Evaluation) -> None:
    """Raises DataError with counts and examples."""
    alone = {"A": [key for key in a.records if key not in b.records]}
    alone["B"] = [key for key in b.records if key not in a.records]
    if not any(alone.values()):
        return
    words = [f"{len(a.records) - len(alone['A'])} sentences are in both"]
    for name, keys in alone.items():
        if keys:
            some = "; ".join(f"picture {key[0]}, targets {list(key[1])}: {key[2]!r}" for key in keys[:_SHOWN])
            words.append(f"{len(keys)} in {name} only ({some}{'; ...' if len(keys) > _SHOWN else ''})")
    raise DataError(f"{', '.join(words)}: evaluate both on the same data with the same --split, --limit and --seed")


def _plain(value: Any) -> Any:
    return value["name"] if isinstance(value, dict) else value


def _named(one: dict[str, Any]) -> str:
    return f"{one['model']} (checkpoint {one['checkpoint']}), {one['path']}"


def _cells(values: dict[str, float | None]) -> tuple[str, ...]:
    """A, B, B - A with its interval, the share of draws in which B is better."""
    a, b, difference, low, high, better = (values[name] for name in bootstrap.Difference._fields)
    if difference is None:
        return tuple(map(sections.number, (a, b, difference, better)))
    ends = "" if low is None else f" [{low:+.3f}, {high:+.3f}]"
    return f"{a:.3f}", f"{b:.3f}", f"{difference:+.3f}{ends}", "–" if better is None else f"{better:.1%}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jmceln_core.evaluation.compare", description="Is B better than A, on the same sentences?"
    )
    for name in "ab":
        parser.add_argument(
            name, type=Path, metavar=name.upper(), help="a folder that evaluate wrote, or its records.jsonl"
        )
    parser.add_argument("--draws", type=int, default=bootstrap.DRAWS, help="bootstrap draws (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: 0)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the numbers as json, too")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare as the command line says; print the tables. Returns the exit status."""
    args = _parser().parse_args(arguments)
    try:
        found = compare(read(args.a), read(args.b), draws=args.draws, seed=args.seed)
        if args.output:
            report.write_text(args.output, json.dumps(found, indent=2, allow_nan=False) + "\n")
    except (DataError, OSError, ValueError) as error:
        return refused("compare", error)
    print(markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())

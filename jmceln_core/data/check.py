"""What is wrong with a data set, before anything is trained on it:

    python -m jmceln_core.data.check ROOT [--dataset NAME ...] [--sheet FILE.png]

Of REFER's data sets it prints a line for every split: refs, pictures and sentences, found and published, and how many
pictures are missing. Of one's own, in COCO's json, what training would see and what is left out of it, picture by
picture, with files that two splits share; the sheet shows some of the pictures with their masks and sentences. The exit
status is 0 if everything looked at is complete and right, otherwise 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jmceln_core.data import own, refer, sheet
from jmceln_core.data.grounding import DataError
from jmceln_core.data.readers import DATASETS
from jmceln_core.pictures import check_writable, write_picture

PICTURES = 24  # on a sheet
HEAD = ("data set", "split", "refs", "pictures", "sentences", "pictures missing")


def inspect(root: Path, datasets: Sequence[str] = ()) -> tuple[list[tuple[str, ...]], list[str]]:
    """Rows of the table under `HEAD`, and what is wrong or missing, in words (nothing: all is complete).

    `datasets`: those to look at; none named: those that have a folder below `root`. Of each, the usual division into
    splits has to be there; others are looked at where they are.
    """
    rows: list[tuple[str, ...]] = []
    wrong: list[str] = []
    looked_at = datasets or [name for name in refer.DIVISIONS if (root / name).is_dir()]
    absent = False
    for name in looked_at:
        usual, *others = (refer.archive(root, name, by) for by in refer.DIVISIONS[name])
        names: dict[int, str] | None = None
        try:
            names = refer.picture_names(usual)
        except DataError as error:
            wrong.append(str(error))
        for source in [usual, *(other for other in others if other.refs_path.is_file())]:
            try:
                splits = source.refs()
            except DataError as error:
                wrong.append(str(error))
                continue
            problems = {problem: ["all splits"] for problem in refer.total_difference(source, splits)}
            for split in refer.PUBLISHED[source.dataset, source.split_by] | splits:
                row, told, gone = _split(source, splits, split, names)
                rows.append(row)
                absent |= gone
                for problem in told:
                    problems.setdefault(problem, []).append(split)
            wrong += [f"{source}, {', '.join(where)}: {problem}" for problem, where in problems.items()]
            if problems:
                wrong.append(f"{source}: {source.home}")
    if absent:
        wrong.append(f"Pictures are missing in {root / refer.PICTURES}. {refer.PICTURES_HOME}")
    return rows, wrong


def _split(
    source: refer.Archive, splits: dict[str, list[refer.Ref]], split: str, names: dict[int, str] | None
) -> tuple[tuple[str, ...], list[str], bool]:
    """A split's row, what is wrong with its files, and whether pictures are missing."""
    refs = splits.get(split, [])
    told = [] if refs else [f"not in {source.refs_path.name}"]
    if refs and refer.differences(source, split, refs):
        told.append("not the published counts")
    published = refer.PUBLISHED[source.dataset, source.split_by].get(split, refer.Counts())
    cells = [_cell(*pair) for pair in zip(refer.count(refs), published, strict=True)]
    if names is None:
        return (str(source), split, *cells, "?"), told, False
    unknown = {r.image_id for r in refs} - names.keys()
    if unknown:
        told.append(f"{len(unknown):,} of its pictures are not in {source.instances_path.name}")
    own = {r.image_id: names[r.image_id] for r in refs if r.image_id not in unknown}
    gone = refer.missing_pictures(source.root / refer.PICTURES, own)
    return (str(source), split, *cells, f"{len(gone):,}"), told, bool(gone)


def _cell(found: int | None, published: int | None) -> str:
    if published is None or found == published:
        return f"{found:,}"
    return f"{found:,} / {published:,}"


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Look as the command line says; print what is found and what is wrong. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m jmceln_core.data.check",
        description="What of a data set is there (REFER's: found / published where they differ), and what is wrong.",
    )
    parser.add_argument(
        "root", type=Path, metavar="ROOT", help="the folder that holds refcoco/, images/, ..., or yours"
    )
    parser.add_argument(
        "--dataset",
        nargs="+",
        choices=DATASETS,
        default=[],
        metavar="NAME",
        help=f"look at these only ({', '.join(DATASETS)}; coco: your own); default: those that are there",
    )
    parser.add_argument(
        "--sheet", type=Path, metavar="FILE", help="draw pictures of your own data with masks and sentences: .png, .jpg"
    )
    args = parser.parse_args(arguments)
    refers = [name for name in args.dataset if name != "coco"]
    try:
        if args.sheet:
            check_writable(args.sheet)
        sources = own.sources(args.root) if not args.dataset or "coco" in args.dataset else []
    except (OSError, ValueError) as error:
        parser.error(str(error))
    lines, wrong, splits = own.inspect(args.root, sources)
    if not args.dataset or refers:
        rows, more = inspect(args.root, refers)
        lines += ["", _table([HEAD, *rows])] if rows else []
        wrong += more
    if not lines and not wrong:
        homes = f"{refer.REFER_HOME} and {refer.GREFCOCO_HOME}"
        wrong.append(
            f"{args.root}: none of the folders {', '.join(refer.DIVISIONS)} is in it, they come from {homes}; and no "
            "annotations of your own, instances_SPLIT.json with expressions_SPLIT.json beside it"
        )
    for line in [*lines, ""] if lines else []:
        print(line)
    for problem in wrong:
        print(problem)
    if args.sheet:
        cells = [cell for s in splits for cell in sheet.draw(s.data, s.name, count=PICTURES // len(splits) or 1)]
        if not cells:
            parser.error("--sheet: no pictures of your own to draw")
        try:
            write_picture(args.sheet, sheet.together(cells))
        except ValueError as error:
            parser.error(str(error))
        print(f"{args.sheet}: {len(cells)} pictures")
    print("Incomplete, or not right: see above." if wrong else "Everything is there.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

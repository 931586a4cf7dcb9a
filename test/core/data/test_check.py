"""python -m jmceln_core.data.check: what is there, what is missing, and where that is published."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import pytest

from core.data.test_dataset import write
from core.data.test_refer import edit, publish
from jmceln_core.data import check, sheet
from jmceln_core.data.own import sources
from support.image_files import encoded, with_exif
from support.refer_miniature import PICTURES, build


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return build(tmp_path)


def row(printed: str, start: str) -> list[str]:
    line = next(line for line in printed.splitlines() if line.startswith(start))
    return re.split(r"\s{2,}", line.strip())


def test_everything_there(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    publish(monkeypatch, root)
    assert check.main([str(root)]) == 0
    printed = capsys.readouterr().out
    assert "Everything is there." in printed
    assert row(printed, "refcoco (unc)  ") == ["refcoco (unc)", "train", "26", "6", "52", "0"]
    assert sum(" (" in line for line in printed.splitlines()) == 4 + 4 + 3 + 2 + 4
    assert "http" not in printed


def test_the_miniature_is_not_complete(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main([str(root)]) == 1
    printed = capsys.readouterr().out
    assert row(printed, "refcoco (unc)  ") == [
        "refcoco (unc)", "train", "26 / 42,404", "6 / 16,994", "52 / 120,624", "0",
    ]  # fmt: skip
    assert "refcoco (unc), train, val, testA, testB: not the published counts" in printed
    assert "72 sentences in all instead of 259,859 or 278,232" in printed
    assert "lichengunc/refer links refcoco.zip" in printed
    assert "henghuiding/gRefCOCO" in printed
    assert "Incomplete" in printed


def test_missing_pictures_and_splits(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(monkeypatch, root)
    next(iter(sorted((root / PICTURES).iterdir()))).unlink()  # refcoco trains on it, refcocog tests on it
    edit(root, "refcoco+", lambda refs: refs.__setitem__(slice(None), [r for r in refs if r["split"] != "testB"]))
    assert check.main([str(root)]) == 1
    printed = capsys.readouterr().out
    assert row(printed, "refcoco (unc)  ")[-1] == "1"
    assert [row(printed, f"refcocog (umd)     {split}")[-1] for split in ("train", "val", "test")] == ["0", "0", "1"]
    assert printed.count("train2014.zip") == 1
    assert "refcoco+ (unc), testB: not in refs(unc).p" in printed
    assert "refcoco+.zip" in printed
    assert "refcoco.zip" not in printed
    assert check.main([str(root), "--dataset", "refcocog"]) == 1
    assert "refcoco+" not in capsys.readouterr().out


def test_missing_and_broken_files(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(monkeypatch, root)
    (root / "refcoco" / "refs(unc).p").unlink()
    (root / "refcoco+" / "refs(unc).p").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    (root / "refcocog" / "refs(google).p").unlink()  # may be missing
    (root / "refcocog" / "instances.json").unlink()
    assert check.main([str(root)]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"refcoco/refs\(unc\)\.p: no such file; .*refcoco\.zip", printed)
    assert re.search(r"refcoco\+/refs\(unc\)\.p: .*it asks for os\.system", printed)
    assert re.search(r"refcocog/instances\.json: No such file.*refcocog\.zip", printed)
    assert row(printed, "refcocog (umd)")[-1] == "?"
    assert "google" not in printed
    assert check.main([str(root), "--dataset", "grefcoco"]) == 0


def test_a_named_data_set_has_to_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main([str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "none of the folders refcoco, refcoco+, refcocog, grefcoco is in it" in printed
    assert "no annotations of your own" in printed
    assert check.main([str(tmp_path), "--dataset", "refcoco+", "grefcoco"]) == 1
    printed = capsys.readouterr().out
    assert "refcoco+.zip" in printed
    assert "henghuiding/gRefCOCO" in printed
    with pytest.raises(SystemExit):
        check.main([str(tmp_path), "--dataset", "refclef"])


def test_pictures_that_the_annotations_lack(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(monkeypatch, root)
    path = root / "refcoco" / "instances.json"
    path.write_text(path.read_text().replace('"id": 1000, "file_name"', '"id": 999, "file_name"'))
    assert check.main([str(root), "--dataset", "refcoco"]) == 1
    assert "refcoco (unc), train: 1 of its pictures are not in instances.json" in capsys.readouterr().out


# ---- one's own data


def own(root: Path, folder: str = "kitchen", splits: tuple[str, ...] = ("train", "val"), first: int = 1) -> Path:
    """Four pictures for each split, with the things and sentences of `test_dataset.write`."""
    for n, split in enumerate(splits):
        written = write(root, f"{folder}-{split}", first=first + 4 * n)
        (root / folder / "images").mkdir(parents=True, exist_ok=True)
        for path in (written / "images").iterdir():
            pixels = cv2.imread(str(path))
            pixels[0, 0] = int(path.stem)  # no two files alike
            cv2.imwrite(str(root / folder / "images" / path.name), pixels)
        for part in ("instances", "expressions"):
            (written / f"{part}_train.json").rename(root / folder / f"{part}_{split}.json")
        shutil.rmtree(written)
    return root / folder


def test_ones_own_data_as_training_sees_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own(tmp_path)
    assert check.main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "kitchen/train: 4 pictures, 80x60 pixels" in printed
    assert "  things: 8, crowd regions: 4; box 8\n" in printed
    assert "  sentences: 18; about one thing 16, nothing 1, several 1; written 18\n" in printed
    assert "kitchen/val: 4 pictures" in printed
    assert "Everything is there." in printed
    assert check.main([str(tmp_path / "kitchen"), "--dataset", "coco"]) == 0
    assert "\nval: 4 pictures" in capsys.readouterr().out
    assert check.main([str(tmp_path), "--dataset", "grefcoco"]) == 1
    assert "kitchen" not in capsys.readouterr().out.split("no such file")[1]


def test_a_single_file_of_pictures_and_sentences_is_found(tmp_path: Path) -> None:
    folder = own(tmp_path, splits=("train",))
    parts = [json.loads((folder / f"{part}_train.json").read_text()) for part in ("instances", "expressions")]
    for part in ("instances", "expressions"):
        (folder / f"{part}_train.json").unlink()
    (folder / "all.json").write_text(json.dumps(parts[0] | parts[1]))
    (folder / "something.json").write_text("[]")
    (folder / "broken.json").write_text('{"annotations", "expressions"')
    assert sources(tmp_path) == ["kitchen/all"]
    assert sources(folder) == ["all"]


def test_what_is_wrong_with_ones_own_data_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = own(tmp_path)
    images = folder / "images"
    (images / "1.png").unlink()
    (images / "2.png").write_bytes((images / "2.png").read_bytes()[:-20])
    shutil.copyfile(images / "5.png", images / "3.png")  # of val, under another name
    plain = encoded(".jpg", cv2.cvtColor(cv2.imread(str(images / "4.png")), cv2.COLOR_BGR2RGB))
    (images / "4.png").write_bytes(with_exif(plain, 3))
    path = folder / "instances_train.json"
    values = json.loads(path.read_text())
    values["annotations"][3]["segmentation"] = []  # of picture 2
    path.write_text(json.dumps(values))
    (folder / "instances_test.json").write_text('{"images": [{"id": "x"}], "annotations": []}')
    (folder / "expressions_test.json").write_text("{}")
    assert check.main([str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"kitchen/train: 1 of 4 pictures are not there \(.*1\.png\)", printed)
    assert re.search(r"kitchen/train: .*2\.png: a damaged image, it ends too early", printed)
    assert "kitchen/train: annotation 20 of 2.png: no outline" in printed
    assert "kitchen/train: 'left box' about 2.png: annotation 20 is a crowd region" in printed
    assert "kitchen/train and kitchen/val share 1 pictures (3.png)" in printed
    assert "  turned upright by their EXIF: 1;" in printed
    assert re.search(r"instances_test\.json: entry 0 of images: id is 'x'", printed)
    assert "Everything is there" not in printed


def test_the_sheet_shows_masks_and_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = own(tmp_path)
    (folder / "images" / "2.png").unlink()
    out = tmp_path / "sheet.png"
    check.main([str(tmp_path), "--sheet", str(out)])
    assert "sheet.png: 8 pictures" in capsys.readouterr().out
    drawn = cv2.imread(str(out))
    first = drawn[: sheet.SIDE, : sheet.SIDE]
    grey = (first.max(-1).astype(int) - first.min(-1)) < 12
    scale = sheet.SIDE / 80
    assert grey[40:90, 40:380].all()  # above the boxes nothing is tinted
    assert not grey[round(22 * scale) : round(26 * scale), round(10 * scale) : round(14 * scale)].any()
    text = drawn[round(60 * scale) + 20 : round(60 * scale) + 80, : sheet.SIDE]
    assert (text < 200).any()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--sheet", "sheet.xyz"],
        ["--sheet", "no/such/folder/sheet.png"],
        ["--sheet", "a" * 300 + ".png"],
        ["no-such-folder"],
        ["a" * 300],
    ],
)
def test_what_cannot_be_looked_at_or_written_is_refused(
    tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    own(tmp_path)
    with pytest.raises(SystemExit) as caught:
        check.main(arguments if len(arguments) == 1 else ["kitchen", *arguments])
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("error: ") == 1

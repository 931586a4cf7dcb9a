"""python -m jmceln_core.data.check: what is there, what is missing, and where that is published."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.data.test_refer import edit, publish
from jmceln_core.data import check
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
    assert "none of the folders refcoco, refcoco+, refcocog, grefcoco is in it" in capsys.readouterr().out
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

"""Two evaluations compared: the numbers against a naive pairing, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jmceln_core.data.grounding import DataError
from jmceln_core.evaluation import compare, report
from jmceln_core.evaluation.protocol import named
from jmceln_core.evaluation.run import Record, Report

ABOUT = {"checkpoint": "some.safetensors", "root": ".", "dataset": "coco", "split": "x", "split_by": ""} | {
    "subset": False,
    "limit": None,
}


def record(picture, text, iou, *, targets=(1,), rejected=False, kind="short", origin="written", area=100):
    """A sentence answered with so much of 100 pixels."""
    inside = round(100 * iou)
    return Record(
        *(picture, targets, text, kind, origin, inside if targets else 0, 100, inside // 2, 100),
        **{"area": area if targets else 0, "pointed": iou > 0.5, "score": iou},
        status="not_present" if rejected else "found",
    )


def some(rng, lift=0.0, pictures=12):
    """Records about several pictures, `lift` better than they were."""
    records = []
    for picture in range(pictures):
        base = rng.uniform(0.2, 0.6)
        for sentence in range(3):
            iou = min(1, base + lift + rng.uniform(0, 0.2))
            text = " ".join(["word"] * (2 * sentence + 1)) + f" {picture}"
            records.append(record(picture, text, iou, area=(100, 2000, 20000)[sentence]))
    return records


@pytest.fixture
def saved(tmp_path):
    """Writes records as an evaluation does; returns its folder."""

    def save(name, records, protocol="lavt", side=None, reject=True):
        found = Report(name, named(protocol, reject=reject), records, size="input" if side else "original", side=side)
        report.write(found, tmp_path / name, about=ABOUT, draws=20)
        return tmp_path / name

    return save


def value(found, name, field="difference"):
    return found["metrics"][name][field]


def test_differences_are_those_of_the_two_tables(saved):
    rng = np.random.default_rng(0)
    a, b = saved("a", some(rng)), saved("b", some(rng, 0.1))
    found = compare.compare(compare.read(a), compare.read(b), draws=300)
    tables = [json.loads((folder / "metrics.json").read_text()) for folder in (a, b)]
    assert list(found["metrics"]) == ["mIoU", "oIoU", "Pr@0.5", "pointing", "boundary IoU"]
    for name, row in found["metrics"].items():
        ours, theirs = (table["metrics"][name]["value"] for table in tables)
        assert (row["a"], row["b"]) == (ours, theirs)
        assert row["difference"] == pytest.approx(theirs - ours)
        assert row["low"] <= row["difference"] <= row["high"]
    assert value(found, "mIoU") > 0.05
    assert value(found, "mIoU", "better") > 0.9
    assert (found["sentences"], found["pictures"]) == (36, 12)
    assert set(found["by_size"]) == {"small", "medium", "large"}
    assert sum(part["sentences"] for part in found["by_length"].values()) == 36
    assert "gres" not in found


def test_sentences_are_paired_whatever_their_order_in_the_files(saved):
    records = some(np.random.default_rng(0))
    shuffled = [records[row] for row in np.random.default_rng(1).permutation(len(records))]
    a, b = saved("a", records), saved("b", shuffled)
    found = compare.compare(compare.read(a), compare.read(b), draws=50)
    # Sums of the same numbers in another order.
    for row in found["metrics"].values():
        assert [row["difference"], row["low"], row["high"]] == pytest.approx([0, 0, 0], abs=1e-12)


def test_a_sentence_given_twice_is_two_sentences(saved):
    twice = [record(1, "left man", 0.2), record(1, "left man", 0.4), record(2, "dog", 0.5)]
    better = [record(1, "left man", 0.4), record(1, "left man", 0.6), record(2, "dog", 0.5)]
    a, b, once = saved("a", twice), saved("b", better), saved("once", twice[1:])
    assert compare.read(a).records.keys() == compare.read(b).records.keys()
    found = compare.compare(compare.read(a), compare.read(b), draws=50)
    assert found["sentences"] == 3
    assert value(found, "mIoU") == pytest.approx(0.4 / 3)
    with pytest.raises(
        DataError, match=r"2 sentences are in both, 1 in A only \(picture 1, targets \[1\]: 'left man'\)"
    ):
        compare.compare(compare.read(a), compare.read(once))


def test_gres_and_what_stands_apart(saved):
    absent = [record(p, f"a cat {p}", 0.3, targets=(), rejected=p % 2 == 0) for p in range(4)]
    rejects = [record(p, f"a cat {p}", 0.3, targets=(), rejected=True) for p in range(4)]
    both = [record(p, f"both {p}", 0.4, targets=(1, 2)) for p in range(4)]
    made = [record(p, f"the thing {p}", 0.4, origin="generated") for p in range(4)]
    main = some(np.random.default_rng(0), pictures=4)
    a, b = saved("a", main + both + made + absent), saved("b", main + both + made + rejects)
    found = compare.compare(compare.read(a), compare.read(b), draws=100)
    assert found["absent"] == 4
    assert (found["plural"]["sentences"], found["generated"]["sentences"]) == (4, 4)
    assert value(found["gres"], "N_acc") == 0.5
    assert value(found["gres"], "T_acc") == 0
    assert value(found["gres"], "gIoU") == pytest.approx(2 / (len(main) + 12))
    assert value(found, "mIoU") == 0
    text = compare.markdown(found)
    for heading in ("with one target", "several targets", "Rule-made", "4 of them without a target (GRES)"):
        assert heading in text


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        ({}, {"protocol": "cris"}, "different protocols: A has protocol lavt, B cris"),
        ({"protocol": "own"}, {"protocol": "own", "reject": False}, "different protocols: .*'reject': True.*'reject'"),
        ({}, {"side": 416}, "different sizes: A has size original, B input"),
        ({"side": 320}, {"side": 416}, "different sizes: A has side 320, B 416"),
    ],
)
def test_what_was_measured_differently_is_refused(saved, ours, theirs, message):
    records = some(np.random.default_rng(0))
    a, b = saved("a", records, **ours), saved("b", records, **theirs)
    with pytest.raises(DataError, match=message):
        compare.compare(compare.read(a), compare.read(b))


def test_different_sentences_are_counted_and_named(saved):
    records = some(np.random.default_rng(0))
    a, b = saved("a", records[:-1]), saved("b", records[5:])
    with pytest.raises(DataError) as caught:
        compare.compare(compare.read(a), compare.read(b))
    text = str(caught.value)
    assert text.startswith("30 sentences are in both, 5 in A only (picture 0, targets [1]: 'word 0'; ")
    assert "1 in B only (picture 11, targets [1]: 'word word word word word 11')" in text
    assert "; ...)" in text
    assert "--limit" in text


def test_a_sentence_with_another_target_is_another(saved):
    a, b = saved("a", [record(1, "dog", 0.5)]), saved("b", [record(1, "dog", 0.5, targets=(2,))])
    with pytest.raises(DataError, match=r"^0 sentences are in both, 1 in A only .* 1 in B only"):
        compare.compare(compare.read(a), compare.read(b))


def run(capsys, *arguments):
    status = compare.main([str(argument) for argument in arguments])
    return status, *capsys.readouterr()


def test_command_prints_tables_and_writes_json(saved, capsys, tmp_path):
    rng = np.random.default_rng(0)
    a, b = saved("a", some(rng)), saved("b", some(rng, -0.1))
    status, out, _ = run(capsys, a / "records.jsonl", b, "--draws", 200, "--output", tmp_path / "ab.json")
    assert status == 0
    found = json.loads((tmp_path / "ab.json").read_text())
    assert found["a"]["path"] == str(a / "records.jsonl")
    assert found["interval"]["draws"] == 200
    row = next(line for line in out.splitlines() if "| mIoU |" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    values = found["metrics"]["mIoU"]
    assert cells[:6] == ["all", "36", "12", "mIoU", f"{values['a']:.3f}", f"{values['b']:.3f}"]
    assert cells[6] == f"{values['difference']:+.3f} [{values['low']:+.3f}, {values['high']:+.3f}]"
    assert cells[7] == "0.0%"
    assert "(`lavt`)" in out
    for block in out.split("\n\n"):
        assert len({line.count("|") for line in block.splitlines() if line.startswith("|")}) <= 1


def test_pictures_that_one_side_could_not_read_are_said(saved, tmp_path):
    rng = np.random.default_rng(0)
    records = some(rng)
    a, b = saved("a", records), saved("b", records)
    metrics = json.loads((b / "metrics.json").read_text())
    metrics["unread"] = {"pictures": 2, "sentences": 6, "why": ["7.jpg: ends too early", "8.jpg: the same"]}
    (b / "metrics.json").write_text(json.dumps(metrics))
    text = compare.markdown(compare.compare(compare.read(a), compare.read(b), draws=20))
    assert "B: **2 pictures cannot be read: their 6 sentences count 0** (7.jpg: ends too early" in text
    assert "A: **" not in text


def test_one_picture_has_a_difference_and_no_interval(saved, capsys):
    a, b = saved("a", [record(1, "dog", 0.5)]), saved("b", [record(1, "dog", 0.75)])
    _, out, _ = run(capsys, a, b)
    assert "| all | 1 | 1 | mIoU | 0.500 | 0.750 | +0.250 | – |" in out


def test_no_sentence_with_one_target_is_said_with_dashes(saved, capsys):
    records = [record(p, "a cat", 0.3, targets=(), rejected=True) for p in range(3)]
    status, out, _ = run(capsys, saved("a", records), saved("b", records), "--draws", 20)
    assert status == 0
    assert "| all | 0 | 0 | mIoU | – | – | – | – |" in out
    assert "| all | 3 | 3 | T_acc | – | – | – | – |" in out
    assert "| all | 3 | 3 | N_acc | 1.000 | 1.000 | +0.000 [+0.000, +0.000] | 0.0% |" in out


@pytest.mark.parametrize("missing", ["records.jsonl", "metrics.json"])
def test_command_names_a_missing_file(saved, capsys, missing):
    a = saved("a", some(np.random.default_rng(0)))
    (a / missing).unlink()
    status, _, err = run(capsys, a, a)
    assert status == 2
    assert missing in err
    assert "evaluate" in err


def test_command_names_metrics_of_another_version(saved, capsys):
    a = saved("a", some(np.random.default_rng(0)))
    (a / "metrics.json").write_text('{"model": "x", "checkpoint": "y", "protocol": {"name": "lavt"}}')
    status, _, err = run(capsys, a, a)
    assert status == 2
    assert "KeyError('size')" in err


def test_command_refuses_draws_that_are_none(saved, capsys):
    a = saved("a", some(np.random.default_rng(0)))
    status, _, err = run(capsys, a, a, "--draws", 0)
    assert status == 2
    assert "draws be positive" in err

"""Folders in pieces of a limited size, and whole again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from support import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import pieces

LIMIT = 60_000


@pytest.fixture
def folder(tmp_path) -> Path:
    root = tmp_path / "data"
    for k in range(40):
        path = root / f"part{k % 3}" / f"{k}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([k]) * (700 * k + 1))
    (root / "part0" / "link.bin").symlink_to(root / "part1" / "4.bin")
    return root


def test_what_was_packed_is_unpacked_alike(folder, tmp_path, capsys):
    out, into = tmp_path / "pieces", tmp_path / "there"
    assert (
        pieces.main(["pack", str(folder / "part0"), str(folder / "part1"), "--out", str(out), "--limit", "0.06"]) == 0
    )
    written = sorted(out.iterdir())
    assert len(written) > 3
    assert max(p.stat().st_size for p in written) <= LIMIT
    assert pieces.main(["unpack", str(out), "--into", str(into)]) == 0
    for part in ("part0", "part1"):
        before = {p.name: p.read_bytes() for p in (folder / part).iterdir()}
        assert before == {p.name: p.read_bytes() for p in (into / part).iterdir()}
    assert not (into / "part0" / "link.bin").is_symlink()
    assert not (into / "part2").exists()


def test_what_fits_into_no_piece_and_what_is_not_there_is_named(folder, tmp_path, capsys):
    assert pieces.main(["pack", str(folder / "part0"), "--out", str(tmp_path / "x"), "--limit", "0.03"]) == 2
    assert "27.bin: 20,949 bytes" in capsys.readouterr().err
    assert pieces.main(["pack", str(folder / "gone"), "--out", str(tmp_path / "x")]) == 2
    assert "gone: no such folder" in capsys.readouterr().err

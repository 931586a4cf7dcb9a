"""Folders as tar files of a size that a slow or narrow way can carry, one after the other:

    python tools/pieces.py pack data/coco_mini data/more ... --out PIECES --limit 60
    python tools/pieces.py unpack PIECES --into data

A file is in one piece, whole; each folder keeps its own name. Links are followed. Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import os
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

MEGABYTE = 1_000_000
HEADER = 2048  # bytes, the most that a member takes beside its content (a long name has headers of its own)
END = 1024  # of a tar file, whose length is a whole number of tarfile.RECORDSIZE


def pack(folders: Sequence[Path], out: Path, limit: int) -> list[Path]:
    """Write the folders' files into out/piece_000.tar, ..., each of at most `limit` bytes. Returns the pieces.

    ValueError names a folder that is not there, or a file that fits into no piece.
    """
    out.mkdir(parents=True, exist_ok=True)
    if any(out.glob("piece_*.tar")):
        raise ValueError(f"{out}: has pieces of an earlier call; give another --out")
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder")
    files = [(path, folder.name / path.relative_to(folder)) for folder in folders for path in sorted(_files(folder))]
    pieces: list[list[tuple[Path, Path]]] = []
    empty, room = limit // tarfile.RECORDSIZE * tarfile.RECORDSIZE - END, 0
    for path, name in files:
        size = path.stat().st_size + HEADER
        if size > empty:
            raise ValueError(f"{path}: {size:,} bytes, more than a piece of {limit:,} holds")
        if size > room:
            pieces.append([])
            room = empty
        pieces[-1].append((path, name))
        room -= size
    written = []
    for k, piece in enumerate(pieces):
        written.append(out / f"piece_{k:03d}.tar")
        with tarfile.open(written[-1], "w") as tar:
            for path, name in piece:
                tar.add(path.resolve(), str(name))
    return written


def _files(folder: Path) -> list[Path]:
    return [Path(root, name) for root, _, names in os.walk(folder, followlinks=True) for name in names]


def unpack(pieces: Path, into: Path) -> int:
    """Unpack every piece of a folder. Returns how many there were."""
    found = sorted(pieces.glob("piece_*.tar"))
    for piece in found:
        with tarfile.open(piece) as tar:
            # our own archives; Python before 3.11.4 (Debian 12) has no filter
            tar.extractall(into, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return len(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="folders as tar files of a limited size, and back")
    ways = parser.add_subparsers(dest="way", required=True)
    packing = ways.add_parser("pack")
    packing.add_argument("folders", nargs="+", type=Path)
    packing.add_argument("--out", type=Path, required=True)
    packing.add_argument("--limit", type=float, default=60, help="of a piece, in MB (default: 60)")
    unpacking = ways.add_parser("unpack")
    unpacking.add_argument("pieces", type=Path)
    unpacking.add_argument("--into", type=Path, required=True)
    args = parser.parse_args(arguments)
    try:
        if args.way == "pack":
            for piece in pack(args.folders, args.out, int(args.limit * MEGABYTE)):
                print(f"{piece} {piece.stat().st_size:,} bytes")
        else:
            print(f"{unpack(args.pieces, args.into)} pieces")
    except (ValueError, OSError, tarfile.TarError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Pictures with their sentences as WebDataset shards: written once, then streamed from a folder or a URL.

A shard is an ordinary tar file. A picture's record in it is two members; KEY is the picture's number in nine digits::

    KEY.jpg    the picture file's own bytes, with its own ending
    KEY.json   {id, file, height, width, complete,
                instances: [{id, category, segmentation (compressed RLE), box, crowd}],
                expressions: [{targets, text, kind, origin}]}

Beside the shards lies `index.jsonl`, written last: a line about the whole, then a line for each shard with its size,
its SHA-256 and its pictures' outlines. Every process makes its plan of an epoch from outlines alone.

The same pictures and sentences give the same bytes. A picture's number is its place among all pictures in the order of
their ids, as in `StepDataset`, so that an epoch has the same groups of sentences whether it is read from shards or from
files. Shards are filled in a fixed random order: each is a fair sample of the data set.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info
from tqdm import tqdm

from jmceln_core.config import to_dict
from jmceln_core.data.dataset import Batch, Sample, SampleBuilder, collate, sample_or_another, share_of
from jmceln_core.data.grounding import DataError, Expression, GroundingData, Instance, Picture, encoded
from jmceln_core.data.sampling import Group, Outline, outline, plan_picture
from jmceln_core.files import whole

INDEX = "index.jsonl"
VERSION = 1
PICTURES = 125  # in a shard, unless asked otherwise
LANES = 8  # places of an epoch that a process reads in turn; see ShardStream
DESCRIBED = (  # fields of DataConfig that say which pictures and sentences are trained on
    *("dataset", "split", "split_by", "sources", "val_sources", "validation"),
    *("generated", "plurals", "absent", "names", "borrowed", "left_out"),
)
REMEDY = "fetch it again, or write the shards again with python -m jmceln_core.data.shard"


class Written(NamedTuple):
    """What `write_shards` has written."""

    shards: int
    pictures: int
    sentences: int
    bytes: int  # of all shards
    skipped: tuple[str, ...]  # pictures that could not be read, in words


@dataclass(frozen=True)
class Shard:
    """A line of the index. P pictures, N sentences, in the order of the file: 16 bytes a picture, 3 a sentence."""

    file: str
    bytes: int
    sha256: str
    numbers: np.ndarray  # (P,) int64: the pictures' numbers
    ends: np.ndarray  # (P,) int64: how many sentences the pictures up to this one have, it included
    things: np.ndarray  # (N,) int16: Outline.things, all pictures'
    written: np.ndarray  # (N,) bool: Outline.written

    def outlines(self) -> Iterator[tuple[int, Outline]]:
        """(number, outline) of each picture."""
        start = 0
        for number, end in zip(self.numbers.tolist(), self.ends.tolist(), strict=True):
            yield number, Outline(tuple(self.things[start:end].tolist()), tuple(self.written[start:end].tolist()))
            start = end


class _Hashed:
    """A binary file that counts and hashes what passes through it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.bytes, self._digest = file, 0, hashlib.sha256()

    def _seen(self, data: bytes) -> bytes:
        self.bytes += len(data)
        self._digest.update(data)
        return data

    def read(self, size: int = -1) -> bytes:
        return self._seen(self.file.read(size))

    def write(self, data: bytes) -> int:
        return self.file.write(self._seen(data))

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


@contextmanager
def _whole(path: Path) -> Iterator[_Hashed]:
    """A file that has its name only when all of it is on the disk; after an error there is none."""
    with whole(path) as file:
        yield _Hashed(file)


class _Record(NamedTuple):
    """A picture that is at hand as the bytes of its file, and the sentences about it."""

    number: int
    picture: Picture
    expressions: list[Expression]

    def members(self) -> dict[str, Any]:
        """The members of the record in a shard, as WebDataset's writer takes them."""
        number, picture, expressions = self

        def plain(instance: Instance) -> dict[str, Any]:
            rle = encoded(instance.mask(picture.height, picture.width))
            return asdict(instance) | {"segmentation": rle | {"counts": rle["counts"].decode()}}

        values = {
            "id": picture.id,
            "file": picture.path.name,
            "height": picture.height,
            "width": picture.width,
            "complete": picture.complete,
            "instances": [plain(i) for i in picture.instances],
            "expressions": [{k: v for k, v in asdict(e).items() if k != "picture_id"} for e in expressions],
        }
        ending = picture.path.suffix.lstrip(".").lower() or "img"
        return {"__key__": _key(number), ending: picture.encoded, "json": json.dumps(values).encode()}

    @staticmethod
    def parse(key: str, members: Mapping[str, bytes], shard: str) -> _Record:
        """The record of the members of a shard. Raises DataError naming it."""
        try:
            values = json.loads(members["json"])
            instances = tuple(Instance(**i | {"box": tuple(i["box"])}) for i in values["instances"])
            encoded = next(data for ending, data in members.items() if ending != "json")
            picture = Picture(
                values["id"],
                Path(shard) / values["file"],
                values["height"],
                values["width"],
                instances,
                values["complete"],
                encoded,
            )
            expressions = [
                Expression(picture.id, **e | {"targets": tuple(e["targets"])}) for e in values["expressions"]
            ]
        except (KeyError, TypeError, ValueError, StopIteration) as error:
            raise DataError(f"{shard}: the record {key} is not a picture with sentences ({error!r})") from None
        return _Record(int(key), picture, expressions)


def _key(number: int) -> str:
    return f"{number:09d}"


def write_shards(
    data: GroundingData, folder: str | Path, *, description: Mapping[str, Any], pictures_per_shard: int = PICTURES
) -> Written:
    """Write every picture that has sentences, and the index.

    description: what the data is, kept in the index; fields of DataConfig in it must be the same when the shards are
    read. Pictures are read one by one; one that cannot be is left out and named in the result.

    Raises DataError if the folder is not empty, the disk is full or nothing can be read. Without its index a folder of
    shards is none: an interrupted run leaves nothing that looks whole.
    """
    if pictures_per_shard < 1:
        raise DataError(f"pictures_per_shard={pictures_per_shard}: must be at least 1")
    folder = Path(folder)
    skipped: list[str] = []
    shards: list[Shard] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise DataError(f"{folder}: not empty; write shards into a new folder, or remove what is in this one")
        numbered = enumerate(_readable(data, skipped))
        for n, group in itertools.groupby(numbered, lambda item: item[0] // pictures_per_shard):
            shards.append(_write_shard(folder / f"shard-{n:06d}.tar", (record for _, record in group)))
        if not shards:
            raise DataError(
                "nothing to write: " + (f"no picture can be read; {skipped[0]}" if skipped else "no sentences")
            )
        written = Written(
            len(shards),
            sum(len(s.numbers) for s in shards),
            sum(len(s.things) for s in shards),
            sum(s.bytes for s in shards),
            tuple(skipped),
        )
        about = {"version": VERSION, "data": dict(description)}
        about |= {"shards": written.shards, "pictures": written.pictures, "sentences": written.sentences}
        with _whole(folder / INDEX) as file:
            for values in (about | {"left_out": len(skipped)}, *map(_plain, shards)):
                file.write(json.dumps(values, separators=(",", ":")).encode() + b"\n")
    except OSError as error:
        raise DataError(
            f"{folder}: writing shards stopped ({error.strerror}); remove what is there, it has no index, and write "
            "them again where there is room"
        ) from None
    return written


def _readable(data: GroundingData, skipped: list[str]) -> Iterator[_Record]:
    """The pictures that have sentences, in the shards' order. What cannot be read is said and noted in `skipped`."""
    by_picture = data.by_picture()
    numbered = [(n, key) for n, key in enumerate(sorted(by_picture)) if by_picture[key]]
    for i in tqdm(np.random.default_rng(0).permutation(len(numbered)), desc="shards", unit="picture"):
        number, key = numbered[i]
        picture = data.pictures[key]
        try:
            picture = replace(picture, encoded=picture.read_bytes())
            picture.load()
        except DataError as error:
            skipped.append(str(error))
        else:
            yield _Record(number, picture, by_picture[key])


def _write_shard(path: Path, records: Iterable[_Record]) -> Shard:
    from webdataset import TarWriter

    numbers: list[int] = []
    outlines: list[Outline] = []
    with _whole(path) as file, TarWriter(file, encoder=False, mtime=0) as tar:
        for record in records:
            tar.write(record.members())
            numbers.append(record.number)
            outlines.append(outline(record.expressions))
    return Shard(
        path.name,
        file.bytes,
        file.sha256,
        np.array(numbers),
        np.cumsum([len(o.things) for o in outlines]),
        np.array([t for o in outlines for t in o.things], np.int16),
        np.array([w for o in outlines for w in o.written], bool),
    )


def _plain(shard: Shard) -> dict[str, Any]:
    """A shard's line of the index."""
    return {
        "file": shard.file,
        "bytes": shard.bytes,
        "sha256": shard.sha256,
        "numbers": shard.numbers.tolist(),
        "ends": shard.ends.tolist(),
        "things": shard.things.tolist(),
        "written": "".join("01"[w] for w in shard.written.tolist()),
    }


def _place(location: str, name: str) -> str:
    """Where a file of the shards' folder or URL is: {} in `location` stands for the name, else it is appended."""
    return location.replace("{}", name) if "{}" in location else f"{location.rstrip('/')}/{name}"


@contextmanager
def _opened(place: str) -> Iterator[_Hashed]:
    """A file or URL as WebDataset opens it. Raises DataError if it cannot be opened or read to its end."""
    from tarfile import TarError

    from webdataset import gopen

    stream = None
    try:
        stream = gopen(place)
        hashed = _Hashed(stream)
        yield hashed
        while hashed.read(1 << 20):
            pass
        stream.close()  # of a URL: raises OSError if the command that fetches it has failed
    except FileNotFoundError as error:
        if error.filename == "curl":  # WebDataset reads URLs with it
            raise DataError(f"{place}: reading URLs needs the command curl; install it (apt install curl)") from None
        raise DataError(f"{place}: no such file; {REMEDY}") from None
    except (OSError, TarError, ValueError) as error:
        raise DataError(f"{place}: cannot be read ({error.args[0] if error.args else error}); {REMEDY}") from None
    finally:
        if stream is not None:
            with suppress(OSError):
                stream.close()


def read_index(location: str) -> tuple[dict[str, Any], list[Shard]]:
    """What the shards at a folder or URL are, and each of them. Raises DataError naming what is wrong."""
    place = _place(location, INDEX)
    with _opened(place) as file:
        lines = file.read().splitlines()
    try:
        about = json.loads(lines[0])
        if about["version"] != VERSION:
            raise DataError(f"{place}: format {about['version']}, this version of jmceln reads {VERSION}; {REMEDY}")
        shards = [_shard(json.loads(line)) for line in lines[1:]]
        whole = len(shards) == about["shards"] and sum(len(s.numbers) for s in shards) == about["pictures"]
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{place}: not an index of shards ({error!r}); {REMEDY}") from None
    if not whole:
        raise DataError(f"{place}: lines are missing; {REMEDY}")
    return about, shards


def _shard(values: Mapping[str, Any]) -> Shard:
    written = np.frombuffer(values["written"].encode(), np.uint8) == ord("1")
    arrays = {name: np.array(values[name], np.int64) for name in ("numbers", "ends")}
    return Shard(**{**values, **arrays, "things": np.array(values["things"], np.int16), "written": written})


def read_records(location: str, shard: Shard, numbers: Collection[int]) -> dict[int, dict[str, bytes]]:
    """The members, by ending, of these pictures of a shard. All of it is read and compared with the index before any
    is used. Raises DataError if it is not the file that was written."""
    from webdataset.tariterators import group_by_keys, tar_file_expander

    place = _place(location, shard.file)
    wanted = {_key(n) for n in numbers}
    with _opened(place) as file:
        source = {"url": place, "stream": file}
        members = tar_file_expander([source], select_files=lambda name: name.partition(".")[0] in wanted)
        records = {int(r.pop("__key__")): {k: v for k, v in r.items() if k[0] != "_"} for r in group_by_keys(members)}
    if (file.bytes, file.sha256) != (shard.bytes, shard.sha256) or records.keys() != set(numbers):
        raise DataError(
            f"{place}: not the file that was written: {file.bytes} bytes, SHA-256 {file.sha256[:12]}..., "
            f"{len(records)} of {len(wanted)} records; in the index {shard.bytes} bytes, {shard.sha256[:12]}...; "
            + REMEDY
        )
    return records


@dataclass(frozen=True)
class _Block:
    """The groups at some places of an epoch and the pictures they are about."""

    places: range
    groups: list[Group]
    sources: dict[int, tuple[str, dict[str, bytes]]]  # picture number -> its shard, the members of its record

    def read(self, number: int) -> _Record:
        shard, members = self.sources[number]
        return _Record.parse(_key(number), members, shard)


class ShardStream(IterableDataset[list[Batch]]):
    """The steps of a training run from `start_step` on, each as `StepDataset` gives it, read from shards.

    location: a folder, or a URL that WebDataset opens (http, https, pipe, ...), to which a file's name is appended or
    in which {} stands for it. `images` pictures with `sentences` sentences each make a step, over all `world` processes
    together; process `rank` works its share off in `parts`. Under a DataLoader (batch_size=None) the steps come in
    their order whatever the number of workers.

    An epoch: the shards in random order, cut into blocks of so many shards that they hold `shuffle / LANES` pictures;
    the groups of a block's pictures are shuffled among themselves. All blocks' groups, one after the other, less the
    few that do not fill a last step, are dealt out in contiguous stretches: equal ones to the processes, and a
    process's own to its LANES lanes. Step s of an epoch takes the next groups of lane s % LANES. So every group comes
    once, and a shard is read whole, at one go, by one process and one of its workers, or by two where a lane ends. That
    holds for a number of workers that divides LANES; others give the same steps, but several of them read the same
    lanes. (Stretches for workers instead of lanes would avoid that, but the order would depend on the workers.)

    What a step holds is a function of (seed, step), the shards, the configuration and `world`: a run resumed with
    another number of workers goes on exactly; with another number of processes it ends its epoch in another order, in
    which some of that epoch's groups come twice and others not at all.

    A process holds the files of LANES blocks' pictures in memory, shared out over its workers.

    A picture that cannot be decoded is replaced by another one of its block and named in the batch. Raises DataError,
    naming the file and the remedy, if the index or a shard is missing or damaged.
    """

    def __init__(
        self,
        location: str,
        builder: SampleBuilder,
        *,
        images: int,
        sentences: int,
        seed: int,
        parts: int = 1,
        rank: int = 0,
        world: int = 1,
        start_step: int = 0,
    ) -> None:
        self.location, self.builder, self.sentences, self.seed = location, builder, sentences, seed
        self.parts, self.rank, self.share = parts, rank, share_of(images, world=world, parts=parts)
        self.start_step = start_step
        self.about, self.shards = read_index(location)
        self._check()
        # a picture's groups are equally many in every epoch, and pictures of one outline have equally many
        count = lru_cache(maxsize=2**16)(lambda about: len(self._plan(0, 0, about)))
        self.groups = np.array([sum(count(about) for _, about in shard.outlines()) for shard in self.shards])
        self.steps_per_epoch = int(self.groups.sum()) // images
        if not self.steps_per_epoch:
            raise DataError(
                f"the shards in {location} give {self.groups.sum()} groups of {sentences} sentences an epoch, a step "
                f"takes optim.images={images}: lower it, or give more data"
            )

    def _check(self) -> None:
        config = to_dict(self.builder.config)
        for name, made in self.about["data"].items():
            if name in config and config[name] != made:
                raise DataError(
                    f"{self.location}: written with data.{name}={made}, the configuration says {config[name]}; the "
                    "sentences are those of the shards: write them again, or change the configuration"
                )
        for shard in self.shards:
            path = Path(_place(self.location, shard.file))
            if Path(self.location).is_dir() and (not path.is_file() or path.stat().st_size != shard.bytes):
                raise DataError(f"{path}: missing, or not of {shard.bytes} bytes as in the index; {REMEDY}")

    def _plan(self, epoch: int, number: int, about: Outline) -> list[Group]:
        return plan_picture(number, about, self.builder.config, sentences=self.sentences, seed=self.seed, epoch=epoch)

    def __iter__(self) -> Iterator[list[Batch]]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        epoch = -1
        held: dict[int, _Block] = {}
        for step in itertools.count(self.start_step + worker, workers):
            if step // self.steps_per_epoch != epoch:
                epoch, held = step // self.steps_per_epoch, {}
            yield self._step(epoch, step % self.steps_per_epoch, held)

    def _step(self, epoch: int, step: int, held: dict[int, _Block]) -> list[Batch]:
        """A step of an epoch; `held` is the block that each lane is in."""
        lane = step % LANES
        stretch = self._stretch(lane)
        first = step // LANES * self.share * self.parts
        batches = []
        for part in range(self.parts):
            samples: list[Sample] = []
            skipped: list[str] = []
            for place in stretch[first + part * self.share :][: self.share]:
                if lane not in held or place not in held[lane].places:
                    held.pop(lane, None)  # its memory first
                    held[lane] = self._load(epoch, place)
                samples.append(self._sample(epoch, place, held[lane], skipped))
            batches.append(collate(samples, skipped))
        return batches

    def _stretch(self, lane: int) -> range:
        """The places of an epoch's groups that a lane of this process goes through."""
        size = self.share * self.parts
        steps = [len(range(n, self.steps_per_epoch, LANES)) for n in range(LANES)]
        start = self.rank * self.steps_per_epoch + sum(steps[:lane])
        return range(size * start, size * (start + steps[lane]))

    def _blocks(self, epoch: int) -> Iterator[tuple[int, range, list[Shard]]]:
        """An epoch's blocks: number, the places of its groups, its shards."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.shards)).tolist()
        number = start = groups = pictures = 0
        block: list[Shard] = []
        for i in order:
            block.append(self.shards[i])
            groups += int(self.groups[i])
            pictures += len(self.shards[i].numbers)
            if pictures >= self.builder.config.shuffle / LANES or i == order[-1]:
                yield number, range(start, start + groups), block
                number, start, groups, pictures, block = number + 1, start + groups, 0, 0, []

    def _load(self, epoch: int, place: int) -> _Block:
        """The block that holds the group at a place."""
        number, places, shards = next(block for block in self._blocks(epoch) if place in block[1])
        groups: list[Group] = []
        sources: dict[int, tuple[str, dict[str, bytes]]] = {}
        for shard in shards:
            planned = [g for picture, about in shard.outlines() for g in self._plan(epoch, picture, about)]
            groups += planned
            members = self._read(shard, {group.picture for group in planned})
            sources |= {picture: (shard.file, data) for picture, data in members.items()}
        order = np.random.default_rng([self.seed, epoch, number, 1]).permutation(len(groups))
        return _Block(places, [groups[i] for i in order], sources)

    def _read(self, shard: Shard, numbers: Collection[int]) -> dict[int, dict[str, bytes]]:
        try:
            return read_records(self.location, shard, numbers)
        except DataError:
            if Path(self.location).is_dir():
                raise
            return read_records(self.location, shard, numbers)  # a transfer that broke off is made once more

    def _sample(self, epoch: int, place: int, block: _Block, skipped: list[str]) -> Sample:
        def build(group: Group, rng: np.random.Generator) -> Sample:
            record = block.read(group.picture)
            return self.builder(record.picture, [record.expressions[i] for i in group.sentences], rng)

        rng = np.random.default_rng([self.seed, epoch, place])
        return sample_or_another(build, block.groups, place - block.places.start, rng, skipped)

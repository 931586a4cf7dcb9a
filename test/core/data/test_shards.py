"""Shards: the same samples as from files, streamed without repeats or losses, resumed anywhere; damage is named."""

from __future__ import annotations

import functools
import gc
import http.server
import itertools
import json
import resource
import shutil
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import torch
import webdataset
from pycocotools import mask as coco_mask
from torch.utils.data import DataLoader

from jmceln_core.config import DataConfig
from jmceln_core.data import shards as module
from jmceln_core.data.dataset import Batch, SampleBuilder, StepDataset
from jmceln_core.data.grounding import DataError, Expression, GroundingData, Instance, Picture
from jmceln_core.data.sampling import outline, plan_picture
from jmceln_core.data.shard import main
from jmceln_core.data.shards import LANES, ShardStream, read_index, read_records, write_shards

HEIGHT, WIDTH = 30, 40
PICTURES = 23  # shards of 4: five full ones and one of 3


def draw(folder: Path, count: int = PICTURES) -> GroundingData:
    """Pictures of two boxes, jpg and png, with masks of every form; the texts are unique, so that they tell groups."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    data = GroundingData()
    for key in range(100, 100 + 2 * count, 2):
        path = folder / f"some.name_{key}.{'JPG' if key % 4 else 'png'}"
        cv2.imwrite(str(path), rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8))
        mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
        mask[5:20, 3:17] = 1
        rle = coco_mask.encode(mask)
        runs = np.diff(np.flatnonzero(np.diff(mask.ravel("F"), prepend=0, append=0)), prepend=0).tolist()
        runs.append(mask.size - sum(runs))
        outlines: list[Any] = [[[3, 5, 17, 5, 17, 20, 3, 20]], rle, {"size": [HEIGHT, WIDTH], "counts": runs}]
        instances = (
            Instance(10 * key, "box", outlines[key // 2 % 3], (3.25, 5.5, 14, 15)),
            Instance(10 * key + 1, "box", [[20, 5, 33, 5, 33, 20, 20, 20]], (20, 5, 13, 15)),
            Instance(10 * key + 2, "box", [], (2, 22, 30, 6), crowd=True),
        )
        data.pictures[key] = Picture(key, path, HEIGHT, WIDTH, instances, complete=bool(key % 3))
        targets = [(10 * key,), (10 * key,), (10 * key + 1,), (10 * key, 10 * key + 1), ()]
        for n, meant in enumerate(targets[: 2 + key % 5]):
            kind = "plural" if len(meant) == 2 else "short"
            origin = "generated" if n == 1 else "written"
            data.expressions.append(Expression(key, meant, f"{key} box {n} \N{SNOWMAN}", kind, origin))
    return data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> GroundingData:
    return draw(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture(scope="module")
def shards(data: GroundingData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "written"
    write_shards(data, folder, description={"dataset": "coco"}, pictures_per_shard=4)
    return folder


def build(**fields: Any) -> SampleBuilder:
    return SampleBuilder(DataConfig(**{"shuffle": 30} | fields), image_size=32, mask_size=16)


def stream(location: Path | str, **values: Any) -> ShardStream:
    fields: dict[str, Any] = {"builder": build(), "images": 6, "sentences": 1, "seed": 5} | values
    return ShardStream(str(location), **fields)


def take(steps: ShardStream, count: int) -> list[list[Batch]]:
    return list(itertools.islice(steps, count))


def texts(steps: list[list[Batch]]) -> list[list[list[str]]]:
    return [[part.texts for part in step] for step in steps]


class Seen(NamedTuple):
    """Stands for torch's information about the worker one is in."""

    id: int
    num_workers: int


def as_workers(steps: ShardStream, workers: int, count: int, monkeypatch: pytest.MonkeyPatch) -> list[list[Batch]]:
    """`count` steps as a DataLoader's workers would read them, one from each in turn, in this process."""
    readers = [iter(steps) for _ in range(workers)]
    found = []
    for n in range(count):
        monkeypatch.setattr(module, "get_worker_info", lambda n=n: Seen(n % workers, workers))
        found.append(next(readers[n % workers]))
    monkeypatch.undo()
    return found


def equal(one: list[list[Batch]], two: list[list[Batch]]) -> bool:
    def same(a: Any, b: Any) -> bool:
        return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b

    pairs = zip(itertools.chain(*one), itertools.chain(*two), strict=True)
    return all(same(a, b) for left, right in pairs for a, b in zip(left, right, strict=True))


# --- what is written ---


def test_equal_data_give_equal_bytes_which_plain_webdataset_reads(
    data: GroundingData, shards: Path, tmp_path: Path
) -> None:
    write_shards(data, tmp_path / "again", description={"dataset": "coco"}, pictures_per_shard=4)
    names = sorted(p.name for p in shards.iterdir())
    assert names == ["index.jsonl", *(f"shard-{n:06d}.tar" for n in range(6))]
    assert all((shards / n).read_bytes() == (tmp_path / "again" / n).read_bytes() for n in names)
    urls = [str(shards / n) for n in names[1:]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # WebDataset leaves the files it has read to the collector
        records = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
        gc.collect()
    files = {p.path.name: p.path.read_bytes() for p in data.pictures.values()}
    for record in records:
        values = json.loads(record["json"])
        assert record["jpg" if "jpg" in record else "png"] == files.pop(values["file"])
    assert not files  # each once
    ids = [json.loads(r["json"])["id"] for r in records]
    assert ids != sorted(ids)  # a shard is a fair sample


def test_the_index_says_what_is_there(data: GroundingData, shards: Path) -> None:
    about, listed = read_index(str(shards))
    assert about["data"] == {"dataset": "coco"}
    assert (about["pictures"], about["sentences"], about["left_out"]) == (PICTURES, len(data.expressions), 0)
    assert [len(s.numbers) for s in listed] == [4, 4, 4, 4, 4, 3]
    by_picture = data.by_picture()
    expected = {n: outline(by_picture[key]) for n, key in enumerate(sorted(by_picture))}
    assert dict(itertools.chain.from_iterable(s.outlines() for s in listed)) == expected


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_a_sample_from_a_shard_is_the_one_from_the_files(data: GroundingData, shards: Path, flip: float) -> None:
    builder = replace(build(mirror=flip, crop=0.5, photometric=0.5), instances=True)
    by_picture = data.by_picture()
    keys = sorted(by_picture)
    count = 0
    for shard in read_index(str(shards))[1]:
        for number, members in read_records(str(shards), shard, shard.numbers.tolist()).items():
            record = module._Record.parse(f"{number:09d}", members, shard.file)
            picture, expressions = data.pictures[keys[number]], by_picture[keys[number]]
            assert record.expressions == expressions
            same = replace(picture, instances=(), path=Path(shard.file) / picture.path.name)
            assert replace(record.picture, instances=(), encoded=None) == same
            pairs = zip(record.picture.instances, picture.instances, strict=True)
            assert all(replace(a, segmentation=None) == replace(b, segmentation=None) for a, b in pairs)
            one = builder(record.picture, record.expressions, np.random.default_rng(number))
            two = builder(picture, expressions, np.random.default_rng(number))
            assert one.texts == two.texts
            for a, b in zip(one, two, strict=True):
                np.testing.assert_array_equal(a, b)
            count += 1
    assert count == PICTURES


def test_pictures_that_cannot_be_read_are_left_out_and_named(tmp_path: Path) -> None:
    data = draw(tmp_path / "pictures", 6)
    data.pictures[102].path.write_bytes(b"no picture")
    data.pictures[106].path.unlink()
    data.expressions = [e for e in data.expressions if e.picture_id != 110]  # nothing to say: not a loss
    written = write_shards(data, tmp_path / "out", description={})
    assert (written.shards, written.pictures) == (1, 3)
    assert written.bytes == (tmp_path / "out" / "shard-000000.tar").stat().st_size
    assert len(written.skipped) == 2
    assert any("name_102" in s for s in written.skipped)
    assert any("name_106" in s for s in written.skipped)
    assert read_index(str(tmp_path / "out"))[0]["left_out"] == 2
    assert sorted(read_index(str(tmp_path / "out"))[1][0].numbers) == [0, 2, 4]  # their places among all
    for picture in data.pictures.values():
        picture.path.unlink(missing_ok=True)
    with pytest.raises(DataError, match="no picture can be read"):
        write_shards(data, tmp_path / "none", description={})


def test_a_folder_that_holds_something_is_not_written_into(data: GroundingData, shards: Path) -> None:
    with pytest.raises(DataError, match="not empty"):
        write_shards(data, shards, description={})


def test_a_full_disk_leaves_nothing_that_looks_whole(data: GroundingData, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**15, hard))  # a limit on a file stands for one on the disk
    try:
        with pytest.raises(DataError, match=r"out: writing shards stopped \(File too large\)"):
            write_shards(data, tmp_path / "out", description={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "out").iterdir())
    with pytest.raises(DataError, match=r"index\.jsonl: no such file"):
        stream(tmp_path / "out")


def test_an_interruption_leaves_no_index(data: GroundingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Picture.load
    left = iter(range(6))

    def interrupted(picture: Picture) -> np.ndarray:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return load(picture)

    monkeypatch.setattr(Picture, "load", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_shards(data, tmp_path / "out", description={}, pictures_per_shard=4)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["shard-000000.tar"]
    with pytest.raises(DataError, match="index"):
        stream(tmp_path / "out")


# --- an epoch ---


def planned(data: GroundingData, config: DataConfig, sentences: int, epoch: int) -> Counter[tuple[str, ...]]:
    """The texts of each group of an epoch."""
    by_picture = data.by_picture()
    return Counter(
        tuple(by_picture[key][i].text for i in group.sentences)
        for number, key in enumerate(sorted(by_picture))
        for group in plan_picture(number, outline(by_picture[key]), config, sentences=sentences, seed=5, epoch=epoch)
    )


def groups(steps: list[list[Batch]], sentences: int) -> Counter[tuple[str, ...]]:
    all_texts = [text for step in steps for part in step for text in part.texts]
    return Counter(tuple(all_texts[i : i + sentences]) for i in range(0, len(all_texts), sentences))


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize(
    ("sampling", "sentences", "shuffle"),
    [
        ("object", 1, 1),  # a block is one shard
        ("sentence", 2, 30),  # two shards, groups of several sentences
        ("mixture", 2, 10**9),  # the whole epoch
    ],
)
def test_every_group_of_an_epoch_comes_once_over_all_processes_and_workers(
    data: GroundingData,
    shards: Path,
    world: int,
    workers: int,
    sampling: str,
    sentences: int,
    shuffle: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    builder = build(sampling=sampling, shuffle=shuffle, absent_share=0.2)
    for epoch in (0, 2):
        plan = planned(data, builder.config, sentences, epoch)
        expected = plan.total() // 6
        found: Counter[tuple[str, ...]] = Counter()
        for rank in range(world):
            steps = stream(
                shards,
                builder=builder,
                sentences=sentences,
                parts={1: 2, 2: 3, 3: 1}[world],
                rank=rank,
                world=world,
                start_step=epoch * expected,
            )
            assert steps.steps_per_epoch == expected
            epoch_steps = as_workers(steps, workers, expected, monkeypatch)
            assert all(len(part.images) * len(step) == 6 // world for step in epoch_steps for part in step)
            found += groups(epoch_steps, sentences)
        assert found.total() == 6 * expected
        assert found <= plan  # none twice that is not planned twice; less than a step is left out
        assert (plan - found).total() < 6


def test_an_epoch_has_the_groups_it_has_from_files(data: GroundingData, shards: Path) -> None:
    builder = build()
    files = StepDataset(data, builder, images=3, sentences=1, seed=5)
    streamed = stream(shards, images=3)
    assert streamed.steps_per_epoch == files.steps_per_epoch
    count = files.steps_per_epoch
    one, two = groups([files[n] for n in range(count)], 1), groups(take(streamed, count), 1)
    assert (one - two).total() <= 2  # what does not fill a last step is another few of them
    assert (two - one).total() <= 2


def test_epochs_seeds_and_steps_differ(shards: Path) -> None:
    count = stream(shards).steps_per_epoch
    steps = texts(take(stream(shards), 2 * count))
    assert steps[:count] != steps[count:]
    assert texts(take(stream(shards, seed=6), count)) != steps[:count]
    assert texts(take(stream(shards), 2 * count)) == steps


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_stream_started_anywhere_goes_on_as_the_uninterrupted_one(
    shards: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, Any] = {"images": 4, "world": 2, "rank": 1, "parts": 2}
    values["builder"] = build(mirror=0.5, crop=0.5, photometric=0.5)
    whole = take(stream(shards, **values), 30)
    per_epoch = stream(shards, **values).steps_per_epoch
    assert per_epoch % LANES  # the lanes are not equally long
    assert 2 * per_epoch < 30
    for start in (0, 1, 5, per_epoch - 1, per_epoch + 3):
        rest = as_workers(stream(shards, **values, start_step=start), workers, 30 - start, monkeypatch)
        assert equal(rest, whole[start:])


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_a_loaders_workers_give_the_steps_in_order(shards: Path, workers: int) -> None:
    loader = DataLoader(stream(shards, start_step=3), batch_size=None, num_workers=workers, collate_fn=list)
    found = list(itertools.islice(loader, 9))
    assert equal(found, take(stream(shards), 12)[3:])


def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the shards that are opened from now on."""
    count: Counter[str] = Counter()
    read = module.read_records

    def counted(location: str, shard: module.Shard, numbers: Any) -> Any:
        count[shard.file] += 1
        return read(location, shard, numbers)

    monkeypatch.setattr(module, "read_records", counted)
    return count


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_shard_is_read_once_but_where_lanes_meet(
    data: GroundingData, tmp_path: Path, world: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shards(data, tmp_path / "out", description={}, pictures_per_shard=1)
    with monkeypatch.context() as patched:
        count = opened(patched)
        for rank in range(world):
            steps = stream(tmp_path / "out", builder=build(shuffle=1), images=2, rank=rank, world=world)
            as_workers(steps, workers, steps.steps_per_epoch, pytest.MonkeyPatch())
    assert len(count) in (PICTURES - 1, PICTURES)  # the last one may be what is left out
    assert count.total() <= PICTURES + world * LANES - 1


def test_a_resumed_stream_opens_only_the_shards_it_needs(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = opened(monkeypatch)
    steps = stream(shards, builder=build(shuffle=1), images=1, start_step=7)
    assert not count
    take(steps, 1)
    assert count.total() == 1


def test_a_picture_that_cannot_be_decoded_is_replaced_and_named(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Picture.load

    def broken(picture: Picture) -> np.ndarray:
        if picture.id == 104:
            raise DataError(f"{picture.path}: not a readable image")
        return load(picture)

    sound = take(stream(shards), 12)
    monkeypatch.setattr(Picture, "load", broken)
    found = take(stream(shards), 12)
    skipped = [text for step in found for part in step for text in part.skipped]
    assert len(skipped) >= 1
    assert all("some.name_104" in text and "shard-00" in text for text in skipped)
    assert all(len(part.images) == 6 for step in found for part in step)
    for (one,), (two,) in zip(sound, found, strict=True):
        assert not any(text.startswith("104 ") for text in two.texts)
        assert all(a == b or a.startswith("104 ") for a, b in zip(one.texts, two.texts, strict=True))
    monkeypatch.setattr(Picture, "load", lambda picture: broken(replace(picture, id=104)))
    with pytest.raises(DataError, match="20 pictures in a row"):
        take(stream(shards), 1)


# --- what is wrong is named ---


def copy(shards: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in shards.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_damage_is_named_with_the_remedy(shards: Path, tmp_path: Path) -> None:
    folder = copy(shards, tmp_path / "copy")
    path = folder / "shard-000002.tar"
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(DataError, match=r"shard-000002\.tar: missing.*write the shards again"):
        stream(folder)
    path.write_bytes(whole[:9000])
    with pytest.raises(DataError, match=r"shard-000002\.tar: missing, or not of"):
        stream(folder)
    place = whole.index(b"complete")
    for damaged in (
        whole[:place] + b"C" + whole[place + 1 :],  # only its hash tells
        b"\0" * len(whole),  # an empty tar
        b"x" * len(whole),  # none
        whole[:9000] + b"x" * (len(whole) - 9000),  # a broken record
    ):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"shard-000002\.tar: .*write the shards again"):
            take(stream(folder), stream(folder).steps_per_epoch)
    loader = DataLoader(stream(folder), batch_size=None, num_workers=1)
    with pytest.raises(DataError, match=r"shard-000002\.tar"):
        list(itertools.islice(loader, stream(folder).steps_per_epoch))
    path.write_bytes(whole)
    steps = stream(folder)
    path.write_bytes(whole[: whole.index(b"ustar", 5000) - 257])  # cut while training, at the end of a record
    with pytest.raises(DataError, match=r"shard-000002\.tar"):
        take(steps, steps.steps_per_epoch)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (b'"version":1', b'"version":2', "format 2"),
        (b'"numbers"', b'"numerals"', "not an index.*numerals|not an index.*numbers"),
        (b"{", b"[", "not an index"),
        (b'"shards":6', b'"shards":7', "lines are missing"),
        (b'"pictures":23', b'"pictures":24', "lines are missing"),
    ],
)
def test_a_wrong_index_is_refused(shards: Path, tmp_path: Path, old: bytes, new: bytes, named: str) -> None:
    index = copy(shards, tmp_path / "copy") / "index.jsonl"
    index.write_bytes(index.read_bytes().replace(old, new))
    with pytest.raises(DataError, match=rf"index\.jsonl: .*({named})"):
        stream(index.parent)


def test_too_few_groups_and_uneven_shares_are_refused(shards: Path) -> None:
    with pytest.raises(DataError, match=r"optim\.images=1000"):
        stream(shards, images=1000)
    with pytest.raises(DataError, match="multiple of 4"):
        stream(shards, images=6, world=4)


def test_shards_of_other_data_than_configured_are_refused(data: GroundingData, tmp_path: Path) -> None:
    about = {"generated": 8, "sources": ["a/train"], "seed": 3}
    write_shards(data, tmp_path / "out", description=about)
    stream(tmp_path / "out", builder=build(generated=8, sources=("a/train",)))
    with pytest.raises(DataError, match=r"generated=8.*says 0"):
        stream(tmp_path / "out", builder=build(sources=("a/train",)))
    with pytest.raises(DataError, match=r"sources=\['a/train'\].*says \['b/train'\]"):
        stream(tmp_path / "out", builder=build(generated=8, sources=("b/train",)))


# --- from elsewhere ---


class Server(NamedTuple):
    url: str
    cut: set[str]  # paths whose next answer breaks off


@pytest.fixture
def server(shards: Path) -> Iterator[Server]:
    if shutil.which("curl") is None:
        pytest.skip("WebDataset reads URLs with the command curl, which is not here")
    cut: set[str] = set()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def copyfile(self, source: Any, outputfile: Any) -> None:
            whole = source.read()
            outputfile.write(whole[:9000] if self.path in cut else whole)
            cut.discard(self.path)

    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(shards)))
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield Server(f"http://127.0.0.1:{serving.server_port}", cut)
    serving.shutdown()
    thread.join()
    serving.server_close()


def test_without_curl_a_url_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="needs the command curl"):
        read_index("http://127.0.0.1:9/shards")


def test_a_url_gives_what_the_folder_gives(shards: Path, server: Server) -> None:
    expected = take(stream(shards), 5)
    assert equal(take(stream(server.url), 5), expected)
    assert equal(take(stream(server.url + "/"), 5), expected)
    assert equal(take(stream(f"pipe:cat '{shards}/{{}}'"), 5), expected)


def test_a_transfer_that_breaks_off_is_made_again(shards: Path, server: Server) -> None:
    steps = stream(server.url)
    server.cut.update(f"/{shard.file}" for shard in steps.shards)
    assert equal(take(steps, 2), take(stream(shards), 2))
    assert len(server.cut) < len(steps.shards)


def test_what_a_url_does_not_have_is_named(shards: Path, server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{server.url}/nothing/index\.jsonl: .*write the shards again"):
        stream(f"{server.url}/nothing")
    steps = stream(server.url)
    one = shards / "shard-000001.tar"
    moved = one.rename(tmp_path / one.name)
    try:
        with pytest.raises(DataError, match=rf"{server.url}/shard-000001\.tar: "):
            take(steps, steps.steps_per_epoch)
    finally:
        moved.rename(one)
    with pytest.raises(DataError, match=r"false \{\}|false index"):
        stream("pipe:false {}")


# --- the command ---


def test_the_command_writes_what_a_stream_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = draw(tmp_path / "pictures", 8)
    folder = tmp_path / "mine"
    (folder).mkdir()
    (tmp_path / "pictures").rename(folder / "images")
    pictures = data.pictures.values()
    images = [
        {"id": p.id, "file_name": p.path.name, "height": p.height, "width": p.width, "complete": p.complete}
        for p in pictures
    ]
    annotations = [
        {"id": i.id, "image_id": p.id, "segmentation": i.segmentation, "bbox": i.box, "iscrowd": int(i.crowd)}
        for p in pictures
        for i in p.instances
        if isinstance(i.segmentation, list)
    ]
    told = [{"image_id": e.picture_id, "ann_id": 10 * e.picture_id + 1, "text": "right box"} for e in data.expressions]
    (folder / "train.json").write_text(json.dumps({"images": images, "annotations": annotations, "expressions": told}))
    arguments = ["--data.root", str(tmp_path), "--data.sources", "[mine/train]", "--data.validation", "2"]
    arguments += ["--data.generated", "1", "--out", str(tmp_path / "out"), "--pictures-per-shard", "4"]
    assert main(arguments) == 0
    assert "2 shards" in capsys.readouterr().out
    about, _ = read_index(str(tmp_path / "out"))
    assert about["pictures"] == 6
    assert about["data"] | {"generated": 1, "dataset": "coco", "sources": ["mine/train"]} == about["data"]
    config = {"root": tmp_path, "sources": ("mine/train",), "validation": 2, "generated": 1}
    take(stream(tmp_path / "out", builder=build(**config), images=2), 3)
    with pytest.raises(DataError, match="validation=2"):  # or training would see what it is validated on
        stream(tmp_path / "out", builder=build(**config | {"validation": 1}))
    assert main([*arguments[:-1], "0"]) == 2
    assert "at least 1" in capsys.readouterr().err
    assert main(arguments) == 2
    assert "not empty" in capsys.readouterr().err

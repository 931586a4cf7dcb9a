"""Cached features belong to the very pixels, numbers and outlines they were made of."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from jmceln_core.config import ImageEncoderConfig
from jmceln_core.data.grounding import DataError, Instance, Picture
from jmceln_core.data.views import View
from jmceln_core.model.encoders import ImageEncoder, build_image_encoder
from jmceln_core.training import probe
from jmceln_core.training.features import ImageFeatureCache
from jmceln_core.training.probe import Choice, Spec
from jmceln_core.training.run_folder import RunFolder, State

SIDE, VIEWS = 96, (0, 1, 2)


def draw(path: Path, height: int, width: int, box: tuple[int, int, int, int], number: int = 1) -> Picture:
    """A white box on grey, written to the file, as the picture of that number."""
    x, y, w, h = box
    canvas = np.full((height, width, 3), 90, np.uint8)
    canvas[y : y + h, x : x + w] = 255
    cv2.imwrite(str(path), canvas)
    outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    return Picture(number, path, height, width, (Instance(1, "box", outline, box),))


@pytest.fixture
def picture(tmp_path: Path) -> Picture:
    return draw(tmp_path / "a.png", 120, 160, (40, 30, 50, 50))


@pytest.fixture(scope="module")
def encoder() -> ImageEncoder:
    torch.manual_seed(0)
    return build_image_encoder(ImageEncoderConfig(name="tiny"), pretrained=False).eval()


@pytest.fixture
def cache(tmp_path: Path, encoder: ImageEncoder) -> ImageFeatureCache:
    return ImageFeatureCache(tmp_path / "cache", encoder, SIDE)


def again(cache: ImageFeatureCache, encoder: ImageEncoder, picture: Picture) -> tuple[ImageFeatureCache, int]:
    """The cache of another run, filled for the picture, and how many files that made."""
    other = ImageFeatureCache(cache.folder.parent, encoder, SIDE)
    before = len(list(other.folder.iterdir()))
    other.fill(encoder, [picture], VIEWS)
    return other, len(list(other.folder.iterdir())) - before


def overlap(cache: ImageFeatureCache, picture: Picture, view: int) -> float:
    """IoU of the white pixels of the cached square and the mask that a sample of this view would have."""
    image, _ = cache.read(picture, view)
    white = image.min(-1) > 150
    mask = picture.instances[0].mask(picture.height, picture.width)
    mask = View.draw(picture, view).mask(picture, mask, SIDE)
    return float((white & mask).sum() / (white | mask).sum())


def test_features_are_of_the_mask_they_come_with(
    cache: ImageFeatureCache, encoder: ImageEncoder, picture: Picture
) -> None:
    cache.fill(encoder, [picture], VIEWS)
    renumbered, made = again(cache, encoder, replace(picture, id=2))
    assert made == 2  # view 0 is the same for every number
    replaced_picture = draw(picture.path, 160, 120, (10, 100, 50, 50))
    replaced, made = again(cache, encoder, replaced_picture)
    assert made == 3
    for view in VIEWS:
        assert overlap(cache, picture, view) > 0.9
        assert overlap(renumbered, replace(picture, id=2), view) > 0.9
        assert overlap(replaced, replaced_picture, view) > 0.9


def test_a_picture_of_the_same_size_time_and_length_is_another(
    cache: ImageFeatureCache, encoder: ImageEncoder, tmp_path: Path
) -> None:
    one, other = (draw(tmp_path / f"{n}.bmp", 48, 64, (8 + 9 * n, 8, 20, 20)) for n in range(2))
    cache.fill(encoder, [one], [0])
    stat = one.path.stat()
    shutil.copyfile(other.path, one.path)
    os.utime(one.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (one.path.stat().st_size, one.path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    found, made = again(cache, encoder, replace(other, path=one.path))
    assert made == 3
    assert overlap(found, replace(other, path=one.path), 0) > 0.9


def test_a_copy_of_the_data_has_the_same_features(
    cache: ImageFeatureCache, encoder: ImageEncoder, picture: Picture, tmp_path: Path
) -> None:
    cache.fill(encoder, [picture], VIEWS)
    (tmp_path / "copy").mkdir()
    copied = Path(shutil.copyfile(picture.path, tmp_path / "copy" / ("b" * 200 + ".png")))
    os.utime(copied, ns=(0, 0))
    found, made = again(cache, encoder, replace(picture, path=copied))
    assert made == 0
    assert overlap(found, replace(picture, path=copied), 1) > 0.9


def test_a_file_annotated_in_another_size_has_no_features(
    cache: ImageFeatureCache, encoder: ImageEncoder, picture: Picture
) -> None:
    other = replace(picture, height=160, width=120)
    cache.fill(encoder, [picture, other], VIEWS)
    cache.read(picture, 0)
    with pytest.raises(DataError):
        cache.read(other, 0)


def test_a_picture_that_cannot_be_read_is_left_out_and_named(
    cache: ImageFeatureCache, encoder: ImageEncoder, picture: Picture, capsys: pytest.CaptureFixture[str]
) -> None:
    picture.path.unlink()
    cache.fill(encoder, [picture], VIEWS)
    assert "a.png: no such file" in "".join(capsys.readouterr())
    with pytest.raises(DataError, match=r"a\.png"):
        cache.read(picture, 0)


def test_cached_files_and_states_are_for_everybody_whom_the_umask_lets_read(
    cache: ImageFeatureCache, encoder: ImageEncoder, picture: Picture, tmp_path: Path
) -> None:
    before = os.umask(0o022)
    try:
        cache.fill(encoder, [picture], [0])
        probe.pooled(Spec.parse("tiny:64"), [Choice(picture, picture.instances, (), ())], tmp_path / "cache")
        RunFolder(tmp_path / "cache").save_state(State({"a": torch.zeros(1)}, {}))
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "cache").rglob("*.safetensors")]
    assert modes == [0o644] * 3


@pytest.mark.parametrize("change", ["outline", "box", "pixels"])
def test_pooled_features_are_of_these_outlines_boxes_and_pixels(picture: Picture, tmp_path: Path, change: str) -> None:
    def pooled(of: Picture) -> torch.Tensor:
        torch.manual_seed(0)  # the tiny encoder's weights
        return probe.pooled(Spec.parse("tiny:64"), [Choice(of, of.instances, (), ())], tmp_path / "cache")[0]

    (tmp_path / "cache").mkdir()
    first = pooled(picture)
    thing = picture.instances[0]
    if change == "pixels":
        other = draw(picture.path, 120, 160, (90, 60, 50, 50))
        other = replace(other, instances=picture.instances)
    elif change == "outline":
        other = replace(picture, instances=(replace(thing, segmentation=[[0, 0, 30, 0, 30, 30, 0, 30]]),))
    else:  # of what is thinner than a pixel, the box says where it is
        thin = replace(thing, segmentation=[[40, 30, 40.1, 30, 40.1, 31]], box=(40.0, 30.0, 0.1, 1.0))
        first = pooled(replace(picture, instances=(thin,)))
        other = replace(picture, instances=(replace(thin, box=(5.0, 100.0, 0.1, 1.0)),))
    assert not torch.allclose(pooled(other), first)
    assert torch.equal(pooled(other), pooled(other))

"""One reader of picture files: upright, RGB, 8 bits, and no damaged file taken for a good one."""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from jmceln_core import pictures
from jmceln_core.data.grounding import DataError, Picture
from jmceln_core.pictures import PictureError, decode, in_folder, read_picture
from support.image_files import encoded, with_exif

RGB = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8), (64, 48))  # wide, no two sides alike

# What EXIF's orientations ask for (EXIF 2.32, tag 274), to a stored picture.
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_training_and_prediction_see_the_same_upright_picture(tmp_path: Path, orientation: int) -> None:
    plain = encoded(".jpg", RGB, cv2.IMWRITE_JPEG_QUALITY, 95)
    path = tmp_path / "a.jpg"
    path.write_bytes(with_exif(plain, orientation))
    upright = UPRIGHT[orientation](decode(plain, "plain"))
    np.testing.assert_array_equal(read_picture(path), upright)
    picture = Picture(1, path, *upright.shape[:2])
    np.testing.assert_array_equal(picture.load(), upright)
    np.testing.assert_array_equal(replace(picture, encoded=path.read_bytes()).load(), upright)


def test_annotations_of_the_stored_pixels_are_refused_and_exif_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(with_exif(encoded(".jpg", RGB), 6))
    with pytest.raises(DataError, match=r"a\.jpg: 48x64 pixels, .* for 64x48; .*EXIF orientation"):
        Picture(1, path, 48, 64).load()
    with pytest.raises(DataError, match=r"for 65x48; use the pictures the annotations were made on"):
        Picture(1, path, 48, 65).load()


def progressive(rgb: np.ndarray) -> bytes:
    return encoded(".jpg", rgb, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)


def good_files() -> dict[str, bytes]:
    jpeg, png = encoded(".jpg", RGB), encoded(".png", RGB)
    return {
        "jpeg": jpeg,
        "progressive": progressive(RGB),
        "restart": encoded(".jpg", RGB, cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
        "grey": encoded(".jpg", RGB[..., 0]),
        "a thumbnail": with_exif(jpeg, 1, encoded(".jpg", RGB[::4, ::4])),
        "zeros behind": jpeg + bytes(512),
        "something between its segments": jpeg[:2] + b"\xff\xfe\0\5abc" + b"xyz\xff\0" + jpeg[2:],
        "a video behind, or a second picture (MPO)": jpeg + bytes(20) + jpeg[: len(jpeg) // 2],
        "png": png,
        "something behind": png + b"more",
        "palette": encoded(".png", np.repeat(RGB[..., :1] & 128, 3, 2), cv2.IMWRITE_PNG_BILEVEL, 0),
        **{ending: encoded(ending, RGB) for ending in (".bmp", ".webp", ".tiff", ".ppm")},
    }


@pytest.mark.parametrize("kind", good_files())
def test_whole_files_are_read(kind: str) -> None:
    data = good_files()[kind]
    assert pictures.damage(data) == ""
    rgb = decode(data, kind)
    assert (rgb.shape, rgb.dtype) == ((48, 64, 3), np.uint8)
    assert rgb.flags.c_contiguous


@pytest.mark.parametrize("kind", ["jpeg", "progressive", "restart", "grey", "a thumbnail", "png", "palette"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.999])
def test_a_file_that_ends_too_early_is_told_from_a_whole_one(kind: str, share: float) -> None:
    data = good_files()[kind]
    cut = data[: int(share * len(data))]
    with pytest.raises(PictureError, match=r"f: a damaged image, it ends too early; copy or fetch it again"):
        decode(cut, "f")
    with pytest.raises(PictureError, match="f: a damaged image"):  # a disk that gave zeros for the rest
        decode(cut + bytes(len(data) - len(cut)), "f")


def test_a_png_with_a_changed_bit_is_noticed() -> None:
    data = bytearray(good_files()["png"])
    data[len(data) // 2] ^= 1
    with pytest.raises(PictureError, match="its part 'IDAT' has another check sum"):
        decode(bytes(data), "f")


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("ending", [".png", ".tiff", ".pgm"])
def test_grey_in_16_bits_is_scaled_by_the_bits_it_uses(bits: int, ending: str) -> None:
    top = (1 << bits) - 1
    ramp = np.linspace(0, top, 64).astype(np.uint16).reshape(8, 8)
    rgb = decode(encoded(ending, ramp), "f")
    np.testing.assert_allclose(rgb, np.repeat(ramp[..., None] / top * 255, 3, 2), atol=0.51)


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((5, 6), 7, np.uint8),  # grey
        np.full((5, 6, 4), 7, np.uint8),  # with an alpha channel
        np.full((5, 6, 3), 7 * 257, np.uint16),  # colours in 16 bits: all of them count
    ],
)
def test_other_kinds_of_png(pixels: np.ndarray) -> None:
    assert (decode(cv2.imencode(".png", pixels)[1].tobytes(), "f") == np.full((5, 6, 3), 7)).all()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_a_palette_has_its_colours() -> None:
    header = struct.pack(">IIBBBBB", 2, 1, 8, 3, 0, 0, 0)
    palette = bytes([250, 20, 30, 1, 200, 3])
    data = pictures._PNG_START + chunk(b"IHDR", header) + chunk(b"PLTE", palette)
    data += chunk(b"IDAT", zlib.compress(b"\0\0\1")) + chunk(b"IEND", b"")
    assert decode(data, "f").tolist() == [[[250, 20, 30], [1, 200, 3]]]


def test_an_animation_is_its_first_frame() -> None:
    animation = cv2.Animation()
    frames = [np.full((6, 8, 4), value, np.uint8) for value in (40, 200)]
    animation.frames, animation.durations = frames, np.array([100, 100])
    for ending in (".webp", ".png"):
        data = cv2.imencodeanimation(ending, animation)[1].tobytes()
        assert np.abs(decode(data, "f").astype(int) - 40).max() <= 2


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "an empty file"),
        (b"not a picture", "not a readable image; convert it"),
        (b"\xff\xd8\xff", "it ends too early"),
        (b"\xff\xd8" + b"\xff" * 9, "it ends too early"),
        (b"\x89PNG\r\n\x1a\n", "it ends too early"),
        (encoded(".tiff", np.ones((4, 4), np.float32)), "an image of float32, not of 8 or 16 bits"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, said: str) -> None:
    with pytest.raises(PictureError, match=f"^FILE: .*{said}"):
        decode(data, "FILE")


def test_what_is_no_file_is_named_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name, said in (
        ("gone.png", "no such file"),
        ("folder.png", "a folder, not a picture"),
        ("pipe.png", "not a file"),
        ("a" * 300 + ".png", "cannot be read \\(File name too long"),
    ):
        with pytest.raises(PictureError, match=said) as caught:
            read_picture(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_folder_counts_and_passes_over_what_is_hidden_or_a_folder(tmp_path: Path) -> None:
    for name in ("10.png", "2.png", "1.png", "a10b2.JPG", "a9b10.JPG", "._1.png", ".DS_Store", ".hidden.jpg", "n.txt"):
        (tmp_path / name).write_bytes(encoded(".png", RGB))
    (tmp_path / "folder.png").mkdir()
    assert [p.name for p in in_folder(tmp_path)] == ["1.png", "2.png", "10.png", "a9b10.JPG", "a10b2.JPG"]

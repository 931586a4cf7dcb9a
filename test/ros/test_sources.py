"""jmceln_ros.common.sources: what a camera topic can show, and what it says when it cannot."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from jmceln_core.pictures import read_picture
from jmceln_ros.common.sources import SourceError, open_source
from support.image_files import encoded, with_exif


def flat(value, height=24, width=32):
    return np.full((height, width, 3), value, np.uint8)


def test_an_image_is_one_frame_and_can_be_read_again(tmp_path):
    path = tmp_path / "täßchen.png"  # OpenCV's own file reading fails on such names on some systems
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    source = open_source(str(path))
    for _ in range(2):
        (frame,) = source.frames()
        np.testing.assert_array_equal(frame, picture)


def test_a_grey_and_a_transparent_image_become_bgr(tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((4, 6), 9, np.uint8))
    cv2.imwrite(str(tmp_path / "see_through.png"), np.full((4, 6, 4), 9, np.uint8))
    assert [frame.shape for frame in open_source(str(tmp_path)).frames()] == [(4, 6, 3)] * 2


def test_a_folder_gives_its_images_by_name_and_nothing_else(tmp_path):
    for name, value in (("b.jpg", 200), ("a.PNG", 100), ("c.png", 50)):
        (tmp_path / name).write_bytes(cv2.imencode(name[-4:].lower(), flat(value))[1].tobytes())
    (tmp_path / "notes.txt").write_text("not a picture")
    means = [round(float(frame.mean())) for frame in open_source(str(tmp_path)).frames()]
    assert means == [100, 200, 50]


def test_a_photograph_is_shown_upright_as_training_and_prediction_see_it(tmp_path):
    path = tmp_path / "a.jpg"
    wide = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    for orientation in range(1, 9):
        path.write_bytes(with_exif(encoded(".jpg", wide), orientation))
        (frame,) = open_source(str(path)).frames()
        assert frame.shape == ((12, 20, 3) if orientation < 5 else (20, 12, 3))
        np.testing.assert_array_equal(frame[..., ::-1], read_picture(path))


def test_a_folder_counts_and_passes_over_what_is_hidden_or_a_folder(tmp_path):
    for name, value in (("10.png", 30), ("9.png", 20), ("1.png", 10), ("._1.png", 99), (".DS_Store", 99)):
        (tmp_path / name).write_bytes(cv2.imencode(".png", flat(value))[1].tobytes())
    (tmp_path / "more.png").mkdir()
    assert [round(float(frame.mean())) for frame in open_source(str(tmp_path)).frames()] == [10, 20, 30]


def test_a_dark_grey_camera_is_bright_enough_to_see(tmp_path):
    ramp = np.linspace(0, 1023, 64).astype(np.uint16).reshape(8, 8)  # 10 bits in 16
    cv2.imwrite(str(tmp_path / "a.png"), ramp)
    (frame,) = open_source(str(tmp_path / "a.png")).frames()
    assert (frame.min(), frame.max()) == (0, 255)


def test_a_video_gives_all_its_frames_twice_and_its_own_rate(tmp_path):
    path = tmp_path / "v.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (32, 24))
    for value in (10, 120, 230):
        writer.write(flat(value))
    writer.release()
    source = open_source(str(path))
    assert source.rate == pytest.approx(25.0)
    for _ in range(2):
        means = [float(frame.mean()) for frame in source.frames()]
        assert means == pytest.approx([10, 120, 230], abs=4)
    source.close()


def test_a_broken_image_in_a_folder_is_named_when_it_is_its_turn(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), flat(1))
    (tmp_path / "b.png").write_bytes(b"\x89PNG and nothing more")
    frames = open_source(str(tmp_path)).frames()
    next(frames)
    with pytest.raises(SourceError, match=r"b\.png.*not a readable image"):
        next(frames)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda d: "", "set the parameter source"),
        (lambda d: str(d / "gone.png"), r"gone\.png.*no such file"),
        (lambda d: str(d), "no images in this folder.*png"),
        (lambda d: _write(d / "e.png", b""), r"e\.png.*an empty file"),
        (lambda d: _write(d / "e.mp4", b"no video"), r"e\.mp4.*ffmpeg"),
        (lambda d: _write(d / "e.jpg", encoded(".jpg", flat(9))[:-9]), r"e\.jpg.*it ends too early.*out of the folder"),
        (lambda d: str(d / ("a" * 300)), "File name too long"),
        (lambda d: "~nobody-of-that-name/a.png", "home directory"),
        (lambda d: "63", "webcam 63.*/dev/video"),
    ],
)
def test_a_source_that_gives_nothing_says_which_and_what_to_do(tmp_path, make, said):
    with pytest.raises(SourceError, match=said):
        next(open_source(make(tmp_path)).frames())


def _write(path, data):
    path.write_bytes(data)
    return str(path)

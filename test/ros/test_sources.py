"""jmceln_ros.common.sources: what a camera topic can show, and what it says when it cannot."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from jmceln_ros.common.sources import SourceError, open_source


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
        (lambda d: _write(d / "e.png", b""), "not a readable image"),
        (lambda d: _write(d / "e.mp4", b"no video"), r"e\.mp4.*ffmpeg"),
        (lambda d: "63", "webcam 63.*/dev/video"),
    ],
)
def test_a_source_that_gives_nothing_says_which_and_what_to_do(tmp_path, make, said):
    with pytest.raises(SourceError, match=said):
        next(open_source(make(tmp_path)).frames())


def _write(path, data):
    path.write_bytes(data)
    return str(path)

"""Commands that change faster than they can be answered, while a camera of 60 Hz streams: no answer mixes two."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("jmceln_ros.msg", reason="needs the built messages: run `make test`")

from std_msgs.msg import String

from jmceln_ros.srv import SetCommand
from jmceln_ros.tools.processes import NodeProcess, executable
from support.ros_harness import COLOUR_NODE, START_TIMEOUT, patches, probing

pytestmark = pytest.mark.ros

COMMANDS = 200
CENTRES = {"red": 14.5, "blue": 49.5}  # of the patches, along u


def test_no_answer_has_the_text_of_one_command_and_the_number_of_another(tmp_path):
    """Two persons talk over each other, on the topic and by the service, some only to stop the answers.

    Commands are numbered in the order they arrive. For the service's that is said in its response; those on the topic
    arrive in the order of sending, which their texts name, though the middleware may drop some when they come too fast.
    """
    picture = tmp_path / "patches.png"
    cv2.imwrite(str(picture), patches()[..., ::-1])
    settings = {"source": str(picture), "rate": 60.0}
    with (
        NodeProcess(COLOUR_NODE, tmp_path / "node") as node,
        NodeProcess(executable("camera_node"), tmp_path / "camera", parameters=settings),
        probing() as probe,
    ):
        service = probe.create_client(SetCommand, "segment_node/set_command")
        probe.until(lambda: probe.connected() and service.service_is_ready(), START_TIMEOUT)
        probe.command("red 0")
        probe.until(lambda: probe.targets, START_TIMEOUT)

        told = {}  # sequence by text, as the service said
        draw = np.random.default_rng(1)
        for number in range(1, COMMANDS):
            text = f"{('red', 'blue')[number % 2]} {number}"
            if number % 10 == 3:
                probe.person.publish(String(data=""))
            if number % 5:
                probe.person.publish(String(data=text))
            else:
                future = service.call_async(SetCommand.Request(command=text))
                probe.until(future.done)
                told[text] = future.result().sequence
            probe.spin(draw.uniform(0, 0.02))
        last = f"blue {COMMANDS}"
        probe.command(last)
        probe.until(lambda: probe.targets[-1].command == last)
        assert node.exit_code is None
        answers = list(probe.targets)

    sequences = [answer.sequence for answer in answers]
    assert sequences == sorted(sequences), "an answer to an earlier command came after one to a later"
    assert len(set(sequences)) > 30, "the commands changed too fast to be answered at all"
    assert any(answer.command in told for answer in answers)
    of_sequence = {}
    for answer in answers:
        word, number = answer.command.split()
        assert answer.centroid_u == CENTRES[word]
        assert answer.sequence == told.get(answer.command, answer.sequence)
        arrival = answer.command_stamp.sec, answer.command_stamp.nanosec
        assert of_sequence.setdefault(answer.sequence, (int(number), arrival)) == (int(number), arrival)
    numbers, arrivals = zip(*(of_sequence[sequence] for sequence in sorted(of_sequence)), strict=True)
    assert len(set(numbers)) == len(numbers), "one command was answered under two numbers"
    assert list(arrivals) == sorted(set(arrivals))
    by_topic = [number for number in numbers if number % 5]
    assert by_topic == sorted(by_topic)

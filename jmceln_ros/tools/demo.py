"""python -m jmceln_ros.tools.demo: camera and segment node as two processes, commands sent and answered over DDS.

Shows a photograph and a rendered table of like objects, or a picture of one's own; prints one line for each command and
writes the overlays to demo_output/. Ends with code 1 when an answer did not come.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2

from jmceln_core.extras import require
from jmceln_core.synthesis import table_scene
from jmceln_ros.common.sources import SourceError, open_source
from jmceln_ros.tools import spoken_demo
from jmceln_ros.tools.client import Client, DemoError, Show, connected, explained, line, save_overlay, shown
from jmceln_ros.tools.processes import NodeProcess, executable, isolate

PHOTO_COMMANDS = ("the cup", "the spoon", "the saucer under the cup", "the dog")  # the last one is not there
TABLE_COMMANDS = ("the blue mug", "the mug on the left", "the apple on the right", "the red apple", "both apples")


def run(
    shows: Callable[[], list[Show]], output: Path, *, model: str = "", device: str = "", timeout: float = 60.0
) -> int:
    """Runs the demo and returns the number of commands without an answer. Raises DemoError if a node does not come up.

    `shows` is called while the model loads: drawing a scene takes seconds too.
    """
    failures = 0
    parameters = {"model": model, "device": device}
    with (
        NodeProcess(executable("segment_node"), output / "segment_node.log", parameters=parameters) as segment,
        connected(Client) as client,
    ):
        print("segment_node: loading the model ...", flush=True)
        with explained(segment):
            pictures = shows()
            client.wait_until_active(segment, 180.0)
        for show in pictures:
            with shown(show, client, output, timeout):
                for command in show.commands:
                    answer = client.ask(command, show.name, timeout)
                    if answer is None:
                        failures += 1
                        print(f"  {command!r:<34} NO ANSWER within {timeout:.0f} s (see {segment.log})", flush=True)
                        continue
                    path = save_overlay(output, show.name, command, answer)
                    print(f"  {line(command, answer)}  {path}", flush=True)
    return failures


def default_shows(output: Path) -> list[Show]:
    """scikit-image's photograph of a coffee cup, and the rendered table. Writes both to `output`."""
    require("train", "skimage")
    from skimage import data

    photo, table = output / "photo.png", output / "table.png"
    cv2.imwrite(str(photo), data.coffee()[..., ::-1])
    cv2.imwrite(str(table), table_scene.render()[0][..., ::-1])
    return [Show("photo", photo, PHOTO_COMMANDS), Show("table", table, TABLE_COMMANDS)]


def own_show(image: Path, commands: Sequence[str]) -> list[Show]:
    """The user's picture (or folder, or video) with the user's commands. Raises DemoError if it cannot be read."""
    try:
        open_source(str(image)).close()
    except SourceError as error:
        raise DemoError(str(error)) from error
    return [Show("own", image.expanduser().resolve(), tuple(commands))]


def main(args: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jmceln_ros.tools.demo", description=__doc__)
    parser.add_argument("--image", type=Path, help="picture, folder or video to show instead of the demo's own two")
    parser.add_argument("--command", action="append", default=[], help="sentence to send; may be given several times")
    parser.add_argument(
        "--speech",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="speak instead: WAV files through speech_node, the demo's own or those of a folder",
    )
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder for the overlays and the logs")
    parser.add_argument(
        "--model", default="", help="bundled model's name or checkpoint's path; default: the bundled one"
    )
    parser.add_argument("--device", default="", help="cpu, cuda, ...; default: the GPU if there is one")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for each answer")
    options = parser.parse_args(args)
    # Terminated like interrupted: by an exception, so that the children are taken down on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    isolate(1 + os.getpid() % 50)  # the tests take those beyond
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        if options.command and (options.image is None or options.speech is not None):
            raise DemoError("--command needs --image: the demo's own pictures and recordings have their own commands")
        if options.image and not options.command and options.speech is None:
            raise DemoError("--image needs at least one --command: what is to be found in it?")
        own = own_show(options.image, options.command) if options.image else []
        shows = (lambda: own) if own else (lambda: default_shows(options.output))
        settings = {"model": options.model, "device": options.device, "timeout": options.timeout}
        if options.speech is None:
            failures = run(shows, options.output, **settings)
        else:
            failures = spoken_demo.run(lambda: shows()[0], options.speech, options.output, **settings)
    except (DemoError, FileNotFoundError) as error:
        print(f"demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if failures:
        print(f"demo failed: {failures} of the commands were not answered", file=sys.stderr)
        return 1
    print(f"overlays and logs are in {options.output}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())

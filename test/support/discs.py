"""A drawn data set in the layout of `read_coco`, and a small run on it: coloured discs on grey, one sentence each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

COLOURS = {"red": (200, 40, 40), "green": (40, 170, 60), "blue": (40, 70, 200)}

# small encoders and everything beyond the paper that training can meet
MODEL: dict[str, Any] = {
    "name": "small",
    "image_size": 64,
    "image_encoder": {"name": "tiny", "pretrained": False, "channels": 16},
    "text_encoder": {"name": "tiny", "pretrained": False},
    "channels": 16,
    "heads": 2,
    "queries": 4,
    "stages": 2,
    "dense_from": 1,
    "fusion": "queries",
    "norm": "group",
    "window": 4,
    "dilations": [1, 2],
    "head_channels": [8, 8],
    **dict.fromkeys(("positions", "words", "query_mixing", "fine_skip"), True),
    **dict.fromkeys(("deep_supervision", "mask_prompt", "presence_head", "iou_head"), True),
}


def build(root: Path, *, pictures: int = 8, shuffled: bool = False) -> Path:
    """Write the data set to ROOT/discs; returns ROOT. Red is on the left and blue on the right unless `shuffled`."""
    folder = root / "discs"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    images, annotations, sentences = [], [], []
    for image_id in range(1, pictures + 1):
        canvas = np.full((48, 64, 3), 128, np.uint8)
        columns = rng.permutation(3).tolist() if shuffled else (0, 1, 2)
        for k, (name, colour) in enumerate(COLOURS.items()):
            centre = (11 + 21 * columns[k], int(rng.integers(14, 34)))
            cv2.circle(canvas, centre, 8, colour[::-1], -1)
            angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            polygon = np.stack([centre[0] + 8 * np.cos(angle), centre[1] + 8 * np.sin(angle)], 1)
            annotations.append(
                {
                    "id": 10 * image_id + k,
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": [centre[0] - 8, centre[1] - 8, 16, 16],
                    "segmentation": [polygon.flatten().tolist()],
                    "iscrowd": 0,
                }
            )
            sentences.append(
                {"image_id": image_id, "ann_id": 10 * image_id + k, "kind": "short", "text": f"{name} ball"}
            )
        cv2.imwrite(str(folder / "images" / f"{image_id}.png"), canvas)
        images.append({"id": image_id, "file_name": f"{image_id}.png", "height": 48, "width": 64})
    (folder / "instances_train.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "sports ball"}]})
    )
    absent = [{"image_id": i, "text": "the yellow ball"} for i in range(1, pictures + 1)]
    (folder / "expressions_train.json").write_text(json.dumps({"expressions": sentences, "absent": absent}))
    return root


def write_model(path: Path, **changes: Any) -> Path:
    """MODEL with changes as a YAML file."""
    path.write_text(yaml.safe_dump(MODEL | changes))
    return path


def command(data: Path, model: Path, *more: str) -> list[str]:
    """Arguments of `python -m jmceln_core.train`, but for --output: six steps, every loss."""
    return [
        *("--model", str(model), "--data.root", str(data), "--data.dataset", "coco"),
        *("--data.sources", "[discs/train]", "--data.validation", "2"),
        *("--data.absent_share", "0.2", "--data.mirror", "0.5", "--optim.images", "2", "--optim.sentences", "2"),
        *(
            "--optim.steps",
            "6",
            "--optim.lr",
            "1e-3",
            "--optim.ema",
            "0.9",
            "--optim.clip",
            "1",
            "--validate_every",
            "3",
        ),
        *("--loss.dice", "1", "--loss.focal", "1", "--loss.coarse", "1", "--loss.contrast", "1"),
        *("--loss.presence", "1", "--loss.iou", "1", "--threads", "1", "--device", "cpu"),
        *more,
    ]

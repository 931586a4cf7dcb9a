"""gallery.html: the best, the worst and random answers to look at, in one file with its pictures inside.

The pictures come from the data set and keep their licences: a gallery is for its maker's eyes unless those allow more.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from jmceln_core import overlay
from jmceln_core.data.grounding import GroundingData
from jmceln_core.evaluation.report import compared_at, iou_of, title, write_text
from jmceln_core.evaluation.run import Record, Report, respond
from jmceln_core.evaluation.scene import Scene
from jmceln_core.segmenter import Segmenter

_LONGEST = 800  # pixels of a shown picture's longer side
_QUALITY = 85  # of its JPEG
_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em; background: #fafafa; color: #222 }
div { display: grid; grid-template-columns: repeat(auto-fill, minmax(280px, 1fr)); gap: 1em; align-items: start }
figure { margin: 0; background: #fff; border: 1px solid #ddd }
img { width: 100%; max-height: 420px; object-fit: contain; display: block }
figcaption { padding: .5em .7em; overflow-wrap: anywhere }
small { color: #666 }
"""


def choose(report: Report, count: int, seed: int = 0) -> dict[str, list[int]]:
    """The places among the report's records of the samples to show, by the heading they come under.

    Best and worst are of sentences with a target, by IoU; among equals the more confident answer first, for a sure
    answer teaches more. Wrong alarms are sentences that mean nothing and were not rejected. Random ones are drawn from
    all by the seed. Those about pictures that cannot be read are not among them.
    """
    records = report.records
    there = [row for row, record in enumerate(records) if not record.unread]

    def by(rows: Sequence[int], sign: int) -> list[int]:
        return sorted(rows, key=lambda row: (sign * iou_of(records[row], report.protocol), -(records[row].score or 0)))

    meant = [row for row in there if records[row].targets]
    alarms = [row for row in there if not records[row].targets and not records[row].rejected]
    drawn = np.random.default_rng(seed).permutation(there)[:count]
    chosen = {
        "Best": by(meant, -1)[:count],
        "Worst": by(meant, 1)[:count],
        "Wrong alarms": by(alarms, 1)[:count],
        "Random": sorted(drawn.tolist()),
    }
    return {heading: rows for heading, rows in chosen.items() if rows}


def write(
    path: Path,
    segmenter: Segmenter,
    data: GroundingData,
    report: Report,
    summary: dict[str, Any],
    *,
    count: int,
    seed: int = 0,
) -> None:
    """Write the gallery of `count` samples under each heading; `summary` is what `report.write` returned.

    The chosen sentences are asked once more, for the report keeps no masks. Raises DataError for a picture that cannot
    be read and OSError if the file cannot be written.
    """
    chosen = choose(report, count, seed)
    drawn = dict(_draw(segmenter, data, report, sorted({row for rows in chosen.values() for row in rows})))
    heading = html.escape(f"{report.model} on {title(summary)}")
    page = [
        f'<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{heading}</title>\n<style>{_STYLE}</style>',
        f"<h1>{heading}</h1>",
        "<p>Tint, outline and dot: the answer, its mask and its anchor (green: found, amber or orange: doubtful). "
        f"Magenta: the truth. IoU by protocol {report.protocol.name}, {compared_at(summary)}. "
        "The pictures keep the licences of their data set.</p>",
    ]
    for name, rows in chosen.items():
        figures = (
            _figure(report.records[row], iou_of(report.records[row], report.protocol), drawn[row]) for row in rows
        )
        page += [f"<h2>{name}</h2>", "<div>", *figures, "</div>"]
    write_text(path, "\n".join(page) + "\n</html>\n")


def _draw(
    segmenter: Segmenter, data: GroundingData, report: Report, rows: Sequence[int]
) -> Iterator[tuple[int, bytes]]:
    """(row, JPEG) of the records in these rows, the image half once a picture where they follow each other."""
    scene, pixels = None, np.empty(0)
    for row in tqdm(rows, desc="gallery", unit="sentence", disable=None):
        record = report.records[row]
        if scene is None or scene.picture.id != record.picture:
            scene = Scene(data.pictures[record.picture], report.side, report.resize, squashed=report.size == "squashed")
            pixels = scene.pixels()
            segmenter.set_image(pixels)
        answer = respond(segmenter, [record.text], pixels.shape, report.protocol, scene.warp)[0].segmentation
        truth = scene.truth(record.targets).region.mask
        yield row, _jpeg(overlay.draw(scene.warp(pixels), answer, None, truth=truth))


def _jpeg(rgb: np.ndarray) -> bytes:
    if (scale := _LONGEST / max(rgb.shape[:2])) < 1:
        rgb = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
    return encoded.tobytes()


def _figure(record: Record, iou: float, jpeg: bytes) -> str:
    text = html.escape(record.text)
    facts = [
        f"IoU {iou:.3f}" if record.targets else "nothing meant",
        str(record.status),
        "no score" if record.score is None else f"score {record.score:.2f}",
        *([html.escape(record.kind)] if record.kind else []),
        f"picture {record.picture}",
    ]
    source = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
    return (
        f'<figure><img src="{source}" alt="{text}" loading="lazy">'
        f"<figcaption>{text}<br><small>{', '.join(facts)}</small></figcaption></figure>"
    )

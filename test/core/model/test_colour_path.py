"""The colour path: the code pixel by pixel, its averages over cells, where it enters the network."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from jmceln_core.model.colour_path import COLOURS, TEMPERATURE, ColourPath, lab
from jmceln_core.synthesis import colours
from support.model_reference import array, conv2d, random, randomise, unlearned


def image(*shape: int, seed: int = 1) -> Tensor:
    """Evenly spread colours, the darkest and the brightest among them."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[..., 0, 0], x[..., 0, 1] = 0, 1
    return x


def naive_lab(rgb: np.ndarray) -> np.ndarray:
    """One colour in [0, 1] (3,) -> L, a, b (3,), from the standards' definitions."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    matrix = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    white = (0.95047, 1.0, 1.08883)
    x, y, z = (
        t ** (1 / 3) if t > (6 / 29) ** 3 else t * (29 / 6) ** 2 / 3 + 4 / 29
        for t in (np.dot(row, linear) / w for row, w in zip(matrix, white, strict=True))
    )
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def naive_code(rgb: np.ndarray) -> np.ndarray:
    """One colour in [0, 1] (3,) -> its code (15,)."""
    own = naive_lab(rgb)
    squares = np.array([((own - naive_lab(np.array(term) / 255)) ** 2).sum() for term in COLOURS.values()])
    near = np.exp(-(squares - squares.min()) / (2 * TEMPERATURE**2))
    return np.array([own[0] / 50 - 1, own[1] / 100, own[2] / 100, *(near / near.sum())])


def test_lab_is_opencvs() -> None:
    """But for the tables that OpenCV looks the roots up in."""
    rgb = image(2, 3, 9, 7).float()
    expected = np.stack([cv2.cvtColor(x.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2Lab) for x in rgb])
    np.testing.assert_allclose(lab(rgb).permute(0, 2, 3, 1).numpy(), expected, atol=0.5)


def test_code_is_its_definition_pixel_by_pixel() -> None:
    module = ColourPath(8).double()
    rgb = image(2, 3, 4, 5)
    found = array(module.code(rgb))
    for sample, row, column in np.ndindex(2, 4, 5):
        expected = naive_code(array(rgb[sample, :, row, column]))
        np.testing.assert_allclose(found[sample, :, row, column], expected, atol=1e-5)
    assert np.abs(found).max() <= 1.1


def test_every_colour_term_is_nearest_to_itself_and_named_as_the_sentences_name_it() -> None:
    rgb = np.array(list(COLOURS.values()), np.uint8)
    code = ColourPath(8).code(torch.from_numpy(rgb).float()[:, :, None, None] / 255)[:, 3:, 0, 0]
    assert code.argmax(1).tolist() == list(range(len(COLOURS)))
    assert code.diagonal().min() > 0.8
    names, _ = colours.name_pixels(rgb)
    assert [colours.NAMES[k] for k in names[: len(colours.NAMES)]] == list(COLOURS)[: len(colours.NAMES)]


@pytest.mark.parametrize("size", [(3, 5), (4, 4)])
def test_projections_read_the_mean_code_of_each_cell(size: tuple[int, int]) -> None:
    module = randomise(ColourPath(8))
    rgb = image(2, 3, 12, 20)
    code, (rows, columns) = array(module.code(rgb)), size
    cells = np.zeros((2, code.shape[1], rows, columns))
    for r, c in np.ndindex(rows, columns):
        h, w = 12 // rows, 20 // columns
        cells[:, :, r, c] = code[:, :, r * h : (r + 1) * h, c * w : (c + 1) * w].mean((2, 3))
    x = conv2d(module.read[0], cells)
    hidden = x * (1 + np.vectorize(math.erf)(x / 2**0.5)) / 2  # GELU
    for found, last in zip(module(rgb, size), (module.to_memory, module.to_relations), strict=True):
        np.testing.assert_allclose(array(found), conv2d(last, hidden), atol=1e-10)


def test_adds_nothing_at_first_and_then_all_of_it_learns() -> None:
    module = ColourPath(8)
    rgb = image(1, 3, 8, 8).float()
    memory, relations = module(rgb, (4, 4))
    assert not memory.any()
    assert not relations.any()
    ((memory + relations) * random(1, 8, 4, 4).float()).sum().backward()
    assert unlearned(module) == {"read.0.weight", "read.0.bias"}  # behind layers of zeros, for one step
    module = randomise(ColourPath(8))
    sum(x.square().sum() for x in module(rgb.double(), (4, 4))).backward()  # type: ignore[union-attr]
    assert unlearned(module) == set()


def test_the_code_is_float32_under_autocast_and_no_checkpoint_has_its_constants() -> None:
    module = ColourPath(8)
    rgb = image(1, 3, 8, 8).float()
    seen: list[Tensor] = []
    module.read.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    module(rgb, (4, 4))
    with torch.autocast("cpu", torch.bfloat16):
        out, _ = module(rgb, (4, 4))
    assert torch.equal(seen[0], seen[1])
    assert seen[1].dtype == torch.float32
    assert out.dtype == torch.bfloat16
    assert "prototypes" not in module.state_dict()

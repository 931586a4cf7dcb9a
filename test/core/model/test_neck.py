"""The neck against Eq. 1 and 2."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jmceln_core.model.neck import Neck
from support import model_reference as reference
from support.model_reference import array, random, randomise, unlearned

# odd sides: "x2" is to the next level's own size
SIZES = [((4, 6), (2, 3), (1, 2)), ((9, 7), (5, 4), (3, 2))]


def levels(batch: int, sizes) -> tuple[torch.Tensor, ...]:
    return tuple(random(batch, channels, *size, seed=channels) for channels, size in zip((3, 5, 6), sizes, strict=True))


def equations(neck: Neck, c3: np.ndarray, c4: np.ndarray, c5: np.ndarray, sentence: np.ndarray | None) -> np.ndarray:
    """Eq. 1 and 2 with one image for every sentence."""
    fused = reference.block(neck.v3, c5)
    if sentence is not None:
        linear, norm, _ = neck.sentence
        fused = fused * reference.leaky(reference.norm(norm, reference.linear(linear, sentence)))[:, :, None, None]
    for image, project, mix in ((c4, neck.v2, neck.m2), (c3, neck.v1, neck.m1)):
        up = reference.resize(fused, *image.shape[-2:])
        fused = reference.block(mix, np.concatenate([up, reference.block(project, image)], axis=1))
    return fused


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(
    ("norm", "training", "images", "sentences"),
    [
        (norm, training, *counts)
        for norm in ("batch", "group")
        for training in (True, False)
        for counts in ((1, 1), (1, 3), (2, 2), (2, 6))
        if (norm, training, counts) != ("batch", True, (1, 1))  # refused, see below
    ],
)
def test_is_equations_1_and_2(sizes, norm, training: bool, images: int, sentences: int) -> None:
    neck = randomise(Neck((3, 5, 6), 4, sentence_channels=7, norm=norm)).train(training)
    maps, sentence = levels(images, sizes), random(sentences, 7)
    out = neck(*maps, sentence)
    assert out.shape == (sentences, 4, *sizes[0])
    repeated = (array(x).repeat(sentences // images, axis=0) for x in maps)
    np.testing.assert_allclose(array(out), equations(neck, *repeated, array(sentence)), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("batch", [1, 3])
def test_without_a_sentence_its_factor_is_left_out(norm, batch: int) -> None:
    neck = randomise(Neck((3, 5, 6), 4, norm=norm))
    maps = levels(batch, SIZES[1])
    np.testing.assert_allclose(array(neck(*maps)), equations(neck, *map(array, maps), None), rtol=1e-8, atol=1e-10)
    assert not any(name.startswith("sentence") for name, _ in neck.named_parameters())


def test_kernels() -> None:
    neck = Neck((3, 5, 6), 4, sentence_channels=7)
    kernels = {name: getattr(neck, name)[0].kernel_size[0] for name in ("v3", "v2", "v1", "m2", "m1")}
    assert kernels == {"v3": 1, "v2": 3, "v1": 3, "m2": 3, "m1": 3}


def test_a_missing_or_needless_sentence_is_refused() -> None:
    maps = tuple(x.float() for x in levels(2, SIZES[0]))
    with pytest.raises(ValueError, match="needs a sentence"):
        Neck((3, 5, 6), 4, sentence_channels=7)(*maps)
    with pytest.raises(ValueError, match="takes no sentence"):
        Neck((3, 5, 6), 4)(*maps, torch.randn(2, 7))


def test_batch_norm_refuses_to_train_on_one_sentence() -> None:
    neck, maps, sentence = Neck((3, 5, 6), 4, sentence_channels=7), levels(1, SIZES[0]), torch.randn(1, 7)
    maps = tuple(x.float() for x in maps)
    with pytest.raises(ValueError, match="two or more a step, or norm=group"):
        neck(*maps, sentence)
    assert neck.eval()(*maps, sentence).isfinite().all()


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("sentence_channels", [7, None])
def test_every_parameter_learns(norm, sentence_channels: int | None) -> None:
    neck = randomise(Neck((3, 5, 6), 4, sentence_channels=sentence_channels, norm=norm))
    sentence = () if sentence_channels is None else (random(4, sentence_channels),)
    neck(*levels(2, SIZES[1]), *sentence).square().sum().backward()
    assert unlearned(neck) == set()

"""A stage against Eq. 3 and Eq. 4, head by head."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from jmceln_core.model.stage import Stage, tokens
from support import model_reference as reference
from support.model_reference import array, random, randomise, unlearned

C, HEADS, QUERIES, HEIGHT, WIDTH, WORDS = 8, 2, 3, 3, 5, 4


def inputs(images: int, sentences: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, F_m and F_mt."""
    return (
        random(sentences, QUERIES, C, seed=1),
        random(images, C, HEIGHT, WIDTH, seed=2),
        random(images, C, HEIGHT, WIDTH, seed=3),
    )


def pixels(x: Tensor) -> np.ndarray:
    """(C, H, W) -> (H * W, C), pixel by pixel."""
    return np.array([array(x[:, r, c]) for r in range(x.shape[1]) for c in range(x.shape[2])])


def test_tokens_run_row_by_row() -> None:
    x = random(2, C, HEIGHT, WIDTH)
    np.testing.assert_array_equal(array(tokens(x)[1]), pixels(x[1]))


@pytest.mark.parametrize("batch", [1, 3])
def test_equation_3(batch: int) -> None:
    """q' = softmax(q F_m^T / sqrt(d)) F_mt + q: the keys are F_m's, the values F_mt's."""
    stage = randomise(Stage(C, HEADS))
    queries, memory, values = inputs(batch, batch)
    out = stage.embed(queries, tokens(memory), tokens(values))
    for n in range(batch):
        mixed = reference.multi_head(stage.update, array(queries[n]), pixels(memory[n]), pixels(values[n]))
        np.testing.assert_allclose(array(out[n]), mixed + array(queries[n]), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("pan", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_equation_4_and_pan(batch: int, pan: bool, training: bool) -> None:
    """F' = softmax(F_mt q^T / sqrt(d)) q + F_mt, then PAN with F_mt as the gate."""
    stage = randomise(Stage(C, HEADS, pan=pan)).train(training)
    queries, _, previous = inputs(batch, batch)
    current = array(previous)
    for n in range(batch):
        mixed = reference.multi_head(stage.refresh, pixels(previous[n]), array(queries[n]), array(queries[n]))
        current[n] += mixed.T.reshape(C, HEIGHT, WIDTH)
    expected = reference.pan(stage.pan, current, array(previous)) if pan else current
    np.testing.assert_allclose(array(stage.predict(queries, previous)), expected, rtol=1e-8, atol=1e-10)


def test_a_prompt_changes_what_equation_4_reads_and_pan_keeps_the_previous_output() -> None:
    stage = randomise(Stage(C, HEADS))
    queries, prompt, previous = inputs(2, 2)
    prompted = previous + prompt
    current = array(prompted)
    for n in range(2):
        mixed = reference.multi_head(stage.refresh, pixels(prompted[n]), array(queries[n]), array(queries[n]))
        current[n] += mixed.T.reshape(C, HEIGHT, WIDTH)
    expected = reference.pan(stage.pan, current, array(previous))
    np.testing.assert_allclose(array(stage.predict(queries, previous, prompt)), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("shared", ["memory", "values", "both"])
def test_sentences_of_an_image_share_its_maps(shared: str) -> None:
    """Maps given once an image are read as if each of its sentences had a copy."""
    stage = randomise(Stage(C, HEADS))
    queries, _, _ = inputs(2, 6)
    memory, values = (
        random(2 if shared in (name, "both") else 6, 15, C, seed=n) for n, name in enumerate(("memory", "values"))
    )

    def copies(x: Tensor) -> Tensor:
        return x if len(x) == 6 else torch.stack([x[n // 3] for n in range(6)])

    out = stage.embed(queries, memory, values)
    for n in range(6):
        alone = stage.embed(queries[n : n + 1], copies(memory)[n : n + 1], copies(values)[n : n + 1])
        torch.testing.assert_close(out[n : n + 1], alone)


def test_queries_only() -> None:
    stage = Stage(C, HEADS, dense=False)
    assert {name.split(".")[0] for name, _ in stage.named_parameters()} == {"update"}
    queries, _, previous = (x.float() for x in inputs(2, 2))
    assert stage.predict(queries, previous) is previous


@pytest.mark.parametrize("words", [True, False])
@pytest.mark.parametrize("mixing", [True, False])
def test_words_and_mixing_are_attention_with_layer_norm_before_and_a_residual(words: bool, mixing: bool) -> None:
    stage = randomise(Stage(C, HEADS, words=words, mixing=mixing))
    queries, memory, values = inputs(2, 2)
    text, mask = random(2, WORDS, C, seed=4), torch.tensor([[True] * 4, [True, True, False, False]])
    out = stage.embed(queries, tokens(memory), tokens(values), text, mask)
    for n in range(2):
        q, real = array(queries[n]), array(text[n][mask[n]])
        if words:
            q = q + reference.multi_head(stage.read_words, reference.norm(stage.read_norm, q), real, real)
        if mixing:
            normed = reference.norm(stage.mix_norm, q)
            q = q + reference.multi_head(stage.mix, normed, normed, normed)
        asked = reference.norm(stage.update_norm, q) if mixing else q
        q = q + reference.multi_head(stage.update, asked, pixels(memory[n]), pixels(values[n]))
        if mixing:
            before, inner, _, outer = stage.feedforward
            hidden = F.gelu(torch.from_numpy(reference.linear(inner, reference.norm(before, q)))).numpy()
            q = q + reference.linear(outer, hidden)
        np.testing.assert_allclose(array(out[n]), q, rtol=1e-8, atol=1e-10)


def test_missing_words_are_refused() -> None:
    queries, memory, values = inputs(1, 1)
    with pytest.raises(ValueError, match="reads words"):
        Stage(C, HEADS, words=True).double().embed(queries, tokens(memory), tokens(values))


@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"pan": False},
        {"pan_projection": True},
        {"words": True},
        {"mixing": True},
        {"dense": False, "words": True, "mixing": True},
        {"words": True, "mixing": True},
    ],
    ids=str,
)
def test_every_parameter_learns(switches: dict[str, bool]) -> None:
    stage = randomise(Stage(C, HEADS, **switches))
    queries, memory, values = inputs(2, 2)
    text, mask = random(2, WORDS, C, seed=4), torch.ones(2, WORDS, dtype=torch.bool)
    after = stage.embed(queries, tokens(memory), tokens(values), text, mask)
    (after.square().sum() + stage.predict(after, values).square().sum()).backward()
    assert unlearned(stage) == set()


@pytest.mark.parametrize("pan", [True, False])
def test_static_words_take_the_place_of_the_queries_in_equation_4(pan: bool) -> None:
    """Only the words that count; there is no Eq. 3."""
    stage = randomise(Stage(C, HEADS, contextual=False, pan=pan))
    assert {name.split(".")[0] for name, _ in stage.named_parameters()} == {"refresh"} | ({"pan"} if pan else set())
    _, _, previous = inputs(2, 2)
    text, mask = random(2, WORDS, C, seed=4), torch.tensor([[True] * 4, [True, True, False, False]])
    current = array(previous)
    for n in range(2):
        real = array(text[n][mask[n]])
        mixed = reference.multi_head(stage.refresh, pixels(previous[n]), real, real)
        current[n] += mixed.T.reshape(C, HEIGHT, WIDTH)
    expected = reference.pan(stage.pan, current, array(previous)) if pan else current
    np.testing.assert_allclose(array(stage.predict(text, previous, mask_NQ=mask)), expected, rtol=1e-8, atol=1e-10)
    with pytest.raises(ValueError, match=r"no Eq\. 3"):
        stage.embed(text, tokens(previous), tokens(previous))

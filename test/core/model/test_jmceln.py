"""The whole network: Table 2's switches, image half and sentence half, what exists and what learns."""

from __future__ import annotations

import copy
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from jmceln_core import checkpoint
from jmceln_core.config import ConfigError, ModelConfig, from_dict, load_model_config
from jmceln_core.model import JMCELN, Prediction, TextFeatures, build_model
from jmceln_core.model.encoders import clip
from jmceln_core.model.layers import sine_positions
from jmceln_core.model.stage import tokens
from jmceln_core.training.engine import learning_state
from support.model_reference import random_clip, randomise, unlearned

SMALL: dict[str, Any] = {
    "image_size": 72,  # C3, C4, C5 of 9, 5 and 3: odd, and no multiple of the window
    "image_encoder": {"name": "tiny", "channels": 8},
    "text_encoder": {"name": "tiny", "tokens": 8},
    "channels": 8,
    "stages": 3,
    "queries": 4,
    "heads": 2,
    "window": 4,
    "dilations": [1, 2],
    "head_channels": [8, 8, 4],
}
TABLE_2: dict[int, dict[str, bool]] = {
    1: {"lsran": False, "cascade": False},
    2: {"cascade": False},
    3: {"lsran": False, "pan": False},
    4: {"pan": False},
    5: {},
    6: {"adaptive": False},
}
BEYOND: dict[str, Any] = {
    **dict.fromkeys(
        (
            *("positions", "words", "query_mixing", "pan_projection", "colour_path", "fine_skip"),
            *("deep_supervision", "mask_prompt", "coarse_residual", "presence_head", "iou_head"),
        ),
        True,
    ),
    "pan_gates": "bounded",
}
QUERIES = {"fusion": "queries", "norm": "group"}
ROW_7: dict[str, Any] = {"contextual": False}  # ours
VARIANTS: dict[str, dict[str, Any]] = {
    **{f"row {n}": switches for n, switches in TABLE_2.items()},
    "row 7": ROW_7,
    "row 7, queries": {**QUERIES, **ROW_7},
    "row 7, all it can have": {
        **ROW_7,
        **dict.fromkeys(("positions", "pan_projection", "colour_path", "fine_skip"), True),
        **dict.fromkeys(("deep_supervision", "mask_prompt", "coarse_residual"), True),
    },
    **{name: {name: value} for name, value in BEYOND.items() if name not in ("mask_prompt", "coarse_residual")},
    "neck, everything": BEYOND,
    "neck, everything, late": {**BEYOND, "dense_from": 2, "adaptive": False},
    "queries": QUERIES,
    "queries, fixed values": {**QUERIES, "adaptive": False},
    "queries, everything": {**QUERIES, **BEYOND},
    "queries, everything, late": {**QUERIES, **BEYOND, "dense_from": 2},
    "coarse residual": {"deep_supervision": True, "coarse_residual": True},
    "queries, colours": {**QUERIES, "colour_path": True},
    "colours, no LSRAN": {"colour_path": True, "lsran": False},
    "queries, no PAN, prompt": {**QUERIES, "pan": False, "deep_supervision": True, "mask_prompt": True},
}
TEXTS = ["left mug", "the big red cup on the table", "dog", "a", "the other one there", "second from right"]


def small(**switches: Any) -> ModelConfig:
    return from_dict(ModelConfig, SMALL | switches)


def images(count: int, side: int = 72) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def parts(prediction: Prediction) -> list[Tensor]:
    some = (prediction.logits, *prediction.coarse, prediction.presence, prediction.iou, prediction.queries)
    return [x for x in some if x is not None]


def groups(model: nn.Module) -> set[str]:
    """Which parts have parameters; of the stages, which of their parts."""
    names = (name.split(".") for name, _ in model.named_parameters())
    return {f"stages.{n[2]}" if n[0] == "stages" else n[0] for n in names}


def one_sentence(model: JMCELN, config: ModelConfig, image: Tensor, text: TextFeatures) -> Prediction:
    """The paper's section 3 for one image and one sentence, with the options where they belong."""
    levels = model.image_encoder.levels(image, model.image_encoder.trunk(image))
    sentence = (text.sentence,) if config.fusion == "neck" else ()
    memory = model.neck(levels.c3, levels.c4, levels.c5, *sentence)
    if config.colour_path:
        for_memory, for_relations = model.colour_path(image, memory.shape[-2:])
        memory = memory + for_memory
    if config.positions:
        memory = memory + model.position(sine_positions(*memory.shape[-2:], config.channels).double()[None])  # type: ignore[misc]
    initial = model.lsran(memory) if config.lsran else memory
    if config.colour_path:
        initial = initial + for_relations
    current = initial
    queries, coarse = None, []
    if config.cascade and not config.contextual:
        words = model.to_words(text.words[text.mask])[None]  # the real ones
        for stage in model.stages:
            if config.deep_supervision:
                coarse.append(model.coarse(words, model.coarse.pixels(current)))
            prompt = coarse[-1].sigmoid()[:, None] * model.prompt[:, None, None] if config.mask_prompt else None
            current = stage.predict(words, current, prompt)
    elif config.cascade:
        queries = model.queries[None]
        if config.fusion == "queries":
            queries = queries + model.to_query(text.sentence)[:, None]
        words = model.to_words(text.words) if config.words else None
        for i, stage in enumerate(model.stages):
            values = current if config.adaptive else initial
            queries = stage.embed(queries, tokens(memory), tokens(values), words, text.mask)
            if config.deep_supervision:
                coarse.append(model.coarse(queries, model.coarse.pixels(current)))
            if i >= config.dense_from:
                prompt = coarse[-1].sigmoid()[:, None] * model.prompt[:, None, None] if config.mask_prompt else None
                current = stage.predict(queries, current, prompt)
    logits = model.head(current, levels.c2) if config.fine_skip else model.head(current)
    if config.coarse_residual:  # target against background is the head's answer plus the coarse one
        both = F.interpolate(coarse[-1][:, None], logits.shape[-2:], mode="bilinear", align_corners=False)
        logits = logits + both * torch.tensor([-0.5, 0.5]).double()[:, None, None]
    presence, iou = (head(queries) if head is not None else None for head in (model.presence_head, model.iou_head))
    return Prediction(logits, coarse, presence, iou, queries)


@pytest.mark.parametrize("variant", VARIANTS)
def test_many_sentences_about_many_images_are_as_one_at_a_time(variant: str) -> None:
    config = small(**VARIANTS[variant])
    model = randomise(build_model(config)).eval()
    picture, text = images(2), model.encode_text(TEXTS)
    with torch.inference_mode():
        together = model.decode(model.encode_image(picture), text)
        for n in range(6):
            alone = one_sentence(model, config, picture[n // 3 : n // 3 + 1], text.select(slice(n, n + 1)))
            for got, expected in zip(parts(together), parts(alone), strict=True):
                torch.testing.assert_close(got[n : n + 1], expected)


@pytest.mark.parametrize(
    "variant",
    ["row 5", "row 7, all it can have", "neck, everything, late", "queries", "queries, everything, late"],
)
@pytest.mark.parametrize("dense", [1, 2, 3])
def test_dense_takes_the_first_sentences_of_each_image_further(variant: str, dense: int) -> None:
    config = small(**VARIANTS[variant])
    model = randomise(build_model(config)).eval()
    with torch.inference_mode():
        image, text = model.encode_image(images(2)), model.encode_text(TEXTS)
        full, some = model.decode(image, text), model.decode(image, text, dense=dense)
    kept = [n for n in range(6) if n % 3 < dense]
    for i, (got, expected) in enumerate(zip(some.coarse, full.coarse, strict=True)):
        torch.testing.assert_close(got, expected if i < config.dense_from else expected[kept])
    assert some.logits.shape[0] == 2 * dense
    for got, expected in zip(parts(some._replace(coarse=[])), parts(full._replace(coarse=[])), strict=True):
        torch.testing.assert_close(got, expected[kept])


@pytest.mark.parametrize("row", TABLE_2)
@pytest.mark.parametrize(("side", "count"), [(64, 1), (72, 3)])
def test_output_of_each_row_of_table_2(row: int, side: int, count: int) -> None:
    model = build_model(small(**TABLE_2[row], image_size=side)).eval()
    with torch.inference_mode():
        prediction = model.decode(model.encode_image(images(1, side).float()), model.encode_text(TEXTS[:count]))
    assert prediction.logits.shape == (count, 2, side, side)
    assert (prediction.queries is None) == (row in (1, 2))


def test_each_switch_of_table_2_changes_what_is_computed() -> None:
    weights = randomise(build_model(small())).state_dict()
    outputs = {}
    for row, switches in (TABLE_2 | {7: ROW_7}).items():
        model = build_model(small(**switches)).double().eval()
        missing = model.load_state_dict(weights, strict=False).missing_keys  # each row of the paper is a part of row 5
        assert {name.split(".")[0] for name in missing} == ({"to_words"} if row == 7 else set())
        with torch.inference_mode():
            outputs[row] = model.decode(model.encode_image(images(1)), model.encode_text(TEXTS[:1])).logits
    for a, b in itertools.combinations(outputs, 2):
        assert (outputs[a] - outputs[b]).abs().max() > 1e-3, (a, b)


BASELINE = {"image_encoder", "text_encoder", "neck", "head"}
CASCADE = {"queries", "stages.update", "stages.refresh"}
ROW_PARTS = {
    1: BASELINE,
    2: BASELINE | {"lsran"},
    3: BASELINE | CASCADE,
    4: BASELINE | CASCADE | {"lsran"},
    5: BASELINE | CASCADE | {"lsran", "stages.pan"},
    6: BASELINE | CASCADE | {"lsran", "stages.pan"},
    7: BASELINE | {"lsran", "stages.refresh", "stages.pan", "to_words"},
}


@pytest.mark.parametrize("row", ROW_PARTS)
def test_parameters_of_each_row_of_table_2(row: int) -> None:
    assert groups(build_model(small(**(TABLE_2 | {7: ROW_7})[row]))) == ROW_PARTS[row]


def test_row_7_has_a_projection_of_the_words_for_the_embeddings_and_equation_3() -> None:
    def size(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    full, static = build_model(small()), build_model(small(**ROW_7))
    assert static.queries is None
    c, q, stages, text_channels = 8, 4, 3, full.text_encoder.channels
    equation_3 = 4 * (c * c + c)  # W_q, W_k, W_v, W_o
    projection = 2 * text_channels + text_channels * c + c  # layer norm, linear
    assert size(static) == size(full) - q * c - stages * equation_3 + projection


@pytest.mark.parametrize(
    "switches",
    [
        {"cascade": False},
        {"adaptive": False},
        {"dense_from": 1},
        *({name: True} for name in ("presence_head", "iou_head", "words", "query_mixing")),
    ],
    ids=str,
)
def test_row_7_refuses_what_needs_contextual_embeddings(switches: dict[str, Any]) -> None:
    small(**switches)
    with pytest.raises(ConfigError, match=f"contextual=false.*{next(iter(switches))}"):
        small(**switches, **ROW_7)


def test_row_7_goes_through_a_checkpoint_and_one_without_the_field_has_contextual_embeddings(tmp_path: Path) -> None:
    for switches in (ROW_7, {}):
        config = small(**switches)
        model = build_model(config)
        path = checkpoint.save(tmp_path / "model.safetensors", model.state_dict(), config)
        saved = checkpoint.load(path)
        assert saved.config == config
        saved.load_into(build_model(saved.config))
    with safe_open(path, "pt") as file:
        (key, header), *_ = file.metadata().items()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    old = json.loads(header)
    assert old["config"].pop("contextual") is True
    save_file(tensors, path, {key: json.dumps(old)})
    saved = checkpoint.load(path)
    assert saved.config == config
    saved.load_into(build_model(saved.config))


MIXING = {f"stages.{name}" for name in ("mix", "mix_norm", "feedforward", "update_norm")}
COMPACT = (
    ROW_PARTS[5]
    | MIXING
    | {"position", "stages.read_words", "stages.read_norm", "to_words", "to_query", "coarse", "prompt"}
    | {"presence_head", "iou_head", "colour_path"}
)
# all that TinyViT gives is its own; nothing of its encoder learns
PRESET_PARTS = {"paper": ROW_PARTS[5], "base": ROW_PARTS[5], "bundled": COMPACT, "nano": COMPACT}
SIZES = {"paper": (20, 6), "base": (20, 6), "bundled": (20, 6), "nano": (12, 4)}  # queries, stages
ENCODERS = ("image_encoder.net.", "text_encoder.net.")
FROZEN = {"paper": (), "base": (), "bundled": ENCODERS, "nano": ENCODERS}
TUNED = re.compile(r"image_encoder\.net\.(blocks\.(8|9|10|11)|norm)\.")  # and these learn all the same, of `bundled`


@pytest.mark.parametrize("preset", PRESET_PARTS)
def test_parameters_of_each_preset(preset: str) -> None:
    config = load_model_config(preset)
    with torch.device("meta"):
        model = build_model(config)
    assert groups(model) == PRESET_PARTS[preset]
    assert model.queries is not None
    queries, stages = SIZES[preset]
    assert model.queries.shape == (queries, config.channels)
    assert len(model.stages) == stages
    for name, parameter in model.named_parameters():
        tuned = preset == "bundled" and TUNED.match(name)
        frozen = name.startswith(FROZEN[preset] or "-") and not tuned
        assert parameter.requires_grad != frozen, name
    # the two halves of a stage: with dense_from only the last ones have the second
    dense = [stage.refresh is not None for stage in model.stages]
    assert dense == [i >= config.dense_from for i in range(stages)]


def everything(prediction: Prediction) -> Tensor:
    """A number that depends on all that a prediction holds (but the queries, which no loss reads)."""
    return sum(x.square().mean() for x in parts(prediction._replace(queries=None)))  # type: ignore[return-value]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_learns(variant: str) -> None:
    model = randomise(build_model(small(**VARIANTS[variant]))).train()
    everything(model.decode(model.encode_image(images(2)), model.encode_text(TEXTS[:4]))).backward()
    assert {n for n in unlearned(model) if "in_proj_bias" not in n} == set()


def test_a_side_that_the_encoder_cannot_take_is_refused() -> None:
    for preset, side, step in (("paper", 400, 32), ("bundled", 400, 56), ("nano", 200, 32)):
        with pytest.raises(ConfigError, match=rf"image_size={side}: .* multiple of {step}"):
            build_model(load_model_config(preset, [f"image_size={side}"]))


def test_every_parameter_of_the_papers_network_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both CLIP encoders, the decoder narrow."""
    monkeypatch.setattr(clip, "_clip", lambda pretrained: copy.deepcopy(random_clip()))
    narrow = ["channels=16", "heads=4", "stages=2", "queries=3", "image_size=64", "window=4", "dilations=[1,2]"]
    model = build_model(load_model_config("paper", [*narrow, "head_channels=[8,8,8]"]))
    prediction = model.decode(model.encode_image(images(2, 64).float()), model.encode_text(TEXTS[:4]))
    assert prediction.logits.shape == (4, 2, 64, 64)
    everything(prediction).backward()
    assert unlearned(model) == set()


def test_in_the_bundled_network_the_frozen_parts_alone_do_not_learn() -> None:
    torch.manual_seed(0)
    model = build_model(load_model_config("bundled", ["image_size=112"]))
    trunks = {
        "image_encoder.net": model.image_encoder.trunk_module,
        "text_encoder.net": model.text_encoder.trunk_module,
    }
    assert not any(m.training for trunk in trunks.values() for m in trunk.modules())
    prediction = model.decode(model.encode_image(images(2, 112).float()), model.encode_text(TEXTS), dense=2)
    assert prediction.logits.shape == (4, 2, 28, 28)
    assert [len(c) for c in prediction.coarse] == [6, 6, 6, 4, 4, 4]
    everything(prediction).backward()
    frozen = {f"{prefix}.{name}" for prefix, trunk in trunks.items() for name, _ in trunk.named_parameters()}
    tuned = {name for name in frozen if TUNED.match(name)}
    assert len(tuned) == 4 * 14 + 2
    # what lies behind the colour path's projections, which start at zero, learns from the second step on
    behind = {name for name, _ in model.named_parameters() if name.startswith("colour_path.read.")}
    assert unlearned(model) == frozen - tuned | behind
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == frozen - tuned


def test_of_a_tuned_encoder_the_last_blocks_and_their_norm_learn() -> None:
    torch.manual_seed(0)
    encoder = {"name": "dinov2_vits14", "pretrained": False, "frozen": True, "channels": 16, "tuned_blocks": 2}
    model = build_model(small(image_size=56, image_encoder=encoder))
    net = model.image_encoder.trunk_module
    everything(model.decode(model.encode_image(images(2, 56).float()), model.encode_text(TEXTS[:2]))).backward()
    learned = {name for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    blocks = {name for name, _ in net.named_parameters() if name.startswith(("blocks.10.", "blocks.11."))}
    assert learned == blocks | {"norm.weight", "norm.bias"}
    kept = learning_state(model)
    assert {name for name in kept if name.startswith("image_encoder.net.")} == {
        f"image_encoder.net.{n}" for n in learned
    }


def test_a_frozen_encoder_stays_as_it_is_while_the_rest_trains() -> None:
    model = build_model(small(image_encoder={"name": "tiny", "channels": 8, "frozen": True}))
    before = copy.deepcopy(model.state_dict())
    model.train()
    assert not model.image_encoder.trunk_module.training
    assert model.text_encoder.trunk_module.training
    everything(model.decode(model.encode_image(images(2).float()), model.encode_text(TEXTS[:2]))).backward()
    torch.optim.SGD([p for p in model.parameters() if p.grad is not None], lr=0.1).step()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert not any(k.startswith("image_encoder") for k in changed)  # running averages neither
    assert any(k.startswith("text_encoder") for k in changed)
    # a copy freezes its own encoder, not the original's
    twin = copy.deepcopy(model)
    assert twin.frozen[0] is twin.image_encoder.trunk_module


@pytest.mark.parametrize("fusion", ["neck", "queries"])
def test_the_image_half_runs_once(fusion: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model(small(fusion=fusion, words=True)).eval()
    calls: list[str] = []
    for owner, name in ((model.image_encoder, "trunk"), (model.neck, "project"), (model.lsran, "forward")):
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, f=original, name=name: (calls.append(name), f(*a))[1])
    with torch.inference_mode():
        image = model.encode_image(images(2).float())
        first = model.decode(image, model.encode_text(TEXTS[:4]))
        again = model.decode(image, model.encode_text(TEXTS[:4]))
    torch.testing.assert_close(first.logits, again.logits)
    assert calls == (
        ["trunk", "project", "forward", "forward"] if fusion == "neck" else ["trunk", "project", "forward"]
    )


def test_forward_is_both_halves_and_cached_features_stand_for_the_trunk() -> None:
    model = build_model(small(**VARIANTS["queries, everything"])).eval()
    picture = images(2).float()
    tokens_NL, mask_NL = model.text_encoder.tokenize(TEXTS[:2])
    with torch.inference_mode():
        whole = model(picture, (tokens_NL, mask_NL))
        halves = model.decode(model.encode_image(picture), model.encode_text(TEXTS[:2]))
        cached = model(picture, (tokens_NL, mask_NL), model.image_encoder.trunk(picture))
    for a, b, c in zip(parts(whole), parts(halves), parts(cached), strict=True):
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(a, c)


@pytest.mark.parametrize("switches", [{}, QUERIES], ids=["neck", "queries"])
def test_a_fresh_colour_path_changes_nothing_and_then_only_the_colours_matter_to_it(switches: dict[str, Any]) -> None:
    plain = randomise(build_model(small(**switches))).eval()
    coloured = build_model(small(**switches, colour_path=True)).double().eval()
    missing = coloured.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert all(name.startswith("colour_path.") for name in missing)
    trunk = plain.image_encoder.trunk(images(2))

    def logits(model: JMCELN, picture: Tensor) -> Tensor:
        with torch.inference_mode():
            return model.decode(model.encode_image(picture, trunk), model.encode_text(TEXTS[:4])).logits

    picture = images(2)
    before = logits(plain, picture)
    torch.testing.assert_close(logits(coloured, picture), before, rtol=0, atol=0)
    for last in (coloured.colour_path.to_memory, coloured.colour_path.to_relations):  # each of the two ways
        with torch.no_grad():
            nn.init.normal_(last.weight)
            other, moved = logits(coloured, picture), logits(coloured, picture.flip(1))
            nn.init.zeros_(last.weight)
        assert (other - before).abs().max() > 1e-3
        assert (other - moved).abs().max() > 1e-3  # the cached trunk is the same: it is the picture's own colours


def test_counts_that_do_not_fit_are_refused() -> None:
    model = build_model(small()).eval()
    image = model.encode_image(images(2).float())
    with pytest.raises(ValueError, match="3 sentences for 2 images"):
        model.decode(image, model.encode_text(TEXTS[:3]))
    with pytest.raises(ValueError, match="0 sentences"):
        model.decode(image, model.encode_text(TEXTS).select(slice(0, 0)))
    for dense in (0, 3):
        with pytest.raises(ValueError, match=f"dense={dense}: there are 2 sentences"):
            model.decode(image, model.encode_text(TEXTS[:4]), dense=dense)


@pytest.mark.parametrize("switches", [{}, QUERIES], ids=["neck", "queries"])
def test_start_takes_the_place_of_the_first_queries(switches: dict[str, Any]) -> None:
    model = build_model(small(**switches)).double().eval()
    randomise(model)
    image, text = model.encode_image(images(2)), model.encode_text(TEXTS[:4])
    first = model.first_queries(text)
    assert first is not None
    usual, given, other = (model.decode(image, text, start=start) for start in (None, first, 2 * first))
    for a, b in zip(parts(usual), parts(given), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert not torch.allclose(usual.logits, other.logits)
    # a sentence's start is its own: changing the last one's leaves the others
    last = torch.cat([first[:3], 2 * first[3:]])
    torch.testing.assert_close(model.decode(image, text, start=last).logits[:3], usual.logits[:3])


def test_a_start_that_does_not_fit_is_refused() -> None:
    for switches, message in (({}, r"first queries are \(2, 4, 8\)"), (ROW_7, "first queries are None")):
        model = build_model(small(**switches)).double().eval()
        image, text = model.encode_image(images(1)), model.encode_text(TEXTS[:2])
        with pytest.raises(ValueError, match=message):
            model.decode(image, text, start=torch.zeros(2, 3, 8, dtype=torch.float64))


@pytest.mark.parametrize("switches", [{"words": True}, ROW_7, {**ROW_7, "deep_supervision": True, "mask_prompt": True}])
def test_words_beyond_a_sentences_end_do_not_matter(switches: dict[str, Any]) -> None:
    model = build_model(small(fusion="queries", **switches)).eval()
    with torch.inference_mode():
        image, text = model.encode_image(images(1).float()), model.encode_text(["dog"])
        other = TextFeatures(torch.where(text.mask[..., None], text.words, 7.0), text.sentence, text.mask)
        changed = TextFeatures(text.words.flip(-1), text.sentence, text.mask)
        before, same, moved = (model.decode(image, t).logits for t in (text, other, changed))
    torch.testing.assert_close(before, same)
    assert (before - moved).abs().max() > 1e-6


@pytest.mark.parametrize("variant", ["row 5", "row 7", "neck, everything", "queries, everything, late"])
@pytest.mark.parametrize("training", [True, False])
def test_autocast(variant: str, training: bool) -> None:
    torch.manual_seed(0)
    model = build_model(small(**VARIANTS[variant])).train(training)
    picture, text = images(2).float(), model.encode_text(TEXTS[:4])
    exact = model.decode(model.encode_image(picture), text)
    with torch.autocast("cpu", torch.bfloat16):
        half = model.decode(model.encode_image(picture), model.encode_text(TEXTS[:4]))
    for a, b in zip(parts(exact), parts(half), strict=True):
        assert b.isfinite().all()
        assert (a - b).norm() < 0.1 * a.norm()
    everything(half).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_the_same_seed_builds_the_same_network() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(build_model(small(**VARIANTS["queries, everything"])).state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())


@pytest.mark.parametrize("variant", ["row 5", "row 7", "queries, everything, late"])
def test_torch_export(variant: str) -> None:
    model = build_model(small(**VARIANTS[variant])).eval()
    inputs = (images(1).float(), model.text_encoder.tokenize(TEXTS[:1]))
    with torch.no_grad():
        exported = torch.export.export(model, inputs).module()
        torch.testing.assert_close(exported(*inputs)[0], model(*inputs).logits)

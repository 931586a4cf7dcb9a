"""Encoders: CLIP against open_clip, DINOv2 and TinyViT against timm, MiniLM against published weights; no downloads."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from open_clip.modified_resnet import AttentionPool2d
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from jmceln_core.config import ConfigError, ImageEncoderConfig, TextEncoderConfig
from jmceln_core.model.encoders import (
    ImageEncoder,
    TextEncoder,
    TextFeatures,
    build_image_encoder,
    build_text_encoder,
    clip,
)
from jmceln_core.model.encoders.clip import ClipImageEncoder, ClipTextEncoder, DenseAttentionPool
from jmceln_core.model.encoders.dinov2 import DinoV2ImageEncoder
from jmceln_core.model.encoders.minilm import MiniLMTextEncoder
from jmceln_core.model.encoders.tiny import END, TinyImageEncoder, TinyTextEncoder
from jmceln_core.model.encoders.tiny_vit import TinyViTImageEncoder, fold_norms
from jmceln_core.training.encoders import read_onnx
from support import model_reference as reference
from support.model_reference import array, random, random_clip, randomise, unlearned

SENTENCES = ["a red mug", "the second cup from the left, on the table"]
LONG = " ".join(["the very old wooden chair beside the window"] * 20)


@pytest.fixture(scope="module")
def same_clip() -> Iterator[None]:
    """Encoders built meanwhile hold copies of `random_clip`'s weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip, "_clip", lambda pretrained: copy.deepcopy(random_clip()))
        yield


@pytest.fixture(scope="module")
def clip_image(same_clip: None) -> ClipImageEncoder:
    return ClipImageEncoder(pretrained=False).eval()


@pytest.fixture(scope="module")
def clip_text(same_clip: None) -> ClipTextEncoder:
    return ClipTextEncoder(pretrained=False, tokens=30).eval()


@pytest.fixture(scope="module")
def dinov2() -> DinoV2ImageEncoder:
    torch.manual_seed(0)
    encoder = DinoV2ImageEncoder(channels=8).eval()
    nn.init.normal_(encoder.net.pos_embed)  # timm's own are too small to be missed
    for block in encoder.net.blocks:  # layer scale starts at 1e-5: without this no block changes anything
        nn.init.ones_(block.ls1.gamma)
        nn.init.ones_(block.ls2.gamma)
    return encoder


@pytest.fixture(scope="module")
def tiny_vit() -> TinyViTImageEncoder:
    """With the bundled int8 weights."""
    return build_image_encoder(ImageEncoderConfig(name="tiny_vit_5m"), pretrained=True).eval()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def minilm() -> MiniLMTextEncoder:
    """With the bundled int8 weights."""
    return build_text_encoder(TextEncoderConfig(name="minilm_l6"), pretrained=True).eval()  # type: ignore[attr-defined]


@pytest.fixture
def pretrained(repository: Path) -> Path:
    path = repository.parent / "shared" / "pretrained"
    if not path.exists():
        pytest.skip("needs the published weights in ../shared/pretrained, which are not part of a clone")
    return path


# ---- CLIP from a file


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Random weights of a narrow CLIP, by CLIP's names; the encoders then build the narrow one."""
    vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    text = {"context_length": 77, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}
    description = {"embed_dim": 16, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: description)
    torch.manual_seed(3)
    state = clip._clip(False).state_dict()
    return {k: v.half() if v.is_floating_point() else v for k, v in state.items()}


def script(state: dict[str, Tensor]) -> torch.jit.ScriptModule:
    """TorchScript with these tensors and OpenAI's three notes beside them."""
    root = nn.Module()
    notes = dict.fromkeys(("input_resolution", "context_length", "vocab_size"), torch.tensor(224))
    for key, value in {**state, **notes}.items():
        *parents, name = key.split(".")
        module = root
        for parent in parents:
            if parent not in module._modules:
                module.add_module(parent, nn.Module())
            module = module.get_submodule(parent)
        module.register_buffer(name, value)
    return torch.jit.script(root)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("kind", ["script", "state dict", "safetensors"])
def test_clip_starts_from_a_file(narrow: dict[str, Tensor], kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("open_clip_model.safetensors" if kind == "safetensors" else "RN101.pt")
    if kind == "safetensors":
        save_file({k: v.contiguous() for k, v in narrow.items()}, path)
    elif kind == "script":
        script(narrow).save(str(path))
    else:
        torch.save({"state_dict": narrow}, path)
    config = ImageEncoderConfig(pretrained=str(path))
    image = build_image_encoder(config, pretrained=config.pretrained)
    text = build_text_encoder(TextEncoderConfig(), pretrained=str(path))
    expected = {k: v.float() for k, v in narrow.items()}
    for key, value in image.state_dict().items():  # type: ignore[attr-defined]
        assert torch.equal(value, expected["visual." + key.removeprefix("net.")]), key
    assert torch.equal(text.embedding.weight, expected["token_embedding.weight"])  # type: ignore[attr-defined]
    assert torch.equal(text.positions, expected["positional_embedding"][:30])  # type: ignore[attr-defined]


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('ran')",))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gone.pt", None, r"no weights can be read from it \(no such file\)"),
        ("broken.pt", b"abc", "no weights can be read from it"),
        ("broken.safetensors", b"abc", "no weights can be read from it"),
        ("evil.pt", Evil(), "no weights can be read from it"),
        (
            "other.pt",
            {"conv.weight": torch.zeros(1)},
            "not the weights of this encoder: positional_embedding is missing, and ",
        ),
        ("number.pt", 5, "no weights can be read from it"),
    ],
)
def test_a_file_that_is_not_clip_is_named(
    narrow: dict[str, Tensor], name: str, content: Any, said: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ConfigError, match=f"pretrained: .*{name}: {said}"):
        build_text_encoder(TextEncoderConfig(), pretrained=str(path))


def test_without_a_network_clip_says_what_it_wanted_and_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"RN101-quickgelu, openai.*text_encoder\.pretrained: OpenAI's RN101\.pt"
    ) as error:
        clip._clip(True)
    assert "\n" not in str(error.value)
    assert not caplog.records


@pytest.mark.parametrize("name", ["dinov2_vits14", "tiny_vit_5m"])
def test_the_other_encoders_start_from_a_file_too(name: Any, tmp_path: Path) -> None:
    net = build_image_encoder(ImageEncoderConfig(name=name), pretrained=False).trunk_module
    save_file(net.state_dict(), tmp_path / "mine.safetensors")
    again = build_image_encoder(ImageEncoderConfig(name=name), pretrained=str(tmp_path / "mine.safetensors"))
    own = again.trunk_module.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in net.state_dict().items())
    with pytest.raises(ConfigError, match=r"pretrained: .*gone\.safetensors"):
        build_image_encoder(ImageEncoderConfig(name=name), pretrained=str(tmp_path / "gone.safetensors"))


# ---- CLIP, image


def test_clip_without_weights_is_open_clips_own_network() -> None:
    with torch.device("meta"):
        ours = clip._clip(pretrained=False)
    assert {p.device.type for p in ours.parameters()} == {"meta"}
    assert repr(ours) == repr(random_clip())  # RN101, and QuickGELU in the text transformer
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in random_clip().state_dict().items()
    }


def test_clip_levels_at_the_papers_resolution(clip_image: ClipImageEncoder) -> None:
    image = torch.rand(1, 3, 416, 416)
    with torch.inference_mode():
        levels = clip_image.levels(image, clip_image.trunk(image))
    shapes = [tuple(x.shape) for x in levels if x is not None]
    assert shapes == [(1, 256, 104, 104), (1, 512, 52, 52), (1, 1024, 26, 26), (1, 2048, 13, 13)]
    assert clip_image.channels == (256, 512, 1024, 2048)


def test_clip_levels_are_open_clips_layers(clip_image: ClipImageEncoder) -> None:
    visual, seen = random_clip().visual, {}
    hooks = [
        getattr(visual, name).register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, out))
        for name in ("layer1", "layer2", "layer3", "layer4")
    ]
    image = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(x)[:, None, None] for x in (visual.image_mean, visual.image_std))
    with torch.inference_mode():
        visual((image - mean) / std)
        levels = clip_image.trunk(image)
    for hook in hooks:
        hook.remove()
    for level, name in zip(levels, ("layer1", "layer2", "layer3", "layer4"), strict=True):
        torch.testing.assert_close(level, seen[name])


def test_clip_refuses_a_side_that_is_no_multiple_of_32(clip_image: ClipImageEncoder) -> None:
    with pytest.raises(ValueError, match=r"image_size=400.*multiple of 32"):
        clip_image.trunk(torch.zeros(1, 3, 400, 400))


def cubic(x: float) -> float:
    """The kernel of bicubic interpolation, a = -0.75."""
    a, x = -0.75, abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def bicubic(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w, C) -> (height, width, C); taps beyond the border read the border."""
    h, w, c = grid.shape
    out = np.zeros((height, width, c))
    for r in range(height):
        for s in range(width):
            y, x = (r + 0.5) * h / height - 0.5, (s + 0.5) * w / width - 0.5
            for i in range(int(np.floor(y)) - 1, int(np.floor(y)) + 3):
                for j in range(int(np.floor(x)) - 1, int(np.floor(x)) + 3):
                    tap = grid[min(max(i, 0), h - 1), min(max(j, 0), w - 1)]
                    out[r, s] += cubic(y - i) * cubic(x - j) * tap
    return out


@pytest.mark.parametrize("size", [(7, 7), (13, 13), (5, 8)])
def test_dense_attention_pool_asks_at_every_location(size: tuple[int, int]) -> None:
    original = randomise(AttentionPool2d(7, 8, 2, 5))
    pool = DenseAttentionPool(original)
    x = random(2, 8, *size)
    positions = bicubic(array(original.positional_embedding)[1:].reshape(7, 7, 8), *size)  # row 0 is the class token's
    out = pool(x)
    assert out.shape == (2, 5, *size)
    for n in range(2):
        tokens = (array(x[n]).transpose(1, 2, 0) + positions).reshape(-1, 8)
        q, k, v = (reference.linear(p, tokens) for p in (original.q_proj, original.k_proj, original.v_proj))
        expected = reference.linear(original.c_proj, reference.attention(q, k, v, 2)).T.reshape(5, *size)
        np.testing.assert_allclose(array(out[n]), expected, rtol=1e-7, atol=1e-9)


def test_clip_with_the_dense_attention_pool(same_clip: None) -> None:
    encoder = ClipImageEncoder(pretrained=False, c5="attention")
    image = torch.rand(2, 3, 64, 64)
    levels = encoder.levels(image, encoder.trunk(image))
    assert encoder.channels[3] == levels.c5.shape[1] == 512
    sum(x.square().mean() for x in levels if x is not None).backward()
    missing = unlearned(encoder)
    assert {name for name in missing if "k_proj.bias" not in name} == set()


def test_every_parameter_of_clips_image_encoder_learns(same_clip: None) -> None:
    encoder = ClipImageEncoder(pretrained=False)
    assert not any("attnpool" in name for name, _ in encoder.named_parameters())
    image = torch.rand(2, 3, 64, 64)
    sum(x.square().mean() for x in encoder.trunk(image)).backward()
    assert unlearned(encoder) == set()


# ---- CLIP, text


def test_thirty_tokens_give_the_same_features_as_clips_seventy_seven(clip_text: ClipTextEncoder) -> None:
    net, words = random_clip(), []
    ids = open_clip.get_tokenizer("RN101-quickgelu")(SENTENCES)
    assert ids.shape == (2, 77)
    hook = net.ln_final.register_forward_hook(lambda _m, _i, out: words.append(out))
    with torch.inference_mode():
        expected = net.encode_text(ids)
        tokens, mask = clip_text.tokenize(SENTENCES)
        features = clip_text.encode(tokens, mask)
    hook.remove()
    assert tokens.shape == mask.shape == (2, 30)
    assert torch.equal(tokens, ids[:, :30])
    torch.testing.assert_close(features.sentence, expected)
    torch.testing.assert_close(features.words, words[0][:, :30])
    assert (clip_text.channels, clip_text.sentence_channels) == (512, 512)


def test_clips_mask_ends_with_the_end_token(clip_text: ClipTextEncoder) -> None:
    tokens, mask = clip_text.tokenize(["a red mug", ""])
    assert mask.sum(1).tolist() == [5, 2]
    for row, real in zip(tokens, mask, strict=True):
        assert row[real][[0, -1]].tolist() == [49406, 49407]
        assert not row[~real].any()


def test_a_long_sentence_is_cut_before_clips_end_token(clip_text: ClipTextEncoder) -> None:
    tokens, mask = clip_text.tokenize([LONG])
    assert mask.all()
    full = open_clip.get_tokenizer("RN101-quickgelu", context_length=500)([LONG])[0]
    assert tokens[0].tolist() == [*full[:29].tolist(), 49407]


@pytest.mark.parametrize("tokens", [2, 78])
def test_clip_refuses_lengths_it_has_no_positions_for(same_clip: None, tokens: int) -> None:
    with pytest.raises(ValueError, match=f"tokens={tokens}: CLIP reads 3 to 77"):
        ClipTextEncoder(pretrained=False, tokens=tokens)


def test_every_parameter_of_clips_text_encoder_learns(same_clip: None) -> None:
    encoder = ClipTextEncoder(pretrained=False, tokens=8)
    features = encoder.encode(*encoder.tokenize(SENTENCES))
    features.sentence.square().sum().backward()
    assert unlearned(encoder) == set()
    assert {name.split(".")[0] for name, _ in encoder.named_parameters()} == {
        "embedding",
        "transformer",
        "final_norm",
        "positions",
        "projection",
    }


# ---- DINOv2


def test_dinov2_levels_at_the_bundled_resolution(dinov2: DinoV2ImageEncoder) -> None:
    image = torch.rand(1, 3, 448, 448)
    with torch.inference_mode():
        trunk = dinov2.trunk(image)
        levels = dinov2.levels(image, trunk)
    assert [tuple(x.shape) for x in trunk] == [(1, 384, 32, 32)] * 2
    assert levels.c2 is not None
    assert [tuple(x.shape[1:]) for x in levels] == [(32, 112, 112), (8, 32, 32), (8, 16, 16), (8, 8, 8)]
    assert dinov2.channels == (32, 8, 8, 8)


def test_dinov2_gives_the_normed_outputs_of_its_blocks_with_resized_positions(dinov2: DinoV2ImageEncoder) -> None:
    """Against a network made for 8 x 8 patches whose position table is the 37 x 37 one, resized."""
    static = timm.create_model("vit_small_patch14_dinov2", pretrained=False, img_size=112, num_classes=0).eval()
    state = dinov2.net.state_dict()
    head, grid = state["pos_embed"][:, :1], state["pos_embed"][:, 1:]
    grid = grid.reshape(1, 37, 37, 384).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, (8, 8), mode="bicubic", antialias=True).flatten(2).transpose(1, 2)
    static.load_state_dict(state | {"pos_embed": torch.cat([head, grid], dim=1)})
    seen: dict[int, Tensor] = {}
    for i in (7, 11):  # blocks 8 and 12
        static.blocks[i].register_forward_hook(lambda _m, _i, out, i=i: seen.__setitem__(i, out))
    image = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        static((image - mean) / std)
        trunk = dinov2.trunk(image)
        for got, i in zip(trunk, (7, 11), strict=True):
            expected = static.norm(seen[i])[:, 1:].transpose(1, 2).reshape(2, 384, 8, 8)
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(420, 420), (448, 420), (56, 14)])
def test_dinov2_refuses_a_side_that_is_no_multiple_of_56(dinov2: DinoV2ImageEncoder, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="multiple of 56"):
        dinov2.trunk(torch.zeros(1, 3, *size))


def test_dinov2s_pyramid(dinov2: DinoV2ImageEncoder) -> None:
    encoder = randomise(copy.deepcopy(dinov2))
    image, features = random(1, 3, 112, 112, seed=1), (random(1, 384, 8, 8, seed=2), random(1, 384, 8, 8, seed=3))
    levels = encoder.levels(image, features)
    c3 = reference.conv2d(encoder.to_c3, np.concatenate([array(x) for x in features], axis=1))
    c4 = reference.block(encoder.to_c4, c3)
    stem = reference.block(
        encoder.stem, (array(image) - array(encoder.mean)[:, None, None]) / array(encoder.std)[:, None, None]
    )
    fine = stem + reference.resize(reference.conv2d(encoder.to_fine, c3), 28, 28)
    expected = (reference.block(encoder.fine, fine), c3, c4, reference.block(encoder.to_c5, c4))
    for got, want in zip(levels, expected, strict=True):
        assert got is not None
        np.testing.assert_allclose(array(got), want, rtol=1e-8, atol=1e-8)


def test_a_deeper_fine_level_of_dinov2_begins_at_half_resolution() -> None:
    encoder = randomise(DinoV2ImageEncoder(channels=8, fine_channels=16, fine_layers=3))
    assert encoder.channels == (16, 8, 8, 8)
    image = random(1, 3, 112, 112, seed=1)
    stem = (array(image) - array(encoder.mean)[:, None, None]) / array(encoder.std)[:, None, None]
    sizes = []
    for layer in encoder.stem:
        stem = reference.block(layer, stem)
        sizes.append(stem.shape[1:])
    assert sizes == [(8, 56, 56), (16, 28, 28), (16, 28, 28)]
    with torch.no_grad():
        got = encoder.stem((image - encoder.mean[:, None, None]) / encoder.std[:, None, None])
    np.testing.assert_allclose(array(got), stem, rtol=1e-8, atol=1e-8)


def test_dinov2_without_a_fine_level_has_no_layers_for_it() -> None:
    with torch.device("meta"):
        encoder = DinoV2ImageEncoder(channels=8, fine=False)
        levels = encoder.levels(torch.zeros(1, 3, 112, 112), (torch.zeros(1, 384, 8, 8),) * 2)
    assert levels.c2 is None
    assert {n.split(".")[0] for n, _ in encoder.named_parameters()} == {"net", "to_c3", "to_c4", "to_c5"}


def test_bundled_dinov2_is_the_published_one_up_to_int8(pretrained: Path) -> None:
    encoder = build_image_encoder(ImageEncoderConfig(name="dinov2_vits14"), pretrained=True)
    assert isinstance(encoder, DinoV2ImageEncoder)
    encoder.eval()
    image = F.interpolate(
        torch.rand(1, 3, 7, 7, generator=torch.Generator().manual_seed(3)), (224, 224), mode="bicubic"
    )
    with torch.inference_mode():
        bundled = encoder.trunk(image.clamp(0, 1))
        encoder.net.load_state_dict(
            {
                k: v.float()
                for k, v in load_file(pretrained / "dinov2_vits14.safetensors").items()
                if k in encoder.net.state_dict()
            }
        )
        published = encoder.trunk(image.clamp(0, 1))
    for a, b in zip(bundled, published, strict=True):
        assert F.cosine_similarity(a, b, dim=1).min() > 0.99


# ---- TinyViT


def test_tiny_vits_levels_are_a_pyramid(tiny_vit: TinyViTImageEncoder) -> None:
    image = torch.rand(2, 3, 96, 96)
    with torch.inference_mode():
        trunk = tiny_vit.trunk(image)
        levels = tiny_vit.levels(image, trunk)
    shapes = [tuple(x.shape) for x in levels if x is not None]
    assert shapes == [(2, 64, 24, 24), (2, 128, 12, 12), (2, 160, 6, 6), (2, 320, 3, 3)]
    assert tiny_vit.channels == (64, 128, 160, 320)
    assert all(a is b for a, b in zip(levels, trunk, strict=True))


def test_tiny_vit_with_folded_norms_is_timms_own_network() -> None:
    net = timm.create_model("tiny_vit_5m_224", pretrained=False, num_classes=0).double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # new ones do nothing, or are zero
            randomise(module)
    image = random(2, 3, 64, 64)
    with torch.inference_mode():
        expected = net.forward_intermediates(image, intermediates_only=True)
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # of the convolutions that are made
    try:
        fold_norms(net)
    finally:
        torch.set_default_dtype(dtype)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    encoder = TinyViTImageEncoder().double().eval()
    encoder.net.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("head.")})
    with torch.inference_mode():
        got = encoder.trunk(image * encoder.std[:, None, None] + encoder.mean[:, None, None])
    assert len(got) == len(expected) == 4
    for a, b in zip(got, expected, strict=True):
        assert b.std() > 1e-3
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("size", [(336, 336), (320, 336), (32, 31)])
def test_tiny_vit_refuses_a_side_that_is_no_multiple_of_32(
    tiny_vit: TinyViTImageEncoder, size: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        tiny_vit.trunk(torch.zeros(1, 3, *size))


def test_an_exported_networks_weights_have_timms_names_again(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="reading ONNX files takes the package onnx")
    rng = np.random.default_rng(0)
    values = {
        "onnx::Conv_7": rng.normal(size=(4, 3, 3, 3)),
        "onnx::Conv_8": rng.normal(size=4),
        "onnx::MatMul_9": rng.normal(size=(4, 5)),
        "stages.1.blocks.0.mlp.fc1.bias": rng.normal(size=5),
        "stages.1.norm.weight": rng.normal(size=5),
    }
    fc1 = "/stages/stages.1/blocks/blocks.0/mlp/fc1"
    node, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [
            node("Conv", ["x", "onnx::Conv_7", "onnx::Conv_8"], ["y"], name="/patch_embed/conv1/conv/Conv"),
            node("MatMul", ["y", "onnx::MatMul_9"], ["z"], name=f"{fc1}/MatMul"),
            node("Add", ["stages.1.blocks.0.mlp.fc1.bias", "z"], ["a"], name=f"{fc1}/Add"),
            node("MatMul", ["a", "z"], ["b"], name="/stages/stages.1/blocks/blocks.0/attn/MatMul"),  # no weights
            node("Mul", ["b", "stages.1.norm.weight"], ["c"], name="/stages/stages.1/norm/Mul"),
        ],
        "exported",
        [value("x", onnx.TensorProto.FLOAT, None)],
        [value("c", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(x.astype(np.float32), name) for name, x in values.items()],
    )
    onnx.save(onnx.helper.make_model(graph), str(tmp_path / "net.onnx"))
    state = read_onnx(tmp_path / "net.onnx")
    expected = {
        "patch_embed.conv1.weight": values["onnx::Conv_7"],
        "patch_embed.conv1.bias": values["onnx::Conv_8"],
        "stages.1.blocks.0.mlp.fc1.weight": values["onnx::MatMul_9"].T,
        "stages.1.blocks.0.mlp.fc1.bias": values["stages.1.blocks.0.mlp.fc1.bias"],
        "stages.1.norm.weight": values["stages.1.norm.weight"],
    }
    assert state.keys() == expected.keys()
    for name, x in expected.items():
        np.testing.assert_array_equal(state[name].numpy(), x.astype(np.float32))


# ---- MiniLM


def test_minilms_special_tokens_and_mask(minilm: MiniLMTextEncoder) -> None:
    tokens, mask = minilm.tokenize(SENTENCES)
    assert tokens.shape == mask.shape == (2, int(mask.sum(1).max()))
    for row, real in zip(tokens, mask, strict=True):
        assert row[real][[0, -1]].tolist() == [101, 102]  # [CLS], [SEP]
        assert not row[~real].any()  # [PAD]


def test_a_long_sentence_is_cut_before_minilms_end_token(minilm: MiniLMTextEncoder) -> None:
    tokens, mask = minilm.tokenize([LONG])
    assert tokens.shape == (1, 30)
    assert mask.all()
    assert tokens[0, -1] == 102


def test_padding_does_not_change_a_sentences_features(minilm: MiniLMTextEncoder) -> None:
    with torch.inference_mode():
        alone = minilm.encode(*minilm.tokenize(SENTENCES[:1]))
        together = minilm.encode(*minilm.tokenize([*SENTENCES, LONG]))
    count = alone.words.shape[1]
    assert together.words.shape[1] > count
    torch.testing.assert_close(together.sentence[:1], alone.sentence, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.words[:1, :count], alone.words, rtol=1e-4, atol=1e-5)


def test_minilms_sentence_is_the_mean_of_its_words_at_unit_length(minilm: MiniLMTextEncoder) -> None:
    with torch.inference_mode():
        features = minilm.encode(*minilm.tokenize([*SENTENCES, LONG]))
    for words, sentence, mask in zip(features.words, features.sentence, features.mask, strict=True):
        mean = array(words[mask]).mean(0)
        np.testing.assert_allclose(array(sentence), mean / np.sqrt((mean**2).sum()), atol=1e-6)


def test_minilm_has_learned_language(minilm: MiniLMTextEncoder) -> None:
    with torch.inference_mode():
        cup, mug, sky = minilm.encode(*minilm.tokenize(["a coffee cup", "a tea mug", "the cloudy sky"])).sentence
    assert cup @ mug > 0.5 > cup @ sky


def test_bundled_minilm_is_the_published_one_up_to_int8(minilm: MiniLMTextEncoder, pretrained: Path) -> None:
    published = MiniLMTextEncoder(tokens=30).eval()
    state = load_file(pretrained / "all-MiniLM-L6-v2" / "model.safetensors")
    published.net.load_state_dict({k: v.float() for k, v in state.items() if k in published.net.state_dict()})
    ids, mask = minilm.tokenize([*SENTENCES, LONG, "dog", "the man in blue, second from right"])
    with torch.inference_mode():
        a, b = minilm.encode(ids, mask), published.encode(ids, mask)
    assert F.cosine_similarity(a.sentence, b.sentence).min() > 0.999
    assert F.cosine_similarity(a.words, b.words, dim=-1)[mask].min() > 0.99


def test_bundled_minilm_l2_is_the_first_two_layers_of_minilm_l6(minilm: MiniLMTextEncoder) -> None:
    short = build_text_encoder(TextEncoderConfig(name="minilm_l2"), pretrained=True)
    assert isinstance(short, MiniLMTextEncoder)
    assert len(short.net.encoder.layer) == 2
    short.eval()
    ids, mask = minilm.tokenize([*SENTENCES, LONG])
    assert torch.equal(short.tokenize([*SENTENCES, LONG])[0], ids)
    with torch.inference_mode():
        states = minilm.net(input_ids=ids, attention_mask=mask.long(), output_hidden_states=True).hidden_states
        words = short.encode(ids, mask).words
    torch.testing.assert_close(words, states[2])
    assert not torch.allclose(words[mask], states[6][mask], atol=0.1)


@pytest.mark.parametrize("tokens", [2, 513])
def test_minilm_refuses_lengths_it_has_no_positions_for(tokens: int) -> None:
    with pytest.raises(ValueError, match=f"tokens={tokens}"):
        MiniLMTextEncoder(tokens=tokens)


def test_every_parameter_of_minilm_learns() -> None:
    encoder = MiniLMTextEncoder(tokens=8)
    features = encoder.encode(*encoder.tokenize(SENTENCES))
    (features.sentence @ torch.randn(384)).sum().backward()
    assert {name for name in unlearned(encoder) if not name.endswith("key.bias")} == set()


# ---- tiny encoders, the protocols, the registry


def test_tiny_encoders() -> None:
    image_encoder, text_encoder = TinyImageEncoder(channels=8), TinyTextEncoder(tokens=6, channels=8)
    levels = image_encoder.levels(torch.rand(2, 3, 64, 64), image_encoder.trunk(torch.rand(2, 3, 64, 64)))
    assert [tuple(x.shape[1:]) for x in levels if x is not None] == [(4, 16, 16), (8, 8, 8), (8, 4, 4), (8, 2, 2)]
    tokens, mask = text_encoder.tokenize(["a mug", LONG])
    assert mask.sum(1).tolist() == [4, 6]
    assert [int(row[real][-1]) for row, real in zip(tokens, mask, strict=True)] == [END, END]
    text_encoder.eval()
    padded = text_encoder.encode(tokens, mask)
    short = text_encoder.encode(tokens[:1, :4], mask[:1, :4])
    torch.testing.assert_close(padded.sentence[:1], short.sentence)


def test_encoders_keep_the_protocols(clip_image, clip_text, dinov2, tiny_vit, minilm) -> None:
    for encoder in (clip_image, dinov2, tiny_vit, TinyImageEncoder()):
        assert isinstance(encoder, ImageEncoder)
        assert isinstance(encoder.trunk_module, nn.Module)
        assert len(encoder.channels) == 4
    for encoder in (clip_text, minilm, TinyTextEncoder()):
        assert isinstance(encoder, TextEncoder)
        assert isinstance(encoder.trunk_module, nn.Module)


def test_encoders_are_chosen_by_name(same_clip: None) -> None:
    with torch.device("meta"):
        dino = build_image_encoder(ImageEncoderConfig(name="dinov2_vits14", blocks=(4,), channels=16), pretrained=False)
    assert isinstance(dino, DinoV2ImageEncoder)
    assert dino.channels[1:] == (16, 16, 16)
    assert dino.to_c3.in_channels == 384
    pooled = build_image_encoder(ImageEncoderConfig(name="clip_rn101", c5="attention"), pretrained=False)
    assert pooled.channels[3] == 512
    text = build_text_encoder(TextEncoderConfig(name="clip_rn101", tokens=12), pretrained=False)
    assert text.tokenize(["dog"])[0].shape == (1, 12)
    assert isinstance(build_image_encoder(ImageEncoderConfig(name="tiny"), pretrained=False), TinyImageEncoder)
    assert isinstance(build_text_encoder(TextEncoderConfig(name="tiny"), pretrained=False), TinyTextEncoder)
    with pytest.raises(ConfigError, match="no such encoder"):
        build_image_encoder(ImageEncoderConfig(name="vgg"), pretrained=False)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no such encoder"):
        build_text_encoder(TextEncoderConfig(name="lstm"), pretrained=False)  # type: ignore[arg-type]


def test_text_features_select_and_stack() -> None:
    a = TextFeatures(torch.randn(2, 3, 4), torch.randn(2, 5), torch.ones(2, 3, dtype=torch.bool))
    b = TextFeatures(torch.randn(1, 2, 4), torch.randn(1, 5), torch.ones(1, 2, dtype=torch.bool))
    both = TextFeatures.stack([a, b])
    assert len(both) == 3
    assert both.mask.tolist() == [[True] * 3, [True] * 3, [True, True, False]]
    assert torch.equal(both.words[2, :2], b.words[0])
    assert not both.words[2, 2:].any()
    last_first = both.select(torch.tensor([2, 0]))
    assert torch.equal(last_first.sentence, torch.stack([b.sentence[0], a.sentence[0]]))
    assert torch.equal(both.select(slice(1, 2)).words, a.words[1:])

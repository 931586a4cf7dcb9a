"""CLIP ResNet-101 image and text encoders, through open_clip (`RN101-quickgelu`): the paper's.

Weights download on first use (tag "openai") or come from a file (`pretrained="RN101.pt"`); `pretrained=False`: random.
"""

from __future__ import annotations

import logging
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal
from zipfile import ZipFile, is_zipfile

import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import text_global_pool
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from jmceln_core.config import ConfigError
from jmceln_core.model.encoders.base import Levels, TextFeatures, load_weights, normalise

MODEL = "RN101-quickgelu"


def _clip(pretrained: bool | str) -> Any:
    """CLIP with its published weights (True), those of a file (`_tensors`) or random ones (False)."""
    if pretrained is True:
        before = logging.root.manager.disable
        logging.disable(logging.ERROR)  # a dozen lines a try; what matters of them is below
        try:
            return open_clip.create_model(MODEL, "openai", precision="fp32")
        except (OSError, RuntimeError) as error:
            raise ConfigError(
                f"CLIP's published weights ({MODEL}, openai) cannot be had: {str(error).splitlines()[0]} Without a "
                "network, name a file in image_encoder.pretrained and text_encoder.pretrained: OpenAI's RN101.pt or "
                "open_clip_model.safetensors of timm/resnet101_clip.openai on Hugging Face. false: random weights"
            ) from None
        finally:
            logging.disable(before)
    net = open_clip.CLIP(**open_clip.get_model_config(MODEL))
    if pretrained:
        load_weights(net, _tensors(Path(pretrained)), Path(pretrained))
    return net


def _tensors(path: Path) -> dict[str, Tensor]:
    """CLIP's weights in a file, as float32: OpenAI's RN101.pt (TorchScript), a state dict of the same names saved by
    PyTorch, or safetensors. Nothing in it is run. Raises ConfigError naming the file."""
    state: Any
    try:
        if not path.is_file():
            raise ValueError("no such file")
        if path.suffix == ".safetensors":
            state = load_file(path)
        elif not is_zipfile(path):
            raise ValueError("neither safetensors nor an archive of PyTorch's")
        elif _is_script(path):
            state = torch.jit.load(path, map_location="cpu").state_dict()
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        # what OpenAI notes beside the weights: side, tokens and words
        notes = ("input_resolution", "context_length", "vocab_size")
        return {key: value.float() for key, value in state.items() if key not in notes}
    except (OSError, RuntimeError, ValueError, AttributeError, SafetensorError, UnpicklingError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(f"pretrained: {path}: no weights can be read from it ({reason})") from None


def _is_script(archive: Path) -> bool:
    """Whether it has code beside the tensors."""
    with ZipFile(archive) as file:
        return any("/code/" in name for name in file.namelist())


class DenseAttentionPool(nn.Module):
    """CLIP's attention pool with every location as a query: (B, Cin, H, W) -> (B, Cout, H, W).

    The position table, made for `side` x `side` locations, is resized bicubically to H x W; the class token (the mean
    over locations) is left out.
    """

    def __init__(self, pool: Any) -> None:
        super().__init__()
        self.positions: nn.Parameter = pool.positional_embedding
        self.q_proj, self.k_proj, self.v_proj, self.c_proj = pool.q_proj, pool.k_proj, pool.v_proj, pool.c_proj
        self.heads: int = pool.num_heads
        self.out_channels: int = pool.c_proj.out_features

    def forward(self, x_BCHW: Tensor) -> Tensor:
        b, c, h, w = x_BCHW.shape
        grid = self.positions[1:]
        side = round(grid.shape[0] ** 0.5)
        grid = grid.T.reshape(1, c, side, side)
        if (h, w) != (side, side):
            grid = F.interpolate(grid, (h, w), mode="bicubic", align_corners=False)
        x_BLC = (x_BCHW + grid).flatten(2).transpose(1, 2)
        q, k, v = (
            p(x_BLC).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed_BLC = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.c_proj(mixed_BLC).transpose(1, 2).reshape(b, -1, h, w)


class ClipImageEncoder(nn.Module):
    """C2 (256), C3 (512), C4 (1024) and C5 at strides 4, 8, 16, 32.

    `c5` is "layer4" (2048 channels) or "attention", the attention pool applied densely (512 channels). The image side
    must be a multiple of 32, so that every level is whole.
    """

    net: Any  # open_clip's ModifiedResNet
    mean: Tensor
    std: Tensor

    def __init__(self, *, pretrained: bool | str = True, c5: Literal["layer4", "attention"] = "layer4") -> None:
        super().__init__()
        self.net = _clip(pretrained).visual
        self.pool = DenseAttentionPool(self.net.attnpool) if c5 == "attention" else None
        del self.net.attnpool  # the dense one holds its parameters, or nothing uses them
        self.channels = (256, 512, 1024, self.pool.out_channels if self.pool else 2048)
        self.register_buffer("mean", torch.tensor(open_clip.OPENAI_DATASET_MEAN), persistent=False)
        self.register_buffer("std", torch.tensor(open_clip.OPENAI_DATASET_STD), persistent=False)

    @property
    def trunk_module(self) -> nn.Module:
        return self

    def trunk(self, image_B3SS: Tensor) -> tuple[Tensor, ...]:
        height, width = image_B3SS.shape[-2:]
        if height % 32 or width % 32:
            raise ValueError(f"image_size={width}: CLIP's ResNet needs a multiple of 32, for example 416")
        x = self.net.stem(normalise(image_B3SS, self.mean, self.std))
        c2 = self.net.layer1(x)
        c3 = self.net.layer2(c2)
        c4 = self.net.layer3(c3)
        c5 = self.net.layer4(c4)
        return c2, c3, c4, self.pool(c5) if self.pool else c5

    def levels(self, image_B3SS: Tensor, features: tuple[Tensor, ...]) -> Levels:
        return Levels(*features)


class ClipTextEncoder(nn.Module):
    """CLIP's text transformer, its position table and causal mask sliced to L tokens.

    Words are the final layer norm's outputs (512), the sentence is the end token's, projected into CLIP's joint space
    (512).
    """

    causal: Tensor  # (L, L), -inf above the diagonal

    def __init__(self, *, pretrained: bool | str = True, tokens: int = 30) -> None:
        super().__init__()
        net = _clip(pretrained)
        if not 2 < tokens <= net.positional_embedding.shape[0]:
            raise ValueError(f"tokens={tokens}: CLIP reads 3 to {net.positional_embedding.shape[0]} tokens")
        self.embedding, self.transformer, self.final_norm = net.token_embedding, net.transformer, net.ln_final
        self.positions = nn.Parameter(net.positional_embedding.detach()[:tokens].clone())
        self.projection = net.text_projection
        self.register_buffer("causal", net.attn_mask[:tokens, :tokens].clone(), persistent=False)
        self.tokens = tokens
        self.tokenizer = open_clip.get_tokenizer(MODEL, context_length=tokens)
        self.channels: int = net.ln_final.normalized_shape[0]
        self.sentence_channels: int = net.text_projection.shape[1]

    @property
    def trunk_module(self) -> nn.Module:
        return self

    def tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        ids_NL = self.tokenizer(texts)
        end_N = ids_NL.argmax(dim=1)  # the end token has the highest id
        return ids_NL, torch.arange(self.tokens)[None] <= end_N[:, None]

    def encode(self, tokens_NL: Tensor, mask_NL: Tensor) -> TextFeatures:
        x_NLC = self.embedding(tokens_NL) + self.positions
        x_NLC = self.final_norm(self.transformer(x_NLC, attn_mask=self.causal))
        sentence = text_global_pool(x_NLC, tokens_NL, "argmax") @ self.projection
        return TextFeatures(x_NLC, sentence, mask_NL)

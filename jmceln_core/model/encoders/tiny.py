"""Small random encoders: no weights, no downloads. For tests and for trying the training command."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor, nn

from jmceln_core.model.encoders.base import Levels, TextFeatures
from jmceln_core.model.layers import conv_block

VOCABULARY = 4096  # words are hashed into so many buckets
PAD, START, END = 0, 1, 2


class TinyImageEncoder(nn.Module):
    """Five strided convolutions; levels at strides 4, 8, 16, 32 of `channels` each (half of it at stride 4)."""

    def __init__(self, *, channels: int = 32) -> None:
        super().__init__()
        half = channels // 2

        def halve(in_channels: int, out_channels: int) -> nn.Module:
            return conv_block(in_channels, out_channels, 3, stride=2, norm="group")  # the same in any batch

        self.stem = nn.Sequential(halve(3, half), halve(half, half))
        self.to_c3, self.to_c4, self.to_c5 = halve(half, channels), halve(channels, channels), halve(channels, channels)
        self.channels = (half, channels, channels, channels)

    @property
    def trunk_module(self) -> nn.Module:
        return self

    def trunk(self, image_B3SS: Tensor) -> tuple[Tensor, ...]:
        c2 = self.stem(image_B3SS - 0.5)
        c3 = self.to_c3(c2)
        c4 = self.to_c4(c3)
        return c2, c3, c4, self.to_c5(c4)

    def levels(self, image_B3SS: Tensor, features: tuple[Tensor, ...]) -> Levels:
        return Levels(*features)


class TinyTextEncoder(nn.Module):
    """Hashed words, learned embeddings and positions, one transformer layer; the sentence is the mean over tokens."""

    def __init__(self, *, tokens: int = 30, channels: int = 32) -> None:
        super().__init__()
        self.tokens = tokens
        self.embedding = nn.Embedding(VOCABULARY, channels, padding_idx=PAD)
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, channels))
        self.layer = nn.TransformerEncoderLayer(channels, 4, 2 * channels, dropout=0.0, batch_first=True)
        self.channels = self.sentence_channels = channels

    @property
    def trunk_module(self) -> nn.Module:
        return self

    def tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        ids = torch.full((len(texts), self.tokens), PAD)
        for row, text in zip(ids, texts, strict=True):
            words = [zlib.crc32(w.encode()) % (VOCABULARY - 3) + 3 for w in text.lower().split()]
            sentence = [START, *words[: self.tokens - 2], END]
            row[: len(sentence)] = torch.tensor(sentence)
        return ids, ids != PAD

    def encode(self, tokens_NL: Tensor, mask_NL: Tensor) -> TextFeatures:
        x_NLC = self.embedding(tokens_NL) + self.positions[: tokens_NL.shape[1]]
        x_NLC = self.layer(x_NLC, src_key_padding_mask=~mask_NL)
        weight = mask_NL[..., None].to(x_NLC.dtype)
        return TextFeatures(x_NLC, (x_NLC * weight).sum(1) / weight.sum(1), mask_NL)

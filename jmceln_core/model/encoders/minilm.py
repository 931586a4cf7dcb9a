"""A MiniLM-class sentence encoder (sentence-transformers/all-MiniLM-L6-v2, through transformers)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from jmceln_core.config import resource
from jmceln_core.model.encoders.base import TextFeatures

PAD = 0


class MiniLMTextEncoder(nn.Module):
    """Words are the last layer's outputs (384); the sentence is their mean over real tokens, of unit length (384).

    With fewer `layers` than six, it is the first so many of the published network.
    """

    def __init__(self, *, tokens: int = 30, layers: int = 6) -> None:
        super().__init__()
        if not 2 < tokens <= 512:
            raise ValueError(f"tokens={tokens}: MiniLM reads 3 to 512 tokens")
        self.net = BertModel(
            BertConfig(
                vocab_size=30522,
                hidden_size=384,
                num_hidden_layers=layers,
                num_attention_heads=12,
                intermediate_size=1536,
                max_position_embeddings=512,
            ),
            add_pooling_layer=False,
        )
        self.tokenizer = Tokenizer.from_file(str(resource("weights/minilm_l6.tokenizer.json")))
        self.tokenizer.enable_truncation(tokens)  # keeps [CLS] and [SEP]
        self.tokenizer.enable_padding(pad_id=PAD)  # to the longest of the batch
        self.channels = self.sentence_channels = 384

    @property
    def trunk_module(self) -> nn.Module:
        return self.net

    def tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        encoded = self.tokenizer.encode_batch(texts)
        ids = torch.tensor([e.ids for e in encoded])
        return ids, torch.tensor([e.attention_mask for e in encoded], dtype=torch.bool)

    def encode(self, tokens_NL: Tensor, mask_NL: Tensor) -> TextFeatures:
        words = self.net(input_ids=tokens_NL, attention_mask=mask_NL.long()).last_hidden_state
        weight = mask_NL[..., None].to(words.dtype)
        sentence = F.normalize((words * weight).sum(1) / weight.sum(1), dim=-1)
        return TextFeatures(words, sentence, mask_NL)
